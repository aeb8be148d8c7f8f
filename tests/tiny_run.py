"""A store and a training configuration small enough to train on within a second."""

from dataclasses import replace
from pathlib import Path

import numpy as np

from ecgforge.data.store import EcgStore, StoreWriter
from ecgforge.leads import STANDARD_LEADS
from ecgforge.models.critic import CriticConfig
from ecgforge.models.sssd import SssdConfig
from ecgforge.models.wavegan import WaveGanConfig
from ecgforge.models.xresnet import XResNetConfig
from ecgforge.record import EcgRecord, Provenance
from ecgforge.training.settings import (
    ClassifierTraining,
    DataConfig,
    DiffusionTraining,
    Stage,
    WassersteinTraining,
)

RATE = 100
SAMPLES = 250
RECORDS = 24

TINY_NETWORK = SssdConfig(
    length=64,
    layers=1,
    residual_channels=4,
    skip_channels=4,
    step_features=8,
    step_hidden=8,
    step_out=8,
    label_features=4,
    state_size=4,
)


def tiny_store(folder: Path, *, records: int = RECORDS, samples: int = SAMPLES) -> EcgStore:
    """A store of beat-like bumps, the same in every record but for rate, phase and size; folds 1 to 8 in turn."""
    path = folder / "store"
    with StoreWriter(path, rate=RATE, samples=samples, source="bumps", synthetic=True) as writer:
        for number in range(records):
            writer.add(_bumps(number, samples))
    return EcgStore.open(path)


def _bumps(number: int, samples: int) -> EcgRecord:
    stream = np.random.default_rng(number)
    period, phase = stream.uniform(0.6, 1.0), stream.uniform(0, 1)
    beat = (np.arange(samples) / RATE / period + phase) % 1
    shape = np.exp(-(((beat - 0.5) / 0.05) ** 2))
    return EcgRecord(
        signal=np.outer(stream.uniform(0.5, 1.5, size=12), shape),
        rate=RATE,
        record_id=f"bumps-{number}",
        statements={"NORM": 1.0, "SR": 1.0} if number % 2 else {"AFIB": 1.0},
        provenance=Provenance(synthetic=True, source="bumps", seed=0, index=number, fold=1 + number % 8),
    )


def tiny_config(**changes: object) -> DiffusionTraining:
    """Four steps of four records on windows of 64 samples, without pictures; changed as asked."""
    config = DiffusionTraining(
        name="tiny",
        network=TINY_NETWORK,
        stages=(Stage(steps=4, samples=64),),
        batch_size=4,
        learning_rate=1e-2,
        ema_decay=0.9,
        sample_minutes=0.0,
    )
    return replace(config, **changes)


def tiny_gan(**changes: object) -> WassersteinTraining:
    """Two steps of two critic updates on two leads, whose number decides the length of 250 samples."""
    config = WassersteinTraining(
        name="tiny-gan",
        network=WaveGanConfig(leads=2, length=250, width=10),
        critic=CriticConfig(leads=2, length=250, width=2),
        data=DataConfig(leads=("I", "V2")),
        stages=(Stage(steps=2, samples=250),),
        critic_steps=2,
        batch_size=4,
        learning_rate=1e-3,
        sample_minutes=0.0,
    )
    return replace(config, **changes)


def tiny_classifier(**changes: object) -> ClassifierTraining:
    """Four steps on folds 1 to 6, validated on folds 7 and 8 after every second one."""
    config = ClassifierTraining(
        name="tiny-classifier",
        network=XResNetConfig(blocks=(1,), strides=(1,), stem=(4, 4, 8), width=8, expansion=1, head=8, dropout=0.5),
        data=DataConfig(folds=(1, 2, 3, 4, 5, 6), leads=STANDARD_LEADS),
        stages=(Stage(steps=4, samples=250),),
        validation_folds=(7, 8),
        validate_every=2,
        batch_size=8,
        learning_rate=1e-2,
    )
    return replace(config, **changes)

"""What pages are tried out in: a small simulated PTB-XL, networks that sample in milliseconds, short trainings.

The commands and settings are those of the page; what they work on is small:

- `ptb-xl-1.0.3` is a simulated data set in PTB-XL's layout;
- the weights that come with the package are replaced by untrained networks of one layer;
- every preset keeps its kind, but trains two steps of a network of that size;
- samplers take four steps by default;
- pictures have few pixels, and waves are measured on the first three records of a data set;
- where a page asks for many records, seeds or budgets, SMALLER says what the test asks for instead.
"""

import re
import shutil
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from functools import partialmethod
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib.figure import Figure
from tiny_run import TINY_NETWORK, tiny_classifier

from ecgforge import sampling
from ecgforge.checkpoints import locate
from ecgforge.checkpoints.locate import ShippedModel
from ecgforge.checkpoints.native import ModelConfig, load_model, save_model
from ecgforge.checkpoints.original import export_checkpoint
from ecgforge.data.ptbxl import build_ptbxl
from ecgforge.data.ptbxl_layout import write_ptbxl
from ecgforge.data.signs import COMBINATIONS
from ecgforge.data.simulate import simulate_record
from ecgforge.data.store import EcgStore, StoreWriter
from ecgforge.diffusion.flow import FlowSchedule
from ecgforge.diffusion.schedule import LinearSchedule
from ecgforge.evaluation import assessment
from ecgforge.evaluation.physiology import measure_records
from ecgforge.formats import write_record
from ecgforge.labels import vocabulary
from ecgforge.leads import MODEL_LEADS
from ecgforge.models import NETWORKS
from ecgforge.models.critic import CriticConfig
from ecgforge.models.patch_s4 import PatchS4Config
from ecgforge.record import EcgRecord, Patient, Provenance
from ecgforge.training import presets
from ecgforge.training.loop import train
from ecgforge.training.settings import (
    ClassifierTraining,
    FlowTraining,
    Stage,
    TrainingConfig,
    WassersteinTraining,
)

LEARNED = 22  # in folds 1 to 8
TESTED = 12  # in each of folds 9 and 10, the fewest that `ecgforge evaluate` takes
RECORDS = LEARNED + 2 * TESTED
SAMPLES = 1000
TESTED_SETS = ("NORM,SR", "AFIB", "CRBBB,SR")  # each statement often enough for a bootstrap
STEPS = 4
TINY_PATCHES = PatchS4Config(features=8, layers=1, condition_features=8, state_size=4, head=4, attention_every=1)
DPI = 30
MEASURED = 3

# Options whose values the test makes smaller, where a page gives them.
SMALLER = {"--steps": "4", "--seeds": "0", "--counts": "0,2", "--budgets": "4,8", "--real-records": "20"}
# Settings (--set) that are replaced, where a page gives them; of stages, the steps.
SHORTER = {"validate_every": "validate_every=2"}
# The same for one command, where the page's own or the default number is too large.
SMALLER_OF = {
    ("generate",): {"-n": "1"},
    ("interpolate",): {"-n": "1"},
    ("vary",): {"-n": "1"},
    ("beats",): {"-n": "4"},
    ("data", "simulate"): {"-n": "24"},
    ("turing", "make"): {"--pairs": "2"},
    ("data", "build", "ptbxl"): {"--jobs": "1"},
    ("data", "build", "wfdb"): {"--jobs": "1"},
}


# ------------------------------------------------------------------------------------------ data and models


def simulated_records() -> Iterator[EcgRecord]:
    """Twelve records in fold 9, four of each of TESTED_SETS; each combination once, in folds 1 to 8; fold 10 like 9."""
    sets = list(COMBINATIONS)
    for number in range(RECORDS):
        tested = not TESTED <= number < TESTED + LEARNED
        text = TESTED_SETS[number % len(TESTED_SETS)] if tested else sets[number % len(sets)]
        record = simulate_record(text, seed=7, index=number)
        fold = (9 if number < TESTED else 10) if tested else 1 + number % 8
        yield replace(
            record,
            record_id=str(number + 1),
            patient=Patient(patient_id=str(100 + number), age=40.0 + number % 40, sex=("male", "female")[number % 2]),
            provenance=Provenance(synthetic=True, source="simulator", fold=fold),
        )


def tiny_models(folder: Path) -> dict[str, Path]:
    """Model folders to stand for those that come with the package: untrained, of the same kinds, small amplitude."""
    leads = len(MODEL_LEADS)
    made = {
        "default": (TINY_PATCHES, FlowSchedule()),
        "sssd-ecg-small": (replace(TINY_NETWORK, length=SAMPLES), LinearSchedule()),
    }
    for name, (network, schedule) in made.items():
        config = ModelConfig(
            name=name,
            network=network,
            schedule=schedule,
            label_set="all",
            labels=vocabulary("all").labels,
            leads=MODEL_LEADS,
            rate=100.0,
            scales_mv=(0.2,) * leads,
            trained_on="nothing",
        )
        torch.manual_seed(0)
        save_model(config, NETWORKS[network.kind](network).state_dict(), folder / name)
    return {name: folder / name for name in made}


def tiny_preset(config: TrainingConfig) -> TrainingConfig:
    """A preset of the same name and kind that is trained in a moment."""
    if isinstance(config, ClassifierTraining):
        network = replace(tiny_classifier().network, leads=config.network.leads, labels=config.network.labels)
        changes = {"network": network, "validate_every": 2, "stages": (Stage(steps=2, samples=250),)}
    elif isinstance(config, WassersteinTraining):
        critic = CriticConfig(width=1, sees_statements=config.critic.sees_statements)
        changes = {"network": replace(config.network, width=10), "critic": critic, "critic_steps": 1}
    elif isinstance(config, FlowTraining):
        changes = {"network": TINY_PATCHES}
    else:
        kept = {"statements": config.network.statements, "labels": config.network.labels, "length": SAMPLES}
        changes = {"network": replace(TINY_NETWORK, **kept)}
    short = {"stages": (Stage(steps=2, samples=SAMPLES),), "batch_size": 4, "warmup_steps": 0, "sample_minutes": 0.0}
    short["keep_every"] = min(1, config.keep_every)
    return replace(config, **{**short, **changes})


def tiny(monkeypatch: pytest.MonkeyPatch, models: Mapping[str, Path]) -> None:
    """Replace the shipped weights, the presets and the default steps."""
    shipped = {name: ShippedModel(folder=folder, licence="none") for name, folder in models.items()}
    monkeypatch.setattr(locate, "SHIPPED", shipped)
    for name, config in presets.PRESETS.items():
        monkeypatch.setitem(presets.PRESETS, name, tiny_preset(config))
    for name in sampling.DEFAULT_STEPS:
        monkeypatch.setitem(sampling.DEFAULT_STEPS, name, STEPS)
        monkeypatch.setitem(sampling.FLOW_STEPS, name, STEPS)
    monkeypatch.setenv("ECGFORGE_NATIVE", "0")  # compiling costs more than it saves here
    monkeypatch.setattr(
        assessment, "measure_records", lambda records, **options: measure_records(records[:MEASURED], **options)
    )
    monkeypatch.setattr(Figure, "savefig", partialmethod(_save_coarsely, Figure.savefig))


def _save_coarsely(figure: Figure, save: Callable[..., None], *args: Any, dpi: float = DPI, **options: Any) -> None:
    save(figure, *args, dpi=min(dpi, DPI), **options)


# --------------------------------------------------------------------------- what a page finds when it begins


def make_world(folder: Path, models: Mapping[str, Path]) -> Path:
    """Everything that pages take for given, once; inside `tiny`."""
    write_ptbxl(simulated_records(), folder / "ptb-xl-1.0.3")
    build_ptbxl(folder / "ptb-xl-1.0.3", folder / "store", rate=100, jobs=1)
    _write_twin(folder / "twin")
    _write_my_records(folder / "my-records")
    store = EcgStore.open(folder / "store")
    trained = {"small": "sssd-ecg-small", "nle": "sssd-ecg-nle", "afib": "sssd-ecg-nle-afib"}
    for name, preset in trained.items():
        train(presets.PRESETS[preset], store, folder / "runs" / name, device="cpu")
    write_record(next(simulated_records()), folder / "out" / "seed0-00000_NORM_SR", format="wfdb")
    export_checkpoint(load_model(models["sssd-ecg-small"]), folder / "100000.pkl")
    export_checkpoint(load_model(folder / "runs" / "afib" / "model"), folder / "afib.pkl")
    return folder


def _write_twin(path: Path) -> None:
    """A store with other simulated records of the same statements, so that beats are found in it."""
    with StoreWriter(path, rate=100, samples=SAMPLES, source="simulator", synthetic=True) as writer:
        for number, original in enumerate(simulated_records()):
            twin = simulate_record(original.statements, seed=8, index=number)
            writer.add(replace(twin, record_id=f"twin-{number}", provenance=original.provenance))


def _write_my_records(folder: Path) -> None:
    """A hospital's folder: WFDB at 500 Hz, without statements."""
    for number in range(6):
        text = ("NORM,SR", "AFIB", "CLBBB,SR")[number % 3]
        record = simulate_record(text, seed=3, index=number, rate=500)
        write_record(replace(record, statements={}), folder / f"ecg{number:02d}", format="wfdb")


def hand_out(world: Path, names: tuple[str, ...], folder: Path) -> None:
    """Copy things of the world into a page's own folder."""
    for name in names:
        source, target = world / name, folder / name
        target.parent.mkdir(parents=True, exist_ok=True)
        copy: Callable[[Path, Path], object] = shutil.copytree if source.is_dir() else shutil.copy2
        copy(source, target)


def smaller(words: list[str]) -> list[str]:
    """The words of an ecgforge command with the numbers of SMALLER and SMALLER_OF."""
    command = next((path for path in SMALLER_OF if tuple(words[: len(path)]) == path), ())
    for option, value in SMALLER.items():
        if option in words:
            words = _with(words, option, value)
    for option, value in SMALLER_OF.get(command, {}).items():
        words = _with(words, option, value)
    return [SHORTER.get(word.split("=")[0], re.sub(r"\bsteps=\d+", "steps=2", word)) for word in words]


def _with(words: list[str], option: str, value: str) -> list[str]:
    if option not in words:
        return [*words, option, value]
    place = words.index(option)
    return [*words[: place + 1], value, *words[place + 2 :]]

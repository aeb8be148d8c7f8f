"""The presets as rows, each with the table it comes from or the result it gave."""

from dataclasses import replace

from ecgforge.errors import ConfigError
from ecgforge.leads import NLE_LEADS
from ecgforge.models.critic import CriticConfig
from ecgforge.models.patch_s4 import PatchS4Config
from ecgforge.models.pulse2pulse import Pulse2PulseConfig
from ecgforge.models.sssd import SssdConfig
from ecgforge.models.wavegan import WaveGanConfig
from ecgforge.models.xresnet import XResNetConfig
from ecgforge.training.settings import (
    ClassifierTraining,
    DataConfig,
    DiffusionTraining,
    FlowTraining,
    Stage,
    TrainingConfig,
    WassersteinTraining,
)

# --------------------------------------------------------------------------------------------- SSSD-ECG

# The paper: arXiv 2301.08227, Table II, and the authors' configuration (batch 8, 100,000 iterations, no EMA).
_SSSD = DiffusionTraining(name="sssd-ecg")

_SMALL = SssdConfig(
    layers=6,
    residual_channels=64,
    skip_channels=64,
    step_hidden=256,
    step_out=256,
    label_features=64,
    state_size=16,
)

# 0.71 M parameters, about an hour on two CPU cores. Whole records for most of the time, because where beats stand
# is learned on nothing shorter, and the balanced loss from the first step (docs/log.md has what failed before).
_SSSD_SMALL = DiffusionTraining(
    name="sssd-ecg-small",
    network=_SMALL,
    stages=(Stage(steps=2000, samples=250), Stage(steps=5000, samples=1000)),
    loss_weight="balanced",
    batch_size=8,
    learning_rate=1e-3,
    warmup_steps=200,
    decay_from=0.7,
    gradient_clip=1.0,
    ema_decay=0.999,
)

# ------------------------------------------------------------------------------------------ our own denoiser

# Attention in every second block: 12 % less loss after equally many steps (docs/log.md, "PatchS4"). The budget is that
# of the weights that ship, about 800,000 records.
_PATCH_S4 = FlowTraining(
    name="patch-s4",
    network=PatchS4Config(attention_every=2),
    data=DataConfig(rare_share=0.2),
    stages=(Stage(steps=25_000, samples=1000),),
    batch_size=32,
    learning_rate=1e-3,
    warmup_steps=500,
    decay_from=0.7,
    keep_every=1000,  # 25 models of 18 MB
)

# ----------------------------------------------------------------------------------------- SSSD-ECG-nle

# arXiv 2407.11108: a million viewed samples in batches of 8, Adam 2e-4, the leads in an order of its own.
_NLE_BUDGET = (Stage(steps=125_000, samples=1000),)
_NLE_DATA = DataConfig(leads=NLE_LEADS)

_NLE = DiffusionTraining(
    name="sssd-ecg-nle", network=SssdConfig(statements="nle-as-described"), data=_NLE_DATA, stages=_NLE_BUDGET
)
_NLE_RELEASED = replace(_NLE, name="sssd-ecg-nle-as-released", network=SssdConfig(statements="nle-as-released"))


def _one_pathology(code: str) -> DiffusionTraining:
    """The paper's setting of one pathology at a time, with the code as released."""
    return replace(
        _NLE_RELEASED,
        name=f"sssd-ecg-nle-{code.lower()}",
        network=SssdConfig(statements="nle-as-released", labels=1),
        data=replace(_NLE_DATA, statements=(code,)),
    )


def _nle_small(name: str, source: DiffusionTraining) -> DiffusionTraining:
    """At the size and budget of sssd-ecg-small, for comparison with it."""
    network = replace(_SMALL, statements=source.network.statements)
    return replace(_SSSD_SMALL, name=name, network=network, data=_NLE_DATA)


# -------------------------------------------------------------------------------- WaveGAN*, Pulse2Pulse

# The published baselines: 3,000 epochs of 17,418 records in batches of 32, five for the critic per generator step.
_WAVEGAN = WassersteinTraining(
    name="wavegan-star",
    network=WaveGanConfig(),
    stages=(Stage(steps=326_600, samples=1000),),
    batch_size=32,
    learning_rate=1e-4,
)
_PULSE2PULSE = replace(_WAVEGAN, name="pulse2pulse", network=Pulse2PulseConfig())

# Without the published faults: room for the amplitudes of real records, the same noise in training and sampling, a
# critic that sees the statements.
_SEEING = CriticConfig(sees_statements=True)
_WAVEGAN_FIXED = replace(
    _WAVEGAN,
    name="wavegan-star-fixed",
    network=WaveGanConfig(amplitude=5.0, sampling_noise="uniform"),
    critic=_SEEING,
)
_PULSE2PULSE_FIXED = replace(
    _WAVEGAN_FIXED,
    name="pulse2pulse-fixed",
    network=Pulse2PulseConfig(amplitude=5.0, sampling_noise="uniform"),
)


def _gan_small(source: WassersteinTraining) -> WassersteinTraining:
    """For two CPU cores: the published critic (47.6 M parameters) narrowed to a twentieth of its cost."""
    return replace(
        source,
        name=f"{source.name}-small",
        critic=replace(source.critic, width=10),
        stages=(Stage(steps=2_000, samples=1000),),
        batch_size=16,
    )


# ------------------------------------------------------------------------------------------- classifier

# arXiv 2301.08227, Table III: 100 epochs of folds 1-7 in batches of 64, constant learning rate.
_XRESNET = ClassifierTraining(
    name="xresnet1d50",
    stages=(Stage(steps=23_900, samples=250),),
    batch_size=64,
    learning_rate=1e-3,
    validate_every=239,
)
# arXiv 2004.13701, the public benchmark: 50 epochs of folds 1-7 in batches of 128, one-cycle. Without the cycled
# momentum of its library.
_XRESNET_BENCHMARK = ClassifierTraining(
    name="xresnet1d50-benchmark",
    network=XResNetConfig(strides=(1, 2, 2, 2)),
    stages=(Stage(steps=6_000, samples=250),),
    batch_size=128,
    learning_rate=1e-2,
    warmup_steps=1_500,
    decay_from=0.25,
    ramp="cosine",
    weight_decay=1e-2,
    validate_every=240,
)

PRESETS: dict[str, TrainingConfig] = {
    config.name: config
    for config in (
        _SSSD,
        _SSSD_SMALL,
        _PATCH_S4,
        _NLE,
        _NLE_RELEASED,
        *map(_one_pathology, ("AFIB", "CRBBB", "1AVB", "PVC")),
        _nle_small("sssd-ecg-nle-small", _NLE),
        _nle_small("sssd-ecg-nle-as-released-small", _NLE_RELEASED),
        _WAVEGAN,
        _WAVEGAN_FIXED,
        _PULSE2PULSE,
        _PULSE2PULSE_FIXED,
        *map(_gan_small, (_WAVEGAN, _WAVEGAN_FIXED, _PULSE2PULSE, _PULSE2PULSE_FIXED)),
        _XRESNET,
        _XRESNET_BENCHMARK,
    )
}


def preset(name: str) -> TrainingConfig:
    """A preset by name.

    Raises:
        ConfigError: no such preset.
    """
    if name not in PRESETS:
        raise ConfigError(f"expected a preset out of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]

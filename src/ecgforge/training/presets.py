"""What to train: the configuration of a run, and the presets as rows."""

from dataclasses import dataclass

from ecgforge.diffusion.denoiser import LossWeight
from ecgforge.diffusion.schedule import LinearSchedule
from ecgforge.errors import ConfigError
from ecgforge.leads import MODEL_LEADS
from ecgforge.models.sssd import SssdConfig


@dataclass(frozen=True)
class DataConfig:
    """Which records of the store are learned from.

    Attributes:
        folds: Cross-validation folds; PTB-XL's published split trains on 1-8.
        label_set: Statements of the condition, one of labels.LABEL_SETS.
        leads: Channels of the network, in order.
        min_label_quality: Leave out records whose statements are less sure (None: take all).
    """

    folds: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8)
    label_set: str = "all"
    leads: tuple[str, ...] = MODEL_LEADS
    min_label_quality: int | None = None


@dataclass(frozen=True)
class Stage:
    """A stretch of training on windows of one length.

    A step costs in proportion to the window, and the S4 kernels, cut to it, are exact on it; so a small budget is
    best spent on short windows first and on whole records last.

    Attributes:
        steps: Optimiser steps.
        samples: Window length; whole records where it equals the network's length.
    """

    steps: int
    samples: int


@dataclass(frozen=True)
class TrainingConfig:
    """A training run, complete: the same configuration and data give the same weights.

    Attributes:
        name: Of the preset; becomes the model's name.
        network_kind: Key of models.NETWORKS.
        network: Size of the network.
        schedule: Noise levels.
        data: Records learned from.
        stages: Steps and window lengths, in order.
        loss_weight: Of the noise levels: "noise" as in the papers, or "balanced" (see diffusion.denoiser.eps_loss).
        batch_size: Records per step over all devices together.
        learning_rate: Of Adam, after the warm-up.
        warmup_steps: Linear warm-up.
        decay_from: Share of the steps after which the learning rate falls linearly to zero; 1 keeps it constant.
        gradient_clip: Largest norm of the gradient; 0 for no limit.
        ema_decay: Of the averaged weights, which are the ones saved and sampled; 0 turns averaging off.
        seed: Of initial weights, order of records, diffusion steps and noise.
        precision: Fabric's precision, e.g. "32-true" or "bf16-mixed".
        checkpoint_minutes: Longest time a crash can lose.
        sample_minutes: Between pictures of samples; 0 for none.

    Raises:
        ConfigError: a number is out of range.
    """

    name: str
    network_kind: str = "sssd"
    network: SssdConfig = SssdConfig()
    schedule: LinearSchedule = LinearSchedule()
    data: DataConfig = DataConfig()
    stages: tuple[Stage, ...] = (Stage(steps=100_000, samples=1000),)
    loss_weight: LossWeight = "noise"
    batch_size: int = 8
    learning_rate: float = 2e-4
    warmup_steps: int = 0
    decay_from: float = 1.0
    gradient_clip: float = 0.0
    ema_decay: float = 0.0
    seed: int = 0
    precision: str = "32-true"
    checkpoint_minutes: float = 5.0
    sample_minutes: float = 20.0

    def __post_init__(self) -> None:
        if not self.stages or any(stage.steps < 1 for stage in self.stages):
            raise ConfigError("expected one or more stages of 1 or more steps each")
        too_long = [stage.samples for stage in self.stages if not 1 < stage.samples <= self.network.length]
        if too_long:
            raise ConfigError(
                f"expected windows of 2 to {self.network.length} samples (network.length), got {too_long[0]}"
            )
        if self.batch_size < 1 or self.learning_rate <= 0 or not 0 <= self.ema_decay < 1:
            raise ConfigError("expected batch_size >= 1, learning_rate > 0 and 0 <= ema_decay < 1")
        if not 0 <= self.decay_from <= 1 or min(self.warmup_steps, self.gradient_clip, self.seed) < 0:
            raise ConfigError("expected 0 <= decay_from <= 1 and warmup_steps, gradient_clip and seed of 0 or more")
        if len(self.data.leads) != self.network.leads:
            raise ConfigError(
                f"expected network.leads = {len(self.data.leads)} for data.leads = {' '.join(self.data.leads)}, "
                f"got {self.network.leads}"
            )

    @property
    def total_steps(self) -> int:
        """Optimiser steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    def samples_at(self, step: int) -> int:
        """Window length of a step, counted from 0."""
        for stage in self.stages:
            if step < stage.steps:
                return stage.samples
            step -= stage.steps
        return self.stages[-1].samples


_SMALL = SssdConfig(
    layers=6,
    residual_channels=64,
    skip_channels=64,
    step_hidden=256,
    step_out=256,
    label_features=64,
    state_size=16,
)

PRESETS = {
    # The paper: arXiv 2301.08227, Table II, and the authors' configuration (batch 8, 100,000 iterations, no EMA).
    "sssd-ecg": TrainingConfig(name="sssd-ecg"),
    # 0.71 M parameters, about an hour on two CPU cores. Whole records for most of the time, because where beats stand
    # is learned on nothing shorter, and the balanced loss from the first step (docs/log.md has what failed before).
    "sssd-ecg-small": TrainingConfig(
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
    ),
}


def preset(name: str) -> TrainingConfig:
    """A preset by name.

    Raises:
        ConfigError: no such preset.
    """
    if name not in PRESETS:
        raise ConfigError(f"expected a preset out of {', '.join(PRESETS)}, got {name!r}")
    return PRESETS[name]

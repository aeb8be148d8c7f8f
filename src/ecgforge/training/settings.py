"""What a training run is: one class of settings per kind of model, all flat, all frozen."""

from dataclasses import dataclass
from typing import Literal

from ecgforge.diffusion.denoiser import LossWeight
from ecgforge.diffusion.flow import FlowSchedule
from ecgforge.diffusion.schedule import LinearSchedule
from ecgforge.errors import ConfigError
from ecgforge.leads import MODEL_LEADS, STANDARD_LEADS
from ecgforge.models import NetworkConfig
from ecgforge.models.critic import CriticConfig
from ecgforge.models.patch_s4 import PatchS4Config
from ecgforge.models.pulse2pulse import Pulse2PulseConfig
from ecgforge.models.sssd import SssdConfig
from ecgforge.models.wavegan import WaveGanConfig
from ecgforge.models.xresnet import XResNetConfig

Ramp = Literal["linear", "cosine"]
TrainingPrecision = Literal["32-true", "bf16-mixed"]


@dataclass(frozen=True)
class DataConfig:
    """Which records of the store are learned from.

    Attributes:
        folds: Cross-validation folds; PTB-XL's published split trains on 1-8.
        label_set: Statements of the condition, one of labels.LABEL_SETS.
        statements: A label set of one's own, in this order, e.g. ("AFIB",); empty takes `label_set`.
        leads: Channels of the network, in order.
        min_label_quality: Leave out records whose statements are less sure (None: take all).
        rare_share: Share of the examples that are drawn by statement instead of by record: a statement out of those the
            records have, then one of its records. Rare statements are then seen more often.
    """

    folds: tuple[int, ...] = (1, 2, 3, 4, 5, 6, 7, 8)
    label_set: str = "all"
    statements: tuple[str, ...] = ()
    leads: tuple[str, ...] = MODEL_LEADS
    min_label_quality: int | None = None
    rare_share: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.rare_share <= 1:
            raise ConfigError(f"expected data.rare_share from 0 to 1, got {self.rare_share}")


@dataclass(frozen=True)
class Stage:
    """A stretch of training on windows of one length.

    A step costs in proportion to the window. S4 kernels, cut to the window, are exact on it; but how beats follow one
    another is learned on whole records only.

    Attributes:
        steps: Optimiser steps.
        samples: Window length; whole records where it equals the network's length.
    """

    steps: int
    samples: int


@dataclass(frozen=True)
class TrainingConfig:
    """What every training run has; the same configuration and data give the same weights.

    Attributes:
        name: Of the preset; becomes the model's name.
        network: Kind and size of the network.
        data: Records learned from.
        stages: Steps and window lengths, in order.
        batch_size: Records per step over all devices together.
        learning_rate: After the warm-up.
        warmup_steps: Steps over which the learning rate rises.
        decay_from: Share of the steps after which the learning rate falls to zero; 1 keeps it constant.
        ramp: Shape of rise and fall.
        seed: Of initial weights, order of records, and every draw.
        precision: "32-true", or "bf16-mixed": matrix products in bfloat16, weights, inputs and optimiser in float32.
        checkpoint_minutes: Time between checkpoints, about as much as a crash can lose; looked at every 20 steps.
        sample_minutes: Between pictures of samples; 0 for none.
        keep_models_at: Steps after which the model is kept in RUN/kept/STEP, to see how it grew.
        keep_every: Steps between more such models, from which the length of the average may be chosen afterwards (see
            training.averaging); 0 for none.

    Raises:
        ConfigError: a number is out of range.
    """

    name: str
    network: NetworkConfig
    data: DataConfig = DataConfig()
    stages: tuple[Stage, ...] = (Stage(steps=100_000, samples=1000),)
    batch_size: int = 8
    learning_rate: float = 2e-4
    warmup_steps: int = 0
    decay_from: float = 1.0
    ramp: Ramp = "linear"
    seed: int = 0
    precision: TrainingPrecision = "32-true"
    checkpoint_minutes: float = 5.0
    sample_minutes: float = 20.0
    keep_models_at: tuple[int, ...] = ()
    keep_every: int = 0

    def __post_init__(self) -> None:
        if not self.stages or any(stage.steps < 1 or stage.samples < 2 for stage in self.stages):
            raise ConfigError("expected one or more stages of 1 or more steps on windows of 2 or more samples")
        if self.batch_size < 1 or self.learning_rate <= 0:
            raise ConfigError("expected batch_size >= 1 and learning_rate > 0")
        if not 0 <= self.decay_from <= 1 or min(self.warmup_steps, self.seed, self.keep_every) < 0:
            raise ConfigError("expected 0 <= decay_from <= 1 and warmup_steps, seed and keep_every of 0 or more")
        if len(self.data.leads) != self.network.leads:
            raise ConfigError(
                f"expected network.leads = {len(self.data.leads)} for data.leads = {' '.join(self.data.leads)}, "
                f"got {self.network.leads}"
            )

    @property
    def total_steps(self) -> int:
        """Optimiser steps of all stages."""
        return sum(stage.steps for stage in self.stages)

    @property
    def longest_window(self) -> int:
        """Samples a record must have at least."""
        return max(stage.samples for stage in self.stages)

    def samples_at(self, step: int) -> int:
        """Window length of a step, counted from 0."""
        for stage in self.stages:
            if step < stage.steps:
                return stage.samples
            step -= stage.steps
        return self.stages[-1].samples


@dataclass(frozen=True)
class DiffusionTraining(TrainingConfig):
    """Training of a denoising network.

    Attributes:
        schedule: Noise levels.
        loss_weight: Of the noise levels: "noise" as in the papers, or "balanced" (see diffusion.denoiser.eps_loss).
        unknown_share: Share of the examples of which statements are hidden: of half of these all statements, of
            the other half each with a chance that is drawn uniformly. Teaches the row "unknown" of the statement
            tables, which partial labels and guidance need.
        gradient_clip: Largest norm of the gradient; 0 for no limit.
        ema_decay: Of the averaged weights, which are the ones saved and sampled; 0 turns averaging off.
        gradient_checkpointing: Keep only the inputs of the residual blocks and compute the blocks again in the
            backward pass: the same gradients, a third more work, a fraction of the memory.
    """

    network: SssdConfig = SssdConfig()
    schedule: LinearSchedule = LinearSchedule()
    loss_weight: LossWeight = "noise"
    unknown_share: float = 0.0
    gradient_clip: float = 0.0
    ema_decay: float = 0.0
    gradient_checkpointing: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.longest_window > self.network.length:
            raise ConfigError(
                f"expected windows of 2 to {self.network.length} samples (network.length), got {self.longest_window}"
            )
        if not 0 <= self.ema_decay < 1 or not 0 <= self.unknown_share <= 1 or self.gradient_clip < 0:
            raise ConfigError("expected 0 <= ema_decay < 1, 0 <= unknown_share <= 1 and gradient_clip of 0 or more")
        if self.unknown_share and self.network.statements == "sum":
            raise ConfigError(
                "expected unknown_share = 0 with network.statements = sum, which cannot tell unknown from absent; "
                "choose nle-as-described or nle-as-released"
            )


@dataclass(frozen=True)
class FlowTraining(TrainingConfig):
    """Training of our own denoiser: velocity of the trigonometric flow, on leads of unit variance.

    Attributes:
        schedule: Noise levels.
        unknown_share: As in DiffusionTraining, for statements.
        fact_share: Chance that age, sex and heart rate are told, each by itself, where they are known.
        beat_share: Chance that it is told where the beats are.
        gradient_clip: Largest norm of the gradient; 0 for no limit.
        ema_decay: Of the averaged weights.
    """

    network: PatchS4Config = PatchS4Config()
    schedule: FlowSchedule = FlowSchedule()
    unknown_share: float = 0.2
    fact_share: float = 0.7
    beat_share: float = 0.8
    gradient_clip: float = 1.0
    ema_decay: float = 0.9995

    def __post_init__(self) -> None:
        super().__post_init__()
        wrong = [s.samples for s in self.stages if s.samples > self.network.length or s.samples % self.network.patch]
        if wrong:
            raise ConfigError(
                f"expected windows of at most {self.network.length} samples, in whole patches of {self.network.patch}, "
                f"got {wrong[0]}"
            )
        if not all(0 <= share <= 1 for share in (self.unknown_share, self.fact_share, self.beat_share)):
            raise ConfigError("expected unknown_share, fact_share and beat_share from 0 to 1")
        if not 0 <= self.ema_decay < 1 or self.gradient_clip < 0:
            raise ConfigError("expected 0 <= ema_decay < 1 and gradient_clip of 0 or more")


@dataclass(frozen=True)
class WassersteinTraining(TrainingConfig):
    """Training of a generator against a critic: WGAN-GP (arXiv 1704.00028, algorithm 1).

    One step is one update of the generator after `critic_steps` updates of the critic, each on a batch of its own.

    Attributes:
        critic: Size of the critic and whether it sees the statements.
        critic_steps: Updates of the critic per update of the generator.
        gradient_penalty: Lambda, weight of the penalty.
        betas: Of Adam.
    """

    network: WaveGanConfig | Pulse2PulseConfig = WaveGanConfig()
    critic: CriticConfig = CriticConfig()
    critic_steps: int = 5
    gradient_penalty: float = 10.0
    betas: tuple[float, float] = (0.5, 0.9)

    def __post_init__(self) -> None:
        super().__post_init__()
        if any(stage.samples != self.network.length for stage in self.stages):
            raise ConfigError(f"expected windows of {self.network.length} samples (network.length) in all stages")
        ours, theirs = (self.network, self.critic)
        if (ours.leads, ours.length, ours.labels) != (theirs.leads, theirs.length, theirs.labels):
            raise ConfigError(
                f"expected a critic for {ours.leads} leads, {ours.length} samples and {ours.labels} statements, got "
                f"{theirs.leads}, {theirs.length} and {theirs.labels}; --set critic.leads, length and labels alike"
            )
        if self.critic_steps < 1 or self.gradient_penalty < 0 or not all(0 <= beta < 1 for beta in self.betas):
            raise ConfigError("expected critic_steps >= 1, gradient_penalty of 0 or more and 0 <= betas < 1")


@dataclass(frozen=True)
class ClassifierTraining(TrainingConfig):
    """Training of a statement classifier on random windows; the best weights on the validation folds are kept.

    Attributes:
        validation_folds: Judged every `validate_every` steps by macro AUROC over all statements; never the folds
            that are reported.
        validate_every: Steps between validations.
        weight_decay: Decoupled, of AdamW.
    """

    network: XResNetConfig = XResNetConfig()
    data: DataConfig = DataConfig(folds=(1, 2, 3, 4, 5, 6, 7), leads=STANDARD_LEADS)
    stages: tuple[Stage, ...] = (Stage(steps=1000, samples=250),)
    validation_folds: tuple[int, ...] = (8,)
    validate_every: int = 250
    weight_decay: float = 1e-3
    sample_minutes: float = 0.0

    def __post_init__(self) -> None:
        super().__post_init__()
        shared = set(self.validation_folds) & set(self.data.folds)
        if shared or not self.validation_folds:
            raise ConfigError(
                "expected validation_folds that are not among data.folds, "
                f"got {sorted(self.validation_folds)} and {sorted(self.data.folds)}"
            )
        if self.validate_every < 1 or self.weight_decay < 0 or self.sample_minutes:
            raise ConfigError("expected validate_every >= 1, weight_decay of 0 or more and sample_minutes = 0")

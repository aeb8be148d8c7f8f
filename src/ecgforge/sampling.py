"""What is asked of a generator: which records, how they are sampled, and what that comes to for a model."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from ecgforge.diffusion import SAMPLERS
from ecgforge.diffusion.flow import FlowSchedule
from ecgforge.diffusion.schedule import LinearSchedule, NoiseLevel, Spacing
from ecgforge.errors import ConfigError
from ecgforge.facts import Facts
from ecgforge.labels import Statements, read_statements

SamplerName = Literal["ddpm", "ddim", "dpmpp", "dpmpp-sde", "unipc"]
Others = Literal["absent", "unknown"]
Precision = Literal["float32", "bfloat16"]
Schedule = LinearSchedule | FlowSchedule

# Ancestral sampling mends what a small network gets wrong at high noise and wants its steps spread evenly in time;
# the solvers of the deterministic flow are exact in few steps but keep such errors (docs/log.md, "Which sampler").
DEFAULT_STEPS: dict[SamplerName, int] = {"ddpm": 50, "ddim": 20, "dpmpp": 20, "dpmpp-sde": 20, "unipc": 20}
# Our own denoiser is told where the beats are: more calls make nothing better (docs/log.md, "How many network calls").
FLOW_STEPS: dict[SamplerName, int] = DEFAULT_STEPS | {"dpmpp": 7, "unipc": 10}
# Its statements show too little without guidance. Three of the seven levels of dpmpp lie in the interval, so that a
# record takes ten calls (docs/log.md, "Guidance as the default").
FLOW_GUIDANCE, FLOW_GUIDANCE_INTERVAL = 2.0, (0.2, 15.0)
SPACING: dict[SamplerName, Spacing] = {
    "ddpm": "time",
    "ddim": "log-snr",
    "dpmpp": "log-snr",
    "dpmpp-sde": "log-snr",
    "unipc": "log-snr",
}


@dataclass(frozen=True)
class Job:
    """One record to make.

    Attributes:
        index: Of the record within the seed.
        statements: Codes with grades.
        facts: What else is asked for; what is not stays open.
    """

    index: int
    statements: Mapping[str, float]
    facts: Facts = Facts()


@dataclass(frozen=True)
class SamplingOptions:
    """How to sample.

    Attributes:
        sampler: Key of diffusion.SAMPLERS; None takes the one that suits the model: dpmpp for the flow of our own
            denoiser, ddpm for the papers' models.
        steps: Noise levels visited, each a network call; None takes the sampler's DEFAULT_STEPS, FLOW_STEPS for our own
            denoiser. The papers use ddpm with all 200.
        batch_size: Records advanced together; changes speed and memory, never the records.
        others: What holds of the statements that were not asked for: they are absent, or nothing is known of them.
            Only models trained with hidden statements know the difference: PatchS4, and SSSD-ECG-nle where
            `unknown_share` was above 0.
        guidance: Weight of classifier-free guidance, 1 for none; for the same models. None takes what suits the model:
            FLOW_GUIDANCE within FLOW_GUIDANCE_INTERVAL for our own denoiser, none for the papers' models.
        guidance_interval: Smallest and largest noise over signal where guidance acts, a second call each; None for
            everywhere.
        duration: Seconds of a record; None for what the model was trained on. Longer ones are made of overlapping
            windows that are blended at every noise level (see diffusion.windows); only diffusion models make them.
        precision: Of the operands of matrix products. "bfloat16" is meant for accelerators and for processors with
            instructions for it; on others it is slower.

    Raises:
        ConfigError: a value is none of these or out of range.
    """

    sampler: SamplerName | None = None
    steps: int | None = None
    batch_size: int = 8
    others: Others = "absent"
    guidance: float | None = None
    guidance_interval: tuple[float, float] | None = None
    duration: float | None = None
    precision: Precision = "float32"

    def __post_init__(self) -> None:
        if self.sampler is not None and self.sampler not in SAMPLERS:  # a caller without a type checker
            raise ConfigError(f"expected a sampler out of {', '.join(SAMPLERS)}, got {self.sampler!r}")
        if self.precision not in get_args(Precision):
            raise ConfigError(f"expected a precision out of {', '.join(get_args(Precision))}, got {self.precision!r}")
        if self.others not in get_args(Others):
            raise ConfigError(f"expected the others to be one of {', '.join(get_args(Others))}, got {self.others!r}")
        if self.batch_size < 1:
            raise ConfigError(f"expected a batch size of 1 or more, got {self.batch_size}")
        if self.steps is not None and self.steps < 1:
            raise ConfigError(f"expected 1 or more sampling steps, or None for the sampler's own, got {self.steps}")
        if self.guidance is not None and not 0 <= self.guidance < math.inf:
            raise ConfigError(f"expected a guidance weight of 0 or more, got {self.guidance}")
        if self.duration is not None and not 0 < self.duration < math.inf:
            raise ConfigError(f"expected a duration in seconds, got {self.duration}")
        if self.guidance_interval is not None and not 0 <= self.guidance_interval[0] < self.guidance_interval[1]:
            raise ConfigError(
                f"expected a guidance interval of noise over signal, 0 <= low < high, got {self.guidance_interval}"
            )

    @property
    def wants_unknown(self) -> bool:
        """Whether the model must know what "unknown" means."""
        return self.others == "unknown" or self.guidance not in (None, 1)


def jobs_of(statements: Statements | Sequence[Statements], *, n: int = 1, facts: Facts = Facts()) -> list[Job]:
    """n jobs for each statement set, numbered from 0.

    Raises:
        LabelError: a statement does not exist.
        ConfigError: n is below 1.
    """
    if n < 1:
        raise ConfigError(f"expected 1 or more records per statement set, got {n}")
    sets = [statements] if isinstance(statements, str | Mapping) else list(statements)
    wanted = [read_statements(entry) for entry in sets]
    return [Job(index, wanted[index // n], facts) for index in range(len(wanted) * n)]


@dataclass(frozen=True)
class SamplingPlan:
    """What options come to for one model.

    Attributes:
        sampler: The one asked for, or the one that suits the model.
        levels: Noise levels to visit; none for a network that makes a record in one call.
        guidance: Weight of the guidance asked for, or the one that suits the model; 1 for none.
        guidance_interval: Noise over signal where guidance acts; None for everywhere.
    """

    sampler: SamplerName
    levels: tuple[NoiseLevel, ...]
    guidance: float
    guidance_interval: tuple[float, float] | None

    @property
    def steps(self) -> int:
        """Steps a record takes, each a network call; guidance and windows take further ones."""
        return max(1, len(self.levels))

    @property
    def calls(self) -> int:
        """Network calls of a record of the model's length: one a step, a second one where guidance acts."""
        low, high = self.guidance_interval or (0.0, math.inf)
        guided = [self.guidance != 1 and low <= level.sigma / level.alpha <= high for level in self.levels]
        return self.steps + sum(guided)


def plan_sampling(schedule: Schedule | None, options: SamplingOptions, *, model: str) -> SamplingPlan:
    """What options come to for a model of this schedule; None is a network that makes a record in one call.

    Raises:
        ConfigError: the model of this name takes no sampler or cannot make that many steps, or there is an interval of
            guidance without guidance.
    """
    if schedule is None and (options.sampler, options.steps) != (None, None):
        raise ConfigError(f"expected no sampler and no number of steps: {model} makes a record in one call")
    flow = isinstance(schedule, FlowSchedule)
    sampler = options.sampler or ("dpmpp" if flow else "ddpm")
    weight, interval = options.guidance, options.guidance_interval
    if weight is None and flow:
        weight, interval = FLOW_GUIDANCE, interval or FLOW_GUIDANCE_INTERVAL
    if weight is None and interval is not None:
        raise ConfigError(f"expected a guidance weight with a guidance interval: {model} is not guided by default")
    levels = _levels(schedule, sampler, options.steps, model=model)
    return SamplingPlan(sampler, levels, 1.0 if weight is None else weight, interval)


def _levels(
    schedule: Schedule | None, sampler: SamplerName, steps: int | None, *, model: str
) -> tuple[NoiseLevel, ...]:
    if schedule is None:
        return ()
    suiting = min(default_steps(schedule)[sampler], most_steps(schedule))
    wanted = suiting if steps is None else steps
    if isinstance(schedule, FlowSchedule):
        return schedule.levels(wanted)
    return schedule.levels(wanted, spacing=SPACING[sampler])


def default_steps(schedule: Schedule) -> dict[SamplerName, int]:
    """Steps of each sampler if nothing else is asked for."""
    return FLOW_STEPS if isinstance(schedule, FlowSchedule) else DEFAULT_STEPS


def most_steps(schedule: Schedule | None) -> int:
    """The most steps a record can take; 1 for a network that makes it in one call."""
    if isinstance(schedule, FlowSchedule):
        return schedule.most_steps
    return 1 if schedule is None else schedule.T

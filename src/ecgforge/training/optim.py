"""Learning-rate schedule and averaged weights."""

import math

import torch
from torch import Tensor, nn

from ecgforge.training.settings import TrainingConfig


def learning_rate_at(step: int, config: TrainingConfig) -> float:
    """Learning rate of a step counted from 0: rise, constant, fall to zero.

    Source: warm-up, stable, decay (arXiv 2404.06395, section 4); with cosine ramps that meet, the one-cycle policy
    (arXiv 1708.07120).
    """
    rise = min(1.0, (step + 1) / max(config.warmup_steps, 1))
    falling_steps = (1 - config.decay_from) * config.total_steps
    fall = min(1.0, (config.total_steps - step) / falling_steps) if falling_steps else 1.0
    if config.ramp == "cosine":
        rise, fall = (0.5 - 0.5 * math.cos(math.pi * share) for share in (rise, fall))
    return config.learning_rate * rise * fall


def average_decay(step: int, decay: float) -> float:
    """What step `step`, counted from 0, leaves of the average before: little at first, `decay` later on.

    Source: the warm-up of TensorFlow's ExponentialMovingAverage.
    """
    return min(decay, (1 + step) / (10 + step))


class AveragedWeights:
    """Exponential moving average of a network's parameters, with a start that forgets the initial weights.

    Source: the usual EMA of diffusion models (arXiv 2006.11239, appendix B).
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        self.decay = decay
        self._live = dict(network.named_parameters())
        self.average = {name: value.detach().clone() for name, value in self._live.items()}

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the parameters after step `step`, counted from 0."""
        taken = 1 - average_decay(step, self.decay)
        torch._foreach_lerp_(list(self.average.values()), list(self._live.values()), taken)

    def load(self, average: dict[str, Tensor]) -> None:
        """Continue from a saved average."""
        for name, value in average.items():
            self.average[name].copy_(value)

    def weights_of(self, network: nn.Module) -> dict[str, Tensor]:
        """The network's state with averaged parameters in place of the live ones; buffers as they are."""
        return {**network.state_dict(), **self.average}

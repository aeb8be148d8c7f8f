"""The trigonometric flow: x_t = cos(t) x_0 + sin(t) eps for signals of unit variance, t from pi/2 down to 0.

At t = pi/2 nothing of the signal is left, whatever its scale was: the prior is exactly Gaussian. The noisy signal has
unit variance at every t, and so has what the network predicts, the velocity v = cos(t) eps - sin(t) x_0. With data of
unit variance this is EDM's preconditioning in other words.

Source: Lu and Song 2024 (arXiv 2410.11081), section 3.1 (TrigFlow); Karras et al. 2022 (arXiv 2206.00364), Table 1.
"""

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ecgforge.diffusion.denoiser import Denoiser, Network
from ecgforge.diffusion.schedule import NoiseLevel
from ecgforge.errors import ConfigError


@dataclass(frozen=True)
class FlowSchedule:
    """Noise levels by their ratio tan(t) = sigma / alpha.

    Attributes:
        kind: Tells schedules apart in files.
        mean: Of log tan(t) in training.
        deviation: Of log tan(t) in training.
        smallest: tan(t) of the last network call.
        largest: tan(t) where sampling starts.
        rho: How steps crowd at small noise.

    Source: arXiv 2206.00364, equation (5) and Table 1; ECGs need more weight on high noise than images, because beats
    find their places there.

    Raises:
        ConfigError: a number is out of range.
    """

    kind: Literal["flow"] = "flow"
    mean: float = 0.0
    deviation: float = 1.6
    smallest: float = 0.01
    largest: float = 100.0
    rho: float = 7.0

    def __post_init__(self) -> None:
        if not 0 < self.smallest < self.largest or self.deviation <= 0 or self.rho <= 0:
            raise ConfigError("expected 0 < smallest < largest, deviation > 0 and rho > 0")

    @property
    def most_steps(self) -> int:
        """More are of no use."""
        return 1000

    def draw_ratio(self, stream: np.random.Generator) -> float:
        """tan(t) of a training example."""
        return math.exp(self.mean + self.deviation * float(stream.standard_normal()))

    def levels(self, count: int) -> tuple[NoiseLevel, ...]:
        """Levels from the largest ratio down to the smallest; the clean signal comes after the last.

        Raises:
            ConfigError: count is not from 1 to most_steps.
        """
        if not 1 <= count <= self.most_steps:
            raise ConfigError(f"expected 1 to {self.most_steps} sampling steps for this model, got {count}")
        ends = self.largest ** (1 / self.rho), self.smallest ** (1 / self.rho)
        return tuple(level_at(ratio) for ratio in np.linspace(*ends, count) ** self.rho)


def level_at(ratio: float) -> NoiseLevel:
    """The noise level with sigma / alpha = ratio; the network is told log(ratio) / 4 (arXiv 2206.00364, Table 1)."""
    t = math.atan(ratio)
    return NoiseLevel(step=math.log(ratio) / 4, alpha=math.cos(t), sigma=math.sin(t))


def flow_denoiser(network: Network, condition: Float[Tensor, "B K"]) -> Denoiser:
    """Denoiser of a network that predicts the velocity: x0_hat = cos(t) x - sin(t) v."""

    def denoise(x: Float[Tensor, "B C L"], level: NoiseLevel) -> Float[Tensor, "B C L"]:
        told = torch.full((len(x),), level.step, dtype=x.dtype, device=x.device)
        return level.alpha * x - level.sigma * network(x, told, condition)

    return denoise


def flow_loss(
    network: Network,
    x_0: Float[Tensor, "B C L"],
    condition: Float[Tensor, "B K"],
    *,
    ratio: Float[Tensor, " B"],
    eps: Float[Tensor, "B C L"],
) -> Float[Tensor, " B"]:
    """Mean squared error of the predicted velocity, one value a record.

    Args:
        network: Predicts the velocity.
        x_0: Clean signals of about unit variance.
        condition: What the network is told of them.
        ratio: tan(t) of each record.
        eps: Standard normal noise.
    """
    t = torch.atan(ratio)
    alpha, sigma = t.cos()[:, None, None], t.sin()[:, None, None]
    velocity = alpha * eps - sigma * x_0
    predicted = network(alpha * x_0 + sigma * eps, ratio.log() / 4, condition)
    return (predicted - velocity).square().mean(dim=(1, 2))

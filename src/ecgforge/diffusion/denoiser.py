"""Everything is a denoiser: denoise(x, level) -> estimate of the clean signal. The loss stands beside it.

Samplers and guidance know only this interface, so that a network trained to predict noise, signal or velocity
looks the same to them.
"""

from collections.abc import Callable
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor

from ecgforge.diffusion.schedule import LinearSchedule, NoiseLevel

LossWeight = Literal["noise", "balanced"]
Denoiser = Callable[[Tensor, NoiseLevel], Tensor]
Network = Callable[[Tensor, Tensor, Tensor], Tensor]


def eps_denoiser(network: Network, condition: Float[Tensor, "B K"]) -> Denoiser:
    """Denoiser of a network that predicts the noise: x0_hat = (x - sigma eps) / alpha.

    Source: arXiv 2006.11239, equation (15).
    """

    def denoise(x: Float[Tensor, "B C L"], level: NoiseLevel) -> Float[Tensor, "B C L"]:
        step = torch.full((len(x),), level.step, dtype=x.dtype, device=x.device)
        return (x - level.sigma * network(x, step, condition)) / level.alpha

    return denoise


def eps_loss(
    network: Network,
    schedule: LinearSchedule,
    x_0: Float[Tensor, "B C L"],
    condition: Float[Tensor, "B K"],
    *,
    step: Float[Tensor, " B"],
    eps: Float[Tensor, "B C L"],
    weight: LossWeight = "noise",
) -> Float[Tensor, " B"]:
    """Mean squared error of the predicted noise, one value a record.

    Args:
        network: Predicts the noise.
        schedule: Noise levels.
        x_0: Clean signals, mV.
        condition: Label vectors.
        step: Diffusion steps t.
        eps: Standard normal noise.
        weight: "noise" is the papers' plain error. For signals far smaller than the noise it hardly sees the high
            noise levels, where beats find their places: "balanced" multiplies by sigma / alpha, the geometric mean
            of the errors in predicted noise and in predicted signal.

    Source: arXiv 2006.11239, equation (14); SSSD-ECG, section III.A.
    """
    alpha_bar = torch.as_tensor(schedule.alpha_bar, dtype=x_0.dtype, device=x_0.device)[step.long()]
    x_t = alpha_bar.sqrt()[:, None, None] * x_0 + (1 - alpha_bar).sqrt()[:, None, None] * eps
    losses = (network(x_t, step, condition) - eps).square().mean(dim=(1, 2))
    return losses * ((1 - alpha_bar) / alpha_bar).sqrt() if weight == "balanced" else losses

"""Samplers: from noise to signal with a denoiser, independent of network and schedule.

Each is a function (denoise, x, levels, ...) -> x_0 over noise levels that fall to the clean signal; `x` starts as
sigma_T times a standard normal draw (here sigma_T is close to 1, and the papers draw from N(0, I)).

Which one? `ddpm` draws fresh noise at every level, which mends errors of the network: over all levels it is the papers'
own sampling, over a quarter of them evenly in time the default. `dpmpp_2m` follows the deterministic flow accurately in
20 calls, for a network that is right at every noise level. `ddim` does so to first order and is easy to reason about.
"""

import math
from collections.abc import Callable, Sequence
from typing import Protocol

from jaxtyping import Float
from torch import Tensor

from ecgforge.diffusion.denoiser import Denoiser
from ecgforge.diffusion.schedule import CLEAN, NoiseLevel

Noise = Callable[[], Tensor]
Progress = Callable[[int, int], None]


class Sampler(Protocol):
    """What every entry of SAMPLERS can be called with."""

    def __call__(
        self,
        denoise: Denoiser,
        x: Tensor,
        levels: Sequence[NoiseLevel],
        *,
        noise: Noise,
        progress: Progress | None = None,
    ) -> Tensor:
        """The clean signal, reached from `x` through the levels; `noise` gives a fresh draw shaped like x."""
        ...


def ddpm(
    denoise: Denoiser,
    x: Float[Tensor, "B C L"],
    levels: Sequence[NoiseLevel],
    *,
    noise: Noise,
    progress: Progress | None = None,
) -> Float[Tensor, "B C L"]:
    """Ancestral sampling with the posterior variance beta_tilde, no noise in the last step: the papers' sampler.

    Source: arXiv 2006.11239, Algorithm 2, with sigma_t^2 = beta_tilde_t of equation (7); equals ddim(eta=1).
    """
    return ddim(denoise, x, levels, noise=noise, eta=1.0, progress=progress)


def ddim(
    denoise: Denoiser,
    x: Float[Tensor, "B C L"],
    levels: Sequence[NoiseLevel],
    *,
    noise: Noise,
    eta: float = 0.0,
    progress: Progress | None = None,
) -> Float[Tensor, "B C L"]:
    """Denoising diffusion implicit models, first order; `eta` scales the noise added back (0 none, 1 ancestral).

    Source: Song et al. 2021 (arXiv 2010.02502), equations (12) and (16).
    """
    for done, (now, after) in enumerate(_pairs(levels), start=1):
        x_0 = denoise(x, now)
        eps = (x - now.alpha * x_0) / now.sigma
        fresh = eta * _ancestral_deviation(now, after)
        x = after.alpha * x_0 + math.sqrt(max(after.sigma**2 - fresh**2, 0.0)) * eps
        if fresh > 0:
            x = x + fresh * noise()
        if progress:
            progress(done, len(levels))
    return x


def dpmpp_2m(
    denoise: Denoiser,
    x: Float[Tensor, "B C L"],
    levels: Sequence[NoiseLevel],
    *,
    noise: Noise | None = None,
    progress: Progress | None = None,
) -> Float[Tensor, "B C L"]:
    """DPM-Solver++(2M): second-order multistep solver of the probability-flow ODE; draws no noise.

    The first step and the last, which jumps to infinite log-SNR, are first order.

    Source: Lu et al. 2022 (arXiv 2211.01095), Algorithm 2.
    """
    previous: Tensor | None = None
    previous_h = 0.0
    for done, (now, after) in enumerate(_pairs(levels), start=1):
        x_0 = denoise(x, now)
        h = after.half_log_snr - now.half_log_snr
        slope = x_0
        if previous is not None and after is not CLEAN:
            r = previous_h / h
            slope = x_0 + (x_0 - previous) / (2 * r)
        x = (after.sigma / now.sigma) * x - after.alpha * math.expm1(-h) * slope
        previous, previous_h = x_0, h
        if progress:
            progress(done, len(levels))
    return x


def _pairs(levels: Sequence[NoiseLevel]) -> list[tuple[NoiseLevel, NoiseLevel]]:
    return list(zip(levels, [*levels[1:], CLEAN], strict=True))


def _ancestral_deviation(now: NoiseLevel, after: NoiseLevel) -> float:
    """sqrt(beta_tilde): standard deviation of the exact posterior of x_after given x_now and x_0."""
    alpha_squared = (now.alpha / after.alpha) ** 2
    return after.sigma / now.sigma * math.sqrt(max(1 - alpha_squared, 0.0))

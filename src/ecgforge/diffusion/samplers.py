"""Samplers: from noise to signal with a denoiser, independent of network and schedule.

Each is a function (denoise, x, levels, ...) -> x_0 over noise levels that fall to the clean signal; `x` starts as
sigma_T times a standard normal draw (here sigma_T is close to 1, and the papers draw from N(0, I)).

Which one? Stochastic samplers draw fresh noise at every level, which mends errors of the network: `ddpm` is the papers'
own over all levels, and to first order too narrow over few; `dpmpp_sde` does the same to second order and is within a
few percent of the spread in 20 to 30 calls. Deterministic ones follow the probability flow, for a network that is right
at every noise level: `ddim` to first order, easy to reason about; `dpmpp_2m` to second; `unipc` to third, from as many
calls.
"""

import math
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np
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
    return _second_order(denoise, x, levels, noise=noise, eta=0.0, progress=progress)


def dpmpp_sde(
    denoise: Denoiser,
    x: Float[Tensor, "B C L"],
    levels: Sequence[NoiseLevel],
    *,
    noise: Noise,
    eta: float = 1.0,
    progress: Progress | None = None,
) -> Float[Tensor, "B C L"]:
    """SDE-DPM-Solver++(2M): as dpmpp_2m, with fresh noise at every level but the last.

    `eta` scales the noise: 0 is dpmpp_2m; with 1 the first step is that of ddpm.

    Source: Lu et al. 2022 (arXiv 2211.01095), SDE-DPM-Solver++(2M); for eta the diffusion term of the reverse SDE is
    scaled by eta (Zhang and Chen 2022, arXiv 2204.13902, equation (6) with lambda^2 = eta).
    """
    return _second_order(denoise, x, levels, noise=noise, eta=eta, progress=progress)


def _second_order(
    denoise: Denoiser,
    x: Tensor,
    levels: Sequence[NoiseLevel],
    *,
    noise: Noise | None,
    eta: float,
    progress: Progress | None,
) -> Tensor:
    known: list[_Estimate] = []  # newest first
    for done, (now, after) in enumerate(_pairs(levels), start=1):
        known = [(now.half_log_snr, denoise(x, now)), *known[:1]]
        x = _second_order_step(x, now, after, known, eta=eta)
        if noise is not None and eta > 0 and after is not CLEAN:
            x = x + after.sigma * math.sqrt(-math.expm1(2 * eta * (now.half_log_snr - after.half_log_snr))) * noise()
        if progress:
            progress(done, len(levels))
    return x


def unipc(
    denoise: Denoiser,
    x: Float[Tensor, "B C L"],
    levels: Sequence[NoiseLevel],
    *,
    noise: Noise | None = None,
    progress: Progress | None = None,
) -> Float[Tensor, "B C L"]:
    """UniPC-2: dpmpp_2m and a corrector that needs no calls of its own; draws no noise.

    The estimate of x_0 made at the next level is used twice: for the step onwards, as in dpmpp_2m, and to repeat the
    step before with the parabola through the last three estimates, which makes the result third order.

    Source: Zhao et al. 2023 (arXiv 2302.04867), Algorithms 1 and 2 with p = 2 and B(h) = e^h - 1, data prediction.
    """
    known: list[_Estimate] = []  # newest first
    before, x_before = CLEAN, x
    for done, (now, after) in enumerate(_pairs(levels), start=1):
        known = [(now.half_log_snr, denoise(x, now)), *known[:2]]
        if done > 1:
            x = _corrected_step(x_before, before, now, known)
        before, x_before = now, x
        x = _second_order_step(x, now, after, known)
        if progress:
            progress(done, len(levels))
    return x


_Estimate = tuple[float, Tensor]  # half log-SNR, x0_hat


def _second_order_step(
    x: Tensor, now: NoiseLevel, after: NoiseLevel, known: Sequence[_Estimate], *, eta: float = 0.0
) -> Tensor:
    """x at the next level with x0_hat extrapolated to the middle of the step; the jump to the signal is first order."""
    at, x_0 = known[0]
    if after is CLEAN:
        return x_0
    h = after.half_log_snr - at
    if len(known) > 1:
        at_previous, previous = known[1]
        x_0 = x_0 + (x_0 - previous) * (h / (2 * (at - at_previous)))
    return after.sigma / now.sigma * math.exp(-eta * h) * x - after.alpha * math.expm1(-(1 + eta) * h) * x_0


def _corrected_step(x: Tensor, now: NoiseLevel, after: NoiseLevel, known: Sequence[_Estimate]) -> Tensor:
    """x at the next level, exact if x0_hat is the polynomial in lambda through the estimates, one of them from there.

    Source: arXiv 2211.01095, equation (8): x_t = sigma_t / sigma_s x_s + sigma_t int e^lambda x0_hat d lambda.
    """
    h = after.half_log_snr - now.half_log_snr
    weights = _integration_weights([(at - now.half_log_snr) / h for at, _ in known], h)
    return after.sigma / now.sigma * x + after.alpha * sum(
        float(weight) * x_0 for weight, (_, x_0) in zip(weights, known, strict=True)
    )


def _integration_weights(nodes: Sequence[float], h: float) -> Float[np.ndarray, " n"]:
    """w with sum_i w_i p(u_i) = int_0^1 h e^(-h (1 - u)) p(u) du for all polynomials p of degree below n."""
    moments = [-math.expm1(-h)]
    for power in range(1, len(nodes)):
        moments.append(1 - power / h * moments[-1])  # integration by parts
    return np.linalg.solve(np.vander(nodes, increasing=True).T, moments)


def _pairs(levels: Sequence[NoiseLevel]) -> list[tuple[NoiseLevel, NoiseLevel]]:
    return list(zip(levels, [*levels[1:], CLEAN], strict=True))


def _ancestral_deviation(now: NoiseLevel, after: NoiseLevel) -> float:
    """sqrt(beta_tilde): standard deviation of the exact posterior of x_after given x_now and x_0."""
    alpha_squared = (now.alpha / after.alpha) ** 2
    return after.sigma / now.sigma * math.sqrt(max(1 - alpha_squared, 0.0))

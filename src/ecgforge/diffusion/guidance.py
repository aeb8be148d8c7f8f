"""Guidance: takes denoisers, returns one."""

from jaxtyping import Float
from torch import Tensor

from ecgforge.diffusion.denoiser import Denoiser
from ecgforge.diffusion.schedule import NoiseLevel
from ecgforge.errors import ConfigError


def guide(
    denoise: Denoiser, unconditional: Denoiser, *, weight: float, interval: tuple[float, float] | None = None
) -> Denoiser:
    """Classifier-free guidance: x0_hat = x0_hat(nothing) + weight (x0_hat(y) - x0_hat(nothing)).

    Args:
        denoise: Told the statements y.
        unconditional: Told that all statements are unknown.
        weight: 1 gives `denoise` itself, more makes records more typical of their statements and less varied.
        interval: Smallest and largest sigma / alpha where guidance acts, None for everywhere. At high noise it narrows
            the variety and at low noise it does little: outside, `denoise` alone is called, at half the cost.

    Raises:
        ConfigError: the interval is empty or negative.

    Source: Ho and Salimans 2022 (arXiv 2207.12598), equation (6), there with weight 1 + w and for eps; for x0_hat
    it is the same, as both are affine in each other with equal coefficients. Interval: Kynkaanniemi et al. 2024
    (arXiv 2404.07724), equation (5).
    """
    if interval is not None and not 0 <= interval[0] < interval[1]:
        raise ConfigError(f"expected a guidance interval of noise ratios 0 <= low < high, got {interval}")

    def guided(x: Float[Tensor, "B C L"], level: NoiseLevel) -> Float[Tensor, "B C L"]:
        if interval is not None and not interval[0] <= level.sigma / level.alpha <= interval[1]:
            return denoise(x, level)
        without = unconditional(x, level)
        return without + weight * (denoise(x, level) - without)

    return guided

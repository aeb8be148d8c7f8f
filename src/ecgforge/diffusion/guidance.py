"""Guidance: takes denoisers, returns one."""

from jaxtyping import Float
from torch import Tensor

from ecgforge.diffusion.denoiser import Denoiser
from ecgforge.diffusion.schedule import NoiseLevel


def guide(denoise: Denoiser, unconditional: Denoiser, *, weight: float) -> Denoiser:
    """Classifier-free guidance: x0_hat = x0_hat(nothing) + weight (x0_hat(y) - x0_hat(nothing)).

    Args:
        denoise: Told the statements y.
        unconditional: Told that all statements are unknown.
        weight: 1 gives `denoise` itself, more makes records more typical of their statements and less varied.

    Source: Ho and Salimans 2022 (arXiv 2207.12598), equation (6), there with weight 1 + w and for eps; for x0_hat
    it is the same, as both are affine in each other with equal coefficients.
    """

    def guided(x: Float[Tensor, "B C L"], level: NoiseLevel) -> Float[Tensor, "B C L"]:
        without = unconditional(x, level)
        return without + weight * (denoise(x, level) - without)

    return guided

"""Records longer than the network: denoise overlapping windows and blend the estimates at every noise level.

Neighbours agree in their overlap because they see the same noisy samples there and are averaged before each step.
Each window is told of its own part of the record, such as where the beats are; morphology is kept only as far as the
overlap carries it.

Source: Bar-Tal et al. 2023, MultiDiffusion (arXiv 2302.08113), equation (5): the weighted mean of the windows.
"""

import math
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor

from ecgforge.diffusion.denoiser import Denoiser
from ecgforge.diffusion.schedule import NoiseLevel
from ecgforge.errors import ConfigError


def windowed(denoiser_at: Callable[[int], Denoiser], *, length: int, overlap: int) -> Denoiser:
    """Denoiser of records of `length` samples or more from those of exactly `length`; one call a window.

    Args:
        denoiser_at: The denoiser of the window that begins at a sample.
        length: Samples of a window.
        overlap: Samples that neighbours share; the last window ends with the record and may share more.

    Raises:
        ConfigError: the overlap is not from 0 to length - 1, or (when called) the record is shorter than a window.
    """
    if not 0 <= overlap < length:
        raise ConfigError(f"expected an overlap from 0 to {length - 1}, got {overlap}")

    def denoised(x: Float[Tensor, "B C L"], level: NoiseLevel) -> Float[Tensor, "B C L"]:
        starts = window_starts(x.shape[2], length=length, overlap=overlap)
        weights = window_weights(x.shape[2], length=length, overlap=overlap).to(x)
        x_0 = torch.zeros_like(x)
        for start, weight in zip(starts, weights, strict=True):
            part = slice(start, start + length)
            x_0[:, :, part] += weight * denoiser_at(start)(x[:, :, part], level)
        return x_0

    return denoised


def window_starts(total: int, *, length: int, overlap: int) -> tuple[int, ...]:
    """First samples of the windows; the last window ends with the record.

    Raises:
        ConfigError: the record is shorter than a window.
    """
    if total < length:
        raise ConfigError(f"expected a record of {length} samples or more, got {total}")
    return (*range(0, total - length, length - overlap), total - length)


def window_weights(total: int, *, length: int, overlap: int) -> Float[Tensor, "W l"]:
    """Weight of each window at each of its own samples; where windows overlap their weights sum to 1.

    Raises:
        ConfigError: the record is shorter than a window.
    """
    starts = window_starts(total, length=length, overlap=overlap)
    from_edge = torch.arange(length, dtype=torch.float64).minimum(torch.arange(length).flip(0)) + 0.5
    # A raised cosine over the overlap: two neighbours' ramps sum to 1 by themselves. Never 0, so that ends have weight.
    ramp = torch.sin(math.pi / 2 * (from_edge / max(overlap, 1)).clamp(max=1)).square()
    sums = torch.zeros(total, dtype=torch.float64)
    for start in starts:
        sums[start : start + length] += ramp
    return torch.stack([ramp / sums[start : start + length] for start in starts])

"""A layer's convolution in the frequency domain, in the form and order the native kernels want."""

import math
from dataclasses import dataclass
from functools import cache

import numpy as np
import torch
from jaxtyping import Complex, Float, Int
from torch import Tensor
from torch.nn import functional

RADICES = (10, 8, 6, 5, 4, 3, 2)  # of the native kernels


def smooth_length(at_least: int) -> int:
    """The smallest 2^a 3^b 5^c that is `at_least` or more: lengths that fast Fourier transforms like."""
    best = 1 << max(at_least - 1, 0).bit_length()
    five = 1
    while five < best:
        three = five
        while three < best:
            power = three
            while power < at_least:
                power *= 2
            best = min(best, power)
            three *= 3
        five *= 5
    return best


@dataclass(frozen=True)
class Splits:
    """How a transform of M = `size` complex numbers is split depth first, decimating in frequency.

    Attributes:
        size: M.
        radices: Two or more, their product is M.
        turns: w^(S r), w = exp(i pi / 2M), for r = 0 .. R - 1 of the first split into R blocks of S.
        twiddles: One array per split: exp(-2 pi i s q / (R S)) for s = 0 .. S - 1 and q = 1 .. R - 1; on the first
            split times w^s, and with q = 0.
        order: The frequency at every place after all splits.
    """

    size: int
    radices: tuple[int, ...]
    turns: Complex[np.ndarray, " R"]
    twiddles: tuple[Complex[np.ndarray, "_ _"], ...]
    order: Int[np.ndarray, " M"]


def plan_splits(size: int) -> Splits:
    """Splits by the radices the native kernels have code for; `size` is a smooth_length."""
    radices = _radices(size)
    radices += (1,) * (2 - len(radices))
    turn = np.exp(0.5j * np.pi / size * np.arange(size))
    twiddles, rest = [], size
    for number, radix in enumerate(radices):
        block, rest = rest, rest // radix
        s, q = np.arange(rest)[:, None], np.arange(radix)
        factors = np.exp(-2j * np.pi / block * (s * q))
        twiddles.append(factors * turn[:rest, None] if number == 0 else factors[:, 1:])
    first_rest = size // radices[0]
    return Splits(size, radices, turn[::first_rest], tuple(twiddles), _order(radices))


def negacyclic_spectrum(
    forward: Float[Tensor, "H L"], backward: Float[Tensor, "H L"], *, size: int
) -> Complex[Tensor, "H M"]:
    """Spectrum for y = Re(ifft(fft(u w^m) S) w^-m)[:L], w = exp(i pi / 2M), M = size >= L samples.

    u and the taps are polynomials modulo X^M = i, where lag -j is X^-j = -i X^(M - j).
    """
    features, length = forward.shape
    imaginary = torch.cat([forward.new_zeros(features, size - length + 1), -backward[:, : length - 1].flip(1)], dim=1)
    taps = torch.complex(functional.pad(forward, (0, size - length)), imaginary)
    return torch.fft.fft(taps * _turn(size, like=forward))


def taps_of_spectrum(
    spectrum: Complex[Tensor, "H M"], *, length: int
) -> tuple[Float[Tensor, "H L"], Float[Tensor, "H L"]]:
    """The taps at lags 0 to L - 1 and -1 to -L of a negacyclic spectrum: its inverse, the tap at -L being zero."""
    size = spectrum.shape[1]
    taps = torch.fft.ifft(spectrum) * _turn(size, like=spectrum.real).conj()
    return taps.real[:, :length], functional.pad(-taps.imag[:, size - length + 1 :].flip(1), (0, 1))


def _turn(size: int, *, like: Tensor) -> Complex[Tensor, " M"]:
    """w^m for m = 0 .. M - 1."""
    return torch.exp(0.5j * math.pi / size * torch.arange(size, dtype=like.dtype))


@cache
def _radices(size: int) -> tuple[int, ...]:
    """The fewest factors out of RADICES, and of those the smallest."""
    if size == 1:
        return ()
    choices = [(radix, *_radices(size // radix)) for radix in RADICES if size % radix == 0]
    _, _, best = min((len(factors), sum(factors), factors) for factors in choices)
    return tuple(sorted(best, reverse=True))


def _order(radices: tuple[int, ...]) -> Int[np.ndarray, " M"]:
    order = np.zeros(1, dtype=np.int64)
    for radix in reversed(radices):
        order = (np.arange(radix)[:, None] + radix * order).ravel()
    return order

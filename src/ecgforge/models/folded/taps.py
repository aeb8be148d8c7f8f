"""The taps of an S4 layer's convolution, contracted with C before the inverse transform.

The layer's own way through a basis (kernel_basis.dplr_basis) is made for training, where one basis serves many C; for
one C the contraction needs N times fewer inverse transforms and no memory for the basis (9 GB at the papers' size).
"""

import torch
from jaxtyping import Complex, Float
from torch import Tensor

from ecgforge.models.kernel_basis import fourier_nodes
from ecgforge.models.s4 import DplrKernel, S4Convolution, with_feedthrough

_CHANNELS_AT_ONCE = 8  # 1 MB each for the few arrays (8, N/2, L/2) float64 at N = 64, L = 1000: they stay in the cache


def two_sided_taps(layer: S4Convolution, length: int) -> tuple[Float[Tensor, "H L"], Float[Tensor, "H L"]]:
    """Taps at lags 0 to L - 1, D in the first, and at lags -1 to -L; float64.

    Raises:
        ConfigError: an S4 layer is not made for so long a record.
    """
    kernel = layer.kernel
    if isinstance(kernel, DplrKernel) and length <= kernel.length:
        forward, backward = contracted_kernel(kernel)[..., :length]
    else:
        forward, backward = kernel(length).double()
    return with_feedthrough(forward, layer.D.double()), backward


def contracted_kernel(kernel: DplrKernel) -> Float[Tensor, "c H L"]:
    """Both kernels over the length they are made for, float64.

    Source: arXiv 2111.00396, Algorithm 1.
    """
    C = torch.view_as_complex(kernel.C.double().contiguous()).transpose(0, 1)
    dt = kernel.log_dt.double().exp()
    pieces = zip(C.split(_CHANNELS_AT_ONCE), dt.split(_CHANNELS_AT_ONCE), strict=True)
    return torch.cat([_kernel(kernel, *piece) for piece in pieces]).transpose(0, 1)


def _kernel(kernel: DplrKernel, C: Complex[Tensor, "H c half"], dt: Float[Tensor, " H"]) -> Float[Tensor, "H c L"]:
    Lambda, P, B = (torch.view_as_complex(part.double()) for part in (kernel.Lambda, kernel.P, kernel.B))
    nodes, step = fourier_nodes(kernel.length, like=dt), dt[:, None, None]
    fixed = torch.stack([B * P.conj(), P * P.conj()]).expand(len(C), -1, -1)
    weights = step * torch.cat([fixed, C * B, C * P], dim=1)
    cauchy_sums = _sums_of_pairs if kernel.cauchy == "full" else _sums_of_halves
    sums = cauchy_sums(weights, step * Lambda, nodes)
    r_bq, r_pq, r_cb, r_cp = sums.split([1, 1, C.shape[1], C.shape[1]], dim=1)
    spectrum = (r_cb - r_cp * r_bq / (1 + r_pq)) * (1 + nodes / 2)
    if kernel.length % 2 == 0:
        share = 1.0 if kernel.cauchy == "full" else 0.5
        limit = share * step * (C * B).sum(2, keepdim=True).real  # Nyquist, where z is infinite
        spectrum = torch.cat([spectrum, limit.to(spectrum.dtype)], dim=2)
    return torch.fft.irfft(spectrum, n=kernel.length)


def _sums_of_pairs(
    v: Complex[Tensor, "H sums half"], w: Complex[Tensor, "H 1 half"], z: Complex[Tensor, " F"]
) -> Complex[Tensor, "H sums F"]:
    """sum_n v_n / (z - w_n) + conj(v_n) / (z - conj(w_n)) in real arithmetic, z being imaginary.

    A pair is (2 Re(v) z - 2 Re(v conj(w))) / (z^2 - 2 Re(w) z + |w|^2): real numbers over a quadratic.
    """
    w, y = w.mT, z.imag
    real, imaginary = w.abs().square() - y.square(), -2 * w.real * y
    over_z, constant = 2 * v.real, 2 * (v * w.mT.conj()).real
    both = _over(torch.cat([over_z, constant], dim=1), real, imaginary)
    return z * both[:, : v.shape[1]] - both[:, v.shape[1] :]


def _sums_of_halves(
    v: Complex[Tensor, "H sums half"], w: Complex[Tensor, "H 1 half"], z: Complex[Tensor, " F"]
) -> Complex[Tensor, "H sums F"]:
    """sum_n v_n / (z - w_n)."""
    w = w.mT
    both = _over(torch.cat([v.real, v.imag], dim=1), -w.real, z.imag - w.imag)
    return both[:, : v.shape[1]] + 1j * both[:, v.shape[1] :]


def _over(
    weights: Float[Tensor, "H rows half"], real: Float[Tensor, "H half _"], imaginary: Float[Tensor, "H half F"]
) -> Complex[Tensor, "H rows F"]:
    """sum_n weights_n / (real_n + i imaginary_n)."""
    scale = 1 / (real.square() + imaginary.square())
    return torch.complex(weights @ (real * scale), weights @ (-imaginary * scale))

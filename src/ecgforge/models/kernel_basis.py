"""The S4 kernel (diagonal plus low rank) in closed form, and the basis in which it is linear in C.

With A, B and dt fixed, as in SSSD-ECG, a kernel is K = sum_n Re(C_n) G_n + Im(C_n) G_{n + N/2} with functions G of the
feature's dt alone. The functions of all features, states and layers span only few dimensions: KernelBasis keeps the
coordinates of each feature's G in one set of functions that all layers share.

Shapes: H features, L samples, N state size (kept as N/2 conjugate halves), c = 2 directions, F Fourier nodes.

Source: S4, Gu, Goel, Re 2022 (arXiv 2111.00396), Algorithm 1 and appendix C.
"""

import math
from dataclasses import dataclass
from functools import lru_cache
from typing import Literal

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor

from ecgforge.errors import ConfigError

CauchySum = Literal["full", "half"]

_FEATURES_AT_ONCE = 8  # (8, N/2, L/2) complex128 is 2 MB for N = 64, L = 1000: the steps in between stay in the cache
_LEAST_DT, _LARGEST_DT = 2**-10, 2**-3  # just beyond the range of fresh layers and of the published ones
_STEPS_PER_OCTAVE = 7  # values of dt that the shared functions are found from
_SINGULAR_TOLERANCE = 1e-8  # of the largest singular value; leaves errors of about 1e-8, below float32's rounding
_LARGEST_ERROR = 1e-6  # of the functions of a dt in between against their projection, relative


# ---------------------------------------------------------------------------------------- HiPPO-LegS


def hippo_legs(state_size: int) -> tuple[Float[np.ndarray, "N N"], Float[np.ndarray, " N"]]:
    """A (N, N) and B (N,) of the HiPPO-LegS operator. Source: arXiv 2111.00396, equation (2)."""
    n = np.arange(state_size, dtype=np.float64)
    scale = np.sqrt(2 * n + 1)
    a = -np.tril(np.outer(scale, scale), -1) - np.diag(n + 1)
    return a, scale


def hippo_legs_dplr(
    state_size: int,
) -> tuple[Complex[np.ndarray, " half"], Complex[np.ndarray, " half"], Complex[np.ndarray, " half"]]:
    """Lambda, P, B with A = V (diag(Lambda) - P P^*) V^*, one of each conjugate pair.

    A + p p^T with p_n = sqrt(n + 1/2) is -1/2 I plus a skew-symmetric matrix, hence normal.
    Source: arXiv 2111.00396, appendix B.1.

    Raises:
        ConfigError: the state size is odd or below 2.
    """
    if state_size < 2 or state_size % 2:
        raise ConfigError(f"expected an even state size of 2 or more, got {state_size}")
    a, b = hippo_legs(state_size)
    p = np.sqrt(np.arange(state_size) + 0.5)
    skew = a + np.outer(p, p) + 0.5 * np.eye(state_size)
    imaginary, vectors = np.linalg.eigh(-1j * skew)
    keep = imaginary > 0
    to_eigenbasis = vectors[:, keep].conj().T
    return -0.5 + 1j * imaginary[keep], to_eigenbasis @ p, to_eigenbasis @ b


# ------------------------------------------------------------------------- DPLR kernel, closed form


def _with_conjugates(half: Tensor) -> Tensor:
    return torch.cat([half, half.conj()], dim=-1)


def discretize(
    Lambda: Complex[Tensor, " half"],
    P: Complex[Tensor, " half"],
    B: Complex[Tensor, " half"],
    dt: Float[Tensor, " H"],
) -> tuple[Complex[Tensor, "H N N"], Complex[Tensor, "H N"]]:
    """Dense dA, dB of x_k = dA x_{k-1} + dB u_k by the bilinear method, both conjugate halves.

    Source: arXiv 2111.00396, equation (3).
    """
    p, b = _with_conjugates(P), _with_conjugates(B)
    a = torch.diag(_with_conjugates(Lambda)) - torch.outer(p, p.conj())
    identity = torch.eye(len(p), dtype=a.dtype, device=a.device)
    half_step = (dt / 2).to(a.dtype)[:, None, None] * a
    backward = identity - half_step
    d_a = torch.linalg.solve(backward, identity + half_step)
    d_b = torch.linalg.solve(backward, dt.to(a.dtype)[:, None] * b)
    return d_a, d_b


def correct_for_length(
    C: Complex[Tensor, "c H half"], d_a: Complex[Tensor, "H N N"], length: int
) -> Complex[Tensor, "c H half"]:
    """C (I - dA^L), which is what the generating function at the L-th roots of unity needs instead of C.

    Source: arXiv 2111.00396, Algorithm 1, line 1.
    """
    both = _with_conjugates(C)
    power = torch.linalg.matrix_power(d_a, length)
    return (both - torch.einsum("chn,hnm->chm", both, power))[..., : C.shape[-1]]


def uncorrect_for_length(
    C_corrected: Complex[Tensor, "c H half"], d_a: Complex[Tensor, "H N N"], length: int
) -> Complex[Tensor, "c H half"]:
    """The inverse of correct_for_length."""
    both = _with_conjugates(C_corrected)
    correction = torch.eye(d_a.shape[-1], dtype=d_a.dtype, device=d_a.device) - torch.linalg.matrix_power(d_a, length)
    return torch.linalg.solve(correction.mT, both.permute(1, 2, 0)).permute(2, 0, 1)[..., : C_corrected.shape[-1]]


def dplr_kernel_by_recurrence(
    C_corrected: Complex[Tensor, "c H half"],
    Lambda: Complex[Tensor, " half"],
    P: Complex[Tensor, " half"],
    B: Complex[Tensor, " half"],
    dt: Float[Tensor, " H"],
    *,
    length: int,
) -> Float[Tensor, "c H L"]:
    """The kernel K_l = C dA^l dB by L dense matrix-vector products: slow, the oracle of the closed form."""
    d_a, state = discretize(Lambda, P, B, dt)
    C = _with_conjugates(uncorrect_for_length(C_corrected, d_a, length))
    taps = []
    for _ in range(length):
        taps.append(torch.einsum("chn,hn->ch", C, state).real)
        state = torch.einsum("hnm,hm->hn", d_a, state)
    return torch.stack(taps, dim=-1)


def fourier_nodes(length: int, *, like: Tensor) -> Complex[Tensor, " F"]:
    """z = 2 (1 - omega) / (1 + omega) = 2i tan(pi k / L) at the L-th roots of unity omega, Nyquist left out."""
    k = torch.arange((length + 1) // 2, dtype=like.dtype, device=like.device)
    return 2j * torch.tan(math.pi / length * k)


def dplr_spectrum(
    Lambda: Complex[Tensor, " half"],
    P: Complex[Tensor, " half"],
    B: Complex[Tensor, " half"],
    dt: Float[Tensor, " H"],
    nodes: Complex[Tensor, " F"],
    *,
    cauchy: CauchySum = "full",
) -> Complex[Tensor, "H N F"]:
    """Spectrum of the basis at finite nodes: column n belongs to Re(C_n), column n + N/2 to Im(C_n).

    The generating function with the Woodbury correction for the rank-one term, its Cauchy sums taken per state
    instead of contracted with C. `cauchy="full"` sums over both conjugate halves: the true kernel. "half" sums
    over the stored halves only, as the original's pure-PyTorch fallback does; for models trained with it.

    Source: arXiv 2111.00396, Algorithm 1.
    """
    step = dt[:, None, None]
    r = step / (nodes - step * Lambda[:, None])  # (H, n, k)
    r_conj = step / (nodes - step * Lambda.conj()[:, None])
    if cauchy == "half":
        r_conj = torch.zeros_like(r_conj)
    r_bq = torch.einsum("hnk,n->hk", r, B * P.conj()) + torch.einsum("hnk,n->hk", r_conj, B.conj() * P)
    r_pq = torch.einsum("hnk,n->hk", r, P * P.conj()) + torch.einsum("hnk,n->hk", r_conj, P.conj() * P)
    f = (r_bq / (1 + r_pq))[:, None, :]
    bilinear = 1 + nodes / 2  # = 2 / (1 + omega)
    g = r * (B[:, None] - P[:, None] * f) * bilinear
    g_conj = r_conj * (B.conj()[:, None] - P.conj()[:, None] * f) * bilinear
    return torch.cat([g + g_conj, 1j * (g - g_conj)], dim=1)


def dplr_half_spectrum(
    Lambda: Complex[Tensor, " half"],
    P: Complex[Tensor, " half"],
    B: Complex[Tensor, " half"],
    dt: Float[Tensor, " H"],
    *,
    length: int,
    cauchy: CauchySum = "full",
) -> Complex[Tensor, "H N F"]:
    """dplr_spectrum at all nodes of a real transform of `length` samples.

    At the Nyquist bin, where z is infinite, the limit dt Re(B_n C_n) stands.
    """
    spectrum = dplr_spectrum(Lambda, P, B, dt, fourier_nodes(length, like=dt), cauchy=cauchy)
    if length % 2:
        return spectrum
    share = 1.0 if cauchy == "full" else 0.5
    limit = share * dt[:, None] * torch.cat([B.real, -B.imag])
    return torch.cat([spectrum, limit[:, :, None].to(spectrum.dtype)], dim=2)


def dplr_basis(
    Lambda: Complex[Tensor, " half"],
    P: Complex[Tensor, " half"],
    B: Complex[Tensor, " half"],
    dt: Float[Tensor, " H"],
    *,
    length: int,
    cauchy: CauchySum = "full",
) -> Float[Tensor, "H N L"]:
    """Basis G of the kernel: K = sum_n Re(C_n) G_n + Im(C_n) G_{n + N/2}, C being length-corrected.

    With A, B and dt fixed the kernel is linear in C, so that a training step needs one small matrix product
    instead of the Cauchy sums.
    """
    return torch.fft.irfft(dplr_half_spectrum(Lambda, P, B, dt, length=length, cauchy=cauchy), n=length)


# ------------------------------------------------------------------------------- basis shared by all layers


@dataclass(frozen=True, eq=False)
class KernelBasis:
    """The functions G_n of every feature, on which a kernel is linear in C.

    Attributes:
        own: The functions themselves, or their coordinates in the shared ones.
        shared: Orthonormal functions; None where `own` are the functions themselves.
    """

    own: Float[Tensor, "H N r"]
    shared: Float[Tensor, "r L"] | None

    def to(self, device: torch.device) -> "KernelBasis":
        """The same functions on a device."""
        return KernelBasis(self.own.to(device), None if self.shared is None else self.shared.to(device))

    def contract(self, weights: Float[Tensor, "H c N"], length: int) -> Float[Tensor, "H c l"]:
        """Sum of weights times functions, the first `length` samples."""
        if self.shared is None:
            return torch.bmm(weights, self.own[:, :, :length])
        return torch.bmm(weights, self.own) @ self.shared[:, :length]


def full_basis(
    Lambda: Complex[Tensor, " half"],
    P: Complex[Tensor, " half"],
    B: Complex[Tensor, " half"],
    dt: Float[Tensor, " H"],
    *,
    length: int,
    cauchy: CauchySum = "full",
    dtype: torch.dtype,
) -> KernelBasis:
    """Every feature's functions as they are: H N L numbers, 131 MB in float32 for the papers' S4 layer."""
    pieces = [
        dplr_basis(Lambda, P, B, part, length=length, cauchy=cauchy).to(dtype) for part in dt.split(_FEATURES_AT_ONCE)
    ]
    return KernelBasis(torch.cat(pieces), None)


def low_rank_basis(
    Lambda: Complex[Tensor, " half"],
    P: Complex[Tensor, " half"],
    B: Complex[Tensor, " half"],
    dt: Float[Tensor, " H"],
    *,
    length: int,
    dtype: torch.dtype,
) -> KernelBasis | None:
    """Every feature's functions, of the full Cauchy sum, by H N r coordinates; r is 153 for N = 64 and L = 1000.

    All layers of the same Lambda, P and B share one tensor of functions. The functions of the half sum span too many
    dimensions for it.

    Returns:
        None where this takes more than half the memory of full_basis, or is less exact than 1e-6.
    """
    low = min(_LEAST_DT, 2.0 ** math.floor(math.log2(float(dt.min()))))
    high = max(_LARGEST_DT, 2.0 ** math.ceil(math.log2(float(dt.max()))))
    system = tuple(tuple(part.tolist()) for part in (Lambda, P, B))
    found = _shared_functions(system, (low, high), length)
    if found is None:
        return None
    # Coordinates are inner products with the shared functions; by Parseval's theorem no inverse transform is needed.
    spectra = torch.view_as_real(torch.fft.rfft(found)).to(dt.device)
    spectra[:, 1 : (length + 1) // 2] *= 2  # these stand for their conjugates as well
    spectra[:, [0, *([-1] if length % 2 == 0 else [])], 1] = 0
    to_coordinates = spectra.flatten(1).mT / length
    pieces = []
    for part in dt.split(_FEATURES_AT_ONCE):
        spectrum = dplr_half_spectrum(Lambda, P, B, part, length=length)
        pieces.append((torch.view_as_real(spectrum).flatten(2) @ to_coordinates).to(dtype))
    return KernelBasis(torch.cat(pieces), _in_format(found, dtype, dt.device))


@lru_cache(maxsize=8)
def _shared_functions(
    system: tuple[tuple[complex, ...], ...],
    dt_range: tuple[float, float],
    length: int,
) -> Float[Tensor, "r L"] | None:
    """Orthonormal functions that span the G_n of all dt in a range, float64, on the CPU.

    The strongest left singular vectors of the functions at many dt, which a random sketch gives as well as all of them
    (Halko, Martinsson and Tropp 2011, arXiv 0909.4061, algorithm 4.1). Checked at the dt in between.
    """
    Lambda, P, B = (torch.tensor(part, dtype=torch.complex128) for part in system)
    low, high = (math.log2(bound) for bound in dt_range)
    steps = torch.logspace(low, high, 2 * round(_STEPS_PER_OCTAVE * (high - low)) + 1, base=2.0, dtype=torch.float64)
    generator = torch.Generator().manual_seed(0)
    rank_bound = min(6 * 2 * len(Lambda), length)
    sketch = torch.zeros(length, rank_bound, dtype=torch.float64)
    for dt in steps[::2].split(_FEATURES_AT_ONCE):
        functions = _normalized(dplr_basis(Lambda, P, B, dt, length=length))
        draws = torch.randn(len(functions), rank_bound, dtype=torch.float64, generator=generator)
        sketch += functions.mT @ draws
    orthonormal, triangle = torch.linalg.qr(sketch)
    vectors, strengths, _ = torch.linalg.svd(triangle)
    rank = int((strengths > _SINGULAR_TOLERANCE * strengths[0]).sum())
    found = (orthonormal @ vectors[:, :rank]).mT.contiguous()
    if 2 * rank > length:
        return None
    for dt in steps[1::2].split(_FEATURES_AT_ONCE):
        functions = _normalized(dplr_basis(Lambda, P, B, dt, length=length))
        left = (functions - (functions @ found.mT) @ found).unflatten(0, (len(dt), -1))
        if left.square().sum((1, 2)).max() > _LARGEST_ERROR**2:
            return None
    return found


def _normalized(basis: Float[Tensor, "H N L"]) -> Float[Tensor, "H_N L"]:
    """The functions of every dt together of norm one, so that small steps count as much as large ones."""
    return (basis / basis.flatten(1).norm(dim=1)[:, None, None]).flatten(0, 1)


@lru_cache(maxsize=8)
def _in_format(functions: Tensor, dtype: torch.dtype, device: torch.device) -> Tensor:
    """One copy for all layers."""
    return functions.to(device, dtype)

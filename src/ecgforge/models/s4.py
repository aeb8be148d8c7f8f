"""Structured state space sequence layers: S4 (diagonal plus low rank) and S4D (diagonal).

A state space model x' = A x + B u, y = Re(C x) + D u with a fixed step dt is a long convolution. Its kernel is
computed here in closed form, once per forward pass (or once per sampling run), and applied through an FFT.

Shapes: B batch, H features, L samples, N state size (kept as N/2 conjugate halves), c = 2 directions.

Source: S4, Gu, Goel, Re 2022 (arXiv 2111.00396), Algorithm 1 and appendix C; S4D, Gu et al. 2022
(arXiv 2206.11893); the bidirectional layer is the one of SSSD-ECG (arXiv 2301.08227).
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Literal

import numpy as np
import torch
from jaxtyping import Complex, Float
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from ecgforge.errors import ConfigError

CauchySum = Literal["full", "half"]
KernelName = Literal["s4", "s4d"]

DIRECTIONS = 2  # forward in time, backward in time
_DT_RANGE = (1e-3, 1e-1)
_CHANNELS_AT_ONCE = 64  # bounds the memory of the basis at (64, N/2, L/2) complex128: 16 MB for N = 64, L = 1000


# ---------------------------------------------------------------------------------------- HiPPO-LegS


def hippo_legs(state_size: int) -> tuple[Float[np.ndarray, "N N"], Float[np.ndarray, "N"]]:
    """A (N, N) and B (N,) of the HiPPO-LegS operator. Source: arXiv 2111.00396, equation (2)."""
    n = np.arange(state_size, dtype=np.float64)
    scale = np.sqrt(2 * n + 1)
    a = -np.tril(np.outer(scale, scale), -1) - np.diag(n + 1)
    return a, scale


def hippo_legs_dplr(
    state_size: int,
) -> tuple[Complex[np.ndarray, "half"], Complex[np.ndarray, "half"], Complex[np.ndarray, "half"]]:
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
    Lambda: Complex[Tensor, "half"],
    P: Complex[Tensor, "half"],
    B: Complex[Tensor, "half"],
    dt: Float[Tensor, "H"],
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


def dplr_kernel_by_recurrence(
    C_corrected: Complex[Tensor, "c H half"],
    Lambda: Complex[Tensor, "half"],
    P: Complex[Tensor, "half"],
    B: Complex[Tensor, "half"],
    dt: Float[Tensor, "H"],
    *,
    length: int,
) -> Float[Tensor, "c H L"]:
    """The kernel K_l = C dA^l dB by L dense matrix-vector products: slow, the oracle of the closed form."""
    d_a, state = discretize(Lambda, P, B, dt)
    identity = torch.eye(d_a.shape[-1], dtype=d_a.dtype, device=d_a.device)
    correction = identity - torch.linalg.matrix_power(d_a, length)
    both = _with_conjugates(C_corrected)
    C = torch.linalg.solve(correction.mT, both.permute(1, 2, 0)).permute(2, 0, 1)
    taps = []
    for _ in range(length):
        taps.append(torch.einsum("chn,hn->ch", C, state).real)
        state = torch.einsum("hnm,hm->hn", d_a, state)
    return torch.stack(taps, dim=-1)


def fourier_nodes(length: int, *, like: Tensor) -> Complex[Tensor, "F"]:
    """z = 2 (1 - omega) / (1 + omega) = 2i tan(pi k / L) at the L-th roots of unity omega, Nyquist left out."""
    k = torch.arange((length + 1) // 2, dtype=like.dtype, device=like.device)
    return 2j * torch.tan(math.pi / length * k)


def dplr_spectrum(
    Lambda: Complex[Tensor, "half"],
    P: Complex[Tensor, "half"],
    B: Complex[Tensor, "half"],
    dt: Float[Tensor, "H"],
    nodes: Complex[Tensor, "F"],
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


def dplr_basis(
    Lambda: Complex[Tensor, "half"],
    P: Complex[Tensor, "half"],
    B: Complex[Tensor, "half"],
    dt: Float[Tensor, "H"],
    *,
    length: int,
    cauchy: CauchySum = "full",
) -> Float[Tensor, "H N L"]:
    """Basis G of the kernel: K = sum_n Re(C_n) G_n + Im(C_n) G_{n + N/2}, C being length-corrected.

    With A, B and dt fixed the kernel is linear in C, so that a training step needs one small matrix product
    instead of the Cauchy sums. At the Nyquist bin, where z is infinite, the limit dt Re(B_n C_n) stands.
    """
    spectrum = dplr_spectrum(Lambda, P, B, dt, fourier_nodes(length, like=dt), cauchy=cauchy)
    if length % 2 == 0:
        share = 1.0 if cauchy == "full" else 0.5
        limit = share * dt[:, None] * torch.cat([B.real, -B.imag])
        spectrum = torch.cat([spectrum, limit[:, :, None].to(spectrum.dtype)], dim=2)
    return torch.fft.irfft(spectrum, n=length)


def _parts(value: Complex[np.ndarray, "..."]) -> Tensor:
    return torch.from_numpy(np.stack([value.real, value.imag], axis=-1)).float()


def _complex(parts: Tensor) -> Tensor:
    return torch.view_as_complex(parts.double().contiguous())


def _log_uniform_dt(features: int) -> Tensor:
    low, high = (math.log(bound) for bound in _DT_RANGE)
    return low + (high - low) * torch.rand(features)


class DplrKernel(nn.Module):
    """The two S4 kernels (forward, backward) of a layer, as in SSSD-ECG: only C is trained.

    Attributes:
        C: (2, H, N/2, 2) parameter, length-corrected, real and imaginary parts last.
        log_dt: (H,) buffer, log of the step, log-uniform in [1e-3, 1e-1].
        Lambda, P, B: (N/2, 2) buffers, HiPPO-LegS, shared by all features.
    """

    def __init__(self, features: int, *, state_size: int, length: int, cauchy: CauchySum = "full") -> None:
        super().__init__()
        if cauchy not in ("full", "half"):
            raise ConfigError(f"expected cauchy 'full' or 'half', got {cauchy!r}")
        self.length = length
        self.cauchy: CauchySum = cauchy
        Lambda, P, B = hippo_legs_dplr(state_size)
        self.log_dt: Tensor
        self.Lambda: Tensor
        self.P: Tensor
        self.B: Tensor
        self.register_buffer("log_dt", _log_uniform_dt(features))
        self.register_buffer("Lambda", _parts(Lambda))
        self.register_buffer("P", _parts(P))
        self.register_buffer("B", _parts(B))
        C = torch.randn(DIRECTIONS, features, state_size // 2, 2) * math.sqrt(0.5)
        self.C = nn.Parameter(self._corrected(C))
        self._basis: Tensor | None = None

    def _corrected(self, C: Tensor) -> Tensor:
        chunks = []
        for part in torch.arange(len(self.log_dt)).split(_CHANNELS_AT_ONCE):
            d_a, _ = discretize(*self._system(), self.log_dt[part].double().exp())
            chunks.append(correct_for_length(_complex(C[:, part]), d_a, self.length))
        return torch.view_as_real(torch.cat(chunks, dim=1)).to(C.dtype)

    def _system(self) -> tuple[Tensor, Tensor, Tensor]:
        return _complex(self.Lambda), _complex(self.P), _complex(self.B)

    def basis(self) -> Float[Tensor, "H N L"]:
        """dplr_basis of this layer in C's dtype, computed in float64 once and kept until A, B or dt are loaded."""
        if self._basis is None or self._basis.device != self.C.device or self._basis.dtype != self.C.dtype:
            with torch.no_grad():
                chunks = [
                    dplr_basis(*self._system(), dt, length=self.length, cauchy=self.cauchy).to(self.C.dtype)
                    for dt in self.log_dt.double().exp().split(_CHANNELS_AT_ONCE)
                ]
            self._basis = torch.cat(chunks)
        return self._basis

    def forward(self, length: int) -> Float[Tensor, "c H L"]:
        """Both kernels, cut to `length` samples; the cut kernel is exact for the shorter record.

        Raises:
            ConfigError: the length is above the one the layer was made for.
        """
        if length > self.length:
            raise ConfigError(
                f"expected at most {self.length} samples, the length this S4 layer was made for, got {length}"
            )
        weights = self.C.permute(1, 0, 3, 2).flatten(2)  # (H, c, [real N/2, imaginary N/2])
        return torch.bmm(weights, self.basis()[:, :, :length]).transpose(0, 1)

    def _load_from_state_dict(self, *args: object) -> None:
        self._basis = None
        super()._load_from_state_dict(*args)


# --------------------------------------------------------------------------------------------- S4D


class DiagonalKernel(nn.Module):
    """The two S4D kernels of a layer; A (S4D-Lin), dt and C all trained.

    K_l = 2 Re sum_n C_n (exp(dt A_n) - 1) / A_n exp(l dt A_n), zero-order hold.
    Source: arXiv 2206.11893, section 3.2 and equation (S4D-Lin): A_n = -1/2 + i pi n.
    """

    def __init__(self, features: int, *, state_size: int, length: int) -> None:
        super().__init__()
        if state_size < 2 or state_size % 2:
            raise ConfigError(f"expected an even state size of 2 or more, got {state_size}")
        half = state_size // 2
        self.length = length
        self.log_dt = nn.Parameter(_log_uniform_dt(features))
        self.log_decay = nn.Parameter(torch.full((features, half), math.log(0.5)))
        self.frequency = nn.Parameter(math.pi * torch.arange(half).repeat(features, 1).float())
        self.C = nn.Parameter(torch.randn(DIRECTIONS, features, half, 2) * math.sqrt(0.5))

    def forward(self, length: int) -> Float[Tensor, "c H L"]:
        """Both kernels, `length` samples; any length."""
        a = torch.complex(-self.log_decay.exp(), self.frequency)
        step_a = a * self.log_dt.exp()[:, None]
        weights = torch.view_as_complex(self.C) * (torch.expm1(step_a) / a)
        powers = torch.exp(step_a[:, :, None] * torch.arange(length, device=a.device))
        return 2 * torch.einsum("chn,hnl->chl", weights, powers).real

    def by_recurrence(self, length: int) -> Float[Tensor, "c H L"]:
        """The same kernels by stepping the state, the oracle of the closed form."""
        a = torch.complex(-self.log_decay.exp(), self.frequency)
        d_a = torch.exp(a * self.log_dt.exp()[:, None])
        state = (d_a - 1) / a
        taps = []
        for _ in range(length):
            taps.append(2 * (torch.view_as_complex(self.C) * state).sum(-1).real)
            state = d_a * state
        return torch.stack(taps, dim=-1)


# ------------------------------------------------------------------------------------- long convolution


def two_sided_kernel(
    kernels: Float[Tensor, "c H L"], feedthrough: Float[Tensor, "H"], *, fft_length: int
) -> Float[Tensor, "H n"]:
    """Both directions and D as one circular kernel of n = fft_length taps: forward at 0..L-1, backward at -1..-L.

    y_t = sum_j k0_j u_{t-j} + sum_j k1_j u_{t+1+j} + D u_t. With n >= 2 L - 1 nothing wraps around; the backward
    tap L - 1 would reach beyond the record and is left out where there is no room for it.
    """
    forward, backward = kernels
    length = forward.shape[-1]
    reach = min(length, fft_length - length)
    causal = torch.cat([forward[:, :1] + feedthrough[:, None], forward[:, 1:]], dim=1)
    anticausal = backward[:, :reach].flip(-1)
    return torch.cat([causal, causal.new_zeros(len(causal), fft_length - length - reach), anticausal], dim=1)


class _LongConvolution(torch.autograd.Function):
    """Circular convolution by real FFTs with real FFTs in the backward pass as well.

    Autograd's derivative of rfft goes through a complex transform of twice the work.
    """

    @staticmethod
    def forward(ctx: Any, u: Tensor, kernel: Tensor) -> Tensor:
        fft_length = kernel.shape[-1]
        u_f, kernel_f = torch.fft.rfft(u, n=fft_length), torch.fft.rfft(kernel)
        ctx.save_for_backward(u_f, kernel_f)
        ctx.length, ctx.fft_length = u.shape[-1], fft_length
        return torch.fft.irfft(u_f * kernel_f, n=fft_length)[..., : u.shape[-1]]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, Tensor]:
        u_f, kernel_f = ctx.saved_tensors
        grad_f = torch.fft.rfft(grads[0].contiguous(), n=ctx.fft_length)
        grad_u = torch.fft.irfft(grad_f * kernel_f.conj(), n=ctx.fft_length)[..., : ctx.length]
        grad_kernel = torch.fft.irfft((grad_f * u_f.conj()).sum(0), n=ctx.fft_length)
        return grad_u, grad_kernel


def convolve(u: Float[Tensor, "B H L"], kernel: Float[Tensor, "H n"]) -> Float[Tensor, "B H L"]:
    """Convolution of every record with a two-sided kernel (see two_sided_kernel), O(L log L)."""
    return _LongConvolution.apply(u, kernel)  # type: ignore[no-untyped-call]


def convolve_directly(
    u: Float[Tensor, "B H L"], kernels: Float[Tensor, "c H L"], feedthrough: Float[Tensor, "H"]
) -> Float[Tensor, "B H L"]:
    """The same by the sum over taps, O(L^2): the oracle of `convolve`."""
    t = torch.arange(u.shape[-1], device=u.device)
    lag = t[:, None] - t[None, :]
    causal = torch.where(lag >= 0, kernels[0][:, lag.clamp(min=0)], 0)
    anticausal = torch.where(lag < 0, kernels[1][:, (-lag - 1).clamp(min=0)], 0)
    return torch.einsum("bhs,hts->bht", u, causal + anticausal) + feedthrough[:, None] * u


class S4Convolution(nn.Module):
    """K * x + D x with a bidirectional S4 kernel K, features last.

    Features last makes every dense product around it one contiguous matrix product; only the convolution sees time
    last.
    """

    def __init__(
        self,
        features: int,
        *,
        state_size: int,
        length: int,
        kernel: KernelName = "s4",
        cauchy: CauchySum = "full",
    ) -> None:
        super().__init__()
        self.kernel: DplrKernel | DiagonalKernel
        if kernel == "s4":
            self.kernel = DplrKernel(features, state_size=state_size, length=length, cauchy=cauchy)
        elif kernel == "s4d":
            self.kernel = DiagonalKernel(features, state_size=state_size, length=length)
        else:
            raise ConfigError(f"expected kernel 's4' or 's4d', got {kernel!r}")
        self.D = nn.Parameter(torch.randn(features))
        self._kept_spectra: dict[int, Tensor] | None = None

    def two_sided_kernel(self, length: int) -> Float[Tensor, "H n"]:
        """The kernel of both directions with D, for records of `length` samples."""
        return two_sided_kernel(self.kernel(length), self.D, fft_length=2 * length)

    def convolve(self, x: Float[Tensor, "B L H"]) -> Float[Tensor, "B L H"]:
        """K * x + D x; any length up to the one the kernel was made for."""
        return self._convolve(x.transpose(1, 2)).transpose(1, 2).contiguous()

    def _convolve(self, u: Float[Tensor, "B H L"]) -> Float[Tensor, "B H L"]:
        # Kernels of a thousand taps need float32, and CUDA has no FFT in bfloat16: no autocast in here.
        with torch.autocast(u.device.type, enabled=False):
            u, length = u.to(self.D.dtype), u.shape[-1]
            if self._kept_spectra is None:
                return convolve(u, self.two_sided_kernel(length))
            if length not in self._kept_spectra:
                self._kept_spectra[length] = torch.fft.rfft(self.two_sided_kernel(length))
            spectrum = self._kept_spectra[length]
            return torch.fft.irfft(torch.fft.rfft(u, n=2 * length) * spectrum, n=2 * length)[..., :length]


class S4Layer(S4Convolution):
    """LayerNorm(x + W gelu(K * x + D x) + b): the bidirectional S4 layer of SSSD-ECG, features last.

    Source: arXiv 2301.08227, section III.B; the authors' S4 layer with post-normalisation, exact GELU.
    """

    def __init__(
        self,
        features: int,
        *,
        state_size: int,
        length: int,
        kernel: KernelName = "s4",
        cauchy: CauchySum = "full",
    ) -> None:
        super().__init__(features, state_size=state_size, length=length, kernel=kernel, cauchy=cauchy)
        self.output = nn.Linear(features, features)
        self.norm = nn.LayerNorm(features)

    def forward(self, x: Float[Tensor, "B L H"]) -> Float[Tensor, "B L H"]:
        """One layer; any length up to the one it was made for."""
        return self.norm(x + self.output(nn.functional.gelu(self.convolve(x))))


@contextmanager
def kernels_kept(network: nn.Module) -> Iterator[None]:
    """Within the context every S4 layer of `network` computes its kernel once per record length, not per call.

    For sampling under no_grad, where the weights do not change between calls.
    """
    layers = [module for module in network.modules() if isinstance(module, S4Convolution)]
    for layer in layers:
        layer._kept_spectra = {}
    try:
        yield
    finally:
        for layer in layers:
            layer._kept_spectra = None

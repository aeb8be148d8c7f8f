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
from ecgforge.models.kernel_basis import (
    CauchySum,
    KernelBasis,
    correct_for_length,
    discretize,
    full_basis,
    hippo_legs_dplr,
    low_rank_basis,
    uncorrect_for_length,
)
from ecgforge.models.native.convolution import can_convolve, convolve_natively

KernelName = Literal["s4", "s4d"]

DIRECTIONS = 2  # forward in time, backward in time
_DT_RANGE = (1e-3, 1e-1)
_WORTH_SHARING = 2**22  # numbers of a layer's own basis; smaller ones stay bitwise the same on any number of threads
_CHANNELS_AT_ONCE = 64  # bounds the memory of dense A: (64, N, N) complex128


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
        self._basis: KernelBasis | None = None

    def _corrected(self, C: Tensor) -> Tensor:
        chunks = []
        for part in torch.arange(len(self.log_dt)).split(_CHANNELS_AT_ONCE):
            d_a, _ = discretize(*self._system(), self.log_dt[part].double().exp())
            chunks.append(correct_for_length(_complex(C[:, part]), d_a, self.length))
        return torch.view_as_real(torch.cat(chunks, dim=1)).to(C.dtype)

    def _system(self) -> tuple[Tensor, Tensor, Tensor]:
        return _complex(self.Lambda), _complex(self.P), _complex(self.B)

    def basis(self) -> KernelBasis:
        """The functions the kernel is linear in, in C's dtype; computed in float64 once, kept until dt or A are loaded.

        In float32 by few shared functions where that saves memory; in float64 as they are.
        """
        kept = self._basis
        if kept is None or kept.own.device != self.C.device or kept.own.dtype != self.C.dtype:
            with torch.no_grad():
                kept = self._basis = self._compute_basis()
        return kept

    def _compute_basis(self) -> KernelBasis:
        # Float64, which Apple's GPUs do not have.
        on = torch.device("cpu") if self.C.device.type == "mps" else self.C.device
        Lambda, P, B = (_complex(part.to(on)) for part in (self.Lambda, self.P, self.B))
        dt, dtype = self.log_dt.to(on).double().exp(), self.C.dtype
        low_rank = None
        size = self.C.shape[1] * 2 * self.C.shape[2] * self.length
        if self.cauchy == "full" and dtype != torch.float64 and size >= _WORTH_SHARING:
            low_rank = low_rank_basis(Lambda, P, B, dt, length=self.length, dtype=dtype)
        basis = low_rank or full_basis(Lambda, P, B, dt, length=self.length, cauchy=self.cauchy, dtype=dtype)
        return basis.to(self.C.device)

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
        return self.basis().contract(weights, length).transpose(0, 1)

    @torch.no_grad()
    def resample(self, length: int, *, rate_ratio: float) -> None:
        """Become the kernel of the same continuous system for `length` samples at another rate.

        The step is divided by the ratio of the rates, and the correction of C for the old length is replaced.

        Raises:
            ConfigError: the kernel is that of the half sum, which is none of this system.
        """
        if self.cauchy != "full":
            raise ConfigError(
                "expected cauchy = 'full' for another length or rate: the half sum is not the true kernel"
            )
        C = []
        for part in torch.arange(len(self.log_dt)).split(_CHANNELS_AT_ONCE):
            d_a, _ = discretize(*self._system(), self.log_dt[part].double().exp())
            C.append(uncorrect_for_length(_complex(self.C[:, part]), d_a, self.length))
        self.log_dt.sub_(math.log(rate_ratio))
        self.length, self._basis = length, None
        self.C.copy_(self._corrected(torch.view_as_real(torch.cat(C, dim=1))))

    def _load_from_state_dict(self, *args: object) -> None:
        self._basis = None
        super()._load_from_state_dict(*args)

    def __getstate__(self) -> dict[str, Any]:
        """Copies and pickles go without the basis, which is large and can be computed again."""
        return {**self.__dict__, "_basis": None}


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
        """Both kernels, `length` samples; any length.

        With l = J i + j the powers are products of a coarse and a fine power: 2 sqrt(L) exponentials a state instead
        of L, and a real matrix product.
        """
        a = torch.complex(-self.log_decay.exp(), self.frequency)
        step_a = a * self.log_dt.exp()[:, None]
        weights = 2 * torch.view_as_complex(self.C) * (torch.expm1(step_a) / a)
        J = math.isqrt(length - 1) + 1
        fine, coarse = torch.arange(J, device=a.device), J * torch.arange(-(-length // J), device=a.device)
        left = weights.permute(1, 0, 2)[:, :, None] * torch.exp(step_a[:, None] * coarse[:, None])[:, None]
        right = torch.exp(step_a[:, :, None] * fine)
        taps = torch.cat([left.real, left.imag], dim=3).flatten(1, 2) @ torch.cat([right.real, -right.imag], dim=1)
        return taps.unflatten(1, (DIRECTIONS, -1)).flatten(2)[..., :length].transpose(0, 1)

    @torch.no_grad()
    def resample(self, length: int, *, rate_ratio: float) -> None:
        """Become the kernel of the same continuous system at another rate."""
        self.log_dt.sub_(math.log(rate_ratio))
        self.length = length

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


def with_feedthrough(forward: Float[Tensor, "H L"], feedthrough: Float[Tensor, " H"]) -> Float[Tensor, "H L"]:
    """The taps of the forward kernel with D in the first: y_t = sum_j k_j u_{t-j} + D u_t."""
    return torch.cat([forward[:, :1] + feedthrough[:, None], forward[:, 1:]], dim=1)


def two_sided_kernel(
    kernels: Float[Tensor, "c H L"], feedthrough: Float[Tensor, " H"], *, fft_length: int
) -> Float[Tensor, "H n"]:
    """Both directions and D as one circular kernel of n = fft_length taps: forward at 0..L-1, backward at -1..-L.

    y_t = sum_j k0_j u_{t-j} + sum_j k1_j u_{t+1+j} + D u_t. With n >= 2 L - 1 nothing wraps around; the backward
    tap L - 1 would reach beyond the record and is left out where there is no room for it.
    """
    forward, backward = kernels
    length = forward.shape[-1]
    reach = min(length, fft_length - length)
    causal = with_feedthrough(forward, feedthrough)
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
    u: Float[Tensor, "B H L"], kernels: Float[Tensor, "c H L"], feedthrough: Float[Tensor, " H"]
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
        # Kernels of a thousand taps need float32, and CUDA has no FFT in bfloat16: no autocast in here.
        with torch.autocast(x.device.type, enabled=False):
            x = x.to(self.D.dtype)
            if self._kept_spectra is None and can_convolve(x):
                forward, backward = self.kernel(x.shape[1])
                return convolve_natively(x, with_feedthrough(forward, self.D), backward)
            return self._convolve_plainly(x.transpose(1, 2)).transpose(1, 2).contiguous()

    def _convolve_plainly(self, u: Float[Tensor, "B H L"]) -> Float[Tensor, "B H L"]:
        length = u.shape[-1]
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

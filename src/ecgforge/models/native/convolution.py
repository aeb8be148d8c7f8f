"""The long convolution of an S4 layer by native kernels, features last: for sampling, and differentiable for training.

Float32 on a CPU only. Nothing is transposed, and a record's transform stays in the cache.
"""

import ctypes
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor
from torch.autograd.function import once_differentiable

from ecgforge.models.native.library import Absent, native_kernels
from ecgforge.models.native.spectra import Splits, negacyclic_spectrum, plan_splits, smooth_length, taps_of_spectrum

LANES = 16  # features side by side, as in kernels.cpp

Buffers = tuple[Float[Tensor, "two_M 32"], Float[Tensor, "3 L 16"]]


class _Split(ctypes.Structure):
    _fields_ = (("radix", ctypes.c_int), ("rest", ctypes.c_int), ("twiddles", ctypes.c_void_p))


class NativeConvolution:
    """k * u for records of one length.

    Args:
        kernels: The compiled kernels.cpp.
        length: L.
    """

    def __init__(self, kernels: ctypes.CDLL, *, length: int) -> None:
        self._kernels = kernels
        self._length = length
        self._plan = plan_splits(smooth_length(length))
        self._turns = _interleaved(self._plan.turns)
        self._twiddles = [_interleaved(factors) for factors in self._plan.twiddles]
        self._splits = _split_array(self._plan, self._twiddles)

    def spectrum(self, forward: Float[Tensor, "H L"], backward: Float[Tensor, "H L"]) -> Float[Tensor, "h M 2 16"]:
        """Of taps at lags 0 to L - 1 and -1 to -L, in the form and order the kernels want."""
        size = self._plan.size
        spectrum = negacyclic_spectrum(forward, backward, size=size)[:, torch.from_numpy(self._plan.order)] / size
        missing = -len(spectrum) % LANES
        lanes_inside = torch.nn.functional.pad(spectrum, (0, 0, 0, missing)).view(-1, LANES, size)
        return torch.view_as_real(lanes_inside).permute(0, 2, 3, 1).float().contiguous()

    def buffers(self) -> Buffers:
        """Fresh ones: 16 features in the frequency domain, twice; 16 features of a record where fewer are left."""
        return torch.empty(2 * self._plan.size, 2 * LANES), torch.empty(3, self._length, LANES)

    def convolve_with_gelu(
        self, u: Float[Tensor, "L H"], y: Float[Tensor, "L H"], spectrum: Float[Tensor, "h M 2 16"], buffers: Buffers
    ) -> None:
        """Write gelu(k * u) to y; the rows of both lie equally far apart."""
        self._kernels.ecgforge_convolve(
            u.data_ptr(), y.data_ptr(), u.stride(0), *u.shape, *self._constants(spectrum), *_pointers(*buffers)
        )

    def convolve(self, u: Float[Tensor, "B L H"], spectrum: Float[Tensor, "h M 2 16"]) -> Float[Tensor, "B L H"]:
        """k * u, on as many threads as torch is given."""
        y = torch.empty_like(u)

        def work(features: slice, vectors: slice) -> None:
            part, buffers = u[..., features], self.buffers()
            self._kernels.ecgforge_filter(
                *_pointers(part, y[..., features]),
                *(u.stride(1), *part.shape),
                *self._constants(spectrum[vectors]),
                *_pointers(*buffers),
            )

        _share_out(work, features=u.shape[2])
        return y

    def differentiate(
        self, u: Float[Tensor, "B L H"], dy: Float[Tensor, "B L H"], spectrum: Float[Tensor, "h M 2 16"]
    ) -> tuple[Float[Tensor, "B L H"], Float[Tensor, "H L"], Float[Tensor, "H L"]]:
        """Derivatives by u and by the taps at lags 0 to L - 1 and -1 to -L, from that by k * u."""
        du, sums = torch.empty_like(u), torch.zeros_like(spectrum)

        def work(features: slice, vectors: slice) -> None:
            part, buffers = u[..., features], self.buffers()
            self._kernels.ecgforge_filter_back(
                *_pointers(part, dy[..., features], du[..., features]),
                *(u.stride(1), *part.shape),
                *self._constants(spectrum[vectors]),
                *_pointers(sums[vectors], *buffers),
            )

        _share_out(work, features=u.shape[2])
        in_order = torch.view_as_complex(sums.permute(0, 3, 1, 2).flatten(0, 1)[: u.shape[2]].contiguous())
        natural = torch.empty_like(in_order)
        natural[:, torch.from_numpy(self._plan.order)] = in_order
        return du, *taps_of_spectrum(natural, length=self._length)

    def _constants(self, spectrum: Tensor) -> tuple[Any, int, int]:
        return self._splits, self._turns.data_ptr(), spectrum.data_ptr()


def _pointers(*tensors: Tensor) -> list[int]:
    return [tensor.data_ptr() for tensor in tensors]


def _share_out(work: Callable[[slice, slice], None], *, features: int) -> None:
    """work(features, vectors of features) for all, in as many pieces as torch has threads."""
    vectors = -(-features // LANES)
    pieces = min(torch.get_num_threads(), vectors)
    bounds = [vectors * piece // pieces for piece in range(pieces + 1)]
    slices = [(slice(LANES * low, min(LANES * high, features)), slice(low, high)) for low, high in pairwise(bounds)]
    if pieces == 1:
        work(*slices[0])
    else:
        list(_threads(pieces).map(lambda part: work(*part), slices))


@cache
def _threads(number: int) -> ThreadPoolExecutor:
    return ThreadPoolExecutor(number)


# ------------------------------------------------------------------------------------------- for training


class _Convolve(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, u: Tensor, forward: Tensor, backward: Tensor, convolution: NativeConvolution) -> Tensor:
        u = u.contiguous()
        spectrum = convolution.spectrum(forward, backward)
        ctx.save_for_backward(u, spectrum)
        ctx.convolution = convolution
        return convolution.convolve(u, spectrum)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor | None, ...]:
        u, spectrum = ctx.saved_tensors
        return *ctx.convolution.differentiate(u, grads[0].contiguous(), spectrum), None


def convolve_natively(
    u: Float[Tensor, "B L H"], forward: Float[Tensor, "H L"], backward: Float[Tensor, "H L"]
) -> Float[Tensor, "B L H"]:
    """y_t = sum_j forward_j u_{t-j} + sum_j backward_j u_{t+1+j}, differentiable once; see `can_convolve`."""
    return _Convolve.apply(u, forward, backward, _convolution(u.shape[1]))  # type: ignore[no-untyped-call]


def can_convolve(u: Tensor) -> bool:
    """Whether convolve_natively takes such a tensor on this machine."""
    return u.device.type == "cpu" and u.dtype == torch.float32 and not isinstance(native_kernels(), Absent)


@cache
def _convolution(length: int) -> NativeConvolution:
    kernels = native_kernels()
    if isinstance(kernels, Absent):
        raise RuntimeError(f"expected native kernels: {kernels.reason}")
    return NativeConvolution(kernels, length=length)


def _interleaved(values: np.ndarray) -> Float[Tensor, "n 2"]:
    return torch.view_as_real(torch.from_numpy(np.ascontiguousarray(values).ravel())).float().contiguous()


def _split_array(plan: Splits, twiddles: Sequence[Tensor]) -> ctypes.Array[_Split]:
    splits, rest = [], plan.size
    for radix, factors in zip(plan.radices, twiddles, strict=True):
        rest //= radix
        splits.append(_Split(radix, rest, factors.data_ptr()))
    return (_Split * len(splits))(*splits)

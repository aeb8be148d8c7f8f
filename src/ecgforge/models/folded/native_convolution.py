"""The long convolution of an S4 layer by native kernels, GELU included, one record at a time, features last."""

import ctypes
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ecgforge.models.folded.convolution import Splits, negacyclic_spectrum, plan_splits, smooth_length

LANES = 16  # features side by side, as in kernels.cpp


class _Split(ctypes.Structure):
    _fields_ = (("radix", ctypes.c_int), ("rest", ctypes.c_int), ("twiddles", ctypes.c_void_p))


class NativeConvolution:
    """y = gelu(k * u) for records of one length; float32 only.

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

    def buffers(self) -> tuple[Float[Tensor, "M 32"], Float[Tensor, "2 L 16"]]:
        """Fresh ones: 16 features in the frequency domain; 16 features, in and out, where fewer are left."""
        return torch.empty(self._plan.size, 2 * LANES), torch.empty(2, self._length, LANES)

    def __call__(
        self,
        u: Float[Tensor, "L H"],
        y: Float[Tensor, "L H"],
        spectrum: Float[Tensor, "h M 2 16"],
        buffers: tuple[Float[Tensor, "M 32"], Float[Tensor, "2 L 16"]],
    ) -> None:
        """Write gelu(k * u) to y; the rows of both lie equally far apart."""
        transform, edge = buffers
        self._kernels.ecgforge_convolve(
            u.data_ptr(),
            y.data_ptr(),
            u.stride(0),
            *u.shape,
            self._splits,
            self._turns.data_ptr(),
            spectrum.data_ptr(),
            transform.data_ptr(),
            edge.data_ptr(),
        )


def _interleaved(values: np.ndarray) -> Float[Tensor, "n 2"]:
    return torch.view_as_real(torch.from_numpy(np.ascontiguousarray(values).ravel())).float().contiguous()


def _split_array(plan: Splits, twiddles: Sequence[Tensor]) -> ctypes.Array[_Split]:
    splits, rest = [], plan.size
    for radix, factors in zip(plan.radices, twiddles, strict=True):
        rest //= radix
        splits.append(_Split(radix, rest, factors.data_ptr()))
    return (_Split * len(splits))(*splits)

"""The residual blocks of a folded network with native kernels between the matrix products, one record at a time."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from ecgforge.models.folded.convolution import Splits, negacyclic_spectrum, plan_splits, smooth_length
from ecgforge.models.folded.weights import FoldedS4, fold_blocks
from ecgforge.models.sssd import ResidualBlock

_LANES = 16  # features side by side, as in kernels.cpp
_TILE = 4  # outputs of the 3-tap convolution made from six products
# Winograd's F(4, 3), the transform of the taps; its products' transforms are in kernels.cpp.
# Source: Lavin and Gray 2015 (arXiv 1509.09308), section 4.3.
_TAPS_TO_PRODUCTS = (
    (1 / 4, 0.0, 0.0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0.0, 0.0, 1.0),
)


class _Split(ctypes.Structure):
    _fields_ = (("radix", ctypes.c_int), ("rest", ctypes.c_int), ("twiddles", ctypes.c_void_p))


@dataclass(frozen=True)
class NativeWorkspace:
    """Buffers of one record.

    Attributes:
        tiles, products: The 3-tap convolution before and after its matrix products.
        features: The wide activations. A gap between the rows keeps them from sharing few places in the caches, as
            rows a power of two apart do.
        convolved: The same after the long convolution and GELU.
        gated: A block's output before the residual and skip products.
        transform: 16 features in the frequency domain.
        edge: 16 features, in and out, where fewer are left.
    """

    tiles: Float[Tensor, "6 tiles residual"]
    products: Float[Tensor, "6 tiles H"]
    features: Float[Tensor, "L H"]
    convolved: Float[Tensor, "L H"]
    gated: Float[Tensor, "L residual"]
    transform: Float[Tensor, "M 32"]
    edge: Float[Tensor, "2 L 16"]


class NativeBlocks:
    """Adds residual blocks to the stream; float32 only.

    Args:
        kernels: The compiled kernels.cpp.
        blocks: Of the network.
        length: L.
    """

    def __init__(self, kernels: ctypes.CDLL, blocks: Sequence[ResidualBlock], *, length: int) -> None:
        self._kernels = _declare(kernels)
        self._length = length
        self._plan = plan_splits(smooth_length(length))
        self._turns = _interleaved(self._plan.turns)
        self._twiddles = [_interleaved(factors) for factors in self._plan.twiddles]
        self._splits = _split_array(self._plan, self._twiddles)
        self._blocks = fold_blocks(blocks, length=length, spectrum=self._spectrum)
        to_products = torch.tensor(_TAPS_TO_PRODUCTS, dtype=torch.float64)
        self._convs = [torch.einsum("pk,kio->pio", to_products, b.conv.double()).float() for b in self._blocks]

    def _spectrum(self, forward: Float[Tensor, "H L"], backward: Float[Tensor, "H L"]) -> Float[Tensor, "h M 2 16"]:
        size = self._plan.size
        spectrum = negacyclic_spectrum(forward, backward, size=size)[:, torch.from_numpy(self._plan.order)] / size
        missing = -len(spectrum) % _LANES
        lanes_inside = torch.nn.functional.pad(spectrum, (0, 0, 0, missing)).view(-1, _LANES, size)
        return torch.view_as_real(lanes_inside).permute(0, 2, 3, 1).float().contiguous()

    def workspace(self) -> NativeWorkspace:
        """Fresh buffers; one set per thread."""
        _, narrow, wide = self._blocks[0].conv.shape
        tiles = -(-self._length // _TILE)
        return NativeWorkspace(
            tiles=torch.empty(6, tiles, narrow),
            products=torch.empty(6, tiles, wide),
            features=torch.empty(self._length, wide + _LANES)[:, :wide],
            convolved=torch.empty(self._length, wide + _LANES)[:, :wide],
            gated=torch.empty(self._length, narrow),
            transform=torch.empty(self._plan.size, 2 * _LANES),
            edge=torch.empty(2, self._length, _LANES),
        )

    def add(
        self,
        number: int,
        stream: Float[Tensor, "L streams"],
        *,
        stream_shift: Float[Tensor, "residual"],
        norm_shift: Float[Tensor, "H"],
        workspace: NativeWorkspace,
    ) -> None:
        """Add block `number` to the residual and skip columns of the stream, in place, as PlainBlocks.add."""
        block, kernels, length, h = self._blocks[number], self._kernels, self._length, workspace.features
        narrow, wide = len(stream_shift), len(norm_shift)
        kernels.ecgforge_tile(
            stream.data_ptr(), stream.stride(0), stream_shift.data_ptr(), workspace.tiles.data_ptr(), length, narrow
        )
        torch.bmm(workspace.tiles, self._convs[number], out=workspace.products)
        kernels.ecgforge_untile(
            workspace.products.data_ptr(), block.conv_bias.data_ptr(), h.data_ptr(), h.stride(0), length, wide
        )
        self._mix(block.first, workspace)
        kernels.ecgforge_norm(*_norm_arguments(h, block.first, norm_shift), length, wide)
        self._mix(block.second, workspace)
        gated = workspace.gated
        kernels.ecgforge_norm_gate(
            *_norm_arguments(h, block.second, block.second.norm_bias), gated.data_ptr(), length, wide
        )
        stream[:, stream.shape[1] - block.accumulate.shape[1] :].addmm_(gated, block.accumulate)

    def _mix(self, layer: FoldedS4, workspace: NativeWorkspace) -> None:
        """features += gelu(k * features) W."""
        h, y = workspace.features, workspace.convolved
        self._kernels.ecgforge_convolve(
            h.data_ptr(),
            y.data_ptr(),
            h.stride(0),
            *h.shape,
            self._splits,
            self._turns.data_ptr(),
            layer.spectrum.data_ptr(),
            workspace.transform.data_ptr(),
            workspace.edge.data_ptr(),
        )
        h.addmm_(y, layer.output)


def _declare(kernels: ctypes.CDLL) -> ctypes.CDLL:
    """Tell ctypes the arguments of the functions of kernels.cpp."""
    pointer, integer, wide, real = ctypes.c_void_p, ctypes.c_int, ctypes.c_int64, ctypes.c_float
    norm = (pointer, wide, pointer, pointer, pointer, real)
    arguments = {
        "ecgforge_convolve": (pointer, pointer, wide, integer, integer, ctypes.POINTER(_Split), *[pointer] * 4),
        "ecgforge_norm": (*norm, integer, integer),
        "ecgforge_norm_gate": (*norm, pointer, integer, integer),
        "ecgforge_tile": (pointer, wide, pointer, pointer, integer, integer),
        "ecgforge_untile": (pointer, pointer, pointer, wide, integer, integer),
    }
    for name, types in arguments.items():
        function = getattr(kernels, name)
        function.argtypes, function.restype = types, None
    return kernels


def _norm_arguments(h: Tensor, layer: FoldedS4, shift: Tensor) -> tuple[int | float, ...]:
    return (
        h.data_ptr(),
        h.stride(0),
        layer.output_bias.data_ptr(),
        layer.norm_weight.data_ptr(),
        shift.data_ptr(),
        layer.eps,
    )


def _interleaved(values: np.ndarray) -> Float[Tensor, "n 2"]:
    return torch.view_as_real(torch.from_numpy(np.ascontiguousarray(values).ravel())).float().contiguous()


def _split_array(plan: Splits, twiddles: Sequence[Tensor]) -> ctypes.Array[_Split]:
    splits, rest = [], plan.size
    for radix, factors in zip(plan.radices, twiddles, strict=True):
        rest //= radix
        splits.append(_Split(radix, rest, factors.data_ptr()))
    return (_Split * len(splits))(*splits)

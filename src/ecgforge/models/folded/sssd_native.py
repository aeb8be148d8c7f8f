"""The residual blocks of a folded network with native kernels between the matrix products, one record at a time."""

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Float
from torch import Tensor

from ecgforge.models.folded.products import add_product, multiply
from ecgforge.models.folded.sssd_weights import FoldedS4, fold_blocks
from ecgforge.models.native.convolution import LANES, Buffers, NativeConvolution
from ecgforge.models.sssd import ResidualBlock

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


@dataclass(frozen=True)
class NativeWorkspace:
    """Buffers of one record.

    Attributes:
        tiles, products: The 3-tap convolution before and after its matrix products.
        features: The wide activations. A gap between the rows keeps them from sharing few places in the caches, as
            rows a power of two apart do.
        convolved: The same after the long convolution and GELU.
        gated: A block's output before the residual and skip products.
        convolution: The long convolution's own.
    """

    tiles: Float[Tensor, "6 tiles residual"]
    products: Float[Tensor, "6 tiles H"]
    features: Float[Tensor, "L H"]
    convolved: Float[Tensor, "L H"]
    gated: Float[Tensor, "L residual"]
    convolution: Buffers


class NativeBlocks:
    """Adds residual blocks to the stream of a float32 network.

    Args:
        kernels: The compiled kernels.cpp.
        blocks: Of the network.
        length: L.
        products: Number format of the products' operands, float32 or bfloat16.
    """

    def __init__(
        self, kernels: ctypes.CDLL, blocks: Sequence[ResidualBlock], *, length: int, products: torch.dtype
    ) -> None:
        self._kernels = kernels
        self._length = length
        self._convolution = NativeConvolution(kernels, length=length)
        self._blocks = fold_blocks(blocks, length=length, spectrum=self._convolution.spectrum, products=products)
        to_products = torch.tensor(_TAPS_TO_PRODUCTS, dtype=torch.float64)
        self._convs = [torch.einsum("pk,kio->pio", to_products, b.conv.double()).to(products) for b in self._blocks]

    def workspace(self) -> NativeWorkspace:
        """Fresh buffers; one set per thread."""
        _, narrow, wide = self._blocks[0].conv.shape
        tiles = -(-self._length // _TILE)
        return NativeWorkspace(
            tiles=torch.empty(6, tiles, narrow),
            products=torch.empty(6, tiles, wide),
            features=torch.empty(self._length, wide + LANES)[:, :wide],
            convolved=torch.empty(self._length, wide + LANES)[:, :wide],
            gated=torch.empty(self._length, narrow),
            convolution=self._convolution.buffers(),
        )

    def add(
        self,
        number: int,
        stream: Float[Tensor, "L streams"],
        *,
        stream_shift: Float[Tensor, " residual"],
        norm_shift: Float[Tensor, " H"],
        workspace: NativeWorkspace,
    ) -> None:
        """Add block `number` to the residual and skip columns of the stream, in place, as PlainBlocks.add."""
        block, kernels, length, h = self._blocks[number], self._kernels, self._length, workspace.features
        narrow, wide = len(stream_shift), len(norm_shift)
        kernels.ecgforge_tile(
            stream.data_ptr(), stream.stride(0), stream_shift.data_ptr(), workspace.tiles.data_ptr(), length, narrow
        )
        multiply(workspace.tiles, self._convs[number], out=workspace.products)
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
        add_product(gated, block.accumulate, to=stream[:, stream.shape[1] - block.accumulate.shape[1] :])

    def _mix(self, layer: FoldedS4, workspace: NativeWorkspace) -> None:
        """features += gelu(k * features) W."""
        h, y = workspace.features, workspace.convolved
        self._convolution.convolve_with_gelu(h, y, layer.spectrum, workspace.convolution)
        add_product(y, layer.output, to=h)


def _norm_arguments(h: Tensor, layer: FoldedS4, shift: Tensor) -> tuple[int | float, ...]:
    return (
        h.data_ptr(),
        h.stride(0),
        layer.output_bias.data_ptr(),
        layer.norm_weight.data_ptr(),
        shift.data_ptr(),
        layer.eps,
    )

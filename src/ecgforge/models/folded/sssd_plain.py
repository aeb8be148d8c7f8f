"""The residual blocks of a folded network in plain PyTorch, one record at a time."""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Complex, Float
from torch import Tensor
from torch.nn import functional

from ecgforge.models.folded.products import add_product, multiply
from ecgforge.models.folded.sssd_weights import FoldedS4, fold_blocks
from ecgforge.models.native.spectra import smooth_length
from ecgforge.models.sssd import ResidualBlock

_FEATURES_AT_ONCE = 64  # a piece's signals and spectra stay in the second-level cache from transform to transform


@dataclass(frozen=True)
class PlainWorkspace:
    """Buffers of one record.

    Attributes:
        padded: A block's input between rows of zeros.
        features: The wide activations, features last.
        time_last: The same with time last, for the transforms.
        gated: A block's output before the residual and skip products.
    """

    padded: Float[Tensor, "L_2 residual"]
    features: Float[Tensor, "L H"]
    time_last: Float[Tensor, "H L"]
    gated: Float[Tensor, "L residual"]


class PlainBlocks:
    """Adds residual blocks to the stream.

    Only the transforms want time last. One transposed copy leads there; the matrix product after them reads its
    operand transposed and so leads back for nothing.
    """

    def __init__(self, blocks: Sequence[ResidualBlock], *, length: int, products: torch.dtype) -> None:
        self._length = length
        self._fft_length = smooth_length(2 * length - 1)
        dtype = blocks[0].step.bias.dtype.to_complex()

        def spectrum(forward: Tensor, backward: Tensor) -> Tensor:
            return cyclic_spectrum(forward, backward, fft_length=self._fft_length).to(dtype)

        self._blocks = fold_blocks(blocks, length=length, spectrum=spectrum, products=products)
        self._convs = [block.conv.flatten(0, 1).to(products) for block in self._blocks]

    def workspace(self) -> PlainWorkspace:
        """Fresh buffers; one set per thread."""
        conv = self._blocks[0].conv
        _, narrow, wide = conv.shape
        return PlainWorkspace(
            padded=conv.new_zeros(self._length + 2, narrow),
            features=conv.new_empty(self._length, wide),
            time_last=conv.new_empty(wide, self._length),
            gated=conv.new_empty(self._length, narrow),
        )

    def add(
        self,
        number: int,
        stream: Float[Tensor, "L streams"],
        *,
        stream_shift: Float[Tensor, " residual"],
        norm_shift: Float[Tensor, " H"],
        workspace: PlainWorkspace,
    ) -> None:
        """Add block `number` to the residual and skip columns of the stream, in place.

        Args:
            number: Which block.
            stream: X_j beside the skip sum.
            stream_shift: What the convolution's input has beside X_j.
            norm_shift: Shift of the first norm.
            workspace: Buffers of this thread.
        """
        block = self._blocks[number]
        narrow = len(stream_shift)
        torch.add(stream[:, :narrow], stream_shift, out=workspace.padded[1:-1])
        _convolve_three_taps(workspace.padded, self._convs[number], block.conv_bias, out=workspace.features)
        h = self._s4(workspace.features, block.first, norm_shift, workspace.time_last)
        h = self._s4(h, block.second, block.second.norm_bias, workspace.time_last)
        torch.mul(torch.tanh(h[:, :narrow]), torch.sigmoid(h[:, narrow:]), out=workspace.gated)
        columns = stream[:, stream.shape[1] - block.accumulate.shape[1] :]
        add_product(workspace.gated, block.accumulate, to=columns)

    def _s4(
        self,
        h: Float[Tensor, "L H"],
        layer: FoldedS4,
        norm_shift: Float[Tensor, " H"],
        y: Float[Tensor, "H L"],
    ) -> Float[Tensor, "L H"]:
        y.copy_(h.t())
        for piece, spectrum in zip(y.split(_FEATURES_AT_ONCE), layer.spectrum.split(_FEATURES_AT_ONCE), strict=True):
            product = torch.fft.rfft(piece, n=self._fft_length).mul_(spectrum)
            piece.copy_(torch.fft.irfft(product, n=self._fft_length)[:, : self._length])
        torch.ops.aten.gelu_(y)
        add_product(y.t(), layer.output, to=h.add_(layer.output_bias))
        return functional.layer_norm(h, h.shape[1:], layer.norm_weight, norm_shift, layer.eps)


def _convolve_three_taps(
    padded: Float[Tensor, "L_2 residual"],
    weight: Float[Tensor, "inputs H"],
    bias: Float[Tensor, " H"],
    *,
    out: Float[Tensor, "L H"],
) -> None:
    """The 3-tap convolution as three matrix products without a copy of its input.

    Three neighbouring rows are one row of three times the width; read from row 0, 1 and 2 in steps of three, such
    rows give every third output each.
    """
    narrow = padded.shape[1]
    for phase in range(min(3, len(out))):
        rows = out[phase::3]
        windows = padded.as_strided((len(rows), 3 * narrow), (3 * narrow, 1), phase * narrow)
        multiply(windows, weight, out=rows, bias=bias)


def cyclic_spectrum(
    forward: Float[Tensor, "H L"], backward: Float[Tensor, "H L"], *, fft_length: int
) -> Complex[Tensor, "H F"]:
    """Spectrum for y = irfft(rfft(pad u) S)[:L], fft_length n >= 2 L - 1.

    Lag -j stands at n - j; the tap at lag -L reaches beyond the record and is left out.
    """
    features, length = forward.shape
    gap = forward.new_zeros(features, fft_length - 2 * length + 1)
    return torch.fft.rfft(torch.cat([forward, gap, backward[:, : length - 1].flip(1)], dim=1))

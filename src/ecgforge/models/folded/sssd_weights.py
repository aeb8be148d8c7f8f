"""The weights of SSSD-ECG, rearranged once so that a network call does nothing that does not depend on x.

Weight norm is worked out, both S4 kernels of a layer and D are taps of one convolution, and the residual stream
loses its factor sqrt(1/2) and its biases:

    x_{j+1} = sqrt(1/2) (x_j + W_j o_j + b_j)  becomes  X_{j+1} = X_j + 2^{j/2} W_j o_j,
    x_j = 2^{-j/2} (X_j + a_j),  a_j = sum_{i < j} 2^{i/2} b_i,

so that residual and skip are one matrix product that adds to a (L, residual + skip) buffer. What a block's
convolution needs beside X_j, a_j and the step term, is one constant per channel; 2^{-j/2} is in its weights.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from jaxtyping import Float
from torch import Tensor

from ecgforge.models.folded.taps import two_sided_taps
from ecgforge.models.s4 import S4Layer
from ecgforge.models.sssd import ResidualBlock, SssdEcg, TimeConv

ToSpectrum = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True)
class FoldedS4:
    """One S4 layer: LayerNorm(x + gelu(k * x) W + b).

    Attributes:
        spectrum: Of k, in the form the blocks' convolution wants (see `convolution`).
        output: W, inputs first.
        output_bias: b.
        norm_weight: Scale of the norm.
        norm_bias: Shift of the norm; a block's first layer gets the statements' term on top.
        eps: Added to the norm's variance.
    """

    spectrum: Tensor
    output: Float[Tensor, "H H"]
    output_bias: Float[Tensor, " H"]
    norm_weight: Float[Tensor, " H"]
    norm_bias: Float[Tensor, " H"]
    eps: float


@dataclass(frozen=True)
class FoldedBlock:
    """One residual block on the stream X_j.

    Attributes:
        conv: Taps of the 3-tap convolution times 2^{-j/2}, (tap, in, out), in the network's number format.
        conv_bias: Its bias.
        first, second: The S4 layers, H = twice the residual channels.
        accumulate: 2^{j/2} W_residual beside W_skip, inputs first; the last block's has no residual columns, because
            nothing reads the stream after it.
    """

    conv: Float[Tensor, "3 residual H"]
    conv_bias: Float[Tensor, " H"]
    first: FoldedS4
    second: FoldedS4
    accumulate: Float[Tensor, "residual out"]


@dataclass(frozen=True)
class StreamTerms:
    """Per-channel constants of all blocks, given the step or the statements.

    Attributes:
        step_weight, step_bias: Map the step's embedding to 2^{j/2} times the step term plus a_j, block after block.
        label_weight, label_bias: Map the statements' embedding to the shift of the first norm, block after block.
    """

    step_weight: Float[Tensor, "layers_residual step_out"]
    step_bias: Float[Tensor, " layers_residual"]
    label_weight: Float[Tensor, "layers_H label_features"]
    label_bias: Float[Tensor, " layers_H"]


@dataclass(frozen=True)
class FoldedEnds:
    """What comes before and after the blocks; weights with the outputs first.

    Attributes:
        input_weight, input_bias: First convolution.
        skip_weight, skip_bias: Convolution of the skip sum, with the sum's scale and the blocks' skip biases in it.
        output_weight, output_bias: Last layer.
    """

    input_weight: Float[Tensor, "residual C"]
    input_bias: Float[Tensor, " residual"]
    skip_weight: Float[Tensor, "skip skip"]
    skip_bias: Float[Tensor, " skip"]
    output_weight: Float[Tensor, "C skip"]
    output_bias: Float[Tensor, " C"]


def fold_blocks(
    blocks: Sequence[ResidualBlock], *, length: int, spectrum: ToSpectrum, products: torch.dtype
) -> list[FoldedBlock]:
    """Weights of the blocks for records of `length` samples.

    Args:
        blocks: All of them, in order.
        length: L.
        spectrum: Makes the spectrum from float64 taps (H, L) at lags 0 to L - 1, D in the first, and -1 to -L.
        products: Number format of `output` and `accumulate` (see products.py).
    """
    last = len(blocks) - 1
    fold_s4 = partial(_fold_s4, length=length, spectrum=spectrum, products=products)
    return [
        _fold_block(block, number, fold_s4=fold_s4, last=number == last, products=products)
        for number, block in enumerate(blocks)
    ]


def _fold_block(
    block: ResidualBlock, number: int, *, fold_s4: Callable[[S4Layer], FoldedS4], last: bool, products: torch.dtype
) -> FoldedBlock:
    growth = 2 ** (number / 2)
    residual, skip = growth * _matrix(block.residual), _matrix(block.skip)
    conv = block.conv.conv
    return FoldedBlock(
        conv=_like(conv.bias, conv.weight.double().permute(2, 1, 0) / growth),
        conv_bias=_like(conv.bias, conv.bias),
        first=fold_s4(block.s4_first),
        second=fold_s4(block.s4_second),
        accumulate=_as(products, (skip if last else torch.cat([residual, skip])).T),
    )


def fold_terms(blocks: Sequence[ResidualBlock]) -> StreamTerms:
    """The maps from step and statements to the constants of all blocks."""
    step_weight, step_bias, passed = [], [], torch.zeros((), dtype=torch.float64)
    for number, block in enumerate(blocks):
        growth = 2 ** (number / 2)
        step_weight.append(growth * block.step.weight.double())
        step_bias.append(growth * block.step.bias.double() + passed)
        passed = passed + growth * block.residual.conv.bias.double()
    like = blocks[0].step.bias
    return StreamTerms(
        step_weight=_like(like, torch.cat(step_weight)),
        step_bias=_like(like, torch.cat(step_bias)),
        label_weight=_like(like, torch.cat([block.label.weight for block in blocks])),
        label_bias=_like(like, torch.cat([block.label.bias + block.s4_first.norm.bias for block in blocks])),
    )


def fold_ends(network: SssdEcg, blocks: Sequence[ResidualBlock]) -> FoldedEnds:
    """First and last layers."""
    bias = network.output.bias
    skip_weight = _matrix(network.skip_sum) * len(blocks) ** -0.5
    skip_biases = torch.stack([block.skip.conv.bias.double() for block in blocks]).sum(0)
    return FoldedEnds(
        input_weight=_like(bias, _matrix(network.input)),
        input_bias=_like(bias, network.input.conv.bias),
        skip_weight=_like(bias, skip_weight),
        skip_bias=_like(bias, network.skip_sum.conv.bias.double() + skip_weight @ skip_biases),
        output_weight=_like(bias, network.output.weight),
        output_bias=_like(bias, bias),
    )


def _fold_s4(layer: S4Layer, *, length: int, spectrum: ToSpectrum, products: torch.dtype) -> FoldedS4:
    return FoldedS4(
        spectrum=spectrum(*two_sided_taps(layer, length)),
        output=_as(products, layer.output.weight.T),
        output_bias=_like(layer.D, layer.output.bias),
        norm_weight=_like(layer.D, layer.norm.weight),
        norm_bias=_like(layer.D, layer.norm.bias),
        eps=layer.norm.eps,
    )


def _matrix(conv: TimeConv) -> Float[Tensor, "out in"]:
    """The matrix of a convolution of width 1, weight norm worked out, float64."""
    return conv.conv.weight.double()[:, :, 0]


def _like(reference: Tensor, value: Tensor) -> Tensor:
    """The value in the network's number format."""
    return _as(reference.dtype, value)


def _as(dtype: torch.dtype, value: Tensor) -> Tensor:
    """A contiguous copy of its own in a number format: later changes of the network do not reach it."""
    return value.detach().to(dtype).clone(memory_format=torch.contiguous_format)

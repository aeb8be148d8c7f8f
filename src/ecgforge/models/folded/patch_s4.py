"""PatchS4 for sampling on a CPU: the same weights and outputs, native kernels between the matrix products.

What does not depend on x is kept: spectra of the S4 kernels, beats, statements and facts of a record. Records are
computed one by one, which keeps a record's activations in the cache and its rounding independent of its company.
"""

import threading
from ctypes import CDLL
from dataclasses import dataclass
from typing import cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional

from ecgforge.errors import ConfigError
from ecgforge.models.folded.kept import KEPT_RECORDS, kept
from ecgforge.models.folded.products import multiply
from ecgforge.models.folded.taps import two_sided_taps
from ecgforge.models.native.convolution import Buffers, NativeConvolution
from ecgforge.models.patch_s4 import Attention, Block, PatchS4, turning_angles

_EPS = 1e-5  # of functional.layer_norm
_KEPT_MODULATIONS = 512  # 40 kB each; records asked for alike share theirs


@dataclass(frozen=True)
class _Linear:
    """x W + b, W with the inputs first."""

    weight: Float[Tensor, "in out"]
    bias: Float[Tensor, " out"]


@dataclass(frozen=True)
class _Attention:
    """Attention with heads whose features that turn together are neighbours, the scale in the queries."""

    input: _Linear
    output: _Linear


@dataclass(frozen=True)
class _Block:
    spectrum: Tensor
    mix: _Linear
    attention: _Attention | None
    hidden: _Linear
    output: _Linear


@dataclass(frozen=True)
class _Workspace:
    """Buffers of one record: P patches of H features, heads of D."""

    stream: Float[Tensor, "P H"]
    features: Float[Tensor, "P H"]
    mixed: Float[Tensor, "P H"]
    gated: Float[Tensor, "P H_2"]
    hidden: Float[Tensor, "P hidden"]
    projected: Float[Tensor, "P 3 heads D"]
    scores: Float[Tensor, "heads P P"]
    gathered: Float[Tensor, "heads P D"]
    convolution: Buffers


class FoldedPatchS4:
    """A network's function at its present weights: folded(x, level, condition, beats) equals network(...).

    Of the network only the small embeddings are still read; weights changed later are not seen. May be called from
    several threads.

    Args:
        network: On a CPU, in float32.
        kernels: The compiled kernels.cpp (see library.native_kernels).
        products: Number format of the blocks' matrix products, float32 or bfloat16 (see products.py).
    """

    @torch.no_grad()
    def __init__(self, network: PatchS4, kernels: CDLL, *, products: torch.dtype = torch.float32) -> None:
        config = network.config
        self._network = network
        self._kernels = kernels
        self._products = products
        self._convolution = NativeConvolution(kernels, length=config.length // config.patch)
        blocks = cast(list[Block], list(network.blocks))
        self._blocks = [self._fold(block) for block in blocks]
        self._input, self._output = _linear(network.input), _linear(network.output)
        # All modulations by one product.
        modulations = [*(block.modulation for block in blocks), network.modulation]
        self._modulation = torch.cat([layer.weight for layer in modulations]).detach()
        self._modulation_bias = torch.cat([layer.bias for layer in modulations]).detach()
        angle = turning_angles(config.length // config.patch, config.head // 2, like=network.input.bias)
        self._turning = torch.polar(torch.ones_like(angle), angle)[:, None, None]
        self._told: dict[tuple[float, bytes], Tensor] = {}
        self._beats: dict[bytes, Tensor] = {}
        self._thread = threading.local()

    @torch.no_grad()
    def __call__(
        self,
        x: Float[Tensor, "B C L"],
        level: Float[Tensor, " B"],
        condition: Float[Tensor, "B K"],
        beats: Float[Tensor, "B L"] | None = None,
    ) -> Float[Tensor, "B C L"]:
        """As PatchS4.forward, for records of the network's length.

        Raises:
            ConfigError: the records are of another length.
        """
        length = self._network.config.length
        if x.shape[2] != length:
            raise ConfigError(f"expected records of {length} samples, got {x.shape[2]}; call the network itself")
        told = torch.full_like(x[:, 0], torch.nan) if beats is None else beats
        rows = [
            self._predict(x[i], self._modulations(level[i : i + 1], condition[i : i + 1]), self._embedded(told[i]))
            for i in range(len(x))
        ]
        return torch.stack(rows)

    def _modulations(self, level: Float[Tensor, "1"], condition: Float[Tensor, "1 K"]) -> list[Float[Tensor, " H"]]:
        """What shifts, scales and gates the features of all blocks, in the order of their use; scales with 1 added."""
        network = self._network

        def compute() -> Tensor:
            embedded = functional.silu(network.level(level) + network.statements(condition))
            rows = torch.addmv(self._modulation_bias, self._modulation, embedded[0]).view(-1, network.config.features)
            rows[1::3] += 1  # shift, scale, gate, ...; at the end shift and scale
            return rows

        key = (float(level), condition.numpy().tobytes())
        return list(kept(self._told, key, compute, most=_KEPT_MODULATIONS))

    def _embedded(self, beats: Float[Tensor, " L"]) -> Float[Tensor, "P H"]:
        """What the patches are told of the beats, the input's bias added."""

        def compute() -> Tensor:
            return cast(Tensor, self._network.beats(beats[None])[0] + self._input.bias)

        return kept(self._beats, beats.numpy().tobytes(), compute, most=KEPT_RECORDS)

    def _predict(
        self, x: Float[Tensor, "C L"], modulations: list[Float[Tensor, " H"]], embedded: Float[Tensor, "P H"]
    ) -> Float[Tensor, "C L"]:
        buffers, parts = self._buffers(), iter(modulations)
        leads, patch = len(x), self._network.config.patch
        patches = x.unflatten(1, (-1, patch)).transpose(0, 1).reshape(len(embedded), -1)
        torch.addmm(embedded, patches, self._input.weight, out=buffers.stream)
        for block in self._blocks:
            self._mix_time(block, next(parts), next(parts), next(parts), buffers)
            if block.attention is not None:
                self._attend(block.attention, next(parts), next(parts), next(parts), buffers)
            self._mix_features(block, next(parts), next(parts), next(parts), buffers)
        self._modulate(next(parts), next(parts), buffers)
        output = torch.addmm(self._output.bias, buffers.features, self._output.weight)
        return output.view(-1, leads, patch).transpose(0, 1).reshape(leads, -1)

    def _mix_time(self, block: _Block, shift: Tensor, scale: Tensor, gate: Tensor, buffers: _Workspace) -> None:
        self._modulate(shift, scale, buffers)
        self._convolution.convolve_with_gelu(buffers.features, buffers.mixed, block.spectrum, buffers.convolution)
        multiply(buffers.mixed, block.mix.weight, out=buffers.gated)
        x, y = buffers.stream, buffers.gated
        self._kernels.ecgforge_add_gated(
            x.data_ptr(), gate.data_ptr(), y.data_ptr(), block.mix.bias.data_ptr(), *x.shape
        )

    def _attend(self, layer: _Attention, shift: Tensor, scale: Tensor, gate: Tensor, buffers: _Workspace) -> None:
        self._modulate(shift, scale, buffers)
        projected, scores = buffers.projected, buffers.scores
        wide = projected.view(len(projected), -1)
        multiply(buffers.features, layer.input.weight, out=wide, bias=layer.input.bias)
        torch.view_as_complex(projected[:, :2].unflatten(3, (-1, 2))).mul_(self._turning)
        query, key, value = projected.permute(1, 2, 0, 3)
        torch.bmm(query, key.transpose(1, 2), out=scores)
        self._kernels.ecgforge_softmax(scores.data_ptr(), scores.shape[0] * scores.shape[1], scores.shape[2])
        torch.bmm(scores, value, out=buffers.gathered)
        buffers.features.view(len(projected), -1, value.shape[2]).copy_(buffers.gathered.transpose(0, 1))
        self._add(buffers.features, layer.output, gate, buffers)

    def _mix_features(self, block: _Block, shift: Tensor, scale: Tensor, gate: Tensor, buffers: _Workspace) -> None:
        self._modulate(shift, scale, buffers)
        hidden = multiply(buffers.features, block.hidden.weight, out=buffers.hidden)
        self._kernels.ecgforge_gelu(hidden.data_ptr(), block.hidden.bias.data_ptr(), *hidden.shape)
        self._add(hidden, block.output, gate, buffers)

    def _modulate(self, shift: Tensor, scale: Tensor, buffers: _Workspace) -> None:
        """features = LayerNorm(stream) scale + shift."""
        x, y = buffers.stream, buffers.features
        self._kernels.ecgforge_modulate(x.data_ptr(), scale.data_ptr(), shift.data_ptr(), _EPS, y.data_ptr(), *x.shape)

    def _add(self, h: Tensor, layer: _Linear, gate: Tensor, buffers: _Workspace) -> None:
        """stream += gate (h W + b)."""
        x, y = buffers.stream, multiply(h, layer.weight, out=buffers.mixed)
        self._kernels.ecgforge_add_scaled(x.data_ptr(), gate.data_ptr(), y.data_ptr(), layer.bias.data_ptr(), *x.shape)

    def _buffers(self) -> _Workspace:
        """This thread's, made at its first call."""
        if not hasattr(self._thread, "buffers"):
            self._thread.buffers = self._workspace()
        return cast(_Workspace, self._thread.buffers)

    def _workspace(self) -> _Workspace:
        config = self._network.config
        patches, features = config.length // config.patch, config.features
        heads = features // config.head if config.attention_every else 0
        return _Workspace(
            stream=torch.empty(patches, features),
            features=torch.empty(patches, features),
            mixed=torch.empty(patches, features),
            gated=torch.empty(patches, 2 * features),
            hidden=torch.empty(patches, config.hidden * features),
            projected=torch.empty(patches, 3, heads, config.head),
            scores=torch.empty(heads, patches, patches),
            gathered=torch.empty(heads, patches, config.head),
            convolution=self._convolution.buffers(),
        )

    def _fold(self, block: Block) -> _Block:
        config = self._network.config
        return _Block(
            spectrum=self._convolution.spectrum(*two_sided_taps(block.time, config.length // config.patch)),
            mix=_linear(block.mix, self._products),
            attention=None if block.attention is None else _attention(block.attention, self._products),
            hidden=_linear(block.hidden, self._products),
            output=_linear(block.output, self._products),
        )


def _linear(layer: nn.Linear, products: torch.dtype = torch.float32) -> _Linear:
    return _Linear(layer.weight.detach().T.contiguous().to(products), layer.bias.detach().clone())


def _attention(layer: Attention, products: torch.dtype) -> _Attention:
    """Feature i of a head's first half beside feature i of its second: both are one complex number, which turns."""
    inputs, head = _linear(layer.input), layer.head
    order = torch.arange(head).view(2, -1).T.flatten()

    def arranged(values: Tensor) -> Tensor:
        parts = values.unflatten(-1, (3, -1, head)).clone()
        parts[..., :2, :, :] = parts[..., :2, :, :][..., order]
        parts[..., 0, :, :] *= head**-0.5
        return parts.flatten(-3)

    turned = _Linear(arranged(inputs.weight).to(products), arranged(inputs.bias))
    return _Attention(turned, _linear(layer.output, products))

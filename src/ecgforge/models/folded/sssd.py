"""SSSD-ECG for sampling on a CPU: the same weights and outputs, everything that does not depend on x kept.

See `sssd_weights` for what is folded and `sssd_plain` or `sssd_native` for how a block is computed. Records are
computed one by one, which keeps a record's activations in the cache and its rounding independent of its company.
"""

import threading
from ctypes import CDLL
from typing import Any, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from ecgforge.errors import ConfigError
from ecgforge.models.conditioning import step_embedding
from ecgforge.models.folded.kept import KEPT_LEVELS, KEPT_RECORDS, kept
from ecgforge.models.folded.sssd_native import NativeBlocks
from ecgforge.models.folded.sssd_plain import PlainBlocks
from ecgforge.models.folded.sssd_weights import fold_ends, fold_terms
from ecgforge.models.native.library import Absent, native_kernels
from ecgforge.models.sssd import ResidualBlock, SssdEcg


@runtime_checkable
class Blocks(Protocol):
    """How blocks are computed: PlainBlocks or NativeBlocks."""

    def workspace(self) -> Any:
        """Fresh buffers; one set per thread."""
        ...

    def add(self, number: int, stream: Tensor, *, stream_shift: Tensor, norm_shift: Tensor, workspace: Any) -> None:
        """Add block `number` to the residual and skip columns of the stream, in place."""
        ...


class FoldedSssd:
    """A network's function at its present weights: folded(x, level, condition) equals network(x, level, condition).

    Of the network only the small step and statement embeddings are still read; weights changed later are not seen.
    May be called from several threads.

    Args:
        network: On a CPU.
        native: Use native kernels where there are any; False for plain PyTorch.
        products: Number format of the blocks' matrix products (see products.py); None for the network's own.

    Attributes:
        absent: Why it computes without native kernels; None when it computes with them.

    Raises:
        ConfigError: the network is not on a CPU.
    """

    @torch.no_grad()
    def __init__(
        self,
        network: SssdEcg,
        *,
        native: bool = True,
        products: torch.dtype | None = None,
    ) -> None:
        if network.output.bias.device.type != "cpu":
            raise ConfigError(
                f"expected a network on the CPU, got {network.output.bias.device}; call it as it is there"
            )
        config = network.config
        self.length = config.length
        blocks = cast(list[ResidualBlock], list(network.blocks))
        self._network = network
        self._ends = fold_ends(network, blocks)
        self._terms = fold_terms(blocks)
        self._blocks, self.absent = _choose_blocks(blocks, length=self.length, native=native, products=products)
        self._narrow = config.residual_channels
        self._streams = config.residual_channels + config.skip_channels
        self._stream_shifts: dict[float, Tensor] = {}
        self._norm_shifts: dict[bytes, Tensor] = {}
        self._thread = threading.local()

    @torch.no_grad()
    def __call__(
        self, x: Float[Tensor, "B C L"], level: Float[Tensor, " B"], condition: Tensor
    ) -> Float[Tensor, "B C L"]:
        """Predicted noise, as SssdEcg.forward.

        Raises:
            ConfigError: the records are of another length than the network's.
        """
        if x.shape[-1] != self.length:
            raise ConfigError(f"expected records of {self.length} samples, got {x.shape[-1]}")
        y = torch.empty_like(x, memory_format=torch.contiguous_format)
        for i in range(len(x)):
            self._predict(x[i], self._stream_shift(level[i : i + 1]), self._norm_shift(condition[i : i + 1]), out=y[i])
        return y

    def _predict(
        self,
        x: Float[Tensor, "C L"],
        stream_shifts: Float[Tensor, "layers residual"],
        norm_shifts: Float[Tensor, "layers H"],
        *,
        out: Float[Tensor, "C L"],
    ) -> None:
        ends = self._ends
        stream, workspace = self._buffers()
        stream[:, self._narrow :] = 0
        torch.addmm(ends.input_bias, x.t(), ends.input_weight.t(), out=stream[:, : self._narrow]).relu_()
        for number, (stream_shift, norm_shift) in enumerate(zip(stream_shifts, norm_shifts, strict=True)):
            self._blocks.add(number, stream, stream_shift=stream_shift, norm_shift=norm_shift, workspace=workspace)
        h = torch.addmm(ends.skip_bias, stream[:, self._narrow :], ends.skip_weight.t()).relu_()
        torch.addmm(ends.output_bias[:, None], ends.output_weight, h.t(), out=out)

    def _buffers(self) -> tuple[Float[Tensor, "L streams"], Any]:
        """This thread's stream and the blocks' workspace, made at its first call."""
        if not hasattr(self._thread, "buffers"):
            stream = self._ends.input_bias.new_empty(self.length, self._streams)
            self._thread.buffers = stream, self._blocks.workspace()
        return self._thread.buffers

    def _stream_shift(self, level: Float[Tensor, "1"]) -> Float[Tensor, "layers residual"]:
        def compute() -> Tensor:
            network, terms = self._network, self._terms
            hidden = functional.silu(network.step_first(step_embedding(level, network.config.step_features)))
            step = functional.silu(network.step_second(hidden))
            return functional.linear(step, terms.step_weight, terms.step_bias).view(len(network.blocks), -1)

        return kept(self._stream_shifts, float(level), compute, most=KEPT_LEVELS)

    def _norm_shift(self, condition: Tensor) -> Float[Tensor, "layers H"]:
        def compute() -> Tensor:
            network, terms = self._network, self._terms
            label = network.statements(condition)
            return functional.linear(label, terms.label_weight, terms.label_bias).view(len(network.blocks), -1)

        return kept(self._norm_shifts, condition.numpy().tobytes(), compute, most=KEPT_RECORDS)


def _choose_blocks(
    blocks: list[ResidualBlock], *, length: int, native: bool, products: torch.dtype | None
) -> tuple[Blocks, Absent | None]:
    """Native blocks where there are kernels, else plain ones and the reason."""
    dtype = blocks[0].step.bias.dtype
    if not native:
        kernels: CDLL | Absent = Absent("plain PyTorch was asked for")
    elif dtype != torch.float32:
        kernels = Absent(f"native kernels compute in float32, the network in {dtype}")
    else:
        kernels = native_kernels()
    if isinstance(kernels, Absent):
        return PlainBlocks(blocks, length=length, products=products or dtype), kernels
    return NativeBlocks(kernels, blocks, length=length, products=products or dtype), None

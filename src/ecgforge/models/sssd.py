"""SSSD-ECG: a WaveNet-like residual network with two S4 layers per block.

Source: Alcaraz and Strodthoff 2023 (arXiv 2301.08227), section III.B and Table I of its appendix.
"""

import copy
import math
from dataclasses import dataclass, fields, replace
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm
from torch.utils.checkpoint import checkpoint

from ecgforge.errors import ConfigError
from ecgforge.models.conditioning import StatementEmbedding, StatementTables, step_embedding
from ecgforge.models.kernel_basis import CauchySum
from ecgforge.models.s4 import KernelName, S4Layer

StatementsName = Literal["sum", "nle-as-released", "nle-as-described"]


@dataclass(frozen=True)
class SssdConfig:
    """Size of the network; the defaults are the paper's (50.2 M parameters).

    Attributes:
        kind: Key of models.NETWORKS.
        leads: C, channels in and out.
        length: L, samples per record the S4 kernels are made for.
        labels: K, statements of the condition.
        layers: Residual blocks.
        residual_channels: Width of the residual stream.
        skip_channels: Width of the skip sum.
        step_features: Size of the sinusoidal step embedding.
        step_hidden: Width of the two linear layers after it, middle.
        step_out: ... and outer.
        label_features: Size of the statement embedding.
        statements: How the condition is embedded: "sum" as in SSSD-ECG, where an absent statement adds nothing, or by
            the tables of SSSD-ECG-nle, as its code has them ("present" frozen at zero) or as its paper does.
        state_size: N of the S4 layers.
        kernel: "s4" (diagonal plus low rank) or "s4d".
        cauchy: "full" is the true S4 kernel; "half" reproduces models trained with the original's
            pure-PyTorch fallback, which sums over one conjugate half only.

    Raises:
        ConfigError: a size is below 1, or the step embedding has no room for sines and cosines.
    """

    kind: Literal["sssd"] = "sssd"
    leads: int = 8
    length: int = 1000
    labels: int = 71
    layers: int = 36
    residual_channels: int = 256
    skip_channels: int = 256
    step_features: int = 128
    step_hidden: int = 512
    step_out: int = 512
    label_features: int = 128
    statements: StatementsName = "sum"
    state_size: int = 64
    kernel: KernelName = "s4"
    cauchy: CauchySum = "full"

    def __post_init__(self) -> None:
        sizes = {item.name: getattr(self, item.name) for item in fields(self) if item.type is int}
        small = [f"{name} = {size}" for name, size in sizes.items() if size < 1]
        if small:
            raise ConfigError(f"expected network sizes of 1 or more, got {', '.join(small)}")
        if self.step_features < 4 or self.step_features % 2:
            raise ConfigError(f"expected step_features even and 4 or more, got {self.step_features}")


def _statement_embedding(config: SssdConfig) -> nn.Module:
    if config.statements == "sum":
        return StatementEmbedding(config.labels, config.label_features)
    learn_present = config.statements == "nle-as-described"
    return StatementTables(config.labels, config.label_features, learn_present=learn_present)


class TimeConv(nn.Module):
    """Weight-normed convolution over time on (B, L, channels), as one matrix product per call.

    Parameters keep Conv1d's shape (out, in, width). Kaiming-normal start, zero padding that keeps the length.
    """

    def __init__(self, channels_in: int, channels_out: int, *, width: int = 1) -> None:
        super().__init__()
        conv = nn.Conv1d(channels_in, channels_out, width)
        nn.init.kaiming_normal_(conv.weight)
        self.conv = weight_norm(conv)
        self.width = width

    def forward(self, x: Float[Tensor, "B L I"]) -> Float[Tensor, "B L O"]:
        """The convolution."""
        if self.width > 1:
            half, length = self.width // 2, x.shape[1]
            padded = nn.functional.pad(x, (0, 0, half, half))
            x = torch.cat([padded[:, shift : shift + length] for shift in range(self.width)], dim=2)
        weight = self.conv.weight.transpose(1, 2).flatten(1)  # (out, width * in), taps outermost
        return nn.functional.linear(x, weight, self.conv.bias)


class ResidualBlock(nn.Module):
    """x, step and statements in; residual and skip out. Source: arXiv 2301.08227, Figure 1."""

    def __init__(self, config: SssdConfig) -> None:
        super().__init__()
        narrow, wide = config.residual_channels, 2 * config.residual_channels
        s4 = {
            "state_size": config.state_size,
            "length": config.length,
        }
        self.step = nn.Linear(config.step_out, narrow)
        self.conv = TimeConv(narrow, wide, width=3)
        self.s4_first = S4Layer(wide, **s4, kernel=config.kernel, cauchy=config.cauchy)
        self.label = nn.Linear(config.label_features, wide)
        self.s4_second = S4Layer(wide, **s4, kernel=config.kernel, cauchy=config.cauchy)
        self.residual = TimeConv(narrow, narrow)
        self.skip = TimeConv(narrow, config.skip_channels)

    def forward(
        self,
        x: Float[Tensor, "B L residual"],
        step: Float[Tensor, "B step_out"],
        label: Float[Tensor, "B label_features"],
    ) -> tuple[Float[Tensor, "B L residual"], Float[Tensor, "B L skip"]]:
        """The next residual stream and this block's contribution to the skip sum."""
        h = self.conv(x + self.step(step)[:, None])
        h = self.s4_first(h) + self.label(label)[:, None]
        h = self.s4_second(h)
        filtered, gate = h.chunk(2, dim=2)
        h = torch.tanh(filtered) * torch.sigmoid(gate)
        return (x + self.residual(h)) * math.sqrt(0.5), self.skip(h)


class SssdEcg(nn.Module):
    """The network eps(x, t, y) of SSSD-ECG: predicts the noise in x at diffusion step t for statements y.

    With `statements` other than "sum" it is SSSD-ECG-nle (arXiv 2407.11108): same network, another embedding of y.

    Attributes:
        gradient_checkpointing: In training keep only the blocks' inputs and compute the blocks again in the backward
            pass: a third more work, a fraction of the memory.
    """

    config_class = SssdConfig

    def __init__(self, config: SssdConfig) -> None:
        super().__init__()
        self.config = config
        self.input = TimeConv(config.leads, config.residual_channels)
        self.step_first = nn.Linear(config.step_features, config.step_hidden)
        self.step_second = nn.Linear(config.step_hidden, config.step_out)
        self.statements = _statement_embedding(config)
        self.blocks = nn.ModuleList(ResidualBlock(config) for _ in range(config.layers))
        self.skip_sum = TimeConv(config.skip_channels, config.skip_channels)
        self.output = nn.Linear(config.skip_channels, config.leads)
        nn.init.zeros_(self.output.weight)
        nn.init.zeros_(self.output.bias)
        self.gradient_checkpointing = False

    def resampled(self, length: int, *, rate_ratio: float = 1.0) -> "SssdEcg":
        """A copy with the same weights for records of `length` samples at `rate_ratio` times the rate.

        A state space model is one of continuous time, so its kernels follow the rate by their step, and any length.
        The convolutions of three samples do not follow it: at five times the rate they see a fifth of the time, so
        what was learned at one rate is a start for the other, not a model of it.

        Raises:
            ConfigError: the length is below 1, the ratio not above 0, or the kernels those of the half sum.
        """
        if rate_ratio <= 0:
            raise ConfigError(f"expected a rate_ratio above 0, got {rate_ratio}")
        config = replace(self.config, length=length)
        copied = copy.deepcopy(self)
        copied.config = config
        for module in copied.modules():
            if isinstance(module, S4Layer):
                module.kernel.resample(length, rate_ratio=rate_ratio)
        return copied

    def forward(
        self, x: Float[Tensor, "B C L"], level: Float[Tensor, " B"], condition: Float[Tensor, "B K"]
    ) -> Float[Tensor, "B C L"]:
        """Predicted noise.

        Args:
            x: Noisy signal in mV.
            level: Diffusion step t, 0 to T - 1.
            condition: Label vector, values 0 to 1, NaN where unknown.
        """
        embedded = step_embedding(level, self.config.step_features)
        step = nn.functional.silu(self.step_second(nn.functional.silu(self.step_first(embedded))))
        label = self.statements(condition)
        h = torch.relu(self.input(x.transpose(1, 2)))
        skips: Tensor | float = 0.0
        recompute = self.gradient_checkpointing and torch.is_grad_enabled()
        for block in self.blocks:
            # Nothing in a block is random, so there is no random state to keep.
            h, skip = (
                checkpoint(block, h, step, label, use_reentrant=False, preserve_rng_state=False)
                if recompute
                else block(h, step, label)
            )
            skips = skips + skip
        h = torch.relu(self.skip_sum(skips * math.sqrt(1.0 / len(self.blocks))))
        return self.output(h).transpose(1, 2)

"""Pulse2Pulse: a U-Net generator from noise to ECG, made conditional for the comparison with SSSD-ECG.

Source: Thambawita et al. 2021 (Sci Rep 11:21896); the conditional form is that of Alcaraz and Strodthoff 2023
(arXiv 2301.08227). Its critic is critic.py.
"""

import math
from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ecgforge.errors import ConfigError
from ecgforge.models.conditional_norm import ConditionalBatchNorm
from ecgforge.models.convolution import Conv1d
from ecgforge.models.wavegan import SamplingNoise, UpsamplingBlock, check_generator, limited

_KERNEL = 25
_STRIDES = (2, 5, 2, 5, 5)  # downwards: 1000 samples become 2
_SCALES = (5, 5, 2, 5, 2)  # upwards
_SLOPE = 0.01


@dataclass(frozen=True)
class Pulse2PulseConfig:
    """Size of the generator and what it was trained for; the defaults are the published ones (3.60 M parameters).

    Two of the published choices are faults; a repaired model sets `amplitude` to 5, which 99.997 % of the samples
    of PTB-XL keep to, and `sampling_noise` to "uniform". (The third is the critic's: CriticConfig.sees_statements.)

    Attributes:
        kind: Key of models.NETWORKS.
        leads: C, channels in and out.
        length: L, samples per record, a multiple of 500.
        labels: K, statements of the condition.
        width: Channels of the middle level; the others have 1/5, 1/2, 3 and 5 times as many.
        amplitude: Limit of the output in mV: amplitude tanh(h / amplitude). 1 is the published plain tanh.
        sampling_noise: Noise that records are generated from: "normal" as published, or "uniform" on -1 to 1,
            which is what training always uses.

    Raises:
        ConfigError: a size is too small, the length cannot be strided through, or the amplitude is not positive.
    """

    kind: Literal["pulse2pulse"] = "pulse2pulse"
    leads: int = 8
    length: int = 1000
    labels: int = 71
    width: int = 50
    amplitude: float = 1.0
    sampling_noise: SamplingNoise = "normal"

    def __post_init__(self) -> None:
        check_generator(self.leads, self.labels, self.width, self.amplitude)
        stride = math.prod(_STRIDES)
        if self.length < stride or self.length % stride:
            raise ConfigError(
                f"expected a length that is a multiple of {stride}, the product of the strides, got {self.length}"
            )


class DownsamplingBlock(nn.Module):
    """A strided convolution of 25 samples, conditional normalisation, leaky ReLU."""

    def __init__(self, labels: int, channels_in: int, channels_out: int, *, stride: int) -> None:
        super().__init__()
        self.conv = Conv1d(channels_in, channels_out, _KERNEL, stride=stride, padding=_KERNEL // 2)
        self.norm = ConditionalBatchNorm(labels, channels_out)

    def forward(self, x: Float[Tensor, "B I L"], condition: Float[Tensor, "B K"]) -> Float[Tensor, "B O M"]:
        """M = L / stride samples."""
        return nn.functional.leaky_relu(self.norm(self.conv(x), condition), _SLOPE)


class Pulse2Pulse(nn.Module):
    """The generator: noise and statements in, signal in mV out."""

    config_class = Pulse2PulseConfig

    def __init__(self, config: Pulse2PulseConfig) -> None:
        super().__init__()
        self.config = config
        labels, width = config.labels, config.width
        down = (config.leads, width // 5, width // 2, width, 3 * width, 5 * width)
        self.down = nn.ModuleList(
            DownsamplingBlock(labels, down[i], down[i + 1], stride=stride) for i, stride in enumerate(_STRIDES)
        )
        joined = [2 * channels for channels in reversed(down[1:])]  # what comes from below, and the level's own
        up_in = (*joined[:-1], width // 5)
        up_out = (3 * width, width, width // 2, width // 5, config.leads)
        self.up = nn.ModuleList(
            UpsamplingBlock(labels, up_in[i], up_out[i], scale=scale) for i, scale in enumerate(_SCALES)
        )

    def forward(
        self, x: Float[Tensor, "B C L"], level: Float[Tensor, " B"], condition: Float[Tensor, "B K"]
    ) -> Float[Tensor, "B C L"]:
        """One generated record per noise array.

        Args:
            x: Noise, uniform on -1 to 1 in training.
            level: Not used; every network is called with it.
            condition: Label vector, values 0 to 1.
        """
        levels = []
        h = x
        for block in self.down:
            h = block(h, condition)
            levels.append(h)
        # As published: the first block up sees the bottom twice, and the last sees no level of its own.
        for block in self.up[:-1]:
            h = torch.relu(block(torch.cat([h, levels.pop()], dim=1), condition))
        return limited(self.up[-1](h, condition), self.config.amplitude)

"""WaveGAN*: the conditional WaveGAN that SSSD-ECG was compared with; generator only, its critic is critic.py.

Source: Alcaraz and Strodthoff 2023 (arXiv 2301.08227), after Thambawita et al. 2021
(Sci Rep 11:21896) and Donahue et al. 2019 (arXiv 1802.04208).
"""

from dataclasses import dataclass
from typing import Literal

import torch
from jaxtyping import Float
from torch import Tensor, nn

from ecgforge.errors import ConfigError
from ecgforge.models.conditional_norm import ConditionalBatchNorm
from ecgforge.models.convolution import upsampled_conv1d

_KERNEL = 25
_SCALES = (5, 1, 5, 1, 5)  # of the five upsampling blocks: 8 samples become 1000

SamplingNoise = Literal["uniform", "normal"]


@dataclass(frozen=True)
class WaveGanConfig:
    """Size of the generator and what it was trained for; the defaults are the published ones (1.45 M parameters).

    Two of the published choices are faults; a repaired model sets `amplitude` to 5, which 99.997 % of the samples
    of PTB-XL keep to, and `sampling_noise` to "uniform". (The third is the critic's: CriticConfig.sees_statements.)

    Attributes:
        kind: Key of models.NETWORKS.
        leads: C, channels in and out.
        length: L, samples per record; 125 times the leads, which is what the upsampling blocks make.
        labels: K, statements of the condition.
        width: Channels of the middle block; the others have 5, 3, 1/2 and 1/5 times as many.
        amplitude: Limit of the output in mV: amplitude tanh(h / amplitude). 1 is the published plain tanh.
        sampling_noise: Noise that records are generated from: "normal" as published, or "uniform" on -1 to 1,
            which is what training always uses.

    Raises:
        ConfigError: a size is too small, the length is not the one that comes out, or the amplitude is not positive.
    """

    kind: Literal["wavegan"] = "wavegan"
    leads: int = 8
    length: int = 1000
    labels: int = 71
    width: int = 50
    amplitude: float = 1.0
    sampling_noise: SamplingNoise = "normal"

    def __post_init__(self) -> None:
        check_generator(self.leads, self.labels, self.width, self.amplitude)
        if self.length != 125 * self.leads:
            raise ConfigError(
                f"expected length = {125 * self.leads} with leads = {self.leads}: the generator reads its noise as one "
                f"sample per lead and makes 125 of each, got {self.length}"
            )


def check_generator(leads: int, labels: int, width: int, amplitude: float) -> None:
    """Refuse sizes that no generator can have.

    Raises:
        ConfigError: leads or labels below 1, width below 5, or an amplitude that is not positive.
    """
    if min(leads, labels) < 1 or width < 5:
        raise ConfigError(
            f"expected leads and labels of 1 or more and width of 5 or more, got {leads}, {labels} and {width}"
        )
    if amplitude <= 0:
        raise ConfigError(f"expected an amplitude above 0 mV, got {amplitude}")


class UpsamplingBlock(nn.Module):
    """Nearest-neighbour upsampling, a convolution of 25 samples, conditional normalisation."""

    def __init__(self, labels: int, channels_in: int, channels_out: int, *, scale: int) -> None:
        super().__init__()
        self.scale = scale
        self.conv = nn.Conv1d(channels_in, channels_out, _KERNEL)
        self.norm = ConditionalBatchNorm(labels, channels_out)

    def forward(self, x: Float[Tensor, "B I L"], condition: Float[Tensor, "B K"]) -> Float[Tensor, "B O M"]:
        """M = scale L samples; the activation is the caller's."""
        return self.norm(upsampled_conv1d(x, self.conv.weight, self.conv.bias, scale=self.scale), condition)


def limited(x: Tensor, amplitude: float) -> Tensor:
    """amplitude tanh(x / amplitude): slope 1 at zero whatever the limit, so that small signals start at one size."""
    return amplitude * torch.tanh(x / amplitude)


class WaveGan(nn.Module):
    """The generator: noise and statements in, signal in mV out."""

    config_class = WaveGanConfig

    def __init__(self, config: WaveGanConfig) -> None:
        super().__init__()
        self.config = config
        width = config.width
        self.channels = 5 * width
        self.input = nn.Linear(config.length, self.channels)
        channels = (self.channels, 3 * width, width, width // 2, width // 5, config.leads)
        self.blocks = nn.ModuleList(
            UpsamplingBlock(config.labels, channels[i], channels[i + 1], scale=scale) for i, scale in enumerate(_SCALES)
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
        # As published: the (C, 5 width) numbers of a record are read row by row as (5 width, C).
        h = torch.relu(self.input(x)).reshape(len(x), self.channels, -1)
        for block in self.blocks[:-1]:
            h = torch.relu(block(h, condition))
        return limited(self.blocks[-1](h, condition), self.config.amplitude)

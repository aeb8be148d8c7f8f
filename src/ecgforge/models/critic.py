"""The critic of both GAN baselines: how much more real than generated a record looks, to Wasserstein's measure.

Source: Donahue et al. 2019 (arXiv 1802.04208), section 3; sizes as in Alcaraz and Strodthoff 2023
(arXiv 2301.08227).
"""

from dataclasses import dataclass

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from ecgforge.errors import ConfigError
from ecgforge.models.convolution import Conv1d

_KERNEL = 25
_PADDING = 11
_STRIDES = (2, 2, 2, 2, 4, 4)
_WIDTHS = (1, 2, 5, 10, 20, 25)  # channels in units of the width
_SLOPE = 0.2


@dataclass(frozen=True)
class CriticConfig:
    """Size of the critic; the defaults are the published ones (47.6 M parameters).

    Attributes:
        leads: C, channels.
        length: L, samples per record.
        labels: K, statements of the condition.
        width: Channels after the first convolution; 25 times as many after the last.
        shuffle: Largest shift of phase shuffle, in samples of each layer; 0 for none.
        sees_statements: Whether the score depends on the statements. As published it does not, so that nothing tells
            the generator to heed them.

    Raises:
        ConfigError: a size is below 1, or the record is too short for the strides or the shifts.
    """

    leads: int = 8
    length: int = 1000
    labels: int = 71
    width: int = 50
    shuffle: int = 2
    sees_statements: bool = False

    def __post_init__(self) -> None:
        if min(self.leads, self.labels, self.width) < 1 or self.shuffle < 0:
            raise ConfigError(
                "expected leads, labels and width of 1 or more and shuffle of 0 or more, "
                f"got {self.leads}, {self.labels}, {self.width} and {self.shuffle}"
            )
        *shuffled, last = self.lengths
        if last < 1 or min(shuffled) <= self.shuffle:
            raise ConfigError(
                f"expected records long enough for six strided convolutions and shifts of {self.shuffle}, "
                f"got length = {self.length}, of which the convolutions leave {', '.join(map(str, self.lengths))}"
            )

    @property
    def lengths(self) -> tuple[int, ...]:
        """Samples after each convolution: 499, 249, 124, 61, 15, 4 of 1000."""
        lengths, samples = [], self.length
        for stride in _STRIDES:
            samples = (samples + 2 * _PADDING - _KERNEL) // stride + 1
            lengths.append(samples)
        return tuple(lengths)


def phase_shuffle(x: Float[Tensor, "B H L"], shifts: Int[Tensor, " B"]) -> Float[Tensor, "B H L"]:
    """Move each record later by its shift; what is missing at an end is filled by reflection about the end sample.

    Keeps the critic from judging by the phase that upsampling leaves. Source: arXiv 1802.04208, section 3.3.

    Args:
        x: Features, more samples than the largest shift.
        shifts: In samples; negative ones move to earlier times.
    """
    last = x.shape[2] - 1
    source = (torch.arange(last + 1, device=x.device) - shifts[:, None]).abs()
    source = last - (last - source).abs()
    return x.gather(2, source[:, None].expand_as(x))


class Critic(nn.Module):
    """The score of a record; twice differentiable, as the gradient penalty needs.

    Seeing the statements adds the term <y E, features>, features averaged over time, because a statement belongs to
    the whole record. E starts at zero: the critic starts as the published one.
    Source: Miyato and Koyama 2018 (arXiv 1802.05637), section 3.
    """

    config_class = CriticConfig

    def __init__(self, config: CriticConfig) -> None:
        super().__init__()
        self.config = config
        channels = [config.leads, *(config.width * times for times in _WIDTHS)]
        self.convs = nn.ModuleList(
            Conv1d(channels[i], channels[i + 1], _KERNEL, stride=stride, padding=_PADDING)
            for i, stride in enumerate(_STRIDES)
        )
        self.output = nn.Linear(channels[-1] * config.lengths[-1], 1)
        self.statements = nn.Parameter(torch.zeros(config.labels, channels[-1])) if config.sees_statements else None

    def forward(
        self,
        x: Float[Tensor, "B C L"],
        condition: Float[Tensor, "B K"],
        *,
        shuffle: torch.Generator | None = None,
    ) -> Float[Tensor, " B"]:
        """Scores, without unit and zero; higher is more real.

        Args:
            x: Signal in mV.
            condition: Label vector; matters only where the critic sees the statements.
            shuffle: Random stream of phase shuffle, every record and layer shifted by its own draw; None for no
                shuffle.
        """
        h = x
        for number, conv in enumerate(self.convs):
            if number and shuffle is not None and self.config.shuffle:
                h = phase_shuffle(h, self._draw_shifts(len(h), shuffle).to(h.device))
            h = nn.functional.leaky_relu(conv(h), _SLOPE)
        score = self.output(h.flatten(1))[:, 0]
        if self.statements is not None:
            score = score + ((condition @ self.statements) * h.mean(dim=2)).sum(dim=1)
        return score

    def _draw_shifts(self, records: int, stream: torch.Generator) -> Int[Tensor, " B"]:
        largest = self.config.shuffle
        return torch.randint(-largest, largest + 1, (records,), generator=stream, device=stream.device)

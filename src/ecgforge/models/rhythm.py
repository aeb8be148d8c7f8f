"""RhythmModel: when the beats of an ECG come, one RR interval after the other.

A denoiser places beats by what it sees through the noise, all at once, and a small one places them unevenly. Here each
interval is drawn given the last ones, the statements and the facts; the denoiser is told where the beats are. Sinus
rhythm, atrial fibrillation, bigeminy and pauses then differ as they do in the intervals of real records.
"""

import math

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from ecgforge.models.conditioning import ConditionEmbedding

MEMORY = 8  # intervals that the next one is drawn from: bigeminy and its like repeat within them

_FEATURES = 64
_HIDDEN = 128
_COMPONENTS = 6
_CENTRE = math.log(0.8)  # the logarithm of a usual interval in s
_SPREAD = 0.3
_SMALLEST_SCALE = 0.01  # 8 ms at 75 a minute: what a position at 100 Hz leaves open
_SHORTEST_S, _LONGEST_S = 0.25, 4.0


class RhythmModel(nn.Module):
    """Distribution of an RR interval given up to MEMORY intervals before it and the condition.

    The logarithm of the interval is a mixture of normal distributions, whose parameters an MLP makes. Depending on a
    fixed number of intervals only, it draws rhythms of any length.

    Source: mixture density networks, Bishop 1994 (Aston University NCRG/94/004), equation (22).

    Args:
        columns: K, of the condition.
    """

    def __init__(self, columns: int) -> None:
        super().__init__()
        self.condition = ConditionEmbedding(columns, _FEATURES)
        self.first = nn.Linear(_FEATURES + 2 * MEMORY, _HIDDEN)
        self.second = nn.Linear(_HIDDEN, _HIDDEN)
        self.output = nn.Linear(_HIDDEN, 3 * _COMPONENTS)

    def forward(
        self, past: Float[Tensor, "B memory"], condition: Float[Tensor, "B K"]
    ) -> tuple[Float[Tensor, "B M"], Float[Tensor, "B M"], Float[Tensor, "B M"]]:
        """Logarithms of the components' shares, their means and scales, all of log(interval / s).

        Args:
            past: The MEMORY intervals before, s, the last one last; NaN for those before the record.
            condition: Statements, then facts; NaN where unknown.
        """
        there = ~past.isnan()
        before = torch.where(there, (past.nan_to_num(1.0).log() - _CENTRE) / _SPREAD, 0.0)
        h = torch.cat([self.condition(condition), before, there.to(before.dtype)], dim=1)
        h = nn.functional.silu(self.second(nn.functional.silu(self.first(h))))
        shares, means, scales = self.output(h).chunk(3, dim=1)
        return (
            shares.log_softmax(dim=1),
            _CENTRE + _SPREAD * means,
            _SMALLEST_SCALE + _SPREAD * nn.functional.softplus(scales),
        )

    def log_likelihood(
        self, interval: Float[Tensor, " B"], past: Float[Tensor, "B memory"], condition: Float[Tensor, "B K"]
    ) -> Float[Tensor, " B"]:
        """Logarithm of the density of log(interval / s)."""
        shares, means, scales = self(past, condition)
        deviations = (interval.log()[:, None] - means) / scales
        densities = -0.5 * deviations.square() - scales.log() - 0.5 * math.log(2 * math.pi)
        return torch.logsumexp(shares + densities, dim=1)

    @torch.no_grad()
    def draw_beats(
        self,
        condition: Float[np.ndarray, " K"],
        *,
        seconds: float,
        stream: np.random.Generator,
        heart_rate: float | None = None,
    ) -> Float[np.ndarray, " N"]:
        """Times of beats within a record, s from its start, ascending.

        The record starts anywhere between two beats.

        Args:
            condition: Statements, then facts; NaN where unknown.
            seconds: Length of the record.
            stream: Where chance comes from.
            heart_rate: Beats per minute that the median RR interval is stretched to; None leaves it as drawn.
        """
        told = torch.from_numpy(condition)[None].to(self.output.weight)
        expected = 1 if heart_rate is None else max(1, round(seconds * heart_rate / 60))
        intervals: list[float] = []
        while len(intervals) < expected:
            intervals.append(self._draw_interval(intervals, told, stream))
        stretch = 1.0 if heart_rate is None else 60 / heart_rate / float(np.median(intervals))
        while stretch * sum(intervals[1:]) < seconds:  # the first one may lie before the record
            intervals.append(self._draw_interval(intervals, told, stream))
        times = stretch * (np.cumsum(intervals) - stream.uniform(0, 1) * intervals[0])
        return np.asarray(times[times < seconds])

    def _draw_interval(self, before: list[float], told: Tensor, stream: np.random.Generator) -> float:
        recent = before[-MEMORY:]
        past = torch.tensor([[math.nan] * (MEMORY - len(recent)) + recent]).to(told)
        shares, means, scales = (part[0].cpu().double().numpy() for part in self(past, told))
        component = min(int(np.searchsorted(np.exp(shares).cumsum(), stream.uniform())), len(shares) - 1)
        interval = math.exp(means[component] + scales[component] * stream.standard_normal())
        return min(max(interval, _SHORTEST_S), _LONGEST_S)

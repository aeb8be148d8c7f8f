"""Fitting of the rhythm model: RR intervals of the training records, told what the denoiser is told."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from jaxtyping import Float, Int
from torch import Tensor

from ecgforge.facts import Fact
from ecgforge.models.rhythm import MEMORY, RhythmModel
from ecgforge.r_peaks import FEWEST_BEATS, facts_of, find_r_peaks, mark_known_beats
from ecgforge.training.records import TrainingData
from ecgforge.training.settings import FlowTraining

_EXAMPLES = 10_000_000  # sixty times each interval of PTB-XL's training folds: two minutes
_BATCH = 2048
_LEAST_BATCH = 64
_LEARNING_RATE = 5e-3


@dataclass(frozen=True, eq=False)
class Hearts:
    """What the records of a training set tell of the hearts.

    Attributes:
        facts: (N, F) as the network is told (see Facts.encode); NaN where unknown.
        peaks: R peaks of each record, sample positions.
    """

    facts: Float[np.ndarray, "N F"]
    peaks: tuple[Int[np.ndarray, " _"], ...]

    def beats(self, pick: int, samples: int) -> Float[np.ndarray, " L"]:
        """The beats of a record as a signal (see mark_known_beats)."""
        return mark_known_beats(self.peaks[pick], samples)


def measure_hearts(data: TrainingData, wanted: Sequence[Fact]) -> Hearts:
    """Facts and R peaks of all records; beats are found in the records themselves, which takes some ms each."""
    facts, peaks = [], []
    for store, row in zip(data.which.tolist(), data.rows.tolist(), strict=True):
        record = data.stores[store].record(row)
        found = find_r_peaks(record)
        facts.append(facts_of(record, found).encode(wanted))
        peaks.append(found)
    return Hearts(np.stack(facts), tuple(peaks))


def fit_rhythm(model: RhythmModel, data: TrainingData, hearts: Hearts, config: FlowTraining) -> float:
    """Fit the model to every interval of every record, by maximum likelihood; returns the mean log-likelihood.

    Statements and facts are hidden as often as from the denoiser, and half of the examples forget all but their last
    few intervals: how a record begins follows from the statements alone. Positions are whole samples: what that hides
    is drawn anew for each example. The seed is the run's, so that every device fits the same model.
    """
    intervals = gather_intervals(hearts, rate=data.stores[0].rate)
    if not len(intervals.seconds):
        return math.nan
    condition = torch.from_numpy(np.concatenate([data.condition, hearts.facts], axis=1))
    draw = torch.Generator().manual_seed(config.seed)
    batch = min(_BATCH, max(_LEAST_BATCH, len(intervals.seconds) // _LEAST_BATCH))  # a small set needs steps as well
    steps = max(1, min(_EXAMPLES, 60 * len(intervals.seconds)) // batch)
    model.requires_grad_(True)
    optimizer = torch.optim.Adam(model.parameters(), lr=_LEARNING_RATE)
    fall = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, total_iters=steps)
    recent: list[float] = []
    for _ in range(steps):
        pick = torch.randint(len(intervals.seconds), (batch,), generator=draw)
        told = _hidden(condition[intervals.record[pick]], data, config, draw)
        examples = (part.to(model.output.weight) for part in (*intervals.dithered(pick, draw), told))
        loss = -model.log_likelihood(*examples).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        fall.step()
        recent = [*recent[-99:], -loss.item()]
    model.requires_grad_(False)
    return float(np.mean(recent))


@dataclass(frozen=True, eq=False)
class Intervals:
    """All RR intervals of a training set.

    Attributes:
        seconds: Each interval, s.
        past: The intervals before it in its record, NaN where there are none.
        record: Which record it is of.
        resolution: What positions were rounded to, s.
    """

    seconds: Float[Tensor, " N"]
    past: Float[Tensor, "N memory"]
    record: Int[Tensor, " N"]
    resolution: float

    def dithered(
        self, pick: Int[Tensor, " B"], draw: torch.Generator
    ) -> tuple[Float[Tensor, " B"], Float[Tensor, "B memory"]]:
        """Intervals and what was before, partly forgotten, with the rounding undone at random."""
        noise = (torch.rand(len(pick), 1 + MEMORY, generator=draw) - 0.5) * self.resolution
        kept = torch.randint(2 * MEMORY, (len(pick), 1), generator=draw)
        forgotten = torch.arange(MEMORY) < MEMORY - kept
        past = (self.past[pick] + noise[:, 1:]).masked_fill(forgotten, torch.nan)
        return self.seconds[pick] + noise[:, 0], past


def gather_intervals(hearts: Hearts, *, rate: float) -> Intervals:
    """The RR intervals of all records in which enough beats were found."""
    seconds, past, record = [], [], []
    for number, peaks in enumerate(hearts.peaks):
        if len(peaks) < FEWEST_BEATS:
            continue
        own = np.diff(peaks) / rate
        before = np.concatenate([np.full(MEMORY, np.nan), own])
        seconds.append(own)
        past.append(np.lib.stride_tricks.sliding_window_view(before, MEMORY)[: len(own)])
        record.append(np.full(len(own), number))
    if not seconds:
        return Intervals(torch.empty(0), torch.empty(0, MEMORY), torch.empty(0, dtype=torch.long), 1 / rate)
    return Intervals(
        torch.from_numpy(np.concatenate(seconds)).float(),
        torch.from_numpy(np.concatenate(past)).float(),
        torch.from_numpy(np.concatenate(record)),
        1 / rate,
    )


def _hidden(
    condition: Float[Tensor, "B K"], data: TrainingData, config: FlowTraining, draw: torch.Generator
) -> Float[Tensor, "B K"]:
    """Statements and facts made unknown (NaN) at the run's shares (see training.diffusion.hide_statements)."""
    size, labels = len(condition), len(data.labels)
    some = torch.rand(size, 1, generator=draw) < config.unknown_share
    share = torch.where(torch.rand(size, 1, generator=draw) < 0.5, 1.0, torch.rand(size, 1, generator=draw))
    statements = some & (torch.rand(size, labels, generator=draw) < share)
    facts = torch.rand(size, condition.shape[1] - labels, generator=draw) >= config.fact_share
    return condition.masked_fill(torch.cat([statements, facts], dim=1), torch.nan)

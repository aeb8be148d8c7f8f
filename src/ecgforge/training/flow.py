"""Training of our own denoiser: leads of unit variance, statements, age, sex, heart rate and beats as condition."""

from dataclasses import dataclass
from functools import partial
from typing import cast

import numpy as np
import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Tensor

from ecgforge.checkpoints.native import Model, ModelConfig
from ecgforge.data.store import EcgStore
from ecgforge.diffusion.flow import flow_loss
from ecgforge.models.patch_s4 import PatchS4
from ecgforge.training.diffusion import DenoisingLearner, hide_statements
from ecgforge.training.learner import describe_model, refuse_extra
from ecgforge.training.optim import AveragedWeights
from ecgforge.training.records import TrainingData, cut_window, example_stream, examples_of, picks_of, select_data
from ecgforge.training.rhythm import Hearts, fit_rhythm, measure_hearts
from ecgforge.training.settings import FlowTraining

_SCALE_RECORDS = 2000  # enough for a standard deviation to a percent


@dataclass(frozen=True, eq=False)
class Batch:
    """Inputs of the loss.

    Attributes:
        x_0: (B, C, L) in units of each lead's standard deviation.
        condition: (B, K) statements, then facts; NaN where hidden or unknown.
        ratio: (B,) noise over signal, tan(t).
        eps: (B, C, L) standard normal noise.
        beats: (B, L) 1 at each R peak, 0 elsewhere; NaN where hidden or unknown.
        record_ids: For messages.
    """

    x_0: Float[Tensor, "B C L"]
    condition: Float[Tensor, "B K"]
    ratio: Float[Tensor, " B"]
    eps: Float[Tensor, "B C L"]
    beats: Float[Tensor, "B L"]
    record_ids: tuple[str, ...]


def batch_at(
    data: TrainingData,
    config: FlowTraining,
    hearts: Hearts,
    scales_mv: Float[np.ndarray, "C 1"],
    step: int,
    *,
    rank: int = 0,
    ranks: int = 1,
) -> Batch:
    """The share of device `rank` of the batch of training step `step`; example e has its own random stream."""
    samples = config.samples_at(step)
    examples = examples_of(config, step, rank=rank, ranks=ranks)
    picks = picks_of(data, config, examples)
    windows, conditions, ratios, noises = [], [], [], []
    for signal, pick, example in zip(data.signals_mv(picks), picks.tolist(), examples.tolist(), strict=True):
        stream = example_stream(config, example)
        beats = hearts.beats(pick, signal.shape[1])
        windows.append(cut_window(np.concatenate([signal / scales_mv, beats[None]]), samples, stream))
        ratios.append(config.schedule.draw_ratio(stream))
        noises.append(stream.standard_normal((len(signal), samples), dtype=np.float32))
        told = stream.random(hearts.facts.shape[1]) < config.fact_share
        statements = hide_statements(data.condition[pick], config.unknown_share, stream)
        conditions.append(np.concatenate([statements, np.where(told, hearts.facts[pick], np.float32(np.nan))]))
        if stream.random() >= config.beat_share:
            windows[-1][-1] = np.nan
    signals = torch.from_numpy(np.stack(windows).astype(np.float32))
    return Batch(
        x_0=signals[:, :-1],
        condition=torch.from_numpy(np.stack(conditions).astype(np.float32)),
        ratio=torch.tensor(ratios, dtype=torch.float32),
        eps=torch.from_numpy(np.stack(noises)),
        beats=signals[:, -1],
        record_ids=data.record_ids(picks),
    )


def lead_scales(data: TrainingData) -> Float[np.ndarray, "C 1"]:
    """Standard deviation of each lead over training records, mV: root of the mean squared sample."""
    picks = np.arange(0, len(data), max(1, len(data) // _SCALE_RECORDS))
    powers = [np.square(data.signals_mv(picks[i : i + 64])).mean(axis=2) for i in range(0, len(picks), 64)]
    return np.sqrt(np.concatenate(powers).mean(axis=0))[:, None].astype(np.float32)


class FlowLearner(DenoisingLearner):
    """Learns to predict the velocity of the trigonometric flow (see diffusion.flow).

    The rhythm model, which is small, is fitted before the first step and stays as it is.
    """

    config: FlowTraining

    def __init__(self, config: FlowTraining, store: EcgStore, fabric: Fabric, extra: EcgStore | None = None) -> None:
        refuse_extra(extra, config)
        super().__init__(config, select_data(store, config), fabric)
        self._scales_mv = lead_scales(self.data)
        self._hearts = measure_hearts(self.data, config.network.facts)

    def begin_with(self, start: Model) -> None:
        """Take the weights of a model and the units its leads came in."""
        super().begin_with(start)
        self._scales_mv = np.array(start.config.scales_mv, dtype=np.float32)[:, None]

    def take_step(self, step: int) -> float:
        """As DenoisingLearner.take_step; the first step begins with the rhythms."""
        if step == 0:
            fit_rhythm(cast(PatchS4, self.network).rhythm, self.data, self._hearts, self.config)
            self.average = AveragedWeights(self.network, self.config.ema_decay)
        return super().take_step(step)

    def _losses(self, step: int) -> tuple[Float[Tensor, " B"], tuple[str, ...]]:
        fabric = self._fabric
        batch = batch_at(
            self.data,
            self.config,
            self._hearts,
            self._scales_mv,
            step,
            rank=fabric.global_rank,
            ranks=fabric.world_size,
        )
        losses = flow_loss(
            partial(self._forward, beats=batch.beats.to(fabric.device)),
            batch.x_0.to(fabric.device),
            batch.condition.to(fabric.device),
            ratio=batch.ratio.to(fabric.device),
            eps=batch.eps.to(fabric.device),
        )
        return losses, batch.record_ids

    def model(self, *, steps_done: int) -> tuple[ModelConfig, dict[str, Tensor]]:
        """Description and averaged weights of the model as of now."""
        described = describe_model(
            self.config,
            self.data,
            steps_done=steps_done,
            schedule=self.config.schedule,
            scales_mv=tuple(float(scale) for scale in self._scales_mv[:, 0]),
        )
        return described, self.average.weights_of(self.network)

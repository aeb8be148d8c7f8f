"""Training of a denoising network: the batch of a step, and the learner that takes it."""

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Tensor, nn

from ecgforge.checkpoints.native import Model, ModelConfig, build_network
from ecgforge.data.store import EcgStore
from ecgforge.diffusion.denoiser import eps_loss
from ecgforge.models.sssd import SssdEcg
from ecgforge.training.learner import describe_model, refuse_extra, require_finite
from ecgforge.training.optim import AveragedWeights, learning_rate_at
from ecgforge.training.records import TrainingData, cut_window, example_stream, examples_of, picks_of, select_data
from ecgforge.training.settings import DiffusionTraining, FlowTraining


@dataclass(frozen=True, eq=False)
class Batch:
    """Inputs of the loss.

    Attributes:
        x_0: (B, C, L) mV.
        condition: (B, K); NaN where a statement is hidden.
        step: (B,) diffusion steps.
        eps: (B, C, L) standard normal noise.
        record_ids: For messages.
    """

    x_0: Float[Tensor, "B C L"]
    condition: Float[Tensor, "B K"]
    step: Float[Tensor, " B"]
    eps: Float[Tensor, "B C L"]
    record_ids: tuple[str, ...]


def batch_at(data: TrainingData, config: DiffusionTraining, step: int, *, rank: int = 0, ranks: int = 1) -> Batch:
    """The share of device `rank` of the batch of training step `step`; example e has its own random stream."""
    samples = config.samples_at(step)
    examples = examples_of(config, step, rank=rank, ranks=ranks)
    picks = picks_of(data, config, examples)
    windows, conditions, steps, noises = [], [], [], []
    for signal, pick, example in zip(data.signals_mv(picks), picks.tolist(), examples.tolist(), strict=True):
        stream = example_stream(config, example)
        windows.append(cut_window(signal, samples, stream))
        steps.append(float(stream.integers(config.schedule.T)))
        noises.append(stream.standard_normal((len(signal), samples), dtype=np.float32))
        conditions.append(hide_statements(data.condition[pick], config.unknown_share, stream))
    return Batch(
        x_0=torch.from_numpy(np.stack(windows)),
        condition=torch.from_numpy(np.stack(conditions)),
        step=torch.tensor(steps),
        eps=torch.from_numpy(np.stack(noises)),
        record_ids=data.record_ids(picks),
    )


def hide_statements(
    condition: Float[np.ndarray, " K"], share: float, stream: np.random.Generator
) -> Float[np.ndarray, " K"]:
    """The label vector with statements made unknown (NaN), see DiffusionTraining.unknown_share."""
    if share == 0 or stream.random() >= share:
        return condition
    chance = 1.0 if stream.random() < 0.5 else stream.random()
    return np.where(stream.random(len(condition)) < chance, np.float32(np.nan), condition)


def scale_note(config: DiffusionTraining, data: TrainingData) -> str:
    """How the data's scale fits the noise schedule, in words.

    Sampling starts from pure noise, which is right only if nothing of the signal is left at the last step.
    """
    sample = data.signals_mv(np.arange(0, len(data), max(1, len(data) // 256)))
    rms = float((sample**2).mean() ** 0.5)
    snr = config.schedule.terminal_snr(rms)
    verdict = (
        "fits: next to nothing of the signal is left where sampling starts"
        if snr < 0.05
        else "does not fit: samples will start from the wrong distribution; "
        "use signals in mV, or more or larger noise steps (--set schedule.beta_T=...)"
    )
    return f"signal rms {rms:.3f} mV, terminal SNR of the schedule {snr:.4f}: {verdict}"


class DenoisingLearner(ABC):
    """A denoising network with averaged weights; what its loss is, its heirs say.

    Raises:
        DataError: the store does not fit the configuration.
    """

    config: DiffusionTraining | FlowTraining
    score: float | None = None

    def __init__(self, config: DiffusionTraining | FlowTraining, data: TrainingData, fabric: Fabric) -> None:
        self.config = config
        self.data = data
        self._fabric = fabric
        self.network: nn.Module = build_network(config.network)
        optimizer = torch.optim.Adam(self.network.parameters(), lr=config.learning_rate, fused=True)
        self._forward, self.optimizer = fabric.setup(self.network, optimizer)
        self.average = AveragedWeights(self.network, config.ema_decay)

    def take_step(self, step: int) -> float:
        """One optimiser step on the batch that belongs to this step number; returns the mean loss of this device.

        Raises:
            TrainingError: the loss is not finite; names step and records.
        """
        config, fabric = self.config, self._fabric
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(step, config)
        losses, record_ids = self._losses(step)
        require_finite(losses, record_ids, step=step)
        self.optimizer.zero_grad()
        fabric.backward(losses.mean())
        if config.gradient_clip:
            fabric.clip_gradients(
                self._forward, self.optimizer, max_norm=config.gradient_clip, error_if_nonfinite=False
            )
        self.optimizer.step()
        self.average.update(step)
        return float(losses.detach().mean())

    def begin_with(self, start: Model) -> None:
        """Take the weights of a model, for the average as well."""
        self.network.load_state_dict(start.network.state_dict())
        self.average = AveragedWeights(self.network, self.config.ema_decay)

    @abstractmethod
    def _losses(self, step: int) -> tuple[Float[Tensor, " B"], tuple[str, ...]]:
        """Loss of every record of this device's share of the step's batch, and the records' names."""

    @abstractmethod
    def model(self, *, steps_done: int) -> tuple[ModelConfig, dict[str, Tensor]]:
        """Description and averaged weights of the model as of now."""

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Everything that is learned."""
        return self.network.named_parameters()

    def state(self) -> dict[str, Any]:
        """What a checkpoint has to hold."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "average": self.average.average,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.load(state["average"])


class DiffusionLearner(DenoisingLearner):
    """Learns to predict the noise. Source: arXiv 2006.11239, algorithm 1."""

    config: DiffusionTraining

    def __init__(
        self, config: DiffusionTraining, store: EcgStore, fabric: Fabric, extra: EcgStore | None = None
    ) -> None:
        refuse_extra(extra, config)
        super().__init__(config, select_data(store, config), fabric)
        cast(SssdEcg, self.network).gradient_checkpointing = config.gradient_checkpointing

    def _losses(self, step: int) -> tuple[Float[Tensor, " B"], tuple[str, ...]]:
        fabric = self._fabric
        batch = batch_at(self.data, self.config, step, rank=fabric.global_rank, ranks=fabric.world_size)
        losses = eps_loss(
            self._forward,
            self.config.schedule,
            batch.x_0.to(fabric.device),
            batch.condition.to(fabric.device),
            step=batch.step.to(fabric.device),
            eps=batch.eps.to(fabric.device),
            weight=self.config.loss_weight,
        )
        return losses, batch.record_ids

    def model(self, *, steps_done: int) -> tuple[ModelConfig, dict[str, Tensor]]:
        """Description and averaged weights of the model as of now."""
        described = describe_model(self.config, self.data, steps_done=steps_done, schedule=self.config.schedule)
        return described, self.average.weights_of(self.network)

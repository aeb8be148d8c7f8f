"""Training of a statement classifier: random windows, binary cross-entropy, the best weights by validation."""

from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from lightning_fabric import Fabric
from torch import Tensor, nn

from ecgforge.checkpoints.native import Model, ModelConfig, build_network
from ecgforge.classify import CROP_S, crop_mean, crop_samples
from ecgforge.data.store import EcgStore
from ecgforge.errors import ConfigError, DataError
from ecgforge.models.xresnet import XResNet1d
from ecgforge.rng import Purpose, record_stream
from ecgforge.scores import statement_auroc
from ecgforge.training.learner import describe_model, require_finite
from ecgforge.training.optim import learning_rate_at
from ecgforge.training.records import TrainingData, cut_window, example_stream, examples_of, picks_of, select_data
from ecgforge.training.settings import ClassifierTraining

_VALIDATION_BATCH = 64  # records; changes memory, not the result


class ClassifierLearner:
    """Learns which statements hold for a record.

    Args:
        config: The run.
        store: Records to learn from and to validate on.
        fabric: Devices.
        extra: More records to learn from, of the same folds: a synthetic data set, say.

    Source: arXiv 2301.08227, Table III and section III.D; arXiv 2004.13701 for the public benchmark.

    Raises:
        ConfigError: the windows of a stage are not the crops a classifier judges records on.
        DataError: a store does not fit the configuration.
    """

    score: float | None = None

    def __init__(
        self, config: ClassifierTraining, store: EcgStore, fabric: Fabric, extra: EcgStore | None = None
    ) -> None:
        require_crops(config, store.rate)
        self.config = config
        self.data = select_data(store, config)
        if extra is not None:
            self.data = self.data.joined(select_data(extra, config))
        self._validation = validation_data(config, store)
        self._fabric = fabric
        network = build_network(config.network)
        if not isinstance(network, XResNet1d):
            raise ConfigError(f"expected a classifier network, got {config.network.kind}")
        self.network = network
        # Decoupled weight decay, as both recipes' libraries take it.
        optimizer = torch.optim.AdamW(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay, fused=True
        )
        self._forward, self.optimizer = fabric.setup(network, optimizer)
        self._best: dict[str, Tensor] = {}
        self._best_score = -1.0

    def begin_with(self, start: Model) -> None:
        """Take the weights of a classifier; they stay the best until better ones are found."""
        self.network.load_state_dict(start.network.state_dict())
        self._validate()

    def take_step(self, step: int) -> float:
        """One optimiser step; after every `validate_every` of them, and the last, a validation.

        Raises:
            TrainingError: the loss is not finite; names step and records.
        """
        config, fabric = self.config, self._fabric
        x, truth, record_ids = self._batch(step)
        # Dropout draws from torch's own stream: it follows from seed and step, as everything else does.
        stream = record_stream(config.seed, step * fabric.world_size + fabric.global_rank, purpose=Purpose.DROPOUT)
        torch.manual_seed(int(stream.integers(2**63)))
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(step, config)
        self.network.train()
        logits = self._forward(x.to(fabric.device))
        losses = nn.functional.binary_cross_entropy_with_logits(logits, truth.to(fabric.device), reduction="none")
        require_finite(losses.mean(dim=1), record_ids, step=step)
        self.optimizer.zero_grad()
        fabric.backward(losses.mean())
        self.optimizer.step()
        if (step + 1) % config.validate_every == 0 or step + 1 == config.total_steps:
            self._validate()
        return float(losses.detach().mean())

    def _batch(self, step: int) -> tuple[Float[Tensor, "B C window"], Float[Tensor, "B K"], tuple[str, ...]]:
        config, fabric = self.config, self._fabric
        examples = examples_of(config, step, rank=fabric.global_rank, ranks=fabric.world_size)
        picks = picks_of(self.data, config, examples)
        samples = config.samples_at(step)
        windows = [
            cut_window(signal, samples, example_stream(config, example))
            for signal, example in zip(self.data.signals_mv(picks), examples.tolist(), strict=True)
        ]
        truth = (self.data.condition[picks] > 0).astype(np.float32)
        return torch.from_numpy(np.stack(windows)), torch.from_numpy(truth), self.data.record_ids(picks)

    def _validate(self) -> None:
        """Score on the validation folds; the weights are kept where they are the best so far."""
        data = self._validation
        self.score = float(np.nanmean(statement_auroc(data.condition > 0, self._probabilities(data))))
        if self.score > self._best_score:
            self._best_score = self.score
            self._best = {key: value.detach().cpu().clone() for key, value in self.network.state_dict().items()}

    def _probabilities(self, data: TrainingData) -> Float[np.ndarray, "N K"]:
        crop = self.config.samples_at(0)
        parts = []
        for start in range(0, len(data), _VALIDATION_BATCH):
            picks = np.arange(start, min(start + _VALIDATION_BATCH, len(data)))
            signals = torch.from_numpy(np.ascontiguousarray(data.signals_mv(picks))).to(self._fabric.device)
            parts.append(crop_mean(self.network, signals, crop=crop).cpu().numpy())
        return np.concatenate(parts)

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Everything that is learned."""
        return self.network.named_parameters()

    def state(self) -> dict[str, Any]:
        """What a checkpoint has to hold."""
        return {
            "network": self.network.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "best": self._best,
            "best_score": self._best_score,
            "score": self.score,
        }

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self._best, self._best_score, self.score = state["best"], state["best_score"], state["score"]

    def model(self, *, steps_done: int) -> tuple[ModelConfig, dict[str, Tensor]]:
        """Description and the best weights so far; the live ones before the first validation."""
        described = describe_model(self.config, self.data, steps_done=steps_done)
        return described, self._best or self.network.state_dict()


def validation_data(config: ClassifierTraining, store: EcgStore) -> TrainingData:
    """The records by which the best weights are chosen.

    Raises:
        DataError: there are none, or none that could be told apart.
    """
    data = select_data(store, config, folds=config.validation_folds)
    present = data.condition > 0
    if not (present.any(axis=0) & ~present.all(axis=0)).any():
        raise DataError(
            f"expected validation records with and without some statement in folds {config.validation_folds}, got "
            f"{len(present)} records that all agree; --set validation_folds to more records"
        )
    return data


def require_crops(config: ClassifierTraining, rate: float) -> None:
    """Check that a classifier for this sampling rate (Hz) learns on crops as long as those it judges records on.

    Raises:
        ConfigError: the windows of a stage are shorter or longer.
    """
    crop = crop_samples(rate)
    wrong = [stage.samples for stage in config.stages if stage.samples != crop]
    if wrong:
        stages = ",".join(f"{{steps={stage.steps},samples={crop}}}" for stage in config.stages)
        raise ConfigError(
            f"expected stages of samples = {crop} for a store at {rate:g} Hz, the {CROP_S:g} s that classifiers judge, "
            f"got {wrong[0]}; --set 'stages=[{stages}]'"
        )

"""What the loop trains: the interface of a learner, and what all learners share."""

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

import torch
from torch import Tensor

from ecgforge.checkpoints.native import Model, ModelConfig
from ecgforge.data.store import EcgStore
from ecgforge.diffusion.flow import FlowSchedule
from ecgforge.diffusion.schedule import LinearSchedule
from ecgforge.errors import ConfigError, TrainingError
from ecgforge.training.records import TrainingData
from ecgforge.training.settings import TrainingConfig


class Learner(Protocol):
    """Networks, optimisers and data of one run; built from (config, store, fabric, extra store or None).

    Attributes:
        data: The records it learns from.
        score: Of the last validation, higher is better; None where there is none.
    """

    data: TrainingData
    score: float | None

    def take_step(self, step: int) -> float:
        """Learn from the batch that belongs to this step number, counted from 0; returns the loss."""
        ...

    def begin_with(self, start: Model) -> None:
        """Before the first step, take the weights of a model that fits (see require_start)."""
        ...

    def named_parameters(self) -> Iterator[tuple[str, Tensor]]:
        """Everything that is learned."""
        ...

    def state(self) -> dict[str, Any]:
        """What a checkpoint has to hold so that load_state goes on exactly: tensors and plain values."""
        ...

    def load_state(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        ...

    def model(self, *, steps_done: int) -> tuple[ModelConfig, dict[str, Tensor]]:
        """Description and weights of the model as of now."""
        ...


def refuse_extra(extra: EcgStore | None, config: TrainingConfig) -> None:
    """Generators learn from one data set.

    Raises:
        ConfigError: there is a second one.
    """
    if extra is not None:
        raise ConfigError(f"expected one data set for {config.name}, got a second one; only classifiers learn from two")


def require_finite(losses: Tensor, record_ids: Sequence[str], *, step: int) -> None:
    """Stop at a loss that is not finite, before it reaches the weights.

    Args:
        losses: (B,) one value a record.
        record_ids: Names of the B records.
        step: For the message.

    Raises:
        TrainingError: names step and records.
    """
    if torch.isfinite(losses).all():
        return
    guilty = [name for name, loss in zip(record_ids, losses.tolist(), strict=True) if loss - loss != 0]
    raise TrainingError(
        f"the loss is no longer finite at step {step}, records {' '.join(guilty)}; look at these records "
        "with `ecgforge data verify`, or lower learning_rate; the last checkpoint is from before"
    )


def require_start(start: ModelConfig, config: TrainingConfig, data: TrainingData) -> None:
    """Check that a training can begin with the weights of a model.

    Raises:
        ConfigError: they differ in network, schedule, statements, leads or rate (names what differs), or the model was
            never saved, so that a resumed run could not tell whether it is the same.
    """
    wanted = {
        "network": config.network,
        "schedule": getattr(config, "schedule", None),
        "statements": data.labels.labels,
        "leads": config.data.leads,
        "rate": data.stores[0].rate,
    }
    theirs = {name: getattr(start, "labels" if name == "statements" else name) for name in wanted}
    different = [name for name in wanted if theirs[name] != wanted[name]]
    if different:
        raise ConfigError(
            f"expected a model to start from that has the same {', '.join(wanted)} as {config.name}, got {start.name}, "
            f"which differs in {' and '.join(different)}; train the preset it came from, with the same settings"
        )
    if not start.weights_sha256:
        raise ConfigError(f"expected a saved model to start from, got {start.name} without a checksum; save_model it")


def describe_model(
    config: TrainingConfig,
    data: TrainingData,
    *,
    steps_done: int,
    schedule: LinearSchedule | FlowSchedule | None = None,
    scales_mv: tuple[float, ...] = (),
) -> ModelConfig:
    """What the saved model says about itself."""
    manifests = [store.manifest for store in data.stores]
    sources = " and ".join(f"{manifest.source} {manifest.source_version}".strip() for manifest in manifests)
    folds = ",".join(map(str, config.data.folds))
    budget = f"{steps_done} steps of {config.batch_size} records"
    return ModelConfig(
        name=config.name,
        network=config.network,
        schedule=schedule,
        label_set=data.labels.name,
        labels=data.labels.labels,
        leads=config.data.leads,
        rate=data.stores[0].rate,
        scales_mv=scales_mv,
        trained_on=f"{sources}, folds {folds}, {budget}",
    )

"""The one loop: status, checkpoint, step, average.

A run is a folder:

    RUN/config.json      the resolved configuration
    RUN/checkpoint.pt    everything needed to go on, replaced every few minutes
    RUN/log.csv          step, loss, learning rate, records per second
    RUN/samples/         pictures of samples over time
    RUN/model/           the model as of the last checkpoint, ready for `ecgforge generate`
    RUN/kept/STEP/       models as of earlier steps, where the configuration asks for them (averaging.py adds them up)

Every draw follows from (seed, step), so a resumed run repeats what an uninterrupted one would have done, bit by bit.
"""

import csv
import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision, Precision
from lightning_fabric.strategies.ddp import DDPStrategy
from lightning_fabric.utilities.exceptions import MisconfigurationException
from torch import Tensor

from ecgforge import config as configuration
from ecgforge.checkpoints.native import Model, ModelConfig, build_network, save_model
from ecgforge.data.store import EcgStore
from ecgforge.ecg_paper import draw_sheet, save_figure
from ecgforge.errors import CheckpointError, ConfigError, TrainingError
from ecgforge.generate import Generator
from ecgforge.training.classifier import ClassifierLearner
from ecgforge.training.diffusion import DiffusionLearner
from ecgforge.training.flow import FlowLearner
from ecgforge.training.learner import Learner, require_start
from ecgforge.training.optim import learning_rate_at
from ecgforge.training.records import select_data
from ecgforge.training.settings import (
    ClassifierTraining,
    DiffusionTraining,
    FlowTraining,
    TrainingConfig,
    TrainingPrecision,
    WassersteinTraining,
)
from ecgforge.training.wasserstein import WassersteinLearner

LEARNERS: dict[type[TrainingConfig], Callable[[Any, EcgStore, Fabric, EcgStore | None], Learner]] = {
    DiffusionTraining: DiffusionLearner,
    FlowTraining: FlowLearner,
    WassersteinTraining: WassersteinLearner,
    ClassifierTraining: ClassifierLearner,
}
CHECKPOINT_FILE = "checkpoint.pt"
_LOG_EVERY = 20
_PLAN = {"stages", "decay_from"}  # settings that say what is still to come
_SNAPSHOT_STATEMENTS = ("NORM,SR", "AFIB", "CLBBB,SR", "IMI,SR,ABQRS")


@dataclass(frozen=True)
class Status:
    """Where a run stands.

    Attributes:
        step: Steps done.
        total: Steps in all.
        loss: Mean loss of the last steps.
        learning_rate: Of the last step.
        records_per_second: Over the last steps.
        seconds_left: Estimate for the rest at the cost per sample of the last steps.
        score: Of the last validation, higher is better; None where there is none.
    """

    step: int
    total: int
    loss: float
    learning_rate: float
    records_per_second: float
    seconds_left: float
    score: float | None = None


Report = Callable[[Status], None]


class MixedProducts(MixedPrecision):
    """Products in bfloat16 while inputs keep their digits: little noise, late beats and high steps need them."""

    def convert_input(self, data: Any) -> Any:
        """As it is; Fabric's own rounds all of it."""
        return data


def _precision(word: str, device: str) -> Precision:
    if word == "32-true":
        return Precision()
    if device == "auto":
        device = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    return MixedProducts("bf16-mixed", "cuda" if device == "gpu" else device)


def make_fabric(*, device: str, devices: int, precision: TrainingPrecision) -> Fabric:
    """The devices to train on; under torchrun its processes decide, and `devices` is not looked at.

    Raises:
        ConfigError: this machine has no such devices.
    """
    nodes = 1
    if "TORCHELASTIC_RUN_ID" in os.environ:
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    # The residual convolution of SSSD's last block feeds nothing, so DDP must expect unused parameters.
    strategy: Any = DDPStrategy(find_unused_parameters=True) if devices * nodes > 1 else "auto"
    try:
        return Fabric(
            accelerator=device,
            devices=devices,
            num_nodes=nodes,
            strategy=strategy,
            plugins=[_precision(precision, device)],
        )
    except (ValueError, RuntimeError, MisconfigurationException) as error:
        raise ConfigError(
            f"cannot train on {devices} x {device!r}: {error}; ask for fewer with --devices, or for --device cpu"
        ) from error


class Run:
    """A training run: a learner, its step counter and its checkpoints.

    Args:
        config: What to train.
        store: Data to learn from.
        folder: Where everything is written.
        fabric: Devices; launched.
        extra: Second data set to learn from; for classifiers.
        start: Model whose weights are the first ones; by default they are random.

    Raises:
        ConfigError: the devices do not share a batch evenly, or the start does not fit.
        DataError: the store does not fit the configuration.
        CheckpointError: the folder holds another run, or a damaged one.
    """

    def __init__(
        self,
        config: TrainingConfig,
        store: EcgStore,
        folder: Path,
        fabric: Fabric,
        extra: EcgStore | None = None,
        start: Model | None = None,
    ) -> None:
        if config.batch_size % fabric.world_size:
            raise ConfigError(
                f"expected batch_size divisible by the {fabric.world_size} devices, got {config.batch_size}"
            )
        self.config = config
        self.folder = folder
        self.fabric = fabric
        self._stores = (store,) if extra is None else (store, extra)
        if start:
            require_start(start.config, config, select_data(store, config))
        torch.manual_seed(config.seed)
        self.learner = LEARNERS[type(config)](config, store, fabric, extra)
        self.step = 0
        self._start = start.config if start else None
        if start:
            self.learner.begin_with(start)
        self._log: list[Status] = []
        self._resume()

    def take_step(self) -> float:
        """One step of the learner; returns its loss.

        Raises:
            TrainingError: the loss is not finite; names step and records.
        """
        loss = self.learner.take_step(self.step)
        self.step += 1
        return loss

    # --------------------------------------------------------------------------------- checkpoints

    def _resume(self) -> None:
        path = self.folder / CHECKPOINT_FILE
        if not path.is_file():
            return
        try:
            state = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise CheckpointError(f"{path} cannot be read ({error}); train into another folder") from error
        if not isinstance(state, dict) or "identity" not in state:
            raise CheckpointError(f"expected the checkpoint of a training run in {path}, got something else")
        self._require_same_run(state, path)
        self.learner.load_state(state["learner"])
        self.step = state["step"]

    def _require_same_run(self, state: dict[str, Any], path: Path) -> None:
        ours, theirs = self._identity(), {"start_from": "", **state["identity"]}
        different = [key for key in ours if ours[key] != theirs.get(key)]
        if different and not (set(different) <= _PLAN and self._shares_the_past(theirs, state["step"])):
            pairs = "; ".join(f"{key}: {theirs.get(key)} there, {ours[key]} here" for key in different)
            raise CheckpointError(
                f"{path} belongs to another run ({pairs}); repeat the command it was started with to resume it, "
                "or give another --out"
            )

    def _shares_the_past(self, theirs: dict[str, Any], step: int) -> bool:
        """Whether a run with another plan did the same so far: a run may be lengthened before its rate falls."""
        known = {key: value for key, value in theirs.items() if key in configuration.to_dict(self.config)}
        other = configuration.from_dict(type(self.config), known)
        return step <= self.config.total_steps and all(
            self.config.samples_at(past) == other.samples_at(past)
            and learning_rate_at(past, self.config) == learning_rate_at(past, other)
            for past in range(step)
        )

    def _identity(self) -> dict[str, Any]:
        """What must be equal for a resumed run to be the same run."""
        settings = configuration.to_dict(self.config)
        for pace in ("checkpoint_minutes", "sample_minutes", "keep_models_at", "keep_every"):
            del settings[pace]
        settings.pop("gradient_checkpointing", None)  # memory, not numbers
        checksums = [store.manifest.sha256 for store in self._stores]
        return settings | {
            "signals": " ".join(files["signals.npy"] for files in checksums),
            "statements": " ".join(files["index.csv"] for files in checksums),
            "start_from": self._start.weights_sha256 if self._start else "",
        }

    def _model(self) -> tuple[ModelConfig, dict[str, Tensor]]:
        """The model as of now, described with where its weights began."""
        described, weights = self.learner.model(steps_done=self.step)
        if self._start:
            began = f"{described.trained_on}, started from {self._start.name} ({self._start.trained_on})"
            described = replace(described, trained_on=began)
        return described, weights

    def save(self) -> None:
        """Write model, checkpoint and log; only the first device does.

        Raises:
            TrainingError: the weights are not finite; what was saved before stays.
        """
        self._require_finite_weights()
        if self.fabric.is_global_zero:
            self.folder.mkdir(parents=True, exist_ok=True)
            configuration.write_json(self.config, self.folder / "config.json")
            # The model first: a run that its checkpoint calls finished has its model.
            described, weights = self._model()
            save_model(described, weights, self.folder / "model")
            state = {"step": self.step, "identity": self._identity(), "learner": self.learner.state()}
            unfinished = self.folder / f".{CHECKPOINT_FILE}.tmp"
            torch.save(state, unfinished)
            unfinished.replace(self.folder / CHECKPOINT_FILE)
            self._write_log()
        self.fabric.barrier()

    def keep_model(self) -> None:
        """Write the model as of now into RUN/kept; only the first device does."""
        self._require_finite_weights()
        if self.fabric.is_global_zero:
            described, weights = self._model()
            save_model(described, weights, self.folder / "kept" / f"{self.step:07d}")

    def _require_finite_weights(self) -> None:
        # A finite loss can have a gradient that is not, and the next loss would tell only after this checkpoint.
        broken = [name for name, value in self.learner.named_parameters() if not torch.isfinite(value).all()]
        if broken:
            raise TrainingError(
                f"{len(broken)} weights are no longer finite after step {self.step}, {broken[0]} first; lower "
                "learning_rate or set gradient_clip; the last checkpoint is from before"
            )

    def log(self, status: Status) -> None:
        """Remember a line for log.csv; it is written with the next checkpoint."""
        self._log.append(status)

    def _write_log(self) -> None:
        path = self.folder / "log.csv"
        fresh = not path.is_file()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(["step", "loss", "learning_rate", "records_per_second", "score"])
            writer.writerows(map(_log_row, self._log))
        self._log.clear()

    def draw_samples(self) -> Path | None:
        """A picture of samples by the averaged weights as they are now."""
        if not self.fabric.is_global_zero:
            return None
        described, weights = self._model()
        described = replace(described, weights_sha256="0" * 64)
        network = build_network(described.network)
        network.load_state_dict(weights)
        labels = described.vocabulary
        known = [text for text in _SNAPSHOT_STATEMENTS if all(map(labels.label_of, text.split(",")))]
        wanted = known or [labels.example()]
        records = Generator(Model(config=described, network=network), device=self.fabric.device).sample(wanted, n=2)
        folder = self.folder / "samples"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"step-{self.step:07d}.png"
        save_figure(draw_sheet(records, columns=2), path)
        return path


def _log_row(status: Status) -> tuple[int, str, str, str, str]:
    return (
        status.step,
        f"{status.loss:.6f}",
        f"{status.learning_rate:.3e}",
        f"{status.records_per_second:.1f}",
        "" if status.score is None else f"{status.score:.5f}",
    )


def train(
    config: TrainingConfig,
    store: EcgStore,
    folder: Path,
    *,
    device: str = "auto",
    devices: int = 1,
    report: Report | None = None,
    extra: EcgStore | None = None,
    start: Model | None = None,
) -> Run:
    """Train until the configuration's steps are done; call again with the same arguments to resume.

    Args:
        config: What to train.
        store: Data.
        folder: The run's folder.
        device: Fabric's accelerator: "auto", "cpu", "cuda", "mps".
        devices: How many; under torchrun its number of processes counts.
        report: Called every few steps.
        extra: Second data set to learn from; for classifiers.
        start: Model whose weights are the first ones; by default they are random.

    Raises:
        ConfigError, DataError, CheckpointError: before anything is computed.
        TrainingError: the loss is no longer finite.
    """
    fabric = make_fabric(device=device, devices=devices, precision=config.precision)
    fabric.launch()
    run = Run(config, store, folder, fabric, extra, start)
    with _denormals_flushed():
        _train_to_the_end(run, report)
    return run


@contextmanager
def _denormals_flushed() -> Iterator[None]:
    """Averages of squared gradients fall below the smallest normal number, where a CPU is many times slower.

    The switch is the process's, so it is put back for whoever computes there afterwards.
    """
    torch.set_flush_denormal(True)
    try:
        yield
    finally:
        torch.set_flush_denormal(False)


def _train_to_the_end(run: Run, report: Report | None) -> None:
    config, fabric = run.config, run.fabric
    saved = drawn = fabric.broadcast(time.monotonic())  # every process acts on the first one's clock
    pace = _Pace(run)
    while run.step < config.total_steps:
        pace.add(run.take_step())
        last = run.step == config.total_steps
        if run.step in config.keep_models_at or (config.keep_every and run.step % config.keep_every == 0):
            run.keep_model()
        if run.step % _LOG_EVERY == 0 or last:
            status = pace.status()
            run.log(status)
            if report and fabric.is_global_zero:
                report(status)
        now = fabric.broadcast(time.monotonic()) if run.step % _LOG_EVERY == 0 or last else saved
        if last or now - saved > 60 * config.checkpoint_minutes:
            run.save()
            saved = now
        if config.sample_minutes and (last or now - drawn > 60 * config.sample_minutes):
            run.draw_samples()
            fabric.barrier()
            drawn = now


class _Pace:
    """Mean loss and speed since the last status; the first step, which prepares things, is not timed."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._losses: list[float] = []
        self._timed = -1
        self._since = time.monotonic()

    def add(self, loss: float) -> None:
        self._losses.append(loss)
        self._timed += 1
        if self._timed == 0:
            self._since = time.monotonic()

    def status(self) -> Status:
        run, config = self._run, self._run.config
        timed = max(self._timed, 1)
        seconds = max(time.monotonic() - self._since, 1e-9)
        loss = float(run.fabric.all_reduce(torch.tensor(sum(self._losses) / len(self._losses))))  # type: ignore[arg-type]
        per_sample = seconds / (timed * config.samples_at(run.step - 1))
        status = Status(
            step=run.step,
            total=config.total_steps,
            loss=loss,
            learning_rate=learning_rate_at(run.step - 1, config),
            records_per_second=config.batch_size * timed / seconds,
            seconds_left=per_sample * _samples_left(config, run.step),
            score=run.learner.score,
        )
        self._losses.clear()
        self._timed = 0
        self._since = time.monotonic()
        return status


def _samples_left(config: TrainingConfig, step: int) -> int:
    """Window lengths of the steps still to do, added up: what is left, in units of cost."""
    left = 0
    for stage in config.stages:
        done = min(step, stage.steps)
        left += (stage.steps - done) * stage.samples
        step -= done
    return left

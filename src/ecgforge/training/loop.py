"""The one loop: status, checkpoint, step, average.

A run is a folder:

    RUN/config.json      the resolved configuration
    RUN/checkpoint.pt    everything needed to go on, replaced every few minutes
    RUN/log.csv          step, loss, learning rate, records per second
    RUN/samples/         pictures of samples over time
    RUN/model/           the model as of the last checkpoint, ready for `ecgforge generate`

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
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import Tensor

from ecgforge import config as configuration
from ecgforge.checkpoints.native import Model, ModelConfig, build_network, save_model
from ecgforge.data.store import EcgStore
from ecgforge.diffusion.denoiser import eps_loss
from ecgforge.ecg_paper import draw_sheet, save_figure
from ecgforge.errors import CheckpointError, ConfigError, TrainingError
from ecgforge.generate import Generator
from ecgforge.labels import vocabulary
from ecgforge.models.sssd import SssdEcg
from ecgforge.training.optim import AveragedWeights, learning_rate_at
from ecgforge.training.presets import TrainingConfig
from ecgforge.training.steps import Batch, TrainingData, batch_at, select_data

CHECKPOINT_FILE = "checkpoint.pt"
_LOG_EVERY = 20
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
    """

    step: int
    total: int
    loss: float
    learning_rate: float
    records_per_second: float
    seconds_left: float


Report = Callable[[Status], None]


def make_fabric(*, device: str, devices: int, precision: str) -> Fabric:
    """The devices to train on; under torchrun its processes decide, and `devices` is not looked at.

    Raises:
        ConfigError: this machine has no such devices, or they do not know the precision.
    """
    nodes = 1
    if "TORCHELASTIC_RUN_ID" in os.environ:
        devices = int(os.environ["LOCAL_WORLD_SIZE"])
        nodes = int(os.environ["WORLD_SIZE"]) // devices
    # The residual convolution of the last block feeds nothing, so DDP must expect unused parameters.
    strategy: Any = DDPStrategy(find_unused_parameters=True) if devices * nodes > 1 else "auto"
    try:
        return Fabric(
            accelerator=device,
            devices=devices,
            num_nodes=nodes,
            strategy=strategy,
            precision=precision,  # type: ignore[arg-type]  # a word from the configuration; Fabric checks it
        )
    except (ValueError, RuntimeError) as error:
        raise ConfigError(f"cannot train on {devices} x {device!r} with precision {precision!r}: {error}") from error


def scale_note(config: TrainingConfig, data: TrainingData) -> str:
    """How the data's scale fits the noise schedule, in words.

    Sampling starts from pure noise, which is right only if nothing of the signal is left at the last step.
    """
    sample = data.store.signals_mv(data.rows[:: max(1, len(data) // 256)])[:, data.lead_rows]
    rms = float((sample**2).mean() ** 0.5)
    snr = config.schedule.terminal_snr(rms)
    verdict = (
        "fits: next to nothing of the signal is left where sampling starts"
        if snr < 0.05
        else "does not fit: samples will start from the wrong distribution; "
        "use signals in mV, or more or larger noise steps (--set schedule.beta_T=...)"
    )
    return f"signal rms {rms:.3f} mV, terminal SNR of the schedule {snr:.4f}: {verdict}"


def model_config(config: TrainingConfig, data: TrainingData, *, steps_done: int) -> ModelConfig:
    """What the saved model says about itself."""
    manifest = data.store.manifest
    folds = ",".join(map(str, config.data.folds))
    budget = f"{steps_done} steps of {config.batch_size} records"
    return ModelConfig(
        name=config.name,
        network_kind=config.network_kind,
        network=config.network,
        schedule=config.schedule,
        label_set=config.data.label_set,
        labels=vocabulary(config.data.label_set).labels,
        leads=config.data.leads,
        rate=data.store.rate,
        trained_on=f"{manifest.source} {manifest.source_version}".strip() + f", folds {folds}, {budget}",
    )


class Run:
    """A training run: state, one step, checkpoints.

    Args:
        config: What to train.
        store: Data to learn from.
        folder: Where everything is written.
        fabric: Devices; launched.

    Raises:
        DataError: the store does not fit the configuration.
        CheckpointError: the folder holds another run, or a damaged one.
    """

    def __init__(self, config: TrainingConfig, store: EcgStore, folder: Path, fabric: Fabric) -> None:
        if config.batch_size % fabric.world_size:
            raise ConfigError(
                f"expected batch_size divisible by the {fabric.world_size} devices, got {config.batch_size}"
            )
        self.config = config
        self.folder = folder
        self.fabric = fabric
        self.data = select_data(store, config)
        torch.manual_seed(config.seed)
        self.network: SssdEcg = build_network(model_config(config, self.data, steps_done=0))
        optimizer = torch.optim.Adam(self.network.parameters(), lr=config.learning_rate, fused=True)
        self._forward, self.optimizer = fabric.setup(self.network, optimizer)
        self.average = AveragedWeights(self.network, config.ema_decay)
        self.step = 0
        self._log: list[tuple[int, float, float, float]] = []
        self._resume()

    # ------------------------------------------------------------------------------------ one step

    def take_step(self) -> float:
        """One optimiser step on the batch that belongs to the current step number.

        Returns:
            The mean loss of this device's share.

        Raises:
            TrainingError: the loss is not finite; names step and records.
        """
        config, fabric = self.config, self.fabric
        batch = batch_at(self.data, config, self.step, rank=fabric.global_rank, ranks=fabric.world_size)
        for group in self.optimizer.param_groups:
            group["lr"] = learning_rate_at(self.step, config)
        losses = self._losses(batch)
        self.optimizer.zero_grad()
        fabric.backward(losses.mean())
        if config.gradient_clip:
            fabric.clip_gradients(
                self._forward, self.optimizer, max_norm=config.gradient_clip, error_if_nonfinite=False
            )
        self.optimizer.step()
        self.average.update(self.step)
        self.step += 1
        return float(losses.detach().mean())

    def _losses(self, batch: Batch) -> Tensor:
        device = self.fabric.device
        losses = eps_loss(
            self._forward,
            self.config.schedule,
            batch.x_0.to(device),
            batch.condition.to(device),
            step=batch.step.to(device),
            eps=batch.eps.to(device),
            weight=self.config.loss_weight,
        )
        if not torch.isfinite(losses).all():
            guilty = [name for name, loss in zip(batch.record_ids, losses.tolist(), strict=True) if loss - loss != 0]
            raise TrainingError(
                f"the loss is no longer finite at step {self.step}, records {' '.join(guilty)}; look at these records "
                "with `ecgforge data verify`, or lower learning_rate; the last checkpoint is from before"
            )
        return losses

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
        self.network.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.average.load(state["average"])
        self.step = state["step"]

    def _require_same_run(self, state: dict[str, Any], path: Path) -> None:
        ours, theirs = self._identity(), state["identity"]
        different = [key for key in ours if ours[key] != theirs.get(key)]
        if different:
            pairs = "; ".join(f"{key}: {theirs.get(key)} there, {ours[key]} here" for key in different)
            raise CheckpointError(
                f"{path} belongs to another run ({pairs}); repeat the command it was started with to resume it, "
                "or give another --out"
            )

    def _identity(self) -> dict[str, Any]:
        """What must be equal for a resumed run to be the same run."""
        settings = configuration.to_dict(self.config)
        for pace in ("checkpoint_minutes", "sample_minutes"):
            del settings[pace]
        checksums = self.data.store.manifest.sha256
        return settings | {"signals": checksums["signals.npy"], "statements": checksums["index.csv"]}

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
            described = model_config(self.config, self.data, steps_done=self.step)
            save_model(described, self.average.weights_of(self.network), self.folder / "model")
            state = {
                "step": self.step,
                "identity": self._identity(),
                "network": self.network.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "average": self.average.average,
            }
            unfinished = self.folder / f".{CHECKPOINT_FILE}.tmp"
            torch.save(state, unfinished)
            unfinished.replace(self.folder / CHECKPOINT_FILE)
            self._write_log()
        self.fabric.barrier()

    def _require_finite_weights(self) -> None:
        # A finite loss can have a gradient that is not, and the next loss would tell only after this checkpoint.
        broken = [name for name, value in self.network.named_parameters() if not torch.isfinite(value).all()]
        if broken:
            raise TrainingError(
                f"{len(broken)} weights are no longer finite after step {self.step}, {broken[0]} first; lower "
                "learning_rate or set gradient_clip; the last checkpoint is from before"
            )

    def log(self, status: Status) -> None:
        """Remember a line for log.csv; it is written with the next checkpoint."""
        self._log.append((status.step, status.loss, status.learning_rate, status.records_per_second))

    def _write_log(self) -> None:
        path = self.folder / "log.csv"
        fresh = not path.is_file()
        with path.open("a", newline="") as file:
            writer = csv.writer(file)
            if fresh:
                writer.writerow(["step", "loss", "learning_rate", "records_per_second"])
            writer.writerows(
                (step, f"{loss:.6f}", f"{rate:.3e}", f"{speed:.1f}") for step, loss, rate, speed in self._log
            )
        self._log.clear()

    def draw_samples(self) -> Path | None:
        """A picture of samples by the averaged weights as they are now."""
        if not self.fabric.is_global_zero:
            return None
        described = replace(model_config(self.config, self.data, steps_done=self.step), weights_sha256="0" * 64)
        network = build_network(described)
        network.load_state_dict(self.average.weights_of(self.network))
        known = set(described.labels)
        wanted = [text for text in _SNAPSHOT_STATEMENTS if set(text.split(",")) <= known] or [described.labels[0]]
        records = Generator(Model(config=described, network=network), device=self.fabric.device).sample(wanted, n=2)
        folder = self.folder / "samples"
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / f"step-{self.step:07d}.png"
        save_figure(draw_sheet(records, columns=2), path)
        return path


def train(
    config: TrainingConfig,
    store: EcgStore,
    folder: Path,
    *,
    device: str = "auto",
    devices: int = 1,
    report: Report | None = None,
) -> Run:
    """Train until the configuration's steps are done; call again with the same arguments to resume.

    Args:
        config: What to train.
        store: Data.
        folder: The run's folder.
        device: Fabric's accelerator: "auto", "cpu", "cuda", "mps".
        devices: How many; under torchrun its number of processes counts.
        report: Called every few steps.

    Raises:
        ConfigError, DataError, CheckpointError: before anything is computed.
        TrainingError: the loss is no longer finite.
    """
    fabric = make_fabric(device=device, devices=devices, precision=config.precision)
    fabric.launch()
    run = Run(config, store, folder, fabric)
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
    """Mean loss and speed since the last status."""

    def __init__(self, run: Run) -> None:
        self._run = run
        self._losses: list[float] = []
        self._since = time.monotonic()

    def add(self, loss: float) -> None:
        self._losses.append(loss)

    def status(self) -> Status:
        run, config = self._run, self._run.config
        seconds = time.monotonic() - self._since
        loss = float(run.fabric.all_reduce(torch.tensor(sum(self._losses) / len(self._losses))))  # type: ignore[arg-type]
        per_sample = seconds / (len(self._losses) * config.samples_at(run.step - 1))
        status = Status(
            step=run.step,
            total=config.total_steps,
            loss=loss,
            learning_rate=learning_rate_at(run.step - 1, config),
            records_per_second=config.batch_size * len(self._losses) / seconds,
            seconds_left=per_sample * _samples_left(config, run.step),
        )
        self._losses.clear()
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

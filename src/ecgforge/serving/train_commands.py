"""`ecgforge train`, `presets` and `average`."""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ecgforge.errors import ConfigError
from ecgforge.serving.notes import note, notes_silenced
from ecgforge.serving.options import require_writable

if TYPE_CHECKING:
    from ecgforge.training.loop import Status

_LINE_SECONDS = 30  # between status lines where there is no terminal for a bar


def train(
    preset: Annotated[str, typer.Argument(help="What to train; `ecgforge presets` lists them.")],
    data: Annotated[Path, typer.Option(help="Store to learn from, see `ecgforge data build`.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    config: Annotated[Path | None, typer.Option(help="TOML file with settings that differ from the preset.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting, e.g. `batch_size=8` or `data.folds=[1,2]`; repeat."),
    ] = None,
    start_from: Annotated[
        Path | None,
        typer.Option(
            help="Begin with the weights of this model, to train it further or to fit it to your own records: a model "
            "folder, a name out of `ecgforge models` (e.g. `default`), or `hf:owner/name`. By default from scratch."
        ),
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
    devices: Annotated[int, typer.Option(min=1, help="How many devices; under torchrun its processes count.")] = 1,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, print the settings, train nothing.")
    ] = False,
) -> None:
    """Train a generator or classifier; the same command again goes on where it stopped, bit for bit.

    Example: `ecgforge train sssd-ecg-small --data ptbxl100 --out runs/small`

    The folder gets checkpoints every few minutes, log.csv, pictures of samples, and the model itself in
    `RUN/model`, which `ecgforge generate --model RUN/model` takes at any time.
    """
    from ecgforge.checkpoints.locate import locate_model
    from ecgforge.checkpoints.native import load_model
    from ecgforge.config import resolve, to_dict
    from ecgforge.data.store import EcgStore
    from ecgforge.training import loop
    from ecgforge.training.classifier import require_crops
    from ecgforge.training.diffusion import scale_note
    from ecgforge.training.learner import require_start
    from ecgforge.training.presets import preset as preset_named
    from ecgforge.training.records import select_data
    from ecgforge.training.settings import ClassifierTraining, DiffusionTraining

    settings = resolve(preset_named(preset), file=config, overrides=set_ or ())
    start = None
    if start_from:
        folder = locate_model(start_from)
        if folder.resolve() == (out / "model").resolve():
            raise ConfigError(
                f"expected a model to start from outside the run, got {folder}, which the run writes; copy it "
                "elsewhere, or leave --start-from out to go on with the run"
            )
        start = load_model(folder)
    store = EcgStore.open(data)
    selected = select_data(store, settings)
    if isinstance(settings, ClassifierTraining):
        require_crops(settings, store.rate)
    if start:
        require_start(start.config, settings, selected)
    folds = ",".join(map(str, settings.data.folds))
    scale = f"; {scale_note(settings, selected)}" if isinstance(settings, DiffusionTraining) else ""
    note(f"{len(selected)} records of folds {folds}{scale}")
    if dry_run:
        typer.echo(json.dumps(to_dict(settings), indent=2))
        return
    require_writable(out)
    with _training_progress() as report:
        run = loop.train(settings, store, out, device=device, devices=devices, report=report, start=start)
    done = f"done: {run.step} steps, model in {out / 'model'}"
    if not isinstance(settings, ClassifierTraining):
        wanted = run.learner.data.labels.example()
        done += f"; go on with: ecgforge generate -s {wanted} --model {out / 'model'} --out out --plot"
    note(done)


def average(
    run: Annotated[Path, typer.Argument(help="Folder of a training with `--set keep_every=STEPS`.")],
    out: Annotated[Path, typer.Option(help="Model folder to write.")],
    length: Annotated[
        float,
        typer.Option(
            min=0.005,
            max=0.28,
            help="How much of the training is averaged: standard deviation as a share of its steps.",
        ),
    ] = 0.1,
) -> None:
    """Choose after training over how many steps its weights are averaged.

    Long averages have less noise, short ones have learned more. Make a few, e.g. of 0.05, 0.1 and 0.2, and judge
    them on records that you do not report. With these averages a learning rate need not fall at the end, so that a
    training can always go on.

    Example: `ecgforge average runs/patch-s4 --length 0.1 --out runs/patch-s4/averaged`
    """
    from ecgforge.checkpoints.native import save_model
    from ecgforge.training.averaging import average_kept

    averaged = average_kept(run, length=length)
    save_model(averaged.config, averaged.weights, out)
    note(f"{out}: {averaged.config.trained_on}; its profile is met within {averaged.misfit:.1%}")


def presets() -> None:
    """List what `ecgforge train` can train, with the size of each budget.

    `steps` are updates of `batch` records; `seen` is how many records are looked at in all.
    """
    from rich.table import Table

    from ecgforge.training.presets import PRESETS

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0))  # within 80 columns
    for name in ("preset", "network", "steps", "batch", "seen", "statements"):
        table.add_column(name, no_wrap=True, justify="right" if name in ("steps", "batch", "seen") else "left")
    for config in PRESETS.values():
        seen = config.total_steps * config.batch_size * getattr(config, "critic_steps", 1)
        statements = ",".join(config.data.statements) or config.data.label_set
        row = (config.total_steps, config.batch_size, f"{seen:,}", statements)
        table.add_row(config.name, config.network.kind, *map(str, row))
    Console().print(table)


@contextmanager
def _training_progress() -> Iterator[Callable[["Status"], None]]:
    """A bar with loss, speed and time left on a terminal; elsewhere a line every half minute."""
    console = Console()
    if notes_silenced():
        yield lambda status: None
        return
    if console.is_terminal:
        with _training_bar(console) as report:
            yield report
        return
    last = -float(_LINE_SECONDS)

    def print_line(status: "Status") -> None:
        nonlocal last
        if time.monotonic() - last >= _LINE_SECONDS or status.step == status.total:
            last = time.monotonic()
            typer.echo(f"step {status.step}/{status.total} {_status_text(status)}")

    yield print_line


@contextmanager
def _training_bar(console: Console) -> Iterator[Callable[["Status"], None]]:
    columns = (
        TextColumn("{task.completed}/{task.total}"),
        BarColumn(),
        TextColumn("{task.description}"),
        TimeElapsedColumn(),
    )
    with Progress(*columns, console=console) as bar:
        task = bar.add_task("starting", total=None)
        yield lambda status: bar.update(
            task, completed=status.step, total=status.total, description=_status_text(status)
        )


def _status_text(status: "Status") -> str:
    minutes, seconds = divmod(round(status.seconds_left), 60)
    hours, minutes = divmod(minutes, 60)
    left = f"{hours}:{minutes:02d}:{seconds:02d}"
    score = "" if status.score is None else f"validation {status.score:.4f}, "
    return f"loss {status.loss:.4f}, {score}{status.records_per_second:.1f} records/s, {left} left"

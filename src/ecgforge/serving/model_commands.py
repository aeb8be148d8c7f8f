"""`ecgforge train`, `generate`, `demo`, and the way from and to the original's checkpoints."""

import json
import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from ecgforge.errors import ConfigError
from ecgforge.serving.convert_command import RecordFormat
from ecgforge.serving.data_commands import parse_folds
from ecgforge.serving.notes import note, notes_silenced
from ecgforge.serving.progress import progress_bar

if TYPE_CHECKING:
    from ecgforge.generate import SamplerName
    from ecgforge.record import EcgRecord
    from ecgforge.training.loop import Status


class SamplerChoice(StrEnum):
    """The names of diffusion.SAMPLERS."""

    DPMPP = "dpmpp"
    DPMPP_SDE = "dpmpp-sde"
    UNIPC = "unipc"
    DDIM = "ddim"
    DDPM = "ddpm"


class SexChoice(StrEnum):
    """The sexes PTB-XL records."""

    MALE = "male"
    FEMALE = "female"


class OthersChoice(StrEnum):
    """What holds of the statements that were not asked for."""

    ABSENT = "absent"
    UNKNOWN = "unknown"


class PrecisionChoice(StrEnum):
    """Number formats of the operands of matrix products."""

    FLOAT32 = "float32"
    BFLOAT16 = "bfloat16"


class Cauchy(StrEnum):
    """The two Cauchy sums of checkpoints.original."""

    FULL = "full"
    HALF = "half"


def name_of(sampler: SamplerChoice | None) -> "SamplerName | None":
    """The sampler as SamplingOptions takes it."""
    return None if sampler is None else sampler.value


MODEL_HELP = (
    "Model folder, a name out of `ecgforge models`, or `hf:owner/name`; by default the weights that come with ecgforge."
)
PRECISION_HELP = (
    "Of matrix products. bfloat16 is meant for GPUs and processors with instructions for it, elsewhere it is slower; "
    "the records differ a little."
)
GUIDANCE_HELP = "Above 1: more typical of the statements, less varied, twice the calls."
INTERVAL_HELP = "Noise over signal where guidance acts, e.g. `0.3:5`; by default everywhere."
_LINE_SECONDS = 30  # between status lines where there is no terminal for a bar

DEMO_STATEMENTS = ("NORM,SR", "AFIB", "CLBBB,SR", "CRBBB,SR", "IMI,SR,ABQRS", "LVH,SR,VCLVH", "STACH", "PACE")


# --------------------------------------------------------------------------------------------- generate


def generate(
    statements: Annotated[
        list[str],
        typer.Option(
            "--statements",
            "-s",
            help="Statement codes, graded if wished: `NORM,SR` or `IMI:0.5,SR`. Repeat for several sets.",
        ),
    ],
    out: Annotated[Path, typer.Option(help="Folder for the records.")],
    n: Annotated[int, typer.Option("-n", "--number", min=1, help="Records per statement set.")] = 1,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same records.")] = 0,
    model: Annotated[Path | None, typer.Option(help=MODEL_HELP)] = None,
    age: Annotated[
        float | None, typer.Option(min=0, max=120, help="Years; only for models that know it, as the default one does.")
    ] = None,
    sex: Annotated[SexChoice | None, typer.Option(help="Only for models that know it.")] = None,
    heart_rate: Annotated[
        float | None, typer.Option(min=20, max=300, help="Beats per minute; only for models that know it.")
    ] = None,
    sampler: Annotated[
        SamplerChoice | None,
        typer.Option(help="By default what suits the model: dpmpp for PatchS4, ddpm for SSSD-ECG."),
    ] = None,
    steps: Annotated[
        int | None,
        typer.Option(
            min=1, help="Network calls per record; default 50 for ddpm (the papers take 200), else 20, 10 for PatchS4."
        ),
    ] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Records at once: speed and memory, not the result.")] = 8,
    processes: Annotated[
        int | None,
        typer.Option(
            min=1,
            help="Worker processes of one thread each, by default one a core where that pays; the records stay the "
            "same.",
        ),
    ] = None,
    format: Annotated[RecordFormat, typer.Option(help="File format of the records.")] = RecordFormat.WFDB,
    plot: Annotated[bool, typer.Option("--plot", help="Draw every record on ECG paper as well (PNG).")] = False,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    others: Annotated[
        OthersChoice,
        typer.Option(help="Statements not asked for are absent, or unknown: left open, which SSSD-ECG cannot."),
    ] = OthersChoice.ABSENT,
    guidance: Annotated[float, typer.Option(min=0, help=GUIDANCE_HELP)] = 1.0,
    guidance_interval: Annotated[str | None, typer.Option(help=INTERVAL_HELP)] = None,
    precision: Annotated[PrecisionChoice, typer.Option(help=PRECISION_HELP)] = PrecisionChoice.FLOAT32,
    duration: Annotated[
        float | None, typer.Option(min=0, help="Seconds of a record, if longer than the model's 10.")
    ] = None,
    rate: Annotated[
        float | None, typer.Option(min=1, help="Sampling rate to write, Hz; above the model's it adds no detail.")
    ] = None,
    as_json: Annotated[
        bool, typer.Option("--json", help="Print a line of JSON for every record as it is written, and no notes.")
    ] = False,
) -> None:
    """Generate synthetic 12-lead ECGs for ECG statements.

    Example: `ecgforge generate -s NORM,SR -s IMI:0.5,SR -n 8 --seed 0 --out out --plot`

    `ecgforge statements` lists the codes.
    """
    from ecgforge.facts import Facts
    from ecgforge.generate import SamplingOptions, jobs_of
    from ecgforge.parallel import sample_jobs
    from ecgforge.rates import resample_record

    facts = Facts(age=age, sex=sex, heart_rate=heart_rate)
    options = SamplingOptions(
        sampler=name_of(sampler),
        steps=steps,
        batch_size=batch_size,
        others=others.value,
        guidance=guidance,
        guidance_interval=_interval(guidance_interval),
        precision=precision.value,
        duration=duration,
    )
    _require_writable(out)
    if model is None and not as_json:
        _tell_weights()
    started = time.monotonic()
    with progress_bar("Sampling") as progress:
        records = sample_jobs(
            jobs_of(statements, n=n, facts=facts),
            seed=seed,
            options=options,
            model=model,
            device=device,
            processes=processes,
            progress=progress,
        )
        written = []
        for made in records:
            record = made if rate is None else resample_record(made, rate)
            written.append(write_files(record, out, format=format.value, plot=plot))
            if as_json:
                typer.echo(_json_line(record, written[-1]))
    seconds = (time.monotonic() - started) / len(written)
    if not as_json:
        note(f"{len(written)} synthetic records in {out}, {seconds:.2f} s each; the first: {written[0][0]}")


def write_files(record: "EcgRecord", folder: Path, *, format: str, plot: bool) -> list[Path]:
    """Write a record as `seed0-00000_NORM_SR`, with a picture on request; returns the files."""
    from ecgforge.formats import write_record

    base = folder / file_stem(record)
    written = [write_record(record, base, format=format)]
    if plot:
        from ecgforge.ecg_paper import save_ecg

        written.append(base.with_name(base.name + ".png"))
        save_ecg(record, written[-1])
    return written


def _interval(text: str | None) -> tuple[float, float] | None:
    if text is None:
        return None
    low, _, high = text.partition(":")
    try:
        return float(low), float(high)
    except ValueError:
        raise ConfigError(f"expected an interval as low:high, such as 0.3:5, got {text!r}") from None


def _json_line(record: "EcgRecord", files: list[Path]) -> str:
    facts = {
        "record_id": record.record_id,
        "statements": record.statements,
        "seed": record.provenance.seed,
        "index": record.provenance.index,
        "source": record.provenance.source,
        "synthetic": record.provenance.synthetic,
        "files": [str(path) for path in files],
    }
    return json.dumps(facts)


def file_stem(record: "EcgRecord") -> str:
    """Seed, index and statements as a name that every format accepts: letters, digits, `_` and `-`."""
    words = [f"seed{record.provenance.seed}-{record.provenance.index:05d}", *record.statements]
    return re.sub(r"[^A-Za-z0-9_-]+", "-", "_".join(words)).strip("-")


def _require_writable(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"expected a folder that can be written as --out, got {folder}: {error.strerror}") from error


def _tell_weights() -> None:
    from ecgforge.generate import DEFAULT_MODEL

    note(f"weights: {DEFAULT_MODEL}; they came with ecgforge, and no network is used")


def demo(
    out: Annotated[Path, typer.Option(help="Folder for records and pictures.")] = Path("out/demo"),
) -> None:
    """Generate an ECG for each of a handful of statement sets with the default weights: a first look."""
    from ecgforge.generate import Generator

    _require_writable(out)
    _tell_weights()
    generator = Generator.load()
    started = time.monotonic()
    with progress_bar("Sampling") as progress:
        records = generator.sample(DEMO_STATEMENTS, seed=0, progress=progress)
    seconds = (time.monotonic() - started) / len(records)
    for record in records:
        for path in write_files(record, out, format="wfdb", plot=True):
            typer.echo(f"wrote {path}")
    note(f"{len(records)} synthetic 12-lead ECGs of 10 s, {seconds:.2f} s each")
    note("Go on with: ecgforge generate --statements AFIB,LVH -n 4 --seed 1 --out out/mine --plot")


# ------------------------------------------------------------------------------------------------ train


def train(
    preset: Annotated[str, typer.Argument(help="What to train; `ecgforge presets` lists them.")],
    data: Annotated[Path, typer.Option(help="Store to learn from, see `ecgforge data build`.")],
    out: Annotated[Path, typer.Option(help="Folder of the run.")],
    config: Annotated[Path | None, typer.Option(help="TOML file with settings that differ from the preset.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="A setting, e.g. `batch_size=8` or `data.folds=[1,2]`; repeat."),
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
    from ecgforge.config import resolve, to_dict
    from ecgforge.data.store import EcgStore
    from ecgforge.training import loop
    from ecgforge.training.diffusion import scale_note
    from ecgforge.training.presets import preset as preset_named
    from ecgforge.training.records import select_data
    from ecgforge.training.settings import ClassifierTraining, DiffusionTraining

    settings = resolve(preset_named(preset), file=config, overrides=set_ or ())
    store = EcgStore.open(data)
    selected = select_data(store, settings)
    folds = ",".join(map(str, settings.data.folds))
    scale = f"; {scale_note(settings, selected)}" if isinstance(settings, DiffusionTraining) else ""
    note(f"{len(selected)} records of folds {folds}{scale}")
    if dry_run:
        typer.echo(json.dumps(to_dict(settings), indent=2))
        return
    _require_writable(out)
    with _training_progress() as report:
        run = loop.train(settings, store, out, device=device, devices=devices, report=report)
    done = f"done: {run.step} steps, model in {out / 'model'}"
    if not isinstance(settings, ClassifierTraining):
        labels = run.learner.data.labels.labels
        wanted = "NORM,SR" if {"NORM", "SR"} <= set(labels) else labels[0]
        done += f"; go on with: ecgforge generate -s {wanted} --model {out / 'model'} --out out --plot"
    note(done)


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


# ------------------------------------------------------------------------------------------------- copy


def copy(
    data: Annotated[Path, typer.Option(help="Store of the real records, see `ecgforge data build`.")],
    out: Annotated[Path, typer.Option(help="Store to make.")],
    model: Annotated[Path | None, typer.Option(help=MODEL_HELP)] = None,
    folds: Annotated[str | None, typer.Option(help="Copy only these, e.g. `1-8`; by default all.")] = None,
    layout: Annotated[
        Path | None, typer.Option(help="Also write the twin in PTB-XL's folder layout, for any PTB-XL loader.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same twin.")] = 0,
    sampler: Annotated[SamplerChoice | None, typer.Option(help="As in `ecgforge generate`.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="Network calls per record.")] = None,
    guidance: Annotated[float, typer.Option(min=0, help=GUIDANCE_HELP)] = 1.0,
    guidance_interval: Annotated[str | None, typer.Option(help=INTERVAL_HELP)] = None,
    batch_size: Annotated[int, typer.Option(min=1, help="Records at once: speed and memory, not the result.")] = 8,
    processes: Annotated[
        int | None, typer.Option(min=1, help="Worker processes of one thread each; by default one a core.")
    ] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
    precision: Annotated[PrecisionChoice, typer.Option(help=PRECISION_HELP)] = PrecisionChoice.FLOAT32,
) -> None:
    """Make the synthetic twin of a data set: one record per record, same statements and folds.

    Stopped, it goes on where it was when the same command is given again.

    Example: `ecgforge copy --data ptbxl100 --out twin100 --processes 2 --layout twin-ptbxl`
    """
    from ecgforge.data.store import EcgStore
    from ecgforge.generate import SamplingOptions
    from ecgforge.twin import copy_store, write_layout

    options = SamplingOptions(
        sampler=name_of(sampler),
        steps=steps,
        batch_size=batch_size,
        guidance=guidance,
        guidance_interval=_interval(guidance_interval),
        precision=precision.value,
    )
    chosen = None if folds is None else parse_folds(folds)
    started = time.monotonic()
    note("First the heart rates of the originals are measured, some milliseconds each; then sampling begins.")
    with progress_bar("Copying") as progress:
        twin = copy_store(
            EcgStore.open(data),
            out,
            model=model,
            folds=chosen,
            seed=seed,
            options=options,
            processes=processes,
            device=device,
            progress=progress,
        )
    note(f"{len(twin)} synthetic records in {out}, {time.monotonic() - started:.0f} s")
    if layout is not None:
        with progress_bar("Writing the layout") as progress:
            write_layout(twin, layout, progress=progress)
        note(f"the same in PTB-XL's layout: {layout}")


# ------------------------------------------------------------------------------------------ checkpoints


def import_original(
    checkpoint: Annotated[Path, typer.Argument(help="A checkpoint of the original SSSD-ECG, e.g. 100000.pkl.")],
    out: Annotated[Path, typer.Argument(help="Model folder to write.")],
    cauchy: Annotated[
        Cauchy,
        typer.Option(
            help="Which Cauchy sum it was trained with: `full` with the CUDA extension or pykeops (the true S4 "
            "kernel), `half` with the pure-PyTorch fallback. No checkpoint says; the wrong one samples noise."
        ),
    ] = Cauchy.FULL,
    statements: Annotated[
        str | None,
        typer.Option(help="Its statements in the order of its columns, e.g. `AFIB`; needed where no label set fits."),
    ] = None,
) -> None:
    """Turn a published SSSD-ECG or SSSD-ECG-nle checkpoint into a model folder, without executing pickled code.

    Unsure which `--cauchy`? Import it with both and take the one whose samples look like ECGs.

    Example: `ecgforge import-original 100000.pkl models/sssd-ecg --cauchy full`
    """
    from ecgforge.checkpoints.original import import_checkpoint

    codes = tuple(statements.split(",")) if statements else ()
    config = import_checkpoint(checkpoint, out, cauchy=cauchy.value, statements=codes)
    note(f"{out}: {len(config.labels)} statements, leads {' '.join(config.leads)}, Cauchy sum {cauchy.value}")


def export_original(
    model: Annotated[Path, typer.Argument(help="Model folder.")],
    checkpoint: Annotated[Path, typer.Argument(help="File to write, e.g. 0.pkl.")],
) -> None:
    """Write a model as the original SSSD-ECG code saves it, for use with that code.

    Example: `ecgforge export-original runs/small/model 0.pkl`
    """
    from ecgforge.checkpoints.native import load_model
    from ecgforge.checkpoints.original import export_checkpoint

    export_checkpoint(load_model(model), checkpoint)
    note(f"wrote {checkpoint}")

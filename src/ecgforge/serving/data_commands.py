"""`ecgforge data`: build, describe and check stores, and simulate data sets."""

import json
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecgforge.errors import ConfigError
from ecgforge.serving.notes import note
from ecgforge.serving.progress import progress_bar

if TYPE_CHECKING:
    from ecgforge.data.checks import StoreDescription
    from ecgforge.data.manifest import BuildSummary

app = typer.Typer(
    no_args_is_help=True, rich_markup_mode="markdown", help="Build, describe, check and simulate data sets."
)
build_app = typer.Typer(
    no_args_is_help=True,
    help="Build a store, the form in which ecgforge uses a data set: one folder that is checked once and read fast.",
)
app.add_typer(build_app, name="build")

_PER_LINE = 8  # statements a line of `info`

Store = Annotated[Path, typer.Argument(help="Folder of the store.")]
NewStore = Annotated[Path, typer.Argument(help="Folder of the store to make.")]
Jobs = Annotated[int | None, typer.Option(min=1, help="Reading processes; by default one a core.")]
Overwrite = Annotated[
    bool, typer.Option("--overwrite", help="Replace an existing store, once the new one is complete.")
]


@build_app.command("ptbxl")
def build_ptbxl_store(
    src: Annotated[Path, typer.Argument(help="Folder with ptbxl_database.csv and records100 or records500.")],
    store: NewStore,
    rate: Annotated[int, typer.Option(help="100 or 500 Hz: which of the two published signals.")] = 100,
    folds: Annotated[str | None, typer.Option(help="Folds to take, such as 1-8 or 1-3,9; by default all.")] = None,
    jobs: Jobs = None,
    overwrite: Overwrite = False,
    strict: Annotated[
        bool, typer.Option("--strict", help="Stop at the first problem instead of reporting it.")
    ] = False,
) -> None:
    """Build a store from PTB-XL as published.

    Records that cannot be used are left out and named in STORE/report.csv.

    Example: `ecgforge data build ptbxl ptb-xl-1.0.3 ptbxl100 --folds 1-9`
    """
    from ecgforge.data.ptbxl import build_ptbxl

    wanted = None if folds is None else parse_folds(folds)
    with progress_bar("Reading records") as progress:
        summary = build_ptbxl(
            src,
            store,
            rate=rate,
            folds=wanted,
            jobs=jobs,
            strict=strict,
            overwrite=overwrite,
            progress=progress,
        )
    _show_summary(summary)


@build_app.command("wfdb")
def build_wfdb_store(
    src: Annotated[Path, typer.Argument(help="Folder of WFDB records (.hea with .dat or .mat), subfolders too.")],
    store: NewStore,
    rate: Annotated[float, typer.Option(help="Sampling rate of the store, Hz; others are resampled.")] = 100.0,
    seconds: Annotated[float, typer.Option(help="Length of its records, s; longer ones are cropped.")] = 10.0,
    statements: Annotated[
        Path | None,
        typer.Option(help='CSV with the columns record,statements[,fold], e.g. g1/A0001,"NORM,SR",3.'),
    ] = None,
    pad: Annotated[
        bool, typer.Option("--pad", help="Fill shorter records up with zeros instead of leaving them out.")
    ] = False,
    jobs: Jobs = None,
    overwrite: Overwrite = False,
) -> None:
    """Build a store from any folder of WFDB records.

    Statements come from a CSV or the headers: `statements: NORM,SR`, or `Dx: 426783006` as in the PhysioNet Challenges.
    What was changed, left out or not understood is named, record by record, in STORE/report.csv.

    Example: `ecgforge data build wfdb georgia georgia100 --rate 100 --seconds 10`
    """
    from ecgforge.data.wfdb_sets import build_wfdb

    with progress_bar("Reading records") as progress:
        summary = build_wfdb(
            src,
            store,
            rate=rate,
            seconds=seconds,
            statements_csv=statements,
            pad=pad,
            jobs=jobs,
            overwrite=overwrite,
            progress=progress,
        )
    _show_summary(summary)


@app.command()
def info(
    store: Store,
    as_json: Annotated[bool, typer.Option("--json", help="Print JSON for other programs.")] = False,
) -> None:
    """Say what is in a store: records, patients, folds, ages, statements.

    Example: `ecgforge data info ptbxl100`
    """
    from ecgforge.data.checks import describe_store
    from ecgforge.data.store import EcgStore

    description = describe_store(EcgStore.open(store))
    if as_json:
        typer.echo(json.dumps(asdict(description), indent=2))
    else:
        typer.echo("\n".join(_description_lines(description)))


@app.command()
def verify(store: Store) -> None:
    """Check a store's files, signals and index.

    Exit code 1 if it must be built again (damaged files, missing samples, double ids, unknown statements).
    Flat leads, limb leads that contradict each other, clipped leads and patients in several folds are warnings.

    Example: `ecgforge data verify ptbxl100`
    """
    from ecgforge.data.checks import verify_store
    from ecgforge.data.store import EcgStore

    opened = EcgStore.open(store)
    with progress_bar("Checking records") as progress:
        verdict = verify_store(opened, progress=progress)
    for line in verdict.errors:
        typer.echo(f"error: {line}")
    for line in verdict.warnings:
        typer.echo(f"warning: {line}")
    if not verdict.usable:
        typer.echo(f"{store}: not usable; build it again")
        raise typer.Exit(1)
    typer.echo(f"{store}: {verdict.records} records, usable")


@app.command()
def simulate(
    dest: Annotated[Path, typer.Argument(help="Folder of the data set to make.")],
    n: Annotated[int, typer.Option("-n", "--records", min=1, help="Number of records.")],
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same records.")] = 0,
    rate: Annotated[
        list[int] | None, typer.Option(help="100 or 500 Hz; give it twice for both. By default 100.")
    ] = None,
    seconds: Annotated[float, typer.Option(help="Length of a record, s.")] = 10.0,
) -> None:
    """Simulate a data set in PTB-XL's layout, for trying things out without patient data.

    Example: `ecgforge data simulate demo -n 200 && ecgforge data build ptbxl demo demo100`
    """
    from ecgforge.data.simulate import simulate_data_set

    with progress_bar("Simulating") as progress:
        folder = simulate_data_set(
            dest, n=n, seed=seed, rates=tuple(rate or (100,)), seconds=seconds, progress=progress
        )
    # The builder for PTB-XL knows its 10 s only.
    build = f"ptbxl {folder} STORE" if seconds == 10 else f"wfdb {folder} STORE --seconds {seconds:g}"
    note(f"{n} simulated records in {folder}; next: ecgforge data build {build}")


def parse_folds(text: str) -> tuple[int, ...]:
    """Folds from "1-8,9": (1, 2, ..., 9).

    Raises:
        ConfigError: the text is not made of numbers and ranges.
    """
    folds: set[int] = set()
    for part in text.split(","):
        first, dash, last = (piece.strip() for piece in part.partition("-"))
        if not first.isdecimal() or (dash and not last.isdecimal()):
            raise ConfigError(f"expected folds such as 1-8,9, got {text!r}")
        span = range(int(first), int(last if dash else first) + 1)
        if not span:
            raise ConfigError(f"expected a range from low to high in the folds, got {part.strip()!r}")
        folds.update(span)
    return tuple(sorted(folds))


def _show_summary(summary: "BuildSummary") -> None:
    for line in summary.notes:
        note(f"note: {line}")
    counts = [f"{summary.count(action)} {action}" for action in ("left out", "repaired", "noted")]
    typer.echo(f"{summary.folder}: {summary.records} records ({', '.join(counts)})")
    if summary.report:
        note(f"first of the report: {summary.report[0]}")
        note(f"all of it: {summary.folder / 'report.csv'}")


def _description_lines(description: "StoreDescription") -> Iterator[str]:
    origin = "synthetic" if description.synthetic else "measured"
    yield f"source       {description.source} ({origin}), built by {description.created_by}"
    length = f"{description.seconds:g} s at {description.rate:g} Hz"
    yield f"records      {description.records} of {length}, 12 leads"
    yield f"patients     {description.patients}"
    yield f"folds        {_pairs(description.folds)}"
    yield f"sex          {_pairs(description.sexes)}"
    if description.ages is None:
        yield "age          unknown"
    else:
        low, median, high = description.ages
        yield (
            f"age          median {median:g}, quartiles {low:g} and {high:g}; "
            f"{description.ages_90_or_older} of 90 or older, {description.ages_unknown} unknown"
        )
    if description.label_qualities:
        yield f"label quality {_pairs(description.label_qualities)}"
    if description.report:
        yield f"report       {_pairs(description.report)} (report.csv)"
    sets = ", ".join(f"{name} {n} of {size}" for name, (n, size) in description.label_sets.items())
    yield f"label sets   {sets}"
    yield "statements"
    items = [f"{code:<8}{number:>6}" for code, number in description.statements.items()]
    for start in range(0, len(items), _PER_LINE):
        yield "  " + "  ".join(items[start : start + _PER_LINE])


def _pairs(counts: "dict[int, int] | dict[str, int]") -> str:
    return ", ".join(f"{name}: {number}" for name, number in counts.items()) or "none"

"""`ecgforge turing`: make a blinded reading kit of real and synthetic ECGs, and score what the readers answered."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from ecgforge.errors import ConfigError, DataError
from ecgforge.serving.data_commands import parse_folds
from ecgforge.serving.notes import note
from ecgforge.serving.progress import progress_bar

if TYPE_CHECKING:
    from ecgforge.evaluation.turing import Reading, TuringScore
    from ecgforge.record import EcgRecord

app = typer.Typer(no_args_is_help=True, help="Can readers tell synthetic ECGs from real ones? Kits and scores.")

OUT_FORMATS = (".json", ".md")


# ------------------------------------------------------------------------------------------------- make


@app.command()
def make(
    real: Annotated[Path, typer.Option(help="Store with the real records.")],
    out: Annotated[Path, typer.Option(help="Folder of the kit; its key goes beside it as OUT-key.json.")],
    synthetic: Annotated[Path | None, typer.Option(help="Store with synthetic records; this or --model.")] = None,
    model: Annotated[
        Path | None,
        typer.Option(help="Model to make them with: a folder, a name out of `ecgforge models`, or `hf:owner/name`."),
    ] = None,
    folds: Annotated[str | None, typer.Option(help="Folds of the real records, such as 9; by default all.")] = None,
    statements: Annotated[
        list[str] | None,
        typer.Option(
            "--statements", "-s", help="A statement set, e.g. `NORM,SR`; repeat. By default the most frequent ones."
        ),
    ] = None,
    pairs: Annotated[int, typer.Option(min=1, help="How many of the most frequent ones; without --statements.")] = 22,
    seed: Annotated[int, typer.Option(min=0, help="Which records, and their order.")] = 0,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps; for --model.")] = "cpu",
) -> None:
    """Make a blinded reading kit: a real and a synthetic ECG for each statement set, on paper, shuffled.

    Example: `ecgforge turing make --real ptbxl100 --folds 9 --model runs/small/model --out kit`

    Readers get the folder: sheets, form, instructions. Keep `kit-key.json` and the seed from them. By default the
    sets are the most frequent ones; real records are taken only where their statements are exact (label quality).
    """
    from ecgforge.data.store import EcgStore
    from ecgforge.evaluation.reading_kit import make_kit, require_new
    from ecgforge.evaluation.reading_pairs import TRUSTED, choose_sets, draw_records, require_sets, rows_by_set
    from ecgforge.rng import Purpose

    require_new(out)
    store = EcgStore.open(real)
    if store.manifest.synthetic:
        note(f"note: {real} was not measured ({store.manifest.full_source}); the key calls it real")
    supply = _supply(synthetic, model, seed=seed, device=device)
    if (store.rate, store.samples) != (supply.rate, supply.samples):
        raise DataError(
            f"expected real and synthetic records of one rate and length, got {store.samples} samples at "
            f"{store.rate:g} Hz in {real} and {supply.samples} at {supply.rate:g} Hz from {supply.where}"
        )
    rows = rows_by_set(store, folds=None if folds is None else parse_folds(folds), min_label_quality=TRUSTED)
    if statements:
        where = f"{real} (folds {folds or 'all'}, exact statements)"
        sets = require_sets(statements, available=rows.__contains__, where=where)
        sets = require_sets(sets, available=supply.has, where=supply.where)
    else:
        sets = choose_sets(rows, pairs=pairs, available=supply.has)
    originals = draw_records(store, rows, sets, seed=seed, purpose=Purpose.REAL_READING)
    made = supply.draw(sets)
    with progress_bar("Drawing sheets") as progress:
        kit = make_kit(originals, made, out, seed=seed, progress=progress)
    typer.echo(f"{kit.sheets} sheets, {len(sets)} pairs, in {kit.folder} ({kit.name})")
    typer.echo(f"key: {kit.key_file}, SHA-256 {kit.commitment}")
    note("keep the key, and the seed, from the readers")
    note(f"on screen: ecgforge serve --kit {kit.folder}")
    note(f"then: ecgforge turing score {kit.key_file} ANSWERS.csv ...")


@dataclass(frozen=True)
class _Supply:
    """Where synthetic records come from: a store or a model."""

    where: str
    rate: float
    samples: int
    has: Callable[[str], bool]
    draw: Callable[[Sequence[str]], "list[EcgRecord]"]


def _supply(store: Path | None, model: Path | None, *, seed: int, device: str) -> _Supply:
    if store is not None and model is None:
        return _store_supply(store, seed=seed)
    if model is not None and store is None:
        return _model_supply(model, seed=seed, device=device)
    raise ConfigError("expected synthetic records from either --synthetic STORE or --model DIR; give one of them")


def _store_supply(path: Path, *, seed: int) -> _Supply:
    from ecgforge.data.store import EcgStore
    from ecgforge.evaluation.reading_pairs import draw_records, rows_by_set
    from ecgforge.rng import Purpose

    store = EcgStore.open(path)
    if not store.manifest.synthetic:
        raise DataError(f"expected a store of synthetic records as --synthetic, got {path}, which was measured")
    rows = rows_by_set(store)
    return _Supply(
        where=str(path),
        rate=store.rate,
        samples=store.samples,
        has=rows.__contains__,
        draw=lambda sets: draw_records(store, rows, sets, seed=seed, purpose=Purpose.SYNTHETIC_READING),
    )


def _model_supply(model: Path, *, seed: int, device: str) -> _Supply:
    from ecgforge.generate import Generator
    from ecgforge.labels import parse_statements

    generator = Generator.load(model, device=device)
    vocabulary = generator.config.vocabulary

    def draw(sets: Sequence[str]) -> "list[EcgRecord]":
        with progress_bar("Sampling") as progress:
            return generator.sample(sets, seed=seed, progress=progress)

    return _Supply(
        where=str(model),
        rate=generator.config.rate,
        samples=generator.length,
        has=lambda text: None not in map(vocabulary.label_of, parse_statements(text)),
        draw=draw,
    )


# ------------------------------------------------------------------------------------------------ score


@app.command()
def score(
    files: Annotated[
        list[Path],
        typer.Argument(help="KIT-key.json and the readers' answers, or published answers that carry the truth."),
    ],
    out: Annotated[list[Path] | None, typer.Option(help="File to write: .json or .md; repeat for both.")] = None,
    kit: Annotated[
        Path | None, typer.Option(help="Folder of the kit: check its sheets and that the key is unchanged.")
    ] = None,
) -> None:
    """Score the answers to a reading kit: statements correct, judged synthetic; each reader, all, and agreement.

    Example: `ecgforge turing score kit-key.json anna.csv ben.csv --kit kit --out results.json`

    Published answers need no key: a CSV a reader with the columns trials, lbl_codes, y_true_diagnostic,
    y_true_synthetic, y_pred_diagnostic, y_pred_synthetic, a row a sheet, True or False.
    """
    from ecgforge.evaluation.turing import score_json, score_markdown, score_readings
    from ecgforge.formats.atomic import write_whole

    wrong = [path for path in out or () if path.suffix.lower() not in OUT_FORMATS]
    if wrong:
        raise ConfigError(f"expected results to be written as {' or '.join(OUT_FORMATS)}, got {wrong[0]}")
    result = score_readings(_named_apart(_readings(files, kit=kit), files))
    _show(result)
    for path in out or ():
        text = score_json(result) if path.suffix.lower() == ".json" else score_markdown(result)
        typer.echo(f"wrote {write_whole(path, text.encode())}")


def _readings(files: Sequence[Path], *, kit: Path | None) -> "list[Reading]":
    from ecgforge.evaluation.answers import read_answers, read_published
    from ecgforge.evaluation.reading_kit import Key, check_kit

    if files[0].suffix.lower() != ".json":
        if kit is not None:
            raise ConfigError("expected a key to check --kit with, got none; give KIT-key.json as the first file")
        return [read_published(path) for path in files]
    key = Key.read(files[0])
    if kit is not None:
        check_kit(key, files[0], kit)
        typer.echo(f"{kit} is {key.kit}, and its README.txt carries the commitment of this key")
    if len(files) == 1:
        raise ConfigError(f"expected answers after the key {files[0]}, got none; add the readers' CSV files")
    return [read_answers(path, key) for path in files[1:]]


def _named_apart(readings: "list[Reading]", files: Sequence[Path]) -> "list[Reading]":
    """Readers by file name, or by whole path where two files have the same name."""
    if len({reading.reader for reading in readings}) == len(readings):
        return readings
    return [
        replace(reading, reader=str(path))
        for reading, path in zip(readings, files[len(files) - len(readings) :], strict=True)
    ]


def _show(result: "TuringScore") -> None:
    from ecgforge.evaluation.turing import score_notes, score_tables

    console = Console()
    console.print(f"{result.real} real and {result.synthetic} synthetic ECGs")
    for words in score_tables(result):
        table = Table(*words.columns, title=words.title, title_justify="left", box=SIMPLE)
        for row in words.rows:
            table.add_row(*map(escape, row))
        console.print(table)
    for line in score_notes(result):
        console.print(escape(line))

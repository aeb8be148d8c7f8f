"""`ecgforge beats` and `interpolate`: the figures of the papers, and the numbers behind them."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecgforge.errors import ConfigError, DataError
from ecgforge.serving.data_commands import parse_folds
from ecgforge.serving.options import (
    FIGURE_DPI,
    MODEL_HELP,
    SamplerChoice,
    name_of,
    named_stores,
    require_writable,
)
from ecgforge.serving.progress import progress_bar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ecgforge.data.store import EcgStore
    from ecgforge.evaluation.beats import BeatSummary
    from ecgforge.record import EcgRecord


Picture = Annotated[Path, typer.Option(help="Figure to write: .png, .svg or .pdf. The numbers go beside it as .csv.")]


def beats(
    real: Annotated[Path, typer.Option(help="Store with the records to compare with.")],
    out: Picture,
    synthetic: Annotated[
        list[str] | None,
        typer.Option(help="A store with synthetic records as NAME=STORE; NAME stands in the legend. Repeat."),
    ] = None,
    statements: Annotated[
        str | None, typer.Option("--statements", "-s", help="Only records that have all of these, e.g. `NORM,SR`.")
    ] = None,
    leads: Annotated[str, typer.Option(help="Panels, such as `II,V1,V5`; by default all twelve.")] = "",
    n: Annotated[
        int, typer.Option("-n", "--number", min=1, help="Records of each store; fewer if it has no more.")
    ] = 250,
    folds: Annotated[
        str | None, typer.Option(help="Folds of all stores that have some, such as 9; by default all.")
    ] = None,
) -> None:
    """Draw median heart beats, real beside synthetic, with the band between their quartiles.

    A beat runs from 300 ms before its R peak to 500 ms after it. Good synthetic records have their median on the real
    one and a band as wide; a narrow band means too little variety.

    Example: `ecgforge beats --real ptbxl100 --synthetic SSSD-ECG=twin -s NORM,SR --out beats.png`

    Source: Alcaraz and Strodthoff, arXiv 2301.08227, Figures 2 and 3.
    """
    from ecgforge.data.store import EcgStore
    from ecgforge.evaluation.beats import draw_beats, summarise_beats
    from ecgforge.labels import parse_statements
    from ecgforge.leads import STANDARD_LEADS

    _require_picture(out)
    panels = parse_leads(leads) if leads else STANDARD_LEADS
    wanted = parse_statements(statements) if statements else {}
    chosen = {"real": _records(EcgStore.open(real), wanted, n=n, folds=folds)}
    for name, path in named_stores(synthetic or ()).items():
        chosen[name] = _records(EcgStore.open(path), wanted, n=n, folds=folds)
    summaries: dict[str, BeatSummary] = {}
    with progress_bar("Finding beats") as progress:
        for done, (name, records) in enumerate(chosen.items()):
            progress(done, len(chosen))
            summaries[name] = summarise_beats(records)
        progress(len(chosen), len(chosen))
    _write_both(draw_beats(summaries, panels), summaries, out, title=f"Beats {statements or ''}".strip())


def _records(store: "EcgStore", wanted: Mapping[str, float], *, n: int, folds: str | None) -> "list[EcgRecord]":
    """Random records that have all wanted statements, the same ones at every call.

    The first ones would be those recorded first, in PTB-XL by other devices than the last.
    """
    from ecgforge.labels import parse_statements
    from ecgforge.rng import Purpose, record_stream

    has_folds = bool(store.index["fold"].notna().any())
    rows = [int(row) for row in store.rows(folds=parse_folds(folds) if folds and has_folds else None)]
    if wanted:
        texts = store.index["statements"]
        rows = [row for row in rows if texts.iloc[row] and wanted.keys() <= parse_statements(texts.iloc[row]).keys()]
    drawn = sorted(record_stream(0, 0, purpose=Purpose.BEAT_RECORDS).permutation(len(rows))[:n])
    records = [store.record(rows[position]) for position in drawn]
    if not records:
        raise DataError(
            f"expected records with {','.join(wanted) or 'any statements'} in {store.path} (folds {folds or 'all'}), "
            "got none; `ecgforge data info` counts the statements"
        )
    return records


def interpolate(
    a: Annotated[str, typer.Argument(help="Statements at grade 1, such as `NORM,SR`.")],
    b: Annotated[str, typer.Argument(help="Statements at grade 0, such as `CLBBB,SR`.")],
    out: Picture,
    lead: Annotated[str, typer.Option(help="Panels, such as `V1` or `II,V1,V5`.")] = "II,V1,V5",
    n: Annotated[int, typer.Option("-n", "--number", min=1, help="Records at each step between A and B.")] = 50,
    seed: Annotated[int, typer.Option(min=0, help="The same seed gives the same records.")] = 0,
    model: Annotated[Path | None, typer.Option(help=MODEL_HELP)] = None,
    sampler: Annotated[SamplerChoice | None, typer.Option(help="As for `ecgforge generate`.")] = None,
    steps: Annotated[int | None, typer.Option(min=1, help="As for `ecgforge generate`.")] = None,
    device: Annotated[str, typer.Option(help="cpu, cuda or mps.")] = "cpu",
) -> None:
    """Draw how the median beat changes between two statement sets.

    The model gets alpha * A + (1 - alpha) * B for alpha = 0, 0.25, 0.5, 0.75 and 1, from the same N noises each time,
    so all that changes is the condition. Look whether the beat changes gradually, and only where the statements say.

    Example: `ecgforge interpolate NORM,SR CLBBB,SR --lead V1 -n 50 --out clbbb.png`

    Source: Alcaraz and Strodthoff, arXiv 2301.08227, Figures 4 to 6: NORM,SR with IMI,SR,ABQRS (V1), with CLBBB,SR
    (V1), and with LVH,SR,VCLVH (V5).
    """
    from ecgforge.evaluation import interpolation
    from ecgforge.generate import Generator
    from ecgforge.sampling import SamplingOptions

    _require_picture(out)
    panels = parse_leads(lead)
    options = SamplingOptions(sampler=name_of(sampler), steps=steps)
    generator = Generator.load(model, device=device)
    with progress_bar("Sampling") as progress:
        result = interpolation.interpolate(generator, a, b, n=n, seed=seed, options=options, progress=progress)
    figure = interpolation.draw_interpolation(result, panels)
    _write_both(figure, interpolation.named_grades(result), out, title=f"SYNTHETIC {a} to {b}")


def parse_leads(text: str) -> tuple[str, ...]:
    """ "II,v1" -> ("II", "V1").

    Raises:
        DataError: an unknown lead.
    """
    from ecgforge.leads import canonical_lead

    return tuple(canonical_lead(name) for name in text.split(","))


def _require_picture(out: Path) -> None:
    """Before anything is computed: is this a name that a figure can be written under?"""
    from ecgforge.ecg_paper import PICTURE_FORMATS

    if out.suffix.lower().removeprefix(".") not in PICTURE_FORMATS:
        raise ConfigError(f"expected --out ending in .{', .'.join(PICTURE_FORMATS)}, got {out.name!r}")
    require_writable(out.parent)


def _write_both(figure: "Figure", summaries: "Mapping[str, BeatSummary]", out: Path, *, title: str) -> None:
    from ecgforge.ecg_paper import save_figure
    from ecgforge.evaluation.beats import write_beats_csv

    save_figure(figure, out, title=title, dpi=FIGURE_DPI)
    numbers = write_beats_csv(summaries, out.with_suffix(".csv"))
    for name, summary in summaries.items():
        nothing = "" if summary.beats else ": nothing to draw"
        typer.echo(f"{name}: {summary.beats} beats of {summary.records} records{nothing}")
    typer.echo(f"wrote {out} and {numbers}")

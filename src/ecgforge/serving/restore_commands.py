"""`ecgforge complete`, `inpaint` and `vary`: an ECG that exists, and what a model makes of it."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecgforge.errors import ConfigError, DataError
from ecgforge.serving.convert_command import RecordFormat
from ecgforge.serving.notes import note
from ecgforge.serving.options import MODEL_HELP, SamplerChoice, name_of
from ecgforge.serving.progress import progress_bar

if TYPE_CHECKING:
    from ecgforge.generate import Generator
    from ecgforge.record import EcgRecord
    from ecgforge.sampling import SamplingOptions

File = Annotated[Path, typer.Argument(help="An ECG record in any format that ecgforge reads.")]
Out = Annotated[Path, typer.Option(help="Folder for the new records.")]
Number = Annotated[int, typer.Option("-n", "--number", min=1, help="How many records, each drawn anew.")]
Seed = Annotated[int, typer.Option(min=0, help="The same seed gives the same records.")]
Statements = Annotated[
    str | None,
    typer.Option("--statements", "-s", help="What holds of the ECG, e.g. `AFIB`; by default what its file says."),
]
ModelFolder = Annotated[Path | None, typer.Option("--model", help=MODEL_HELP)]
Sampler = Annotated[
    SamplerChoice | None, typer.Option(help="By default unipc to complete and inpaint, dpmpp-sde to vary.")
]
Steps = Annotated[
    int | None,
    typer.Option(
        min=1, help="By default the sampler's, 20 to vary; a step of complete or inpaint is about three calls."
    ),
]
Format = Annotated[RecordFormat, typer.Option(help="File format of the records.")]
Plot = Annotated[bool, typer.Option("--plot", help="Draw every record on ECG paper as well (PNG).")]

Tell = Callable[[int, int], None]
Making = Callable[["Generator", "EcgRecord", "SamplingOptions", Tell], "list[EcgRecord]"]


def complete(
    file: File,
    out: Out,
    leads: Annotated[
        str | None, typer.Option(help="Take only these leads of the file, e.g. `I,II`; by default all it has.")
    ] = None,
    statements: Statements = None,
    n: Number = 1,
    seed: Seed = 0,
    model: ModelFolder = None,
    sampler: Sampler = None,
    steps: Steps = None,
    format: Format = RecordFormat.WFDB,
    plot: Plot = False,
) -> None:
    """Make the twelve leads of an ECG from the leads it has.

    The given leads stay as they are; what they leave open is drawn from the model, so several completions (-n)
    differ there. A completion is a guess, not a measurement: not for diagnosis.

    Example: `ecgforge complete strip.hea --leads I,II --statements NORM,SR --out out --plot`
    """

    def making(
        generator: "Generator", record: "EcgRecord", options: "SamplingOptions", tell: Tell
    ) -> "list[EcgRecord]":
        from ecgforge import restore

        record = record if leads is None else _only(record, leads)
        return restore.complete(
            generator, record, statements=statements, n=n, seed=seed, options=options, progress=tell
        )

    _make(file, out, making, model=model, sampler=sampler, steps=steps, format=format, plot=plot)


def inpaint(
    file: File,
    out: Out,
    gap: Annotated[list[str], typer.Option("--gap", help="Stretch to replace, seconds, e.g. `3:4.5`; repeat.")],
    statements: Statements = None,
    n: Number = 1,
    seed: Seed = 0,
    model: ModelFolder = None,
    sampler: Sampler = None,
    steps: Steps = None,
    format: Format = RecordFormat.WFDB,
    plot: Plot = False,
) -> None:
    """Replace stretches of time of an ECG, in all leads, by what the model makes of the rest.

    Example: `ecgforge inpaint record.hea --gap 3:4.5 --out out --plot`
    """
    gaps = [_stretch(text) for text in gap]

    def making(
        generator: "Generator", record: "EcgRecord", options: "SamplingOptions", tell: Tell
    ) -> "list[EcgRecord]":
        from ecgforge import restore

        return restore.inpaint(
            generator, record, gaps=gaps, statements=statements, n=n, seed=seed, options=options, progress=tell
        )

    _make(file, out, making, model=model, sampler=sampler, steps=steps, format=format, plot=plot)


def vary(
    file: File,
    out: Out,
    distance: Annotated[
        float,
        typer.Option(
            min=0.01,
            max=1.41,
            help="Size of the change over the size of the signal; at 1.41 only rhythm and rate of the ECG are left.",
        ),
    ] = 0.3,
    statements: Statements = None,
    n: Number = 4,
    seed: Seed = 0,
    model: ModelFolder = None,
    sampler: Sampler = None,
    steps: Steps = None,
    format: Format = RecordFormat.WFDB,
    plot: Plot = False,
) -> None:
    """Make variants of an ECG, as near to it as wanted.

    Example: `ecgforge vary record.hea --distance 0.3 -n 4 --out out --plot`
    """

    def making(
        generator: "Generator", record: "EcgRecord", options: "SamplingOptions", tell: Tell
    ) -> "list[EcgRecord]":
        from ecgforge import restore

        return restore.vary(
            generator, record, distance=distance, statements=statements, n=n, seed=seed, options=options, progress=tell
        )

    _make(file, out, making, model=model, sampler=sampler, steps=steps, format=format, plot=plot)


def _make(
    file: Path,
    out: Path,
    making: Making,
    *,
    model: Path | None,
    sampler: SamplerChoice | None,
    steps: int | None,
    format: RecordFormat,
    plot: bool,
) -> None:
    from ecgforge.ecg_paper import save_ecg
    from ecgforge.formats import read_record, write_record
    from ecgforge.generate import Generator
    from ecgforge.rates import resample_record
    from ecgforge.sampling import SamplingOptions

    record = read_record(file)
    generator = Generator.load(model)
    if record.rate != generator.config.rate:
        note(f"resampled from {record.rate:g} to the model's {generator.config.rate:g} Hz")
        record = resample_record(record, generator.config.rate)
    options = SamplingOptions(sampler=name_of(sampler), steps=steps)
    with progress_bar("Sampling") as progress:
        made = making(generator, record, options, progress)
    for number, one in enumerate(made):
        base = out / f"{file.stem}-{number:03d}"
        typer.echo(f"wrote {write_record(one, base, format=format.value)}")
        if plot:
            save_ecg(one, base.with_name(base.name + ".png"))


def _only(record: "EcgRecord", leads: str) -> "EcgRecord":
    from dataclasses import replace

    from ecgforge.leads import canonical_lead

    names = [canonical_lead(name) for name in leads.split(",") if name.strip()]
    if not names:
        raise ConfigError(f"expected lead names such as I,II, got {leads!r}")
    return replace(record, signal=record.in_leads(names), leads=tuple(names))


def _stretch(text: str) -> tuple[float, float]:
    begin, _, end = text.partition(":")
    try:
        return float(begin), float(end)
    except ValueError:
        raise DataError(f"expected a gap as begin:end in seconds, such as 3:4.5, got {text!r}") from None

"""`ecgforge generate` and `demo`."""

import json
import re
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecgforge.serving.convert_command import RecordFormat
from ecgforge.serving.notes import note
from ecgforge.serving.options import (
    GUIDANCE_HELP,
    INTERVAL_HELP,
    MODEL_HELP,
    PRECISION_HELP,
    OthersChoice,
    PrecisionChoice,
    SamplerChoice,
    SexChoice,
    interval_of,
    name_of,
    require_writable,
)
from ecgforge.serving.progress import progress_bar

if TYPE_CHECKING:
    from ecgforge.record import EcgRecord

DEMO_STATEMENTS = ("NORM,SR", "AFIB", "CLBBB,SR", "CRBBB,SR", "IMI,SR,ABQRS", "LVH,SR,VCLVH", "STACH", "PACE")


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
            min=1,
            help="Noise levels visited, a network call at each and a second one where guidance acts; default 50 for "
            "ddpm (the papers take 200), else 20; for PatchS4 7 with dpmpp, 10 with unipc.",
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
    guidance: Annotated[float | None, typer.Option(min=0, help=GUIDANCE_HELP)] = None,
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
    from ecgforge.parallel import sample_jobs
    from ecgforge.rates import resample_record
    from ecgforge.sampling import SamplingOptions, jobs_of

    facts = Facts(age=age, sex=sex, heart_rate=heart_rate)
    options = SamplingOptions(
        sampler=name_of(sampler),
        steps=steps,
        batch_size=batch_size,
        others=others.value,
        guidance=guidance,
        guidance_interval=interval_of(guidance_interval),
        precision=precision.value,
        duration=duration,
    )
    require_writable(out)
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


def _tell_weights() -> None:
    from ecgforge.generate import DEFAULT_MODEL

    note(f"weights: {DEFAULT_MODEL}; they came with ecgforge, and no network is used")


def demo(
    out: Annotated[Path, typer.Option(help="Folder for records and pictures.")] = Path("out/demo"),
) -> None:
    """Generate an ECG for each of a handful of statement sets with the default weights: a first look."""
    from ecgforge.generate import Generator

    require_writable(out)
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

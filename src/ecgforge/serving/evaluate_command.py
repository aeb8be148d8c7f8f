"""`ecgforge evaluate`: a data set's synthetic twins judged against it."""

import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecgforge.serving.data_commands import parse_folds
from ecgforge.serving.notes import note
from ecgforge.serving.options import classifier_recipe, named_stores, whole_numbers
from ecgforge.serving.progress import progress_bar

if TYPE_CHECKING:
    from ecgforge.training.loop import Status


def evaluate(
    real: Annotated[Path, typer.Option(help="Store of the real records.")],
    out: Annotated[Path, typer.Option(help="Folder of the report; classifiers are kept there too.")],
    synthetic: Annotated[
        list[str] | None,
        typer.Option(help="Store of synthetic records, as NAME=STORE; repeat for several, see `ecgforge copy`."),
    ] = None,
    classifier: Annotated[str, typer.Option(help="Preset of the classifiers, see `ecgforge presets`.")] = (
        "xresnet1d50-benchmark"
    ),
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of the classifiers, e.g. `batch_size=64`; repeat.")
    ] = None,
    test_folds: Annotated[str, typer.Option(help="Folds to test on, e.g. `9` or `9,10`.")] = "9",
    seeds: Annotated[str, typer.Option(help="A classifier is trained from each, e.g. `0,1,2`.")] = "0",
    pathologies: Annotated[
        str | None, typer.Option(help="Statements scored one by one; by default AFIB, CRBBB, 1AVB and PVC.")
    ] = None,
    augment: Annotated[bool, typer.Option("--augment", help="Also train on real and synthetic together.")] = False,
    processes: Annotated[int, typer.Option(min=1, help="Processes that measure waves.")] = 1,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda or mps.")] = "auto",
) -> None:
    """Judge synthetic data sets: classifiers trained on one and tested on another, fidelity, physiology, beats.

    Writes a report. Training the classifiers takes most of the time; stopped, the same command goes on. Without
    `--synthetic` it tells how good the yardstick is, a classifier trained and tested on real records.

    Example: `ecgforge evaluate --real ptbxl100 --synthetic sssd=twin100 --out report`
    """
    from ecgforge.data.store import EcgStore
    from ecgforge.evaluation.assessment import assess
    from ecgforge.evaluation.protocols import Protocol
    from ecgforge.evaluation.report import write_report

    protocol = Protocol(
        classifier=classifier_recipe(classifier, set_ or ()),
        test_folds=parse_folds(test_folds),
        seeds=whole_numbers(seeds),
        pathologies=None if pathologies is None else tuple(filter(None, map(str.strip, pathologies.split(",")))),
        augment=augment,
    )
    stores = {name: EcgStore.open(path) for name, path in named_stores(synthetic or ()).items()}
    with progress_bar("Measuring") as bar:
        assessment = assess(
            EcgStore.open(real),
            stores,
            out,
            protocol=protocol,
            processes=processes,
            device=device,
            report=_tell,
            progress=lambda what, done, total: bar(done, total),
        )
    written = write_report(assessment, out, command=shlex.join(["ecgforge", *sys.argv[1:]]))
    for cell in assessment.cells:
        interval = cell.macro
        typer.echo(
            f"{cell.trained_on} -> {cell.tested_on}: macro AUROC {interval.estimate:.4f} "
            f"({interval.low:.4f} to {interval.high:.4f})"
        )
    typer.echo(f"report: {written[-1]}")


_LINES = 10  # status lines of one training


def _tell(what: str, status: "Status") -> None:
    if status.step % max(20, status.total // _LINES // 20 * 20) == 0 or status.step == status.total:
        score = "" if status.score is None else f", validation {status.score:.4f}"
        note(f"classifier of {what}: step {status.step}/{status.total}, loss {status.loss:.4f}{score}")

"""`ecgforge study`: what synthetic records add to real ones, and how soon a generator is good."""

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecgforge.serving.data_commands import parse_folds
from ecgforge.serving.notes import note
from ecgforge.serving.options import (
    FIGURE_DPI,
    MODEL_HELP,
    SamplerChoice,
    classifier_recipe,
    name_of,
    require_writable,
    whole_numbers,
)

if TYPE_CHECKING:
    from ecgforge.evaluation.curves import Curve
    from ecgforge.evaluation.protocols import Protocol
    from ecgforge.evaluation.studies import Study
    from ecgforge.sampling import SamplingOptions
    from ecgforge.training.loop import Status

app = typer.Typer(
    no_args_is_help=True,
    help="The studies of SSSD-ECG-nle: what synthetic records with a pathology add to real "
    "data, and how soon a generator is good. "
    "Each trains many classifiers and draws one curve.",
)

# ---------------------------------------------------------------------------------------- study augment

RealStore = Annotated[Path, typer.Option("--real", help="Store of the real records, see `ecgforge data build`.")]
OutFolder = Annotated[
    Path, typer.Option("--out", help="Folder for curve.png and curve.csv, and for all that is trained and sampled.")
]
Seeds = Annotated[str, typer.Option("--seeds", help="A classifier is trained from each, at every point of the curve.")]
TestFolds = Annotated[str, typer.Option("--test-folds", help="Folds to test on, e.g. `9` or `9,10`.")]
ClassifierPreset = Annotated[
    str, typer.Option("--classifier", help="Preset of the classifiers, see `ecgforge presets`.")
]
ClassifierSettings = Annotated[
    list[str] | None,
    typer.Option("--classifier-set", help="A setting of the classifiers, e.g. `batch_size=64`; repeat."),
]
Sampler = Annotated[SamplerChoice | None, typer.Option("--sampler", help="As for `ecgforge generate`.")]
Steps = Annotated[int | None, typer.Option("--steps", min=1, help="As for `ecgforge generate`.")]
BatchSize = Annotated[int, typer.Option("--batch-size", min=1, help="Records sampled at once: speed and memory.")]
Processes = Annotated[int, typer.Option("--processes", min=1, help="Sampling processes of one thread each.")]
Device = Annotated[
    str, typer.Option("--device", help="auto, cpu, cuda or mps; auto trains on the fastest and samples on the cpu.")
]

_DEFAULT_CLASSIFIER = "xresnet1d50-benchmark"


@app.command()
def augment(
    real: RealStore,
    statement: Annotated[str, typer.Option("--statement", "-s", help="The pathology, such as `AFIB`.")],
    out: OutFolder,
    counts: Annotated[
        str, typer.Option(help="How many synthetic records with it are added; 0 is the real data alone.")
    ] = "0,100,300,1000",
    seeds: Seeds = "0,1,2",
    real_records: Annotated[
        int | None,
        typer.Option(min=1, help="Learn from so many real records only, drawn once at random; by default from all."),
    ] = None,
    model: Annotated[Path | None, typer.Option(help=MODEL_HELP)] = None,
    classifier: ClassifierPreset = _DEFAULT_CLASSIFIER,
    classifier_set: ClassifierSettings = None,
    test_folds: TestFolds = "9",
    sampler: Sampler = None,
    steps: Steps = None,
    batch_size: BatchSize = 8,
    processes: Processes = 1,
    device: Device = "auto",
) -> None:
    """Draw what adding k synthetic records with a pathology does to classifiers trained on real ones.

    For each k and seed one classifier learns from the real records and the first k synthetic ones. It is tested on
    real records: AUROC, and G-mean and F1 at the threshold with the best G-mean on the validation folds. The same seed
    starts alike at every k, so compare seed by seed. Training takes the time; a finished classifier is not trained
    again, and stopped, the same command goes on. More counts and seeds can be asked for later.

    Where real records are plenty, synthetic ones add little: `--real-records 500` shows what they add where records
    are few. The generator may still have seen the others; train one on those folds alone to be strict.

    Example: `ecgforge study augment --real ptbxl100 -s AFIB --counts 0,100,300,1000 --real-records 500 --out afib`

    Source: arXiv 2407.11108 (SSSD-ECG-nle).
    """
    from ecgforge.checkpoints.locate import locate_model
    from ecgforge.evaluation.augmentation import study_augmentation
    from ecgforge.sampling import SamplingOptions

    study = _study(
        real,
        out,
        protocol=_protocol(classifier, classifier_set, test_folds=test_folds, seeds=seeds),
        options=SamplingOptions(sampler=name_of(sampler), steps=steps, batch_size=batch_size),
        processes=processes,
        device=device,
    )
    curve = study_augmentation(
        study,
        statement=statement,
        counts=whole_numbers(counts),
        real_records=real_records,
        model=locate_model(model),
    )
    _write_curve(curve, out)


# ------------------------------------------------------------------------------------ study convergence


@app.command()
def convergence(
    preset: Annotated[str, typer.Argument(help="The generator to train; `ecgforge presets` lists them.")],
    real: RealStore,
    out: OutFolder,
    budgets: Annotated[
        str, typer.Option(help="Viewed samples (steps x batch size) at which the generator is judged.")
    ] = "10000,30000,100000",
    seeds: Seeds = "0,1,2",
    set_: Annotated[
        list[str] | None, typer.Option("--set", help="A setting of the generator, e.g. `batch_size=16`; repeat.")
    ] = None,
    classifier: ClassifierPreset = _DEFAULT_CLASSIFIER,
    classifier_set: ClassifierSettings = None,
    test_folds: TestFolds = "9",
    sampler: Sampler = None,
    steps: Steps = None,
    batch_size: BatchSize = 8,
    processes: Processes = 1,
    device: Device = "auto",
) -> None:
    """Draw how good a generator is after so many viewed samples.

    The generator is trained once, at a constant learning rate and on windows of its last stage, and kept at every
    budget. Each kept model copies the training and validation folds, classifiers learn from the copy, and are tested
    on real records. The measure is the macro AUROC; for a generator of one pathology AUROC, G-mean and F1. The spread
    is that of the classifiers: there is one generator.

    Copying takes long: `--classifier-set data.folds=[1,2]` copies, and learns from, fewer folds. Stopped, the same
    command goes on. More seeds and larger budgets can be asked for later.

    Example: `ecgforge study convergence sssd-ecg-nle-afib --real ptbxl100 --budgets 10000,30000,100000 --out afib`

    Source: arXiv 2407.11108 (SSSD-ECG-nle).
    """
    from ecgforge.config import resolve
    from ecgforge.evaluation.convergence import study_convergence
    from ecgforge.sampling import SamplingOptions
    from ecgforge.training.presets import preset as preset_named

    study = _study(
        real,
        out,
        protocol=_protocol(classifier, classifier_set, test_folds=test_folds, seeds=seeds),
        options=SamplingOptions(sampler=name_of(sampler), steps=steps, batch_size=batch_size),
        processes=processes,
        device=device,
    )
    config = resolve(preset_named(preset), overrides=set_ or ())
    _write_curve(study_convergence(study, config=config, budgets=whole_numbers(budgets)), out)


# ------------------------------------------------------------------------------- shared by both studies


def _study(
    real: Path, out: Path, *, protocol: "Protocol", options: "SamplingOptions", processes: int, device: str
) -> "Study":
    from ecgforge.data.store import EcgStore
    from ecgforge.evaluation.studies import Study

    say, store = _Lines(), EcgStore.open(real)
    require_writable(out)
    return Study(
        real=store,
        folder=out,
        protocol=protocol,
        options=options,
        processes=processes,
        device=device,
        report=say.status,
        progress=say.progress,
    )


def _protocol(classifier: str, settings: list[str] | None, *, test_folds: str, seeds: str) -> "Protocol":
    from ecgforge.evaluation.protocols import Protocol

    recipe = classifier_recipe(classifier, settings or ())
    return Protocol(classifier=recipe, test_folds=parse_folds(test_folds), seeds=whole_numbers(seeds))


_LINE_SECONDS = 30  # between two lines of one training or sampling


class _Lines:
    """What is trained or sampled, as lines: when something else begins, every half minute, and at its end."""

    def __init__(self) -> None:
        self._what = ""
        self._said = 0.0

    def status(self, what: str, status: "Status") -> None:
        score = "" if status.score is None else f", validation {status.score:.4f}"
        self._say(what, status.step, status.total, f", loss {status.loss:.4f}{score}")

    def progress(self, what: str, done: int, total: int) -> None:
        self._say(what, done, total, " records")

    def _say(self, what: str, done: int, total: int, rest: str) -> None:
        if what != self._what or done == total or time.monotonic() - self._said >= _LINE_SECONDS:
            self._what, self._said = what, time.monotonic()
            note(f"{what}: {done}/{total}{rest}")


def _write_curve(curve: "Curve", out: Path) -> None:
    from ecgforge.ecg_paper import save_figure
    from ecgforge.evaluation.curves import draw_curve, write_curve

    picture, table = out / "curve.png", out / "curve.csv"
    save_figure(draw_curve(curve), picture, title=curve.note, dpi=FIGURE_DPI)
    write_curve(curve, table)
    typer.echo(curve.note)
    for line in curve.summary():
        typer.echo(line)
    typer.echo(f"wrote {picture} and {table}")

"""`ecgforge beats`, `interpolate` and `study`: the figures of the papers, and the numbers behind them."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ecgforge.errors import ConfigError, DataError
from ecgforge.serving.data_commands import parse_folds
from ecgforge.serving.evaluate_command import whole_numbers
from ecgforge.serving.notes import note
from ecgforge.serving.options import MODEL_HELP, SamplerChoice, name_of
from ecgforge.serving.progress import progress_bar

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from ecgforge.data.store import EcgStore
    from ecgforge.evaluation.beats import BeatSummary
    from ecgforge.evaluation.curves import Curve
    from ecgforge.evaluation.protocols import Protocol
    from ecgforge.evaluation.studies import Study
    from ecgforge.generate import SamplingOptions
    from ecgforge.record import EcgRecord
    from ecgforge.training.loop import Status

app = typer.Typer(
    no_args_is_help=True,
    help="The studies of SSSD-ECG-nle: what synthetic records with a pathology add to real "
    "data, and how soon a generator is good. "
    "Each trains many classifiers and draws one curve.",
)

FIGURE_DPI = 150.0

Picture = Annotated[Path, typer.Option(help="Figure to write: .png, .svg or .pdf. The numbers go beside it as .csv.")]


# ------------------------------------------------------------------------------------------------ beats


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
    folds: Annotated[str | None, typer.Option(help="Folds of the real records, such as 9; by default all.")] = None,
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
    for given in synthetic or ():
        name, path = _named_store(given)
        if name in chosen:
            raise ConfigError(f"expected a name of its own for each store, got {name!r} twice")
        chosen[name] = _records(EcgStore.open(path), wanted, n=n, folds=None)
    summaries: dict[str, BeatSummary] = {}
    with progress_bar("Finding beats") as progress:
        for done, (name, records) in enumerate(chosen.items()):
            progress(done, len(chosen))
            summaries[name] = summarise_beats(records)
        progress(len(chosen), len(chosen))
    _write_both(draw_beats(summaries, panels), summaries, out, title=f"Beats {statements or ''}".strip())


def _records(store: "EcgStore", wanted: Mapping[str, float], *, n: int, folds: str | None) -> "list[EcgRecord]":
    """The first n records of a store that have all wanted statements."""
    from ecgforge.labels import parse_statements

    rows = [int(row) for row in store.rows(folds=None if folds is None else parse_folds(folds))]
    if wanted:
        texts = store.index["statements"]
        rows = [row for row in rows if texts.iloc[row] and wanted.keys() <= parse_statements(texts.iloc[row]).keys()]
    records = [store.record(row) for row in rows[:n]]
    if not records:
        raise DataError(
            f"expected records with {','.join(wanted) or 'any statements'} in {store.path} (folds {folds or 'all'}), "
            "got none; `ecgforge data info` counts the statements"
        )
    return records


def _named_store(given: str) -> tuple[str, Path]:
    name, equals, path = given.partition("=")
    if not (name and equals and path):
        raise ConfigError(f"expected --synthetic NAME=STORE, such as SSSD-ECG=stores/twin, got {given!r}")
    return name, Path(path)


# ------------------------------------------------------------------------------------------ interpolate


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
    from ecgforge.generate import Generator, SamplingOptions

    _require_picture(out)
    panels = parse_leads(lead)
    options = SamplingOptions(sampler=name_of(sampler), steps=steps)
    generator = Generator.load(model, device=device)
    with progress_bar("Sampling") as progress:
        result = interpolation.interpolate(generator, a, b, n=n, seed=seed, options=options, progress=progress)
    figure = interpolation.draw_interpolation(result, panels)
    _write_both(figure, interpolation.named_grades(result), out, title=f"SYNTHETIC {a} to {b}")


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
    from ecgforge.generate import SamplingOptions

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
    from ecgforge.generate import SamplingOptions
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
    _make_folder(out)
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
    from ecgforge.config import resolve
    from ecgforge.evaluation.protocols import Protocol
    from ecgforge.training.presets import preset
    from ecgforge.training.settings import ClassifierTraining

    recipe = resolve(preset(classifier), overrides=settings or ())
    if not isinstance(recipe, ClassifierTraining):
        raise ConfigError(f"expected the preset of a classifier as --classifier, got {classifier}")
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


# ---------------------------------------------------------------------------------------- shared by all


def _make_folder(folder: Path) -> None:
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(f"expected a folder that can be written for --out, got {folder}: {error}") from error


# ------------------------------------------------------------------------------- beats and interpolate


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
    _make_folder(out.parent)


def _write_both(figure: "Figure", summaries: "Mapping[str, BeatSummary]", out: Path, *, title: str) -> None:
    from ecgforge.ecg_paper import save_figure
    from ecgforge.evaluation.beats import write_beats_csv

    save_figure(figure, out, title=title, dpi=FIGURE_DPI)
    numbers = write_beats_csv(summaries, out.with_suffix(".csv"))
    for name, summary in summaries.items():
        nothing = "" if summary.beats else ": nothing to draw"
        typer.echo(f"{name}: {summary.beats} beats of {summary.records} records{nothing}")
    typer.echo(f"wrote {out} and {numbers}")

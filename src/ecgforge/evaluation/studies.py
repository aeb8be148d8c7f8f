"""Two studies of SSSD-ECG-nle: quality against viewed samples, and synthetic positives added to real training data.

Source: arXiv 2407.11108, section on experiments; its tables' numbers are not repeated here.
"""

import csv
import io
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
from matplotlib.figure import Figure

from ecgforge.data.store import EcgStore, StoreWriter
from ecgforge.errors import ConfigError, DataError
from ecgforge.evaluation.protocols import train_classifier, truth_of
from ecgforge.formats.atomic import write_whole
from ecgforge.generate import Generator, Job, SamplingOptions, sample_jobs
from ecgforge.record import EcgRecord
from ecgforge.rng import record_stream
from ecgforge.scores import choose_threshold, macro_auroc, score_pathology
from ecgforge.training.loop import Status, train
from ecgforge.training.settings import ClassifierTraining, DiffusionTraining, WassersteinTraining
from ecgforge.twin import copy_store

_CHOICE = 4  # purpose of the random streams that choose statement sets

Tell = Callable[[str, Status], None]


@dataclass(frozen=True)
class CurvePoint:
    """One training of one classifier.

    Attributes:
        x: Viewed samples, or synthetic positives added.
        seed: Of the classifier.
        values: (measure, value), e.g. ("AUROC", 0.91).
    """

    x: int
    seed: int
    values: tuple[tuple[str, float], ...]


def _told(tell: Tell | None, what: str) -> Callable[[Status], None] | None:
    """A training's report that says what is trained."""
    return partial(tell, what) if tell else None


# ---------------------------------------------------------------------------- added synthetic positives


def study_augmentation(
    real: EcgStore,
    folder: Path,
    *,
    statement: str,
    counts: Sequence[int],
    recipe: ClassifierTraining,
    seeds: Sequence[int],
    test_folds: Sequence[int] = (9,),
    model: Path | None = None,
    options: SamplingOptions = SamplingOptions(),
    processes: int = 1,
    device: str = "auto",
    tell: Tell | None = None,
) -> tuple[CurvePoint, ...]:
    """Classifiers trained on the real records plus k synthetic ones with a statement, for each k and seed.

    The synthetic records' statement sets are drawn from the real training records that have the statement. Of k and a
    larger k' the first k records are the same. Threshold by G-mean on the real validation folds.

    Args:
        real: Real records.
        folder: For synthetic stores and classifiers; the same call again resumes.
        statement: Code of the pathology.
        counts: Numbers of synthetic positives k; 0 is the real data alone.
        recipe: Of the classifiers.
        seeds: One classifier each, for every k.
        test_folds: Real records tested on.
        model: Generator, None for the default.
        options: Of sampling.
        processes: Of sampling.
        device: Of training.
        tell: Called with (what is done, status).

    Raises:
        ConfigError: no count, or one below 0.
        DataError: no real training record has the statement.
    """
    if not counts or min(counts) < 0:
        raise ConfigError(f"expected numbers of synthetic records of 0 or more, got {list(counts)}")
    extra = _synthetic_positives(real, folder / "synthetic", statement, max(counts), recipe, model, options, processes)
    points = []
    for count in sorted(set(counts)):
        part = _first_records(extra, folder / f"first-{count}", count) if count else None
        for seed in seeds:
            name = f"{statement}+{count}-{seed}"
            classifier = train_classifier(
                real,
                folder / "classifiers" / name,
                recipe=recipe,
                seed=seed,
                device=device,
                report=_told(tell, name),
                extra=part,
            )
            column = classifier.config.labels.index(statement)
            validation = real.rows(folds=recipe.validation_folds)
            tested = real.rows(folds=tuple(test_folds))
            threshold = choose_threshold(
                truth_of(real, validation, classifier)[:, column],
                classifier.predict(real, validation)[:, column],
                maximise="g-mean",
            )
            scores = score_pathology(
                truth_of(real, tested, classifier)[:, column],
                classifier.predict(real, tested)[:, column],
                threshold=threshold,
            )
            values = (("AUROC", scores.auroc), ("G-mean", scores.g_mean), ("F1", scores.f1))
            points.append(CurvePoint(x=count, seed=seed, values=values))
    return tuple(points)


def _synthetic_positives(
    real: EcgStore,
    dest: Path,
    statement: str,
    count: int,
    recipe: ClassifierTraining,
    model: Path | None,
    options: SamplingOptions,
    processes: int,
) -> EcgStore:
    if dest.exists():
        return EcgStore.open(dest)
    rows = real.rows(folds=recipe.data.folds)
    having = [int(row) for row in rows if statement in real.record(int(row)).statements]
    if not having:
        raise DataError(f"expected training records with {statement} in folds {recipe.data.folds}, got none")
    known = Generator.load(model).config
    jobs: list[Job] = []
    for index in range(max(count, 1)):
        picked = real.record(having[int(record_stream(0, index, purpose=_CHOICE).integers(len(having)))])
        jobs.append((index, {code: 1.0 for code in picked.statements if known.vocabulary.label_of(code)}))
    records = sample_jobs(jobs, seed=0, options=options, model=model, processes=processes)
    _write_store(dest, records, fold=recipe.data.folds[0], source=f"ecgforge model {known.name}")
    return EcgStore.open(dest)


def _first_records(store: EcgStore, dest: Path, count: int) -> EcgStore:
    if not dest.exists():
        records = (store.record(row) for row in range(count))
        _write_store(dest, records, fold=int(store.index["fold"].iloc[0]), source=store.manifest.source)
    return EcgStore.open(dest)


def _write_store(dest: Path, records: Iterator[EcgRecord], *, fold: int, source: str) -> None:
    first = next(records)
    with StoreWriter(dest, rate=first.rate, samples=first.signal.shape[1], source=source, synthetic=True) as writer:
        for record in (first, *records):
            writer.add(replace(record, provenance=replace(record.provenance, fold=fold)))


# --------------------------------------------------------------------------- quality and viewed samples


def study_convergence(
    real: EcgStore,
    folder: Path,
    *,
    config: DiffusionTraining | WassersteinTraining,
    budgets: Sequence[int],
    recipe: ClassifierTraining,
    seeds: Sequence[int],
    test_folds: Sequence[int] = (9,),
    options: SamplingOptions = SamplingOptions(),
    processes: int = 1,
    device: str = "auto",
    tell: Tell | None = None,
) -> tuple[CurvePoint, ...]:
    """Train-synthetic-test-real of one generator after several numbers of viewed samples.

    The generator is trained once, to the largest budget, and kept on the way; with a learning rate that falls at the
    end only the last point has seen the fall. Every kept model copies the folds that the classifiers need.

    Args:
        real: Real records.
        folder: For generator, twins and classifiers; the same call again resumes.
        config: Of the generator; its steps are set by the largest budget.
        budgets: Viewed samples.
        recipe: Of the classifiers.
        seeds: One classifier each, for every budget.
        test_folds: Real records tested on.
        options: Of sampling.
        processes: Of sampling.
        device: Of training.
        tell: Called with (what is done, status).

    Raises:
        ConfigError: a budget is below one step.
    """
    a_step = config.batch_size * (config.critic_steps if isinstance(config, WassersteinTraining) else 1)
    steps = sorted({budget // a_step for budget in budgets})
    if not steps or steps[0] < 1:
        raise ConfigError(f"expected budgets of {a_step} viewed samples (one step) or more, got {list(budgets)}")
    longest = replace(
        config,
        stages=(replace(config.stages[-1], steps=steps[-1]),),
        keep_models_at=tuple(steps),
    )
    run = folder / "generator"
    train(longest, real, run, device=device, report=_told(tell, "generator"))
    points = []
    for step in steps:
        twin = _twin_at(step, real, folder, run, recipe, options, processes)
        for seed in seeds:
            name = f"viewed-{step * a_step}-{seed}"
            classifier = train_classifier(
                twin,
                folder / "classifiers" / name,
                recipe=recipe,
                seed=seed,
                device=device,
                report=_told(tell, name),
            )
            rows = real.rows(folds=tuple(test_folds))
            scored = macro_auroc(
                truth_of(real, rows, classifier),
                classifier.predict(real, rows),
                vocabulary=classifier.config.vocabulary,
            )
            points.append(CurvePoint(x=step * a_step, seed=seed, values=(("macro AUROC", scored.macro),)))
    return tuple(points)


def _twin_at(
    step: int,
    real: EcgStore,
    folder: Path,
    run: Path,
    recipe: ClassifierTraining,
    options: SamplingOptions,
    processes: int,
) -> EcgStore:
    dest = folder / "twins" / f"{step:07d}"
    if dest.exists():
        return EcgStore.open(dest)
    folds = (*recipe.data.folds, *recipe.validation_folds)
    return copy_store(real, dest, model=run / "kept" / f"{step:07d}", folds=folds, options=options, processes=processes)


# ------------------------------------------------------------------------------------------------ curves


def by_measure(points: Sequence[CurvePoint]) -> dict[str, dict[int, list[float]]]:
    """Values of all seeds: measure -> x -> values."""
    curves: dict[str, dict[int, list[float]]] = {}
    for point in points:
        for measure, value in point.values:
            curves.setdefault(measure, {}).setdefault(point.x, []).append(value)
    return curves


def write_curve(points: Sequence[CurvePoint], path: Path) -> Path:
    """All points as CSV: x, seed and a column for each measure."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    measures = [measure for measure, _ in points[0].values]
    writer.writerow(["x", "seed", *measures])
    writer.writerows([point.x, point.seed, *(f"{value:.6f}" for _, value in point.values)] for point in points)
    write_whole(path, text.getvalue().encode())
    return path


def draw_curve(points: Sequence[CurvePoint], *, x_label: str) -> Figure:
    """Mean over the seeds with the range of all seeds, one panel a measure."""
    curves: Mapping[str, Mapping[int, Sequence[float]]] = by_measure(points)
    figure = Figure(figsize=(4.2 * len(curves), 3.4), layout="constrained")
    for axes, (measure, curve) in zip(np.ravel(figure.subplots(1, len(curves))), curves.items(), strict=True):
        x = sorted(curve)
        axes.fill_between(x, [min(curve[k]) for k in x], [max(curve[k]) for k in x], alpha=0.25, linewidth=0)
        axes.plot(x, [float(np.mean(curve[k])) for k in x], marker="o")
        axes.set(xlabel=x_label, ylabel=measure)
        axes.grid(alpha=0.3)
    return figure

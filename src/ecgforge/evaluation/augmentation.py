"""Study: what do k synthetic records with a pathology add to a real training set?

Source: arXiv 2407.11108, the experiments on adding synthetic positive samples.
"""

import hashlib
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
from jaxtyping import Int, Int16

from ecgforge.data.store import EcgStore
from ecgforge.errors import ConfigError, DataError
from ecgforge.evaluation.curves import Curve, CurvePoint
from ecgforge.evaluation.studies import PATHOLOGY_MEASURES, Study
from ecgforge.generate import Generator
from ecgforge.labels import custom_vocabulary
from ecgforge.labels import statement as named_statement
from ecgforge.rng import Purpose, record_stream
from ecgforge.training.records import label_vocabulary, select_data
from ecgforge.training.settings import ClassifierTraining


def study_augmentation(
    study: Study,
    *,
    statement: str,
    counts: Sequence[int],
    real_records: int | None = None,
    model: Path | None = None,
) -> Curve:
    """Classifiers trained on real records plus k synthetic ones that have a statement, for each k and seed.

    Whatever k, a classifier of one seed starts from the same weights and takes the same number of steps. The synthetic
    records of a smaller k are the first ones of a larger k. Weights, and threshold by G-mean, are chosen on the real
    validation folds; the scores are those on the real test folds.

    Args:
        study: Records, recipe, seeds. Seeds can be added to a finished study, and further counts: the longer row of
            synthetic records begins with those that were there.
        statement: Code of the pathology.
        counts: Numbers k of synthetic positives; 0 is the real data alone.
        real_records: Learn from this many real records only, the first of a fixed random order. What synthetic records
            add shows where real ones are few. The validation folds stay whole.
        model: Generator, None for the default.

    Raises:
        LabelError: no such statement.
        ConfigError: a count or the number of real records is out of range, or generator or classifiers do not know the
            statement.
        DataError: the records do not fit recipe or generator, no record learned from has the statement, validation or
            test folds cannot be scored on it, or the folder holds synthetic records made otherwise.
        CheckpointError: the folder holds other classifiers.
    """
    recipe = study.protocol.classifier
    wanted = sorted(set(counts))
    if not wanted or wanted[0] < 0:
        raise ConfigError(f"expected numbers of synthetic positives of 0 or more, got {list(counts)}")
    statement = named_statement(statement).code
    if statement not in label_vocabulary(recipe.data).labels:
        raise ConfigError(
            f"expected a statement that the classifiers learn, got {statement}; they learn the label set "
            f"{label_vocabulary(recipe.data).describe()}"
        )
    study.require_scorable(statement)
    learned = real_part(study.real, recipe, records=real_records)
    select_data(learned, recipe)  # what does not fit is told before the sampling
    positives = _positives(study, learned, statement, count=wanted[-1], model=model) if wanted[-1] else None
    points = []
    for count in wanted:
        store = with_first(learned, positives, count) if positives and count else learned
        of = f"with {count} synthetic {statement}"
        for seed, classifier in study.classifiers(store, f"added-{count:05d}", of):
            points.append(CurvePoint(count, seed, study.score(classifier, statement, chosen_on=study.real)))
    real_rows = learned.rows(folds=recipe.data.folds)
    note = f"{len(real_rows)} real records, {len(rows_having(learned, statement, recipe))} with {statement}"
    return Curve(f"synthetic {statement} added", PATHOLOGY_MEASURES, tuple(points), note)


def real_part(real: EcgStore, recipe: ClassifierTraining, *, records: int | None) -> EcgStore:
    """The real records to learn from, then those to validate on; in memory.

    Args:
        real: All records.
        recipe: Its folds.
        records: How many to learn from, the first of a fixed random order; None for all.

    Raises:
        ConfigError: there are not so many.
    """
    rows = real.rows(folds=recipe.data.folds, min_label_quality=recipe.data.min_label_quality)
    if records is not None:
        if not 1 <= records <= len(rows):
            raise ConfigError(f"expected 1 to {len(rows)} real records to learn from, got {records}")
        rows = np.sort(record_stream(0, 0, purpose=Purpose.KEPT_REAL).permutation(rows)[:records])
    rows = np.concatenate([rows, real.rows(folds=recipe.validation_folds)])
    return _in_memory(real, real.index.iloc[rows], real.signals[rows], source=real.manifest.full_source)


def rows_having(learned: EcgStore, statement: str, recipe: ClassifierTraining) -> Int[np.ndarray, " N"]:
    """Rows learned from that have the statement."""
    rows = learned.rows(folds=recipe.data.folds)
    return rows[learned.labels(custom_vocabulary((statement,)))[rows, 0] > 0]


def with_first(learned: EcgStore, positives: EcgStore, count: int) -> EcgStore:
    """Real records and the first `count` synthetic ones as one store, in memory and for training only.

    The learner's second data set has to have all folds and fill a batch, which a few positives need not do.
    """
    return _in_memory(
        learned,
        pd.concat([learned.index, positives.index.iloc[:count]]),
        np.concatenate([learned.signals, positives.signals[:count]]),
        source=f"{learned.manifest.source} and {count} records of {positives.manifest.source}",
    )


def _positives(study: Study, learned: EcgStore, statement: str, *, count: int, model: Path | None) -> EcgStore:
    """Twins of records with the statement, each record copied once before any is copied again."""
    _require_fitting(model, learned, statement)
    having = rows_having(learned, statement, study.protocol.classifier)
    if not len(having):
        raise DataError(f"expected records with {statement} to learn from, got none; take more --real-records")
    picked = np.resize(record_stream(0, 0, purpose=Purpose.COPIED).permutation(having), count)
    index = learned.index.iloc[picked]
    names = [f"{number:05d}-of-{name}" for number, name in enumerate(index["record_id"])]  # each once
    originals = _in_memory(
        learned, index.assign(record_id=names), learned.signals[picked], source=learned.manifest.source
    )
    return study.copy(originals, f"positives-{count:05d}", f"synthetic {statement}", model=model)


def _require_fitting(model: Path | None, learned: EcgStore, statement: str) -> None:
    generator = Generator.load(model)
    name, rate = generator.config.name, generator.config.rate
    if not generator.config.vocabulary.label_of(statement):
        raise ConfigError(f"expected a generator that knows {statement}, {name} does not; choose another --model")
    if (learned.samples, learned.rate) != (generator.length, rate):
        raise DataError(
            f"expected records of {generator.length} samples at {rate:g} Hz, as {name} makes them, "
            f"{learned.path} has {learned.samples} at {learned.rate:g} Hz"
        )


def _in_memory(like: EcgStore, index: pd.DataFrame, signals: Int16[np.ndarray, "N 12 L"], *, source: str) -> EcgStore:
    """A store of other records. By its own checksums a training or a copy is known as one of just these records."""
    index = index.reset_index(drop=True)
    checksums = {
        "signals.npy": hashlib.sha256(np.ascontiguousarray(signals).data.cast("B")).hexdigest(),
        "index.csv": hashlib.sha256(index.to_csv().encode()).hexdigest(),
    }
    manifest = replace(like.manifest, records=len(index), source=source, source_version="", sha256=checksums)
    return EcgStore(like.path, manifest, index, signals)

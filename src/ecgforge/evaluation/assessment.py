"""The whole judgement of synthetic data sets against the real one: protocols, fidelity and physiology together."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np

from ecgforge.classify import Classifier
from ecgforge.data.store import EcgStore
from ecgforge.errors import DataError
from ecgforge.evaluation.beats import BeatSummary, summarise_beats
from ecgforge.evaluation.fidelity import Fidelity, measure_fidelity, measure_floor
from ecgforge.evaluation.physiology import (
    Physiology,
    QuantityComparison,
    RhythmRates,
    compare_physiology,
    compare_rhythms,
    measure_records,
)
from ecgforge.evaluation.protocols import REAL, Cell, Protocol, Report, rows_tested, run_protocol, training_folder

Progress = Callable[[str, int, int], None]

_BEAT_RECORDS = 250  # a condition, as in arXiv 2301.08227, Figures 2 and 3
_BEAT_STATEMENTS = {"NORM", "SR"}
_LEAST_TESTED = 12  # each half must have more records than a neighbourhood (k = 5) has neighbours


@dataclass(frozen=True)
class DataSummary:
    """What was judged.

    Attributes:
        name: Name in all tables.
        source: Data set or model the records come from.
        records: In all folds.
        tested: In the test folds.
    """

    name: str
    source: str
    records: int
    tested: int


@dataclass(frozen=True)
class Likeness:
    """How near a synthetic data set is to the real one, on the test folds.

    Attributes:
        name: Of the data set.
        fidelity: On the features of the real-trained classifier of the first seed.
        physiology: Measured quantities, real against synthetic.
        rhythms: Heart rate by rhythm statement.
    """

    name: str
    fidelity: Fidelity
    physiology: tuple[QuantityComparison, ...]
    rhythms: tuple[RhythmRates, ...]


@dataclass(frozen=True, eq=False)
class Assessment:
    """Everything a report tells.

    Attributes:
        data: Data sets, the real one first.
        protocol: How they were judged.
        cells: Train here, test there.
        floor: Fidelity of one half of the real test records against the other.
        likeness: One entry a synthetic data set.
        beats: Median normal beats (NORM and SR) of all data sets.
        created_by: Program and version.
    """

    data: tuple[DataSummary, ...]
    protocol: Protocol
    cells: tuple[Cell, ...]
    floor: Fidelity
    likeness: tuple[Likeness, ...]
    beats: Mapping[str, BeatSummary]
    created_by: str = f"ecgforge {metadata.version('ecgforge')}"


def assess(
    real: EcgStore,
    synthetic: Mapping[str, EcgStore],
    folder: Path,
    *,
    protocol: Protocol,
    physiology_records: int = 500,
    processes: int = 1,
    device: str = "auto",
    report: Report | None = None,
    progress: Progress | None = None,
) -> Assessment:
    """Judge synthetic data sets against the real one.

    Args:
        real: The real data set.
        synthetic: Its twins by name.
        folder: Classifiers are kept here; the same call again resumes.
        protocol: Classifier, folds, seeds.
        physiology_records: Records of the test folds whose waves are measured, the first ones of each data set.
        processes: For measuring waves.
        device: For the classifiers.
        report: Called with (what is trained, status).
        progress: Called with (what is measured, done, total).

    Raises:
        DataError: too few test records for the measures of fidelity; before anything is trained.
        ConfigError, DataError: as run_protocol.
    """
    stores = {REAL: real, **synthetic}
    for name, store in stores.items():
        _require_enough(name, store, protocol)
    cells = run_protocol(real, synthetic, folder, protocol=protocol, device=device, report=report)
    judge = Classifier.load(training_folder(folder, REAL, protocol.seeds[0]) / "model")
    features = {name: judge.features(store, rows_tested(store, protocol)) for name, store in stores.items()}
    waves = {
        name: _measure(name, store, protocol, physiology_records, processes, progress) for name, store in stores.items()
    }
    rng = np.random.default_rng(protocol.seeds[0])
    rows = rows_tested(real, protocol)
    patients = [real.record(int(row)).patient.patient_id or "" for row in rows]
    return Assessment(
        data=tuple(_summary(name, store, protocol) for name, store in stores.items()),
        protocol=protocol,
        cells=cells,
        floor=measure_floor(features[REAL], rng=rng, patients=patients),
        likeness=tuple(
            Likeness(
                name=name,
                fidelity=measure_fidelity(features[REAL], features[name]),
                physiology=compare_physiology(waves[REAL], waves[name], rng=np.random.default_rng(0)),
                rhythms=compare_rhythms(waves[REAL], waves[name]),
            )
            for name in synthetic
        ),
        beats=_normal_beats(stores, protocol),
    )


def _require_enough(name: str, store: EcgStore, protocol: Protocol) -> None:
    tested = len(rows_tested(store, protocol))
    if tested < _LEAST_TESTED:
        raise DataError(
            f"expected {_LEAST_TESTED} or more test records in the data set {name}, got {tested} in folds "
            f"{protocol.test_folds}; choose more test folds"
        )


def _summary(name: str, store: EcgStore, protocol: Protocol) -> DataSummary:
    source = f"{store.manifest.source} {store.manifest.source_version}".strip()
    return DataSummary(name, source, len(store), len(rows_tested(store, protocol)))


def _measure(
    name: str, store: EcgStore, protocol: Protocol, count: int, processes: int, progress: Progress | None
) -> list[Physiology]:
    rows = rows_tested(store, protocol)[:count]
    records = [store.record(int(row)) for row in rows]
    tell = (lambda done, total: progress(f"waves of {name}", done, total)) if progress else None
    return list(measure_records(records, processes=processes, progress=tell))


def _normal_beats(stores: Mapping[str, EcgStore], protocol: Protocol) -> dict[str, BeatSummary]:
    """Median beats of normal records in sinus rhythm; of all records where a data set has no such ones."""
    found = {}
    for name, store in stores.items():
        rows = rows_tested(store, protocol)
        records = [store.record(int(row)) for row in rows]
        normal = [record for record in records if set(record.statements) == _BEAT_STATEMENTS] or records
        found[name] = summarise_beats(normal[:_BEAT_RECORDS])
    return found

"""The whole judgement of synthetic data sets against the real one: protocols and likeness together."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import numpy as np
from jaxtyping import Int

from ecgforge.classify import Classifier
from ecgforge.data.store import EcgStore
from ecgforge.errors import ConfigError, DataError
from ecgforge.evaluation.beats import MOST_SETS, BeatSummary, summarise_beats
from ecgforge.evaluation.fidelity import NEIGHBOURS, Fidelity, measure_floor, split_halves
from ecgforge.evaluation.likeness import Likeness, Sample, measure_likeness
from ecgforge.evaluation.physiology import measure_records
from ecgforge.evaluation.protocols import (
    REAL,
    Cell,
    Protocol,
    Report,
    judging_device,
    rows_tested,
    run_protocol,
    training_folder,
)
from ecgforge.evaluation.signal_statistics import band_powers_db
from ecgforge.record import EcgRecord
from ecgforge.scores import draw_resamples, scorable
from ecgforge.training.classifier import validation_data
from ecgforge.training.records import label_vocabulary, select_data

Progress = Callable[[str, int, int], None]

_RARE = 2  # records with a statement, of which a resample often has none
_BEAT_RECORDS = 250  # a condition, as in arXiv 2301.08227, Figures 2 and 3
_BEAT_STATEMENTS = {"NORM", "SR"}


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


@dataclass(frozen=True, eq=False)
class Assessment:
    """Everything a report tells.

    Attributes:
        data: Data sets, the real one first.
        protocol: How they were judged.
        cells: Train here, test there.
        floor: Fidelity of one half of the real test records against the other.
        likeness: One entry a synthetic data set.
        beats: Median beats of all data sets.
        beats_of: Whose: "NORM and SR" and nothing else, or "all" records where a data set has no such ones.
        created_by: Program and version.
    """

    data: tuple[DataSummary, ...]
    protocol: Protocol
    cells: tuple[Cell, ...]
    floor: Fidelity
    likeness: tuple[Likeness, ...]
    beats: Mapping[str, BeatSummary]
    beats_of: str
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
        physiology_records: Records of the test folds whose waves and signals are measured, drawn at random.
        processes: For measuring waves.
        device: For the classifiers.
        report: Called with (what is trained, status).
        progress: Called with (what is measured, done, total).

    Raises:
        DataError: a data set does not fit the protocol, or has too few test records for what is measured; before
            anything is trained.
        ConfigError: more data sets than one picture of beats can show.
        ConfigError, DataError: as run_protocol.
    """
    stores = {REAL: real, **synthetic}
    _require_fit(stores, protocol)
    cells = run_protocol(real, synthetic, folder, protocol=protocol, device=device, report=report)
    first = training_folder(folder, REAL, protocol.seeds[0]) / "model"
    judge = Classifier.load(first, device=judging_device(device))

    def sample(name: str, store: EcgStore) -> Sample:
        rows = rows_tested(store, protocol)
        records = _drawn(store, rows, physiology_records)
        tell = (lambda done, total: progress(f"waves of {name}", done, total)) if progress else None
        waves = list(measure_records(records, processes=processes, progress=tell))
        return Sample(judge.features(store, rows), records, waves)

    samples = {name: sample(name, store) for name, store in stores.items()}
    beats_of, beats = _beats(stores, protocol)
    return Assessment(
        data=tuple(_summary(name, store, protocol) for name, store in stores.items()),
        protocol=protocol,
        cells=cells,
        floor=measure_floor(samples[REAL].features, rng=_floor_rng(protocol), patients=_patients(real, protocol)),
        likeness=tuple(measure_likeness(name, samples[REAL], samples[name]) for name in synthetic),
        beats=beats,
        beats_of=beats_of,
    )


# ------------------------------------------------------------------------------------- before training


def _require_fit(stores: Mapping[str, EcgStore], protocol: Protocol) -> None:
    """Whatever would fail after hours of training fails here."""
    if len(stores) > MOST_SETS:
        raise ConfigError(
            f"expected at most {MOST_SETS - 1} synthetic data sets in one report, got {len(stores) - 1}; write two"
        )
    for name, store in stores.items():
        if store.rate != stores[REAL].rate:
            raise DataError(
                f"expected the data set {name} at {stores[REAL].rate:g} Hz, as the real one, got {store.rate:g} Hz; "
                "build it at that rate"
            )
        store.rows(folds=protocol.test_folds)
        band_powers_db(store.record(0))  # raises where records are too short or too slow for spectra
        _require_resamples(name, store, protocol)
        _require_neighbours(name, len(rows_tested(store, protocol)), protocol)
        select_data(store, protocol.classifier)
        validation_data(protocol.classifier, store)
    halves = split_halves(
        len(rows_tested(stores[REAL], protocol)), rng=_floor_rng(protocol), patients=_patients(stores[REAL], protocol)
    )
    _require_neighbours("real (its smaller half, of whole patients)", min(map(len, halves)), protocol)


def _require_resamples(name: str, store: EcgStore, protocol: Protocol) -> None:
    labels = label_vocabulary(protocol.classifier.data)
    truth = store.labels(labels)[rows_tested(store, protocol)] > 0
    try:
        draw_resamples(truth[:, scorable(truth)], rng=np.random.default_rng(0), resamples=protocol.resamples)
    except DataError as error:
        positives = truth.sum(axis=0)
        rare = [label for label, count in zip(labels.labels, positives, strict=True) if 0 < count <= _RARE]
        raise DataError(
            f"the test records of the data set {name} are too few for bootstrap intervals: {error}. At most {_RARE} "
            f"have {', '.join(rare)}. Take more --test-folds, or classifiers of the other statements: "
            "--set 'data.statements=[...]' --set network.labels=N"
        ) from error


def _require_neighbours(name: str, records: int, protocol: Protocol) -> None:
    if records <= NEIGHBOURS:
        raise DataError(
            f"expected more than {NEIGHBOURS} test records in the data set {name}, got {records} in folds "
            f"{protocol.test_folds}; choose more test folds"
        )


def _floor_rng(protocol: Protocol) -> np.random.Generator:
    return np.random.default_rng(protocol.seeds[0])


def _patients(store: EcgStore, protocol: Protocol) -> list[str]:
    return [store.record(int(row)).patient.patient_id or "" for row in rows_tested(store, protocol)]


# -------------------------------------------------------------------------------------- after training


def _summary(name: str, store: EcgStore, protocol: Protocol) -> DataSummary:
    source = f"{store.manifest.source} {store.manifest.source_version}".strip()
    return DataSummary(name, source, len(store), len(rows_tested(store, protocol)))


def _drawn(store: EcgStore, rows: Int[np.ndarray, " N"], count: int) -> list[EcgRecord]:
    """Random records, the same positions in data sets of one size: PTB-XL's order is that of the recording dates."""
    drawn = np.sort(np.random.default_rng(0).permutation(len(rows))[:count])
    return [store.record(int(row)) for row in rows[drawn]]


def _beats(stores: Mapping[str, EcgStore], protocol: Protocol) -> tuple[str, dict[str, BeatSummary]]:
    """Median beats of normal records in sinus rhythm; of all records where a data set has no such ones."""
    tested = {name: rows_tested(store, protocol) for name, store in stores.items()}
    normal = {name: _normal(store, tested[name]) for name, store in stores.items()}
    all_have = all(len(rows) for rows in normal.values())
    chosen = normal if all_have else tested
    beats = {name: summarise_beats(_drawn(store, chosen[name], _BEAT_RECORDS)) for name, store in stores.items()}
    return " and ".join(sorted(_BEAT_STATEMENTS)) if all_have else "all", beats


def _normal(store: EcgStore, rows: Int[np.ndarray, " N"]) -> Int[np.ndarray, " M"]:
    found = [row for row in rows if set(store.record(int(row)).statements) == _BEAT_STATEMENTS]
    return np.array(found, dtype=int)

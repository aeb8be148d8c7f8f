"""Train on one data set, test on another: can synthetic ECGs stand in for real ones?

A classifier is trained on each data set and tested on the same folds of the others. `real -> real` is the ceiling;
`synthetic -> real` tells what a classifier learns from synthetic data; `real -> synthetic` whether synthetic records
show what their statements say (above the ceiling: over-typical); `synthetic -> synthetic` completes the square.

Source: arXiv 2301.08227, section III.D and Table I.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from jaxtyping import Bool, Float, Int

from ecgforge.classify import Classifier
from ecgforge.data.store import EcgStore
from ecgforge.errors import ConfigError
from ecgforge.labels import statement
from ecgforge.scores import (
    Interval,
    MacroAuroc,
    PathologyScores,
    bootstrap_difference,
    bootstrap_interval,
    choose_threshold,
    macro_auroc,
    score_pathology,
)
from ecgforge.training.loop import Status, train
from ecgforge.training.records import label_vocabulary
from ecgforge.training.settings import ClassifierTraining

REAL = "real"
_PATHOLOGIES = ("AFIB", "CRBBB", "1AVB", "PVC")  # of arXiv 2407.11108

Report = Callable[[str, Status], None]


@dataclass(frozen=True)
class Protocol:
    """How data sets are judged.

    Attributes:
        classifier: Recipe of every classifier; its data.folds and validation_folds hold for every data set.
        test_folds: Tested on; not among the folds of the recipe.
        seeds: One classifier each.
        pathologies: Statements scored one by one at a threshold, as in SSSD-ECG-nle; None for those of that paper that
            the classifiers learn.
        augment: Also train on the real records together with each synthetic data set.
        resamples: Of the bootstrap.

    Raises:
        ConfigError: a test fold is learned from or validated on, there is no seed, or the classifiers do not learn a
            pathology.
        LabelError: a pathology is no statement.
    """

    classifier: ClassifierTraining
    test_folds: tuple[int, ...] = (9,)
    seeds: tuple[int, ...] = (0,)
    pathologies: tuple[str, ...] | None = None
    augment: bool = False
    resamples: int = 1000

    def __post_init__(self) -> None:
        used = {*self.classifier.data.folds, *self.classifier.validation_folds}
        if not self.test_folds or used & set(self.test_folds):
            raise ConfigError(
                f"expected test folds apart from the folds {sorted(used)} of training and validation, "
                f"got {sorted(self.test_folds)}"
            )
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise ConfigError(f"expected one or more different seeds, got {self.seeds}")
        if self.pathologies is not None:
            object.__setattr__(self, "pathologies", tuple(statement(code).code for code in self.pathologies))
            unknown = set(self.pathologies) - set(self._learned)
            if unknown:
                raise ConfigError(
                    f"expected pathologies that the classifiers learn, got {', '.join(sorted(unknown))}; their "
                    f"statements are {label_vocabulary(self.classifier.data).describe()}"
                )

    @property
    def scored_pathologies(self) -> tuple[str, ...]:
        """Those that were named, or those of the paper that the classifiers learn."""
        if self.pathologies is not None:
            return self.pathologies
        return tuple(code for code in _PATHOLOGIES if code in self._learned)

    @property
    def _learned(self) -> tuple[str, ...]:
        return label_vocabulary(self.classifier.data).labels


@dataclass(frozen=True)
class Cell:
    """One training set tested on one test set.

    Attributes:
        trained_on: Name of the data set the classifier learned from.
        tested_on: Name of the data set it was tested on.
        macro: Macro AUROC: mean over the seeds of the estimate and of the ends of the bootstrap interval.
        seeds: Macro AUROC of each seed.
        against_real: Macro AUROC less that of the real-trained classifier on the same records, with its interval,
            mean over the seeds as above; None for the real-trained classifier itself.
        detail: All statements and groups, first seed.
        pathologies: (code, scores of each seed) of the chosen pathologies; those the records do not have are left out.
    """

    trained_on: str
    tested_on: str
    macro: Interval
    seeds: tuple[float, ...]
    against_real: Interval | None
    detail: MacroAuroc
    pathologies: tuple[tuple[str, tuple[PathologyScores, ...]], ...]


@dataclass(frozen=True, eq=False)
class _Judge:
    """A trained classifier with the thresholds chosen on its own validation folds."""

    classifier: Classifier
    thresholds: Mapping[str, float]


def run_protocol(
    real: EcgStore,
    synthetic: Mapping[str, EcgStore],
    folder: Path,
    *,
    protocol: Protocol,
    device: str = "auto",
    report: Report | None = None,
) -> tuple[Cell, ...]:
    """All cells: real to real, and for every synthetic data set its three, or four with `protocol.augment`.

    Args:
        real: The real data set.
        synthetic: Its twins by name.
        folder: Classifiers are trained into FOLDER/classifiers/NAME-SEED; finished ones are used as they are and
            unfinished ones resumed.
        protocol: How.
        device: Where to train.
        report: Called with (what is trained, status).

    Raises:
        ConfigError: a synthetic data set is called "real".
        DataError: a store does not fit the recipe.
    """
    if REAL in synthetic:
        raise ConfigError(f"expected names other than {REAL!r} for synthetic data sets")
    stores = {REAL: real, **synthetic}
    lessons: dict[str, tuple[EcgStore, EcgStore | None]] = {name: (store, None) for name, store in stores.items()}
    pairs = [(REAL, REAL)]
    for name, store in synthetic.items():
        pairs += [(name, REAL), (REAL, name), (name, name)]
        if protocol.augment:
            lessons[f"{REAL}+{name}"] = (real, store)
            pairs.append((f"{REAL}+{name}", REAL))
    judges = {
        name: [
            _trained_judge(name, lesson, training_folder(folder, name, seed), protocol, seed, device, report)
            for seed in protocol.seeds
        ]
        for name, lesson in lessons.items()
    }
    ceiling = _scores(judges[REAL], real, protocol)
    cells = []
    for trained, tested in pairs:
        scores = ceiling if trained == tested == REAL else _scores(judges[trained], stores[tested], protocol)
        against = ceiling if tested == REAL != trained else None
        cells.append(_cell(trained, tested, judges[trained], stores[tested], protocol, scores, against))
    return tuple(cells)


def training_folder(folder: Path, name: str, seed: int) -> Path:
    """The run of the classifier that learned from this data set."""
    return folder / "classifiers" / f"{name}-{seed}"


def train_classifier(
    store: EcgStore,
    folder: Path,
    *,
    recipe: ClassifierTraining,
    seed: int,
    device: str = "auto",
    report: Callable[[Status], None] | None = None,
    extra: EcgStore | None = None,
) -> Classifier:
    """A classifier of this recipe and seed, trained on a store and, where given, a second one together with it.

    It is trained where FOLDER does not hold it finished.
    """
    train(replace(recipe, seed=seed), store, folder, device=device, report=report, extra=extra)
    return Classifier.load(folder / "model", device=judging_device(device))


def judging_device(device: str) -> str:
    """Where a classifier judges that was trained on this device."""
    if device == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    return device


def rows_tested(store: EcgStore, protocol: Protocol) -> Int[np.ndarray, " N"]:
    """Rows of the test folds.

    Raises:
        DataError: the store has no such folds.
    """
    return store.rows(folds=protocol.test_folds)


def truth_of(store: EcgStore, rows: Sequence[int] | np.ndarray, classifier: Classifier) -> Bool[np.ndarray, "N K"]:
    """Which records have which of the classifier's statements."""
    return store.labels(classifier.config.vocabulary)[rows] > 0


def _trained_judge(
    name: str,
    lesson: tuple[EcgStore, EcgStore | None],
    folder: Path,
    protocol: Protocol,
    seed: int,
    device: str,
    report: Report | None,
) -> _Judge:
    def tell(status: Status) -> None:
        if report:
            report(f"{name}, seed {seed}", status)

    recipe = protocol.classifier
    store, extra = lesson
    classifier = train_classifier(store, folder, recipe=recipe, seed=seed, device=device, report=tell, extra=extra)
    rows = store.rows(folds=recipe.validation_folds)
    truth, score = truth_of(store, rows, classifier), classifier.predict(store, rows)
    columns = {code: classifier.config.labels.index(code) for code in protocol.scored_pathologies}
    thresholds = {
        code: choose_threshold(truth[:, column], score[:, column], maximise="g-mean")
        for code, column in columns.items()
        if _both(truth[:, column])
    }
    return _Judge(classifier, thresholds)


def _both(truth: Bool[np.ndarray, " N"]) -> bool:
    return bool(truth.any() and not truth.all())


def _scores(judges: Sequence[_Judge], store: EcgStore, protocol: Protocol) -> list[Float[np.ndarray, "N K"]]:
    """Of each seed, on the test records."""
    return [judge.classifier.predict(store, rows_tested(store, protocol)) for judge in judges]


def _cell(
    trained_on: str,
    tested_on: str,
    judges: Sequence[_Judge],
    store: EcgStore,
    protocol: Protocol,
    scores: Sequence[Float[np.ndarray, "N K"]],
    ceiling: Sequence[Float[np.ndarray, "N K"]] | None,
) -> Cell:
    first = judges[0].classifier
    truth = truth_of(store, rows_tested(store, protocol), first)
    intervals = [
        bootstrap_interval(truth, score, rng=np.random.default_rng(seed), resamples=protocol.resamples)
        for seed, score in zip(protocol.seeds, scores, strict=True)
    ]
    differences = None
    if ceiling is not None:
        differences = [
            bootstrap_difference(truth, score, best, rng=np.random.default_rng(seed), resamples=protocol.resamples)
            for seed, score, best in zip(protocol.seeds, scores, ceiling, strict=True)
        ]
    return Cell(
        trained_on=trained_on,
        tested_on=tested_on,
        macro=_mean(intervals),
        seeds=tuple(interval.estimate for interval in intervals),
        against_real=_mean(differences) if differences else None,
        detail=macro_auroc(truth, scores[0], vocabulary=first.config.vocabulary),
        pathologies=tuple(_pathologies(truth, scores, judges)),
    )


def _pathologies(
    truth: Bool[np.ndarray, "N K"], scores: Sequence[Float[np.ndarray, "N K"]], judges: Sequence[_Judge]
) -> list[tuple[str, tuple[PathologyScores, ...]]]:
    found = []
    for code in judges[0].thresholds:
        column = judges[0].classifier.config.labels.index(code)
        if _both(truth[:, column]):
            by_seed = (
                score_pathology(truth[:, column], score[:, column], threshold=judge.thresholds[code])
                for score, judge in zip(scores, judges, strict=True)
            )
            found.append((code, tuple(by_seed)))
    return found


def _mean(intervals: Sequence[Interval]) -> Interval:
    return Interval(
        *(float(np.mean([getattr(item, end) for item in intervals])) for end in ("estimate", "low", "high"))
    )

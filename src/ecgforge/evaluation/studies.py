"""What the studies of SSSD-ECG-nle have in common: trained classifiers, synthetic stores, and how both are scored.

Everything a study makes stays in its folder and is known by what it was made of. The same call again uses what is
finished and goes on with what is not; what was made of other data or in another way is refused.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from ecgforge.classify import Classifier
from ecgforge.data.store import EcgStore
from ecgforge.errors import DataError
from ecgforge.evaluation.protocols import Protocol, Report, rows_tested, train_classifier, training_folder, truth_of
from ecgforge.labels import custom_vocabulary
from ecgforge.sampling import SamplingOptions
from ecgforge.scores import choose_threshold, score_pathology
from ecgforge.training.classifier import require_crops
from ecgforge.training.loop import Status
from ecgforge.twin import copy_store

PATHOLOGY_MEASURES = ("AUROC", "G-mean", "F1")

Progress = Callable[[str, int, int], None]
"""Called as progress(what is sampled, records done, records in all)."""


@dataclass(frozen=True, eq=False)
class Study:
    """On what and how a study is done.

    Attributes:
        real: Real records.
        folder: For everything the study makes.
        protocol: Recipe of the classifiers, seeds and test folds; its other fields do not matter to studies.
        options: Of sampling.
        processes: Of sampling.
        device: Of training, and of sampling; "auto" samples on the CPU.
        report: Called with (what is trained, status).
        progress: Called with (what is sampled, records done, records in all).

    Raises:
        ConfigError: the classifiers' windows are not the crops they judge at this sampling rate.
    """

    real: EcgStore
    folder: Path
    protocol: Protocol
    options: SamplingOptions = SamplingOptions()
    processes: int = 1
    device: str = "auto"
    report: Report | None = None
    progress: Progress | None = None

    def __post_init__(self) -> None:
        require_crops(self.protocol.classifier, self.real.rate)

    def told(self, what: str) -> Callable[[Status], None] | None:
        """The report of one training."""
        return partial(self.report, what) if self.report else None

    def classifiers(self, store: EcgStore, name: str, what: str) -> Iterator[tuple[int, Classifier]]:
        """Each seed with its classifier of this store, trained where FOLDER/classifiers does not hold it finished.

        Args:
            store: To learn from and to choose the best weights on.
            name: Of the folders.
            what: The classifiers are of, for the report.
        """
        for seed in self.protocol.seeds:
            classifier = train_classifier(
                store,
                training_folder(self.folder, name, seed),
                recipe=self.protocol.classifier,
                seed=seed,
                device=self.device,
                report=self.told(f"classifier {what}, seed {seed}"),
            )
            yield seed, classifier

    def copy(
        self, store: EcgStore, name: str, what: str, *, model: Path | None, folds: Sequence[int] | None = None
    ) -> EcgStore:
        """The twin of a store in FOLDER/NAME, sampled where it is not there yet.

        Args:
            store: To copy.
            name: Of the twin.
            what: It is, for the progress.
            model: Generator, None for the default.
            folds: To copy, None for all.

        Raises:
            DataError: as copy_store; the twin that is there was made otherwise.
        """
        return copy_store(
            store,
            self.folder / name,
            model=model,
            folds=folds,
            options=self.options,
            processes=self.processes,
            device="cpu" if self.device == "auto" else self.device,
            progress=partial(self.progress, what) if self.progress else None,
        )

    def require_scorable(self, statement: str) -> None:
        """The validation folds, for the threshold, and the test folds have real records with and without it.

        Raises:
            DataError: they do not.
        """
        column = self.real.labels(custom_vocabulary((statement,)))[:, 0] > 0
        for folds in (self.protocol.classifier.validation_folds, self.protocol.test_folds):
            having = column[self.real.rows(folds=folds)]
            if not having.any() or having.all():
                raise DataError(
                    f"expected records with and without {statement} in folds {','.join(map(str, folds))} of "
                    f"{self.real.path}, got {having.sum()} with it of {len(having)}"
                )

    def score(self, classifier: Classifier, statement: str, *, chosen_on: EcgStore) -> tuple[float, float, float]:
        """PATHOLOGY_MEASURES on the real test folds.

        Args:
            classifier: To score.
            statement: It is scored on.
            chosen_on: Store on whose validation folds the threshold with the best G-mean is taken.
        """
        column = classifier.config.labels.index(statement)
        rows = chosen_on.rows(folds=self.protocol.classifier.validation_folds)
        truth, score = truth_of(chosen_on, rows, classifier), classifier.predict(chosen_on, rows)
        threshold = choose_threshold(truth[:, column], score[:, column], maximise="g-mean")
        rows = rows_tested(self.real, self.protocol)
        truth, score = truth_of(self.real, rows, classifier), classifier.predict(self.real, rows)
        scores = score_pathology(truth[:, column], score[:, column], threshold=threshold)
        return scores.auroc, scores.g_mean, scores.f1

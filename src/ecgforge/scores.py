"""How well a classifier recognises ECG statements: AUROCs with bootstrap intervals, and scores at a threshold.

Macro AUROC over the statements is the number of PTB-XL's benchmark (Strodthoff et al. 2021) and of SSSD-ECG's
protocols. Sensitivity, specificity, their G-mean and F1 of single pathologies are those of SSSD-ECG-nle.
"""

from dataclasses import dataclass
from typing import Literal

import numpy as np
from jaxtyping import Bool, Float, Int

from ecgforge.errors import DataError, LabelError
from ecgforge.labels import GROUPS, LabelVocabulary, all_statements
from ecgforge.labels import vocabulary as label_set

Criterion = Literal["g-mean", "f1"]

# Resamples without some statement are drawn again. Below this share of usable ones it would go on for ever.
_LEAST_ACCEPTED = 0.01
# Resamples summed at a time: numpy sums down the columns of a wide array many times slower than of a narrow one.
_BATCH = 64


@dataclass(frozen=True)
class Interval:
    """An estimate and its 95 % confidence interval.

    Attributes:
        estimate: The value on the records as they are.
        low: Lower end.
        high: Upper end.
    """

    estimate: float
    low: float
    high: float


@dataclass(frozen=True)
class StatementAuroc:
    """AUROC of one statement.

    Attributes:
        label: Statement code, or class in a vocabulary of classes.
        positives: Records with it.
        auroc: NaN where no record or every record has it.
    """

    label: str
    positives: int
    auroc: float


@dataclass(frozen=True)
class GroupAuroc:
    """Mean AUROC of the scorable statements of one group or diagnostic superclass.

    Attributes:
        name: diagnostic, form or rhythm, or a superclass: CD, HYP, MI, NORM, STTC.
        statements: How many statements went into the mean.
        auroc: NaN where none could be scored.
    """

    name: str
    statements: int
    auroc: float


@dataclass(frozen=True)
class MacroAuroc:
    """AUROCs of a multi-label classifier.

    Attributes:
        macro: Mean over the scorable statements.
        records: Records scored.
        statements: One entry a label, in the order of the vocabulary.
        groups: Means over groups and superclasses that have a statement in the vocabulary; empty where the
            labels are classes already.
    """

    macro: float
    records: int
    statements: tuple[StatementAuroc, ...]
    groups: tuple[GroupAuroc, ...]

    @property
    def not_scorable(self) -> tuple[str, ...]:
        """Labels left out of the means, because no record or every record has them."""
        return tuple(entry.label for entry in self.statements if np.isnan(entry.auroc))


@dataclass(frozen=True)
class PathologyScores:
    """Scores of one pathology at one threshold.

    Attributes:
        threshold: Records that score this or more are called positive.
        sensitivity: Share of the records with the pathology called positive.
        specificity: Share of the records without it called negative.
        g_mean: sqrt(sensitivity x specificity).
        f1: Harmonic mean of sensitivity and positive predictive value.
        auroc: Area under the ROC curve, whatever the threshold.
        positives: Records with the pathology.
        records: All records.
    """

    threshold: float
    sensitivity: float
    specificity: float
    g_mean: float
    f1: float
    auroc: float
    positives: int
    records: int


def macro_auroc(
    truth: Bool[np.ndarray, "N K"], score: Float[np.ndarray, "N K"], *, vocabulary: LabelVocabulary
) -> MacroAuroc:
    """AUROC of each statement, and its means over all statements, groups and diagnostic superclasses.

    A statement that no record or every record has does not count in any mean.

    Args:
        truth: Which records have which statement.
        score: The classifier's probability or logit; only the order within a statement counts.
        vocabulary: Names of the columns.

    Raises:
        LabelError: the vocabulary has another number of labels than the arrays have columns.
        DataError: a score is NaN, or no statement can be scored.

    Source: Strodthoff et al. 2021 (arXiv 2004.13701), the benchmark's main number.
    """
    if len(vocabulary) != truth.shape[1]:
        raise LabelError(
            f"expected one column for each label of {vocabulary.describe()}, got {truth.shape[1]} columns; "
            "score with the vocabulary the classifier was trained with"
        )
    _require_scorable(truth, score)
    auroc = statement_auroc(truth, score)
    statements = tuple(
        StatementAuroc(label, int(positives), float(area))
        for label, positives, area in zip(vocabulary.labels, truth.sum(axis=0), auroc, strict=True)
    )
    return MacroAuroc(float(np.nanmean(auroc)), len(truth), statements, _group_means(auroc, vocabulary))


def _group_means(auroc: Float[np.ndarray, " K"], vocabulary: LabelVocabulary) -> tuple[GroupAuroc, ...]:
    """Plain means of statement AUROCs; PTB-XL's superclass task, which scores the classes as labels, is another."""
    if vocabulary.name in ("subdiagnostic", "superdiagnostic"):
        return ()
    known = [all_statements()[label] for label in vocabulary.labels]
    means = []
    for name in (*GROUPS, *label_set("superdiagnostic").labels):
        members = np.array([name in entry.groups or name == entry.superclass for entry in known])
        if members.any():
            areas = auroc[members & ~np.isnan(auroc)]
            means.append(GroupAuroc(name, len(areas), float(areas.mean()) if len(areas) else float("nan")))
    return tuple(means)


def statement_auroc(truth: Bool[np.ndarray, "N K"], score: Float[np.ndarray, "N K"]) -> Float[np.ndarray, " K"]:
    """AUROC of each statement, NaN where no record or every record has it.

    Source: Hanley and McNeil 1982: the chance that a positive scores above a negative, ties counting half.
    """
    once = np.ones((len(truth), 1), dtype=np.int32)
    auroc = np.full(truth.shape[1], np.nan)
    for column in np.flatnonzero(scorable(truth)):
        auroc[column] = weighted_auroc(truth[:, column], score[:, column], once)[0]
    return auroc


def weighted_auroc(
    truth: Bool[np.ndarray, " N"], score: Float[np.ndarray, " N"], weights: Int[np.ndarray, "N R"]
) -> Float[np.ndarray, " R"]:
    """AUROC of R resamples of the same records, from one sort.

    Args:
        truth: Which records are positive.
        score: Their scores.
        weights: How often each record occurs in each resample; positives and negatives in every one.

    Source: Hanley and McNeil 1982; the count of negatives below and at each positive's score.
    """
    positive, negative = np.flatnonzero(truth), np.flatnonzero(~truth)
    negative = negative[np.argsort(score[negative], kind="stable")]
    below = np.zeros((len(negative) + 1, weights.shape[1]), dtype=np.int32)
    np.cumsum(weights[negative], axis=0, out=below[1:])
    first = np.searchsorted(score[negative], score[positive], side="left")
    last = np.searchsorted(score[negative], score[positive], side="right")
    # Whole numbers in float64: exact, so that the same resample gives the same area to the last bit.
    twice_won = np.einsum("pr,pr->r", weights[positive], below[first] + below[last], dtype=np.float64)
    return twice_won / (2.0 * weights[positive].sum(axis=0) * below[-1])


def draw_resamples(
    truth: Bool[np.ndarray, "N K"], *, rng: np.random.Generator, resamples: int
) -> Int[np.ndarray, "N R"]:
    """How often each record occurs in each bootstrap resample: N draws with replacement.

    As in PTB-XL's benchmark, a resample in which some statement cannot be scored is thrown away and drawn again, so
    that every resample averages the same statements. Theirs asks for a positive of each statement; this one for a
    negative too, without which there is no AUROC either.

    Args:
        truth: Which records have which statement; each statement present in some records and absent in others.
        rng: Source of the draws.
        resamples: How many to return.

    Raises:
        DataError: hardly any resample has all statements, because too many are in one or two records only.

    Source: the released code of Strodthoff et al. 2021 (arXiv 2004.13701).
    """
    records = len(truth)
    counted = truth.astype(np.float32)
    accepted: list[Int[np.ndarray, "N R"]] = []
    drawn = found = 0
    while found < resamples:
        if drawn >= resamples / _LEAST_ACCEPTED:
            raise DataError(
                f"expected resamples that have every statement, got {found} in {drawn} draws, because too many "
                "statements are in one or two records only; leave these out"
            )
        rows = rng.integers(records, size=(resamples, records)) + records * np.arange(resamples)[:, None]
        weights = np.bincount(rows.ravel(), minlength=resamples * records).reshape(resamples, records)
        positives = weights.astype(np.float32) @ counted
        usable = ((positives > 0) & (positives < records)).all(axis=1)
        accepted.append(weights[usable].T.astype(np.int32))
        drawn += resamples
        found += int(usable.sum())
    return np.ascontiguousarray(np.concatenate(accepted, axis=1)[:, :resamples])


def bootstrap_interval(
    truth: Bool[np.ndarray, "N K"],
    score: Float[np.ndarray, "N K"],
    *,
    rng: np.random.Generator,
    resamples: int = 1000,
) -> Interval:
    """Macro AUROC with its 95 % percentile bootstrap interval over records.

    Statements that cannot be scored on all records are left out first; see `draw_resamples` for those that a single
    resample lacks. The interval holds for this trained classifier; training it again varies too. It is somewhat narrow:
    records of one patient are drawn one by one, and a statement that a single record has shows none of the spread
    between its patients.

    Raises:
        DataError: a score is NaN, no statement can be scored, or hardly any resample has all statements.

    Source: Efron and Tibshirani 1993, chapter 13 (percentile interval); Strodthoff et al. 2021 (arXiv 2004.13701),
    whose released code takes the 5 % and 95 % quantiles of 100 resamples.
    """
    _require_scorable(truth, score)
    kept = scorable(truth)
    truth, score = truth[:, kept], score[:, kept]
    weights = draw_resamples(truth, rng=rng, resamples=resamples)
    return _percentile_interval(float(statement_auroc(truth, score).mean()), _macro_of(truth, score, weights))


def bootstrap_difference(
    truth: Bool[np.ndarray, "N K"],
    score: Float[np.ndarray, "N K"],
    baseline: Float[np.ndarray, "N K"],
    *,
    rng: np.random.Generator,
    resamples: int = 1000,
) -> Interval:
    """Macro AUROC of `score` less that of `baseline` on the same records, with its 95 % interval.

    Both are scored on the same resamples, so that what is hard about a record cancels. "No worse than real data alone
    by more than a margin" is shown where the lower end lies above minus the margin; an interval that merely holds 0
    shows nothing.

    Args:
        truth: Which records have which statement.
        score: Scores of the classifier in question.
        baseline: Scores of the one it is compared with.
        rng: Source of the draws.
        resamples: How many resamples.

    Raises:
        DataError: as `bootstrap_interval`.

    Source: Efron and Tibshirani 1993, chapter 13, applied to the paired difference.
    """
    _require_scorable(truth, score)
    _require_scorable(truth, baseline)
    kept = scorable(truth)
    truth, score, baseline = truth[:, kept], score[:, kept], baseline[:, kept]
    weights = draw_resamples(truth, rng=rng, resamples=resamples)
    difference = float(statement_auroc(truth, score).mean() - statement_auroc(truth, baseline).mean())
    return _percentile_interval(difference, _macro_of(truth, score, weights) - _macro_of(truth, baseline, weights))


def choose_threshold(truth: Bool[np.ndarray, " N"], score: Float[np.ndarray, " N"], *, maximise: Criterion) -> float:
    """The threshold with the largest G-mean or F1, to be chosen on validation records and applied to others.

    Candidates are the scores that occur. Of equally good ones the highest is taken, which calls the fewest positive.

    Raises:
        DataError: a score is NaN, or all records are positive or all negative.

    Source: G-mean: Kubat and Matwin 1997; both as reported by SSSD-ECG-nle (arXiv 2407.11108).
    """
    _require_scorable(truth[:, None], score[:, None])
    thresholds = np.unique(score)[::-1]
    hits = _count_from(thresholds, score[truth])
    false_alarms = _count_from(thresholds, score[~truth])
    sensitivity = hits / truth.sum()
    if maximise == "g-mean":
        value = np.sqrt(sensitivity * (1 - false_alarms / (~truth).sum()))
    else:
        value = 2 * hits / (hits + false_alarms + truth.sum())
    return float(thresholds[np.argmax(value)])


def score_pathology(
    truth: Bool[np.ndarray, " N"], score: Float[np.ndarray, " N"], *, threshold: float
) -> PathologyScores:
    """Sensitivity, specificity, G-mean and F1 of one pathology at a threshold chosen on other records, and its AUROC.

    Raises:
        DataError: a score is NaN, or all records are positive or all negative.

    Source: SSSD-ECG-nle (arXiv 2407.11108); G-mean: Kubat and Matwin 1997.
    """
    _require_scorable(truth[:, None], score[:, None])
    called = score >= threshold
    positives, hits = int(truth.sum()), int((called & truth).sum())
    sensitivity, specificity = hits / positives, float((~called)[~truth].mean())
    return PathologyScores(
        threshold=threshold,
        sensitivity=sensitivity,
        specificity=specificity,
        g_mean=float(np.sqrt(sensitivity * specificity)),
        f1=2 * hits / (int(called.sum()) + positives),
        auroc=float(statement_auroc(truth[:, None], score[:, None])[0]),
        positives=positives,
        records=len(truth),
    )


def _count_from(thresholds: Float[np.ndarray, " T"], score: Float[np.ndarray, " N"]) -> Int[np.ndarray, " T"]:
    """Scores at or above each threshold."""
    return len(score) - np.searchsorted(np.sort(score), thresholds, side="left")


def _macro_of(
    truth: Bool[np.ndarray, "N K"], score: Float[np.ndarray, "N K"], weights: Int[np.ndarray, "N R"]
) -> Float[np.ndarray, " R"]:
    """Macro AUROC on each resample."""
    macro = np.empty(weights.shape[1])
    for start in range(0, len(macro), _BATCH):
        batch = np.ascontiguousarray(weights[:, start : start + _BATCH])
        areas = [weighted_auroc(truth[:, k], score[:, k], batch) for k in range(truth.shape[1])]
        macro[start : start + _BATCH] = np.mean(areas, axis=0)
    return macro


def _percentile_interval(estimate: float, values: Float[np.ndarray, " R"]) -> Interval:
    low, high = np.quantile(values, [0.025, 0.975])
    return Interval(estimate, float(low), float(high))


def scorable(truth: Bool[np.ndarray, "N K"]) -> Bool[np.ndarray, " K"]:
    positives = truth.sum(axis=0)
    return (positives > 0) & (positives < len(truth))


def _require_scorable(truth: Bool[np.ndarray, "N K"], score: Float[np.ndarray, "N K"]) -> None:
    broken = int(np.isnan(score).any(axis=1).sum())
    if broken:
        raise DataError(f"expected a score for every record and statement, got NaN in {broken} of {len(score)} records")
    if not scorable(truth).any():
        raise DataError(
            f"expected records with and records without a statement, got {len(truth)} records that all agree; "
            "score more records"
        )

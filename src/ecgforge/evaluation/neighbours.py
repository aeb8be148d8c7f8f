"""Whether a generator repeats its training records: nearest neighbours, and membership inference.

A generator that has learnt the distribution comes as near to its training records as other people's records do. One
that has learnt the records comes nearer.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int, Shaped
from scipy.stats import norm, rankdata

from ecgforge.errors import DataError
from ecgforge.evaluation.distances import checked_features, nearest
from ecgforge.scores import Interval

QUANTILES = (0.0, 0.01, 0.05, 0.25, 0.5, 0.75, 0.95, 0.99, 1.0)
Search = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]
"""Distance of each query (first argument) to its nearest reference (second), and that one's row."""

NEAR = 0.01  # quantile of the held-out records' distances below which a synthetic one counts as too near
_FALSE_ALARMS = 0.01  # share of the non-members that a threshold may take for members


def chance_too_near(held_out: int) -> float:
    """Share of synthetic records nearer than the limit, on average, where they come no nearer than held-out ones do.

    0.01 with many held-out records. With few their quantile lies high: it is near the smallest of them.
    """
    return (1 + NEAR * (held_out - 1)) / (held_out + 1)


@dataclass(frozen=True, eq=False)
class TrainingDistances:
    """Distances to the nearest training record, of synthetic and of held-out real records.

    Attributes:
        synthetic: (M,) distance of each synthetic record.
        held_out: (N,) distance of each held-out real record.
        nearest_training: (M,) row of the training record nearest to each synthetic one.
        synthetic_quantiles: Quantiles of `synthetic` at QUANTILES.
        held_out_quantiles: Quantiles of `held_out` at QUANTILES.
        limit: The held-out records' 1 % quantile.
        too_near: Share of synthetic records nearer than `limit`; about 0.01 where nothing is copied.
    """

    synthetic: Float[np.ndarray, " M"]
    held_out: Float[np.ndarray, " N"]
    nearest_training: Int[np.ndarray, " M"]
    synthetic_quantiles: tuple[float, ...]
    held_out_quantiles: tuple[float, ...]
    limit: float
    too_near: float


@dataclass(frozen=True)
class MembershipInference:
    """How well a score tells training records (members) from others.

    Attributes:
        auroc: 0.5 where it cannot; 95 % interval.
        sensitivity_at_1_percent: Share of the members found by a threshold that takes at most 1 % of the others. An
            AUROC near 0.5 may hide a few records that are given away for certain.
        members: Number of members.
        non_members: Number of others.
    """

    auroc: Interval
    sensitivity_at_1_percent: float
    members: int
    non_members: int

    @property
    def chance_sensitivity(self) -> float:
        """What the sensitivity is on average where members and others are alike: 0.01 with many others, more with few.

        The threshold lies above all but k = floor(0.01 n) of n others; of one more, that is alike, as many lie above.
        """
        return (int(_FALSE_ALARMS * self.non_members) + 1) / (self.non_members + 1)


def standardise(
    features: Float[np.ndarray, "N H"], *, training: Float[np.ndarray, "T H"], name: str
) -> Float[np.ndarray, "N H"]:
    """Features over their standard deviation in training, and over the root of their number.

    So two unrelated records of independent features lie about sqrt(2) apart.

    Args:
        features: Of any records.
        training: Of the records the generator was trained on.
        name: What records these are, for messages.

    Raises:
        DataError: fewer than 2 records, or features that are not finite.
    """
    spread = checked_features(training, name="training").std(axis=0)
    # A feature that never varies in training keeps its unit: a synthetic record that differs there is no copy.
    return checked_features(features, name=name) / (np.where(spread > 0, spread, 1) * np.sqrt(training.shape[1]))


def measure_training_distances(
    training: Shaped[np.ndarray, "T ..."],
    synthetic: Shaped[np.ndarray, "M ..."],
    held_out: Shaped[np.ndarray, "N ..."],
    *,
    search: Search = nearest,
) -> TrainingDistances:
    """Nearest training record of each synthetic record, against that of each held-out real record.

    Args:
        training: The records the generator was trained on, as `search` takes them; for the Euclidean search, features
            that were made comparable by `standardise`.
        synthetic: What it generated.
        held_out: Real records of other patients, which it has not seen.
        search: Finds the nearest one.

    Raises:
        DataError: fewer than 2 records on a side.

    Source: distance to the closest record against a holdout: Platzer and Reutterer 2021
    (Frontiers in Big Data 4:679939); here with the 1 % quantile of the holdout as the limit.
    """
    for name, records in (("training", training), ("synthetic", synthetic), ("held-out", held_out)):
        if len(records) < 2:
            raise DataError(f"expected 2 or more {name} records, got {len(records)}")
    synthetic_distance, row = search(synthetic, training)
    held_out_distance, _ = search(held_out, training)
    limit = float(np.quantile(held_out_distance, NEAR))
    return TrainingDistances(
        synthetic=synthetic_distance,
        held_out=held_out_distance,
        nearest_training=row,
        synthetic_quantiles=tuple(np.quantile(synthetic_distance, QUANTILES).tolist()),
        held_out_quantiles=tuple(np.quantile(held_out_distance, QUANTILES).tolist()),
        limit=limit,
        too_near=float(np.mean(synthetic_distance < limit)),
    )


def membership_inference(members: Float[np.ndarray, " M"], others: Float[np.ndarray, " N"]) -> MembershipInference:
    """How well a score tells records that were in training from records that were not.

    Args:
        members: Scores of training records, higher for "was in training": for example minus the loss of the
            generator on the record, or minus its distance to the nearest synthetic one.
        others: Scores of records of other patients.

    Raises:
        DataError: fewer than 2 records on a side, or a score is NaN.

    Source: DeLong et al. 1988 (interval); Carlini et al. 2022 (arXiv 2112.03570), who ask for the sensitivity at a low
    false-positive rate.
    """
    for name, scores in (("member", members), ("non-member", others)):
        if len(scores) < 2 or np.isnan(scores).any():
            broken = int(np.isnan(scores).sum())
            raise DataError(f"expected 2 or more {name} scores without NaN, got {len(scores)}, {broken} of them NaN")
    return MembershipInference(
        auroc=delong_interval(members, others),
        sensitivity_at_1_percent=float(np.mean(members > _highest_allowed(others, share=_FALSE_ALARMS))),
        members=len(members),
        non_members=len(others),
    )


def delong_interval(positive: Float[np.ndarray, " M"], negative: Float[np.ndarray, " N"]) -> Interval:
    """AUROC of two independent sets of scores with its 95 % normal interval, cut at 0 and 1.

    A perfect separation has no variance within the sample: its interval is [1, 1], which is too narrow.

    Source: DeLong et al. 1988: structural components and their variances; through midranks as Sun and Xu 2014.
    """
    ranks = rankdata(np.concatenate([positive, negative]))
    m, n = len(positive), len(negative)
    # For each positive the share of negatives it beats, for each negative the share of positives that beat it.
    beats = (ranks[:m] - rankdata(positive)) / n
    beaten = 1 - (ranks[m:] - rankdata(negative)) / m
    auroc = float(beats.mean())
    error = norm.ppf(0.975) * np.sqrt(beats.var(ddof=1) / m + beaten.var(ddof=1) / n)
    return Interval(auroc, max(0.0, float(auroc - error)), min(1.0, float(auroc + error)))


def _highest_allowed(scores: Float[np.ndarray, " N"], *, share: float) -> float:
    """The lowest score that at most this share of the scores lie above."""
    return float(np.sort(scores)[len(scores) - 1 - int(share * len(scores))])

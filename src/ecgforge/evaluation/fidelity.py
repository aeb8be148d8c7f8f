"""How near a set of synthetic ECGs comes to real ones, in the feature space of a trained classifier.

Frechet distance compares mean and covariance. Precision and density ask whether synthetic records lie among real
ones; recall and coverage whether all kinds of real records have synthetic ones near them. None of them means
anything alone: `measure_floor` gives what real records score against real ones.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from jaxtyping import Float, Int
from scipy.linalg import eigh, svdvals

from ecgforge.errors import DataError
from ecgforge.evaluation.distances import checked_features, squared_distance_blocks, squared_radii

NEIGHBOURS = 5  # k, as in arXiv 2002.09797
SPLITS = 20  # of the real records into halves, for floors; one alone is a matter of luck


@dataclass(frozen=True)
class Fidelity:
    """Five numbers on two sets of features.

    Attributes:
        frechet: Frechet distance, 0 for equal mean and covariance; in squared feature units.
        precision: Share of synthetic records within the neighbourhood of some real one, 0 to 1.
        recall: Share of real records within the neighbourhood of some synthetic one, 0 to 1.
        density: In how many real neighbourhoods a synthetic record lies, over k; near 1 for equal distributions.
        coverage: Share of real records whose neighbourhood holds a synthetic one; near 1 - 2^-k for equal
            distributions and equally many records (Naeem et al. 2020, Lemma 2).
    """

    frechet: float
    precision: float
    recall: float
    density: float
    coverage: float


def measure_fidelity(
    real: Float[np.ndarray, "N H"], synthetic: Float[np.ndarray, "M H"], *, k: int = NEIGHBOURS
) -> Fidelity:
    """The five numbers of synthetic against real features.

    All depend on the numbers of records; compare only runs that agree in both.

    Args:
        real: Features of real records, from the same classifier.
        synthetic: Features of synthetic records.
        k: Neighbours that make a neighbourhood; 5 as in Naeem et al., 3 in Kynkaanniemi et al.

    Raises:
        DataError: fewer than 2 records on a side, or features that are not finite.
        ConfigError: k is not from 1 to the smaller number of records less 1.

    Source: see `frechet_distance` and `_neighbourhood_measures`.
    """
    real = checked_features(real, name="real")
    synthetic = checked_features(synthetic, name="synthetic")
    precision, recall, density, coverage = _neighbourhood_measures(real, synthetic, k=k)
    return Fidelity(frechet_distance(real, synthetic), precision, recall, density, coverage)


def measure_floor(
    real: Float[np.ndarray, "N H"],
    *,
    rng: np.random.Generator,
    patients: Sequence[str] | None = None,
    k: int = NEIGHBOURS,
) -> Fidelity:
    """The five numbers of one half of the real records against the other: what a perfect generator would score.

    The Frechet distance of two finite samples lies above 0 even where the distributions agree, by an amount that falls
    as 1 / records. Read beside a comparison with N real records this floor is therefore high. For a like-for-like
    reading take the rows of `split_halves`, and measure as many synthetic records against the first half as the second
    half has.

    Args:
        real: Features of real records.
        rng: Decides who falls in which half.
        patients: Patient of each record. A patient's records stay together, else the halves would resemble each
            other more than a stranger's records do.
        k: As in `measure_fidelity`.

    Raises:
        DataError: as `measure_fidelity`, or the patients do not fit the records.
        ConfigError: k is not from 1 to the smaller half less 1.

    Source: Chong and Forsyth 2020 (arXiv 1911.07023): the Frechet distance's bias in 1 / records.
    """
    first, second = split_halves(len(real), rng=rng, patients=patients)
    return measure_fidelity(real[first], real[second], k=k)


def split_halves(
    records: int, *, rng: np.random.Generator, patients: Sequence[str] | None = None
) -> tuple[Int[np.ndarray, " N1"], Int[np.ndarray, " N2"]]:
    """Rows of two random halves, ascending; no patient is in both.

    Args:
        records: Number of records.
        rng: Decides who falls in which half.
        patients: Patient of each record; a record without one ("") stands for a patient of its own.

    Raises:
        DataError: the patients do not fit the records, or all records are one patient's.
    """
    if patients is not None and len(patients) != records:
        raise DataError(f"expected a patient for each of {records} records, got {len(patients)} patients")
    owners = [str(row) for row in range(records)] if patients is None else list(patients)
    owners = [f"patient {owner}" if owner else f"record {row}" for row, owner in enumerate(owners)]
    _, person, sizes = np.unique(owners, return_inverse=True, return_counts=True)
    if len(sizes) < 2:
        raise DataError(f"expected records of 2 or more patients, got {len(sizes)}")
    order = rng.permutation(len(sizes))
    # The first half takes patients until it holds half of the records.
    in_first = np.empty(len(sizes), dtype=bool)
    in_first[order] = np.cumsum(sizes[order]) <= (records + 1) // 2
    in_first[order[0]], in_first[order[-1]] = True, False  # neither is empty, however large one patient is
    return np.flatnonzero(in_first[person]), np.flatnonzero(~in_first[person])


def frechet_distance(real: Float[np.ndarray, "N H"], synthetic: Float[np.ndarray, "M H"]) -> float:
    """Squared 2-Wasserstein distance of two Gaussians with the means and covariances of the features.

    |m - m'|^2 + tr C + tr C' - 2 tr (C C')^(1/2). The last trace is the sum of the singular values of
    C^(1/2) C'^(1/2). Both roots are of symmetric matrices, so nothing turns complex and fewer records than features do
    no harm, unlike the root of the product C C'.

    Raises:
        DataError: fewer than 2 records on a side, or features that are not finite.

    Source: Heusel et al. 2017 (arXiv 1706.08500), equation 6; Dowson and Landau 1982.
    """
    real = checked_features(real, name="real")
    synthetic = checked_features(synthetic, name="synthetic")
    shift = real.mean(axis=0) - synthetic.mean(axis=0)
    root, other_root = _covariance_root(real), _covariance_root(synthetic)
    traces = np.sum(root**2) + np.sum(other_root**2)  # tr C = |C^(1/2)|^2
    # Rounding may leave a hair below 0 where both sets are the same.
    return max(0.0, float(shift @ shift + traces - 2 * svdvals(root @ other_root).sum()))


def _covariance_root(features: Float[np.ndarray, "N H"]) -> Float[np.ndarray, "H H"]:
    """Symmetric square root of the covariance (divided by N - 1)."""
    variances, axes = eigh(np.atleast_2d(np.cov(features, rowvar=False)))
    return (axes * np.sqrt(np.clip(variances, 0, None))) @ axes.T


def _neighbourhood_measures(
    real: Float[np.ndarray, "N H"], synthetic: Float[np.ndarray, "M H"], *, k: int
) -> tuple[float, float, float, float]:
    """Precision, recall, density and coverage.

    The neighbourhood of a record is the ball that reaches to its k-th nearest neighbour in its own set, rim included.

    Source: precision and recall: Kynkaanniemi et al. 2019 (arXiv 1904.06991), equations 1 and 2; density and coverage:
    Naeem et al. 2020 (arXiv 2002.09797), section 3 (their released code leaves the rim out, equation 1 of
    Kynkaanniemi et al. has it in; it matters for copies only).
    """
    real_radii, synthetic_radii = squared_radii(real, k=k), squared_radii(synthetic, k=k)
    memberships = realistic = 0
    covered, recalled = np.zeros(len(real), dtype=bool), np.zeros(len(real), dtype=bool)
    for block, distances in squared_distance_blocks(synthetic, real):
        within_real = distances <= real_radii
        memberships += int(within_real.sum())
        realistic += int(within_real.any(axis=1).sum())
        covered |= within_real.any(axis=0)
        recalled |= (distances <= synthetic_radii[block, None]).any(axis=0)
    count = len(synthetic)
    return realistic / count, float(recalled.mean()), memberships / (k * count), float(covered.mean())

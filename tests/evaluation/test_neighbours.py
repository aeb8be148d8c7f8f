"""Nearest training records and membership inference: by hand, in closed form, and on copies."""

import math

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import roc_auc_score

from ecgforge.errors import DataError
from ecgforge.evaluation.neighbours import (
    NEAR,
    QUANTILES,
    TrainingDistances,
    chance_too_near,
    delong_interval,
    measure_training_distances,
    membership_inference,
    standardise,
)


def measure(training: np.ndarray, synthetic: np.ndarray, held_out: np.ndarray) -> TrainingDistances:
    sets = {"training": training, "synthetic": synthetic, "held-out": held_out}
    return measure_training_distances(
        *(standardise(features, training=training, name=name) for name, features in sets.items())
    )


def test_distances_by_hand() -> None:
    training = np.array([[0.0, 0.0], [2.0, 20.0]])  # deviations 1 and 10
    synthetic = np.array([[0.0, 10.0], [2.0, 21.0], [2.0, 20.0]])
    held_out = np.array([[-3.0, 0.0], [5.0, 60.0]])
    result = measure(training, synthetic, held_out)
    root = math.sqrt(2)  # of the number of features
    np.testing.assert_allclose(result.synthetic, [1 / root, 0.1 / root, 0], atol=1e-15)
    np.testing.assert_array_equal(result.nearest_training, [0, 1, 1])
    np.testing.assert_allclose(result.held_out, [3 / root, 5 / root])
    assert result.limit == pytest.approx((3 + 0.01 * 2) / root)
    assert result.too_near == 1
    assert result.held_out_quantiles[QUANTILES.index(0.5)] == pytest.approx(4 / root)
    assert result.synthetic_quantiles[0] == 0 and result.synthetic_quantiles[-1] == pytest.approx(1 / root)


def test_units_of_features_do_not_matter() -> None:
    rng = np.random.default_rng(0)
    training, synthetic, held_out = rng.normal(size=(60, 4)), rng.normal(size=(30, 4)), rng.normal(size=(20, 4))
    expected = measure(training, synthetic, held_out)
    scale, shift = np.array([1e-3, 1.0, 50.0, 1e4]), np.array([5.0, 0.0, -3.0, 1.0])
    result = measure(training * scale + shift, synthetic * scale + shift, held_out * scale + shift)
    np.testing.assert_allclose(result.synthetic, expected.synthetic, rtol=1e-9)
    np.testing.assert_allclose(result.held_out, expected.held_out, rtol=1e-9)
    assert result.too_near == expected.too_near


def test_a_generator_that_knows_the_distribution_is_at_one_percent() -> None:
    rng = np.random.default_rng(1)
    result = measure(rng.normal(size=(300, 5)), rng.normal(size=(3000, 5)), rng.normal(size=(3000, 5)))
    assert result.too_near == pytest.approx(0.01, abs=0.008)  # 30 of 3000 on both sides: deviation 0.26 %
    np.testing.assert_allclose(result.synthetic_quantiles[2:7], result.held_out_quantiles[2:7], rtol=0.1)


def test_copies_are_found_and_named() -> None:
    rng = np.random.default_rng(2)
    training, held_out = rng.normal(size=(200, 10)) + 1000, rng.normal(size=(100, 10)) + 1000
    copied = [17, 3, 150]
    synthetic = np.concatenate([training[copied], rng.normal(size=(57, 10)) + 1000])
    result = measure(training, synthetic, held_out)
    np.testing.assert_array_equal(result.synthetic[:3], 0)
    np.testing.assert_array_equal(result.nearest_training[:3], copied)
    assert 3 / 60 <= result.too_near < 6 / 60


def test_a_feature_that_never_varies_in_training_still_tells_records_apart() -> None:
    training = np.array([[0.0, 1.0], [2.0, 1.0]])
    result = measure(training, np.array([[0.0, 1.0], [0.0, 4.0]]), training + 0.5)
    np.testing.assert_allclose(result.synthetic, [0, 3 / math.sqrt(2)])


def test_bad_features_are_refused() -> None:
    good = np.random.default_rng(3).normal(size=(5, 2))
    broken = np.where(np.eye(5, 2) > 0, np.nan, good)
    with pytest.raises(DataError, match="in 2 of 5 held-out records"):
        measure(good, good, broken)
    with pytest.raises(DataError, match="2 or more synthetic records, got 1"):
        measure(good, good[:1], good)
    with pytest.raises(DataError, match="2 or more held-out records, got 1"):
        measure_training_distances(good, good, good[:1])


def test_any_search_will_do() -> None:
    def by_difference(queries: np.ndarray, references: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        away = np.abs(queries[:, None] - references[None])
        return away.min(axis=1), away.argmin(axis=1)

    training, synthetic = np.array([0.0, 10.0]), np.array([9.0, 1.0, 0.5])
    result = measure_training_distances(training, synthetic, np.array([3.0, 13.0]), search=by_difference)
    np.testing.assert_array_equal(result.synthetic, [1, 1, 0.5])
    np.testing.assert_array_equal(result.nearest_training, [1, 0, 0])
    assert (result.limit, result.too_near) == (3, 1)


def test_delong_interval_by_hand() -> None:
    positive, negative = np.array([3.0, 1.0]), np.array([0.0, 1.0, 2.0])
    # 3 beats 3 of 3; 1 beats one and ties one of 3: shares 1 and 1/2. Negatives are beaten by 1, 3/4 and 1/2.
    variance = 0.125 / 2 + 0.0625 / 3
    result = delong_interval(positive, negative)
    assert result.estimate == pytest.approx(0.75)
    assert result.low == pytest.approx(0.75 - norm.ppf(0.975) * math.sqrt(variance))
    assert result.high == 1  # 0.75 + 0.566 is cut


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
def test_auroc_equals_scikit_learn(ties: bool) -> None:
    rng = np.random.default_rng(4)
    members, others = rng.normal(size=70) + 0.5, rng.normal(size=90)
    if ties:
        members, others = np.round(members), np.round(others)
    result = membership_inference(members, others)
    truth = np.repeat([True, False], [70, 90])
    assert result.auroc.estimate == pytest.approx(roc_auc_score(truth, np.concatenate([members, others])), abs=1e-14)
    assert (result.members, result.non_members) == (70, 90)


def test_delong_interval_covers_the_true_auroc_in_about_95_percent() -> None:
    rng = np.random.default_rng(5)
    expected = norm.cdf(0.3 / math.sqrt(2))
    runs = 500
    intervals = [delong_interval(rng.normal(size=60) + 0.3, rng.normal(size=80)) for _ in range(runs)]
    covered = sum(interval.low <= expected <= interval.high for interval in intervals)
    assert covered / runs == pytest.approx(0.95, abs=0.03)  # deviation 1 %


@pytest.mark.parametrize("others", [5, 20, 150, 1000])
def test_what_chance_finds_with_few_held_out_records(others: int) -> None:
    """Members, others and synthetic records all alike: the means over many runs."""
    stream, runs = np.random.default_rng(0), 4000
    found, near = [], []
    for _ in range(runs):
        alike = stream.standard_normal((3, others))
        inference = membership_inference(alike[0], alike[1])
        found.append(inference.sensitivity_at_1_percent)
        near.append(np.mean(alike[2] < np.quantile(alike[1], NEAR)))
    assert np.mean(found) == pytest.approx(inference.chance_sensitivity, rel=0.1)
    assert np.mean(near) == pytest.approx(chance_too_near(others), rel=0.1)


def test_sensitivity_at_one_percent_by_hand() -> None:
    others = np.arange(200.0)  # at most 2 of them may be taken: the threshold is 197
    members = np.array([197.0, 197.5, 198.0, 500.0])
    assert membership_inference(members, others).sensitivity_at_1_percent == pytest.approx(3 / 4)
    # With fewer than 100 others none may be taken.
    assert membership_inference(members, others[:50]).sensitivity_at_1_percent == 1
    assert membership_inference(np.array([49.0, 50.0]), others[:50]).sensitivity_at_1_percent == 0.5


def test_a_score_without_information_finds_one_percent() -> None:
    rng = np.random.default_rng(6)
    result = membership_inference(rng.normal(size=5000), rng.normal(size=5000))
    assert result.auroc.low < 0.5 < result.auroc.high
    assert result.sensitivity_at_1_percent == pytest.approx(0.01, abs=0.006)


def test_bad_scores_are_refused() -> None:
    good = np.array([1.0, 2.0, 3.0])
    with pytest.raises(DataError, match="2 or more member scores without NaN, got 3, 1 of them NaN"):
        membership_inference(np.array([1.0, np.nan, 2.0]), good)
    with pytest.raises(DataError, match="2 or more non-member scores without NaN, got 1, 0 of them NaN"):
        membership_inference(good, good[:1])

"""Fidelity measures in closed form, by hand, under rotation, and for equal distributions."""

import math

import numpy as np
import pytest
from scipy.linalg import sqrtm
from scipy.stats import special_ortho_group

from ecgforge.errors import ConfigError, DataError
from ecgforge.evaluation import distances
from ecgforge.evaluation.fidelity import Fidelity, frechet_distance, measure_fidelity, measure_floor, split_halves


def with_moments(mean: np.ndarray, deviation: np.ndarray) -> np.ndarray:
    """Features with exactly this mean and diagonal covariance: +-a on each axis in turn."""
    features = len(mean)
    # 2H records, of which only two leave the mean on each axis: variance 2 a^2 / (2H - 1).
    steps = np.diag(deviation * math.sqrt((2 * features - 1) / 2))
    return mean + np.concatenate([steps, -steps])


def test_frechet_distance_of_diagonal_gaussians() -> None:
    mean, other_mean = np.array([0.0, 1.0, -2.0]), np.array([0.5, 1.0, 1.0])
    deviation, other_deviation = np.array([1.0, 0.3, 2.0]), np.array([0.2, 0.3, 5.0])
    expected = np.sum((mean - other_mean) ** 2) + np.sum((deviation - other_deviation) ** 2)
    result = frechet_distance(with_moments(mean, deviation), with_moments(other_mean, other_deviation))
    assert result == pytest.approx(expected, rel=1e-12)


def test_frechet_distance_in_one_dimension() -> None:
    real, synthetic = np.array([[0.0], [2.0]]), np.array([[1.0], [7.0]])  # means 1 and 4, deviations sqrt 2 and sqrt 18
    assert frechet_distance(real, synthetic) == pytest.approx(9 + (math.sqrt(18) - math.sqrt(2)) ** 2)


def test_frechet_distance_equals_the_formula_with_a_matrix_root() -> None:
    rng = np.random.default_rng(0)
    real = rng.normal(size=(200, 6)) @ rng.normal(size=(6, 6))
    synthetic = rng.normal(size=(150, 6)) @ rng.normal(size=(6, 6)) + 0.5
    covariance, other = np.cov(real.T), np.cov(synthetic.T)
    shift = real.mean(axis=0) - synthetic.mean(axis=0)
    expected = shift @ shift + np.trace(covariance + other - 2 * sqrtm(covariance @ other).real)
    assert frechet_distance(real, synthetic) == pytest.approx(expected, rel=1e-10)


def test_frechet_distance_with_fewer_records_than_features() -> None:
    rng = np.random.default_rng(1)
    real = rng.normal(size=(20, 60))
    assert frechet_distance(real, real) < 1e-10
    assert frechet_distance(real, real + 0.1) == pytest.approx(60 * 0.01, rel=1e-9)
    assert frechet_distance(real, real.mean(axis=0) + 3 * (real - real.mean(axis=0))) == pytest.approx(
        4 * real.var(axis=0, ddof=1).sum(), rel=1e-9
    )


def test_measures_keep_under_rotation_shift_and_order() -> None:
    rng = np.random.default_rng(2)
    real, synthetic = rng.normal(size=(80, 5)), 0.8 * rng.normal(size=(60, 5)) + 0.3
    expected = measure_fidelity(real, synthetic)
    rotation = special_ortho_group.rvs(5, random_state=rng)
    moved = measure_fidelity((real @ rotation + 7)[rng.permutation(80)], (synthetic @ rotation + 7)[::-1])
    assert moved.frechet == pytest.approx(expected.frechet, rel=1e-9)
    assert (moved.precision, moved.recall) == (expected.precision, expected.recall)
    assert moved.density == pytest.approx(expected.density) and moved.coverage == expected.coverage
    assert 0 < expected.precision < 1 and 0 < expected.recall < 1 and 0 < expected.coverage < 1


def test_neighbourhood_measures_by_hand() -> None:
    # With k = 1 their balls are [-1, 1], [0, 2], [7, 13], [10, 16] and [-0.7, 1.7], [0.5, 2.9], [1.7, 58.3].
    real = np.array([[0.0], [1.0], [10.0], [13.0]])
    synthetic = np.array([[0.5], [1.7], [30.0]])
    result = measure_fidelity(real, synthetic, k=1)
    assert result.precision == pytest.approx(2 / 3)  # 0.5 and 1.7 lie in a real ball, 30 in none
    assert result.density == pytest.approx((2 + 1 + 0) / 3)  # 0.5 in the first two, 1.7 in the second
    assert result.coverage == pytest.approx(2 / 4)  # balls of 0 and 1 hold one, those of 10 and 13 none
    assert result.recall == 1  # 10 and 13 lie in the far-off record's wide ball
    swapped = measure_fidelity(synthetic, real, k=1)
    assert (swapped.precision, swapped.recall) == (result.recall, result.precision)
    assert swapped.density == pytest.approx((1 + 2 + 1 + 1) / 4) and swapped.coverage == 1


def test_second_neighbours_by_hand() -> None:
    real = np.array([[0.0], [1.0], [10.0], [13.0]])
    synthetic = np.array([[-8.0], [4.5], [100.0]])
    # With k = 2 the real balls are [-10, 10], [-8, 10], [1, 19] and [1, 25].
    result = measure_fidelity(real, synthetic, k=2)
    assert result.precision == pytest.approx(2 / 3)
    assert result.density == pytest.approx((2 + 4 + 0) / (2 * 3))  # -8 lies on the rim of the second ball
    assert result.coverage == 1 and result.recall == 1


def test_rare_kinds_that_are_missing_lower_recall_and_coverage_only() -> None:
    rng = np.random.default_rng(3)
    real = np.concatenate([rng.normal(size=(90, 3)), rng.normal(size=(30, 3)) + 50])
    result = measure_fidelity(real, rng.normal(size=(120, 3)))
    assert result.recall <= 0.75 and result.coverage <= 0.75
    assert result.precision > 0.9 and result.density > 0.9


def test_copies_lie_in_the_balls_of_their_k_neighbours_and_their_own() -> None:
    real = np.random.default_rng(4).normal(size=(300, 40)) + 100
    result = measure_fidelity(real, real[::-1].copy(), k=5)
    assert (result.precision, result.recall, result.coverage) == (1, 1, 1)
    assert result.density == pytest.approx(6 / 5)  # to the last bit: rims count, whatever the rounding
    assert result.frechet == pytest.approx(0, abs=1e-8)


def test_equal_distributions_have_density_1_and_the_coverage_of_lemma_2() -> None:
    rng = np.random.default_rng(5)
    results = [measure_fidelity(rng.normal(size=(90, 2)), rng.normal(size=(60, 2)), k=3) for _ in range(60)]
    assert np.mean([result.density for result in results]) == pytest.approx(1, abs=0.04)
    missed = math.prod((90 - i) / (90 + 60 - i) for i in range(1, 4))
    assert np.mean([result.coverage for result in results]) == pytest.approx(1 - missed, abs=0.02)


def test_blocks_do_not_change_the_result(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    real, synthetic = rng.normal(size=(50, 4)), rng.normal(size=(37, 4))
    expected = measure_fidelity(real, synthetic)
    monkeypatch.setattr(distances, "_BLOCK", 120)  # two to three rows at a time
    assert measure_fidelity(real, synthetic) == expected


def test_single_precision_features_are_taken() -> None:
    rng = np.random.default_rng(7)
    real, synthetic = rng.normal(size=(40, 3)).astype(np.float32), rng.normal(size=(40, 3)).astype(np.float32)
    assert measure_fidelity(real, synthetic) == measure_fidelity(real.astype(float), synthetic.astype(float))


def test_halves_share_no_record_and_no_patient() -> None:
    patients = [f"{row // 3}" for row in range(60)] + ["", "", ""]
    first, second = split_halves(63, rng=np.random.default_rng(8), patients=patients)
    assert sorted([*first, *second]) == list(range(63))
    assert not {patients[row] for row in first} & {patients[row] for row in second} - {""}
    assert abs(len(first) - len(second)) <= 5
    again, _ = split_halves(63, rng=np.random.default_rng(8), patients=patients)
    other, _ = split_halves(63, rng=np.random.default_rng(9), patients=patients)
    assert np.array_equal(first, again) and not np.array_equal(first, other)


def test_halves_without_patients_are_equal() -> None:
    first, second = split_halves(11, rng=np.random.default_rng(10))
    assert (len(first), len(second)) == (6, 5)


@pytest.mark.parametrize("seed", range(6))
def test_one_patient_with_most_records_leaves_no_half_empty(seed: int) -> None:
    patients = ["a"] * 9 + ["b"]
    first, second = split_halves(10, rng=np.random.default_rng(seed), patients=patients)
    assert {len(first), len(second)} == {9, 1}


def test_floor_is_the_fidelity_of_the_two_halves() -> None:
    real = np.random.default_rng(11).normal(size=(100, 4))
    first, second = split_halves(100, rng=np.random.default_rng(12))
    expected = measure_fidelity(real[first], real[second], k=3)
    assert measure_floor(real, rng=np.random.default_rng(12), k=3) == expected
    assert isinstance(expected, Fidelity) and expected.frechet > 0


def test_floor_falls_as_one_over_records() -> None:
    rng = np.random.default_rng(13)
    floors = [
        np.mean([measure_floor(rng.normal(size=(records, 4)), rng=rng, k=1).frechet for _ in range(40)])
        for records in (100, 400)
    ]
    assert floors[0] / floors[1] == pytest.approx(4, rel=0.2)


def test_patients_kept_together_raise_the_floor() -> None:
    rng = np.random.default_rng(14)
    real = np.repeat(rng.normal(size=(30, 2)), 4, axis=0) + 0.01 * rng.normal(size=(120, 2))
    patients = [str(row // 4) for row in range(120)]
    apart = np.mean([measure_floor(real, rng=rng, patients=patients, k=1).coverage for _ in range(10)])
    mixed = np.mean([measure_floor(real, rng=rng, k=1).coverage for _ in range(10)])
    assert apart < mixed / 2


def test_bad_features_are_refused() -> None:
    good = np.random.default_rng(15).normal(size=(10, 3))
    broken = good.copy()
    broken[[2, 5], 1] = [np.nan, np.inf]
    with pytest.raises(DataError, match="in 2 of 10 synthetic records"):
        measure_fidelity(good, broken)
    with pytest.raises(DataError, match="2 or more real records, got 1"):
        frechet_distance(good[:1], good)
    with pytest.raises(ConfigError, match="k from 1 to 3 for 4 records, got 5"):
        measure_fidelity(good, good[:4])
    with pytest.raises(DataError, match="a patient for each of 10 records, got 2"):
        measure_floor(good, rng=np.random.default_rng(0), patients=["a", "b"])
    with pytest.raises(DataError, match="records of 2 or more patients, got 1"):
        measure_floor(good, rng=np.random.default_rng(0), patients=["a"] * 10)

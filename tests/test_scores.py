"""Classification scores against scikit-learn, by hand, and in simulations with a known answer."""

import math

import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import confusion_matrix, f1_score, roc_auc_score

from ecgforge.errors import DataError, LabelError
from ecgforge.labels import LabelVocabulary, vocabulary
from ecgforge.scores import (
    bootstrap_difference,
    bootstrap_interval,
    choose_threshold,
    draw_resamples,
    macro_auroc,
    score_pathology,
    statement_auroc,
    weighted_auroc,
)

SMALL = LabelVocabulary(name="custom", labels=("AFIB", "DIG", "IMI", "LVH", "NORM", "WPW"))


def simulate(
    records: int, statements: int, *, seed: int, ties: bool = False, shift: float = 1.0
) -> tuple[np.ndarray, np.ndarray]:
    """Truth with prevalences from 5 % to 50 % and scores that are `shift` higher where a statement is present."""
    rng = np.random.default_rng(seed)
    truth = rng.random((records, statements)) < np.linspace(0.05, 0.5, statements)
    truth[:2] = [[True], [False]]
    score = rng.normal(size=truth.shape) + shift * truth
    return truth, np.round(score) if ties else score


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
def test_auroc_equals_scikit_learn(ties: bool) -> None:
    truth, score = simulate(150, 6, seed=1, ties=ties)
    expected = [roc_auc_score(truth[:, k], score[:, k]) for k in range(6)]
    np.testing.assert_allclose(statement_auroc(truth, score), expected, rtol=0, atol=1e-14)


def test_auroc_by_hand() -> None:
    truth = np.array([True, True, False, False, False])
    score = np.array([0.9, 0.4, 0.4, 0.6, 0.1])
    # 0.9 beats all three; 0.4 loses one, ties one, beats one.
    assert statement_auroc(truth[:, None], score[:, None])[0] == pytest.approx((3 + 1.5) / 6)


def test_auroc_of_binormal_scores_is_phi_of_half_the_distance() -> None:
    rng = np.random.default_rng(2)
    truth = np.repeat([True, False], 40_000)
    score = rng.normal(size=80_000) + 1.2 * truth
    assert statement_auroc(truth[:, None], score[:, None])[0] == pytest.approx(norm.cdf(1.2 / math.sqrt(2)), abs=0.006)


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
def test_auroc_of_resamples_equals_scikit_learn_on_the_resampled_records(ties: bool) -> None:
    truth, score = simulate(120, 1, seed=3, ties=ties)
    weights = draw_resamples(truth, rng=np.random.default_rng(4), resamples=30)
    areas = weighted_auroc(truth[:, 0], score[:, 0], weights)
    for column, area in zip(weights.T, areas, strict=True):
        rows = np.repeat(np.arange(120), column)
        assert area == pytest.approx(roc_auc_score(truth[rows, 0], score[rows, 0]), abs=1e-14)


def test_auroc_keeps_under_order_and_under_rising_maps() -> None:
    truth, score = simulate(200, 5, seed=5)
    expected = statement_auroc(truth, score)
    order = np.random.default_rng(6).permutation(200)
    np.testing.assert_array_equal(statement_auroc(truth[order], score[order]), expected)
    np.testing.assert_array_equal(statement_auroc(truth, 1 / (1 + np.exp(-score))), expected)
    np.testing.assert_allclose(statement_auroc(truth, -score), 1 - expected, atol=1e-14)


def test_macro_leaves_out_what_cannot_be_scored_and_says_so() -> None:
    truth, score = simulate(100, 6, seed=7)
    truth[:, 0], truth[:, 3] = False, True
    result = macro_auroc(truth, score, vocabulary=SMALL)
    scored = [1, 2, 4, 5]
    areas = [roc_auc_score(truth[:, k], score[:, k]) for k in scored]
    assert result.not_scorable == ("AFIB", "LVH")
    assert result.macro == pytest.approx(np.mean(areas), abs=1e-14)
    assert result.records == 100
    assert [entry.label for entry in result.statements] == list(SMALL.labels)
    assert [entry.positives for entry in result.statements] == truth.sum(axis=0).tolist()


def test_groups_are_means_of_their_statements() -> None:
    truth, score = simulate(100, 6, seed=8)
    truth[:, 0] = False  # the only rhythm statement
    result = macro_auroc(truth, score, vocabulary=SMALL)
    area = {entry.label: entry.auroc for entry in result.statements}
    groups = {entry.name: entry for entry in result.groups}
    assert list(groups) == ["diagnostic", "form", "rhythm", "CD", "HYP", "MI", "NORM", "STTC"]
    diagnostic = [area[label] for label in ("DIG", "IMI", "LVH", "NORM", "WPW")]
    assert groups["diagnostic"].auroc == pytest.approx(np.mean(diagnostic))
    assert groups["diagnostic"].statements == 5
    assert groups["form"].auroc == groups["STTC"].auroc == area["DIG"]  # digitalis effect is in both
    assert groups["CD"].auroc == area["WPW"] and groups["MI"].auroc == area["IMI"]
    assert groups["rhythm"].statements == 0 and math.isnan(groups["rhythm"].auroc)


def test_all_71_statements_fall_into_their_groups() -> None:
    truth, score = simulate(300, 71, seed=9)
    sizes = {entry.name: entry.statements for entry in macro_auroc(truth, score, vocabulary=vocabulary()).groups}
    assert sizes["diagnostic"] == 44 and sizes["form"] == 19 and sizes["rhythm"] == 12
    assert sum(sizes[name] for name in ("CD", "HYP", "MI", "NORM", "STTC")) == 44


def test_classes_as_labels_have_no_groups() -> None:
    truth, score = simulate(50, 5, seed=10)
    assert macro_auroc(truth, score, vocabulary=vocabulary("superdiagnostic")).groups == ()


def test_bad_scores_are_refused() -> None:
    truth, score = simulate(40, 6, seed=11)
    with pytest.raises(LabelError, match=r"got 5 columns"):
        macro_auroc(truth[:, :5], score[:, :5], vocabulary=SMALL)
    broken = score.copy()
    broken[[3, 3, 8], [0, 1, 2]] = np.nan
    with pytest.raises(DataError, match=r"got NaN in 2 of 40 records"):
        macro_auroc(truth, broken, vocabulary=SMALL)
    with pytest.raises(DataError, match=r"got 40 records that all agree"):
        bootstrap_interval(np.zeros_like(truth), score, rng=np.random.default_rng(0))


def test_every_resample_has_records_with_and_without_each_statement() -> None:
    truth = np.zeros((30, 3), dtype=bool)
    truth[0, 0] = truth[:2, 1] = True
    truth[1:, 2] = True  # a single record without it
    weights = draw_resamples(truth, rng=np.random.default_rng(12), resamples=200)
    assert weights.shape == (30, 200)
    assert (weights.sum(axis=0) == 30).all() and len(np.unique(weights, axis=1).T) == 200
    positives = truth.T.astype(int) @ weights
    assert (positives > 0).all() and (positives < 30).all()


def test_records_are_drawn_equally_often() -> None:
    truth = np.arange(20)[:, None] % 2 == 0
    weights = draw_resamples(truth, rng=np.random.default_rng(13), resamples=4000)
    # Mean 1, standard deviation of the mean sqrt(0.95 / 4000) = 0.015.
    assert np.abs(weights.mean(axis=1) - 1).max() < 0.06
    assert weights.var() == pytest.approx(1 - 1 / 20, abs=0.03)


def test_resamples_that_hardly_ever_fit_are_refused() -> None:
    truth = np.eye(20, dtype=bool)  # every statement in one record: a resample would have to take each record once
    with pytest.raises(DataError, match="too many statements are in one or two records only; leave these out"):
        draw_resamples(truth, rng=np.random.default_rng(14), resamples=20)


def test_interval_is_that_of_resampled_macro_aurocs() -> None:
    truth, score = simulate(80, 4, seed=15)
    interval = bootstrap_interval(truth, score, rng=np.random.default_rng(16), resamples=50)
    weights = draw_resamples(truth, rng=np.random.default_rng(16), resamples=50)
    macro = []
    for column in weights.T:
        rows = np.repeat(np.arange(80), column)
        macro.append(roc_auc_score(truth[rows], score[rows], average="macro"))
    assert interval.estimate == pytest.approx(roc_auc_score(truth, score, average="macro"), abs=1e-14)
    np.testing.assert_allclose((interval.low, interval.high), np.quantile(macro, [0.025, 0.975]), atol=1e-14)


def test_interval_repeats_with_its_generator_and_ignores_statements_without_records() -> None:
    truth, score = simulate(60, 3, seed=17)
    first = bootstrap_interval(truth, score, rng=np.random.default_rng(18), resamples=70)
    wider_truth = np.insert(truth, 1, False, axis=1)
    wider_score = np.insert(score, 1, 0.0, axis=1)
    assert bootstrap_interval(wider_truth, wider_score, rng=np.random.default_rng(18), resamples=70) == first
    assert bootstrap_interval(truth, score, rng=np.random.default_rng(19), resamples=70) != first


def test_95_percent_interval_covers_the_true_auroc_in_about_95_percent() -> None:
    expected = norm.cdf(1 / math.sqrt(2))  # unit normals one apart, for every statement
    runs = 250
    covered = 0
    for seed in range(runs):
        truth, score = simulate(200, 2, seed=1000 + seed)
        interval = bootstrap_interval(truth, score, rng=np.random.default_rng(seed), resamples=200)
        covered += interval.low <= expected <= interval.high
    # 95 % with a standard deviation of 1.4 %; the percentile interval is a few percent short on 10 positives.
    assert 0.89 < covered / runs < 0.98


def test_difference_is_paired() -> None:
    truth, score = simulate(150, 3, seed=20)
    same = bootstrap_difference(truth, score, np.exp(score), rng=np.random.default_rng(21), resamples=100)
    assert (same.estimate, same.low, same.high) == (0, 0, 0)  # same order, same AUROC on every resample

    noisy = score + np.random.default_rng(22).normal(size=score.shape)
    better = bootstrap_difference(truth, score, noisy, rng=np.random.default_rng(23), resamples=200)
    expected = statement_auroc(truth, score).mean() - statement_auroc(truth, noisy).mean()
    assert better.estimate == pytest.approx(expected)
    assert 0 < better.low < better.estimate < better.high
    worse = bootstrap_difference(truth, noisy, score, rng=np.random.default_rng(23), resamples=200)
    assert (worse.low, worse.high) == pytest.approx((-better.high, -better.low))
    alone = bootstrap_interval(truth, score, rng=np.random.default_rng(23), resamples=200)
    assert better.high - better.low < 2 * (alone.high - alone.low)


def test_threshold_by_hand() -> None:
    score = np.array([0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8])
    truth = np.array([False, False, True, False, False, False, True, True])
    # From 0.7 on: 2 of 3 found, no false alarm: G-mean sqrt(2/3), F1 4/5. From 0.3 on: 3 of 3, 3 of 5 false alarms.
    assert choose_threshold(truth, score, maximise="g-mean") == 0.7
    assert choose_threshold(truth, score, maximise="f1") == 0.7
    result = score_pathology(truth, score, threshold=0.7)
    assert result.sensitivity == pytest.approx(2 / 3) and result.specificity == 1
    assert result.g_mean == pytest.approx(math.sqrt(2 / 3)) and result.f1 == pytest.approx(4 / 5)
    assert result.auroc == pytest.approx(12 / 15)
    assert (result.positives, result.records, result.threshold) == (3, 8, 0.7)


@pytest.mark.parametrize("ties", [False, True], ids=["distinct", "ties"])
def test_no_other_threshold_is_better(ties: bool) -> None:
    truth, score = simulate(120, 1, seed=24, ties=ties)
    truth, score = truth[:, 0], score[:, 0]
    results = [score_pathology(truth, score, threshold=float(value)) for value in np.unique(score)]
    by_g_mean = choose_threshold(truth, score, maximise="g-mean")
    assert score_pathology(truth, score, threshold=by_g_mean).g_mean == max(result.g_mean for result in results)
    by_f1 = choose_threshold(truth, score, maximise="f1")
    assert score_pathology(truth, score, threshold=by_f1).f1 == pytest.approx(max(result.f1 for result in results))


def test_of_equally_good_thresholds_the_highest_is_taken() -> None:
    truth = np.array([False, True, False, True])
    score = np.array([0.1, 0.2, 0.3, 0.4])  # from 0.4: 1/2 found, none false; from 0.2: all found, 1/2 false
    assert choose_threshold(truth, score, maximise="g-mean") == 0.4


def test_pathology_scores_equal_scikit_learn() -> None:
    truth, score = simulate(200, 1, seed=25)
    truth, score = truth[:, 0], score[:, 0]
    called = score >= 0.8
    (true_negative, false_positive), (false_negative, true_positive) = confusion_matrix(truth, called)
    result = score_pathology(truth, score, threshold=0.8)
    assert result.sensitivity == pytest.approx(true_positive / (true_positive + false_negative))
    assert result.specificity == pytest.approx(true_negative / (true_negative + false_positive))
    assert result.f1 == pytest.approx(f1_score(truth, called))
    assert result.auroc == pytest.approx(roc_auc_score(truth, score))


def test_calling_nothing_positive_scores_zero() -> None:
    result = score_pathology(np.array([True, False, False]), np.array([0.1, 0.2, 0.3]), threshold=0.5)
    assert (result.sensitivity, result.specificity, result.g_mean, result.f1) == (0, 1, 0, 0)


def test_thresholds_need_both_kinds_of_records() -> None:
    score = np.array([0.1, 0.2])
    with pytest.raises(DataError, match="2 records that all agree"):
        choose_threshold(np.array([True, True]), score, maximise="f1")
    with pytest.raises(DataError, match="2 records that all agree"):
        score_pathology(np.array([False, False]), score, threshold=0.1)

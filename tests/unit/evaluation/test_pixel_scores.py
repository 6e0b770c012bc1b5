"""Probability scores against closed forms and simulated calibration."""

import numpy as np
import pytest
from scipy import stats

from appulse.evaluation import (
    brier_score,
    energy_score,
    expected_calibration_error,
    mean_in_bins,
    negative_log_likelihood,
    rank_correlation,
    reliability,
)


def calibrated(n=200_000, seed=0):
    rng = np.random.default_rng(seed)
    probability = rng.uniform(0, 1, n)
    return probability, rng.uniform(size=n) < probability


def test_proper_scores_of_calibrated_probabilities():
    probability, truth = calibrated()
    # P uniform: E p(1-p) = 1/6, and the expected entropy of a Bernoulli is 1/2 nat.
    assert brier_score(probability, truth) == pytest.approx(1 / 6, abs=2e-3)
    assert negative_log_likelihood(probability, truth) == pytest.approx(0.5, abs=5e-3)


def test_scores_of_a_constant_probability():
    truth = np.arange(10) < 3
    constant = np.full(10, 0.2, dtype=np.float32)
    assert brier_score(constant, truth) == pytest.approx(0.3 * 0.64 + 0.7 * 0.04)
    assert negative_log_likelihood(constant, truth) == pytest.approx(-0.3 * np.log(0.2) - 0.7 * np.log(0.8))
    assert expected_calibration_error(constant, truth) == pytest.approx(0.1)


def test_a_certain_mistake_is_dear_but_finite():
    assert negative_log_likelihood(np.array([0.0]), np.array([True])) == pytest.approx(-np.log(1e-7))


def test_calibration_error_finds_the_known_one():
    probability, truth = calibrated()
    assert expected_calibration_error(probability, truth) < 0.01
    # Stretched by p -> p^2 the error is E|p - p^2|, over the p of which the square is uncertain.
    low, high = np.sqrt([0.02, 0.98])
    expected = ((high**2 - low**2) / 2 - (high**3 - low**3) / 3) / (high - low)
    assert expected_calibration_error(probability**2, truth) == pytest.approx(expected, abs=5e-3)


def test_reliability_bins_hold_equal_numbers():
    probability, truth = calibrated(n=30_000)
    points = reliability(probability, truth)
    assert len(points.n_pixels) == 15
    assert np.ptp(points.n_pixels) <= 1
    assert np.all(np.diff(points.probability) > 0)
    assert points.n_pixels.sum() == np.count_nonzero((probability > 0.02) & (probability < 0.98))


def test_background_and_bad_pixels_do_not_count():
    probability, truth = calibrated(n=5000)
    padded = np.concatenate([probability, np.full(50_000, 0.001), [np.nan] * 10])
    padded_truth = np.concatenate([truth, np.ones(50_000, dtype=bool), [True] * 10])
    plain = expected_calibration_error(probability, truth)
    assert expected_calibration_error(padded, padded_truth) == plain
    assert np.isnan(expected_calibration_error(np.full(4, 0.001), np.zeros(4, dtype=bool)))
    assert np.isnan(brier_score(np.array([np.nan]), np.array([True])))


def test_probability_and_truth_must_agree_in_shape():
    with pytest.raises(ValueError, match="equal shapes"):
        brier_score(np.zeros(3), np.zeros(4, dtype=bool))


def iou(first, second):
    union = (first | second).sum()
    return (first & second).sum() / union if union else 1.0


def naive_energy_score(realisations, truth):
    to_truth = np.mean([1 - iou(one, truth) for one in realisations])
    n = len(realisations)
    between = [1 - iou(realisations[i], realisations[j]) for i in range(n) for j in range(n) if i != j]
    return 2 * to_truth - np.mean(between)


@pytest.mark.parametrize("share", [0.0, 0.02, 0.5])
def test_energy_score_is_the_naive_one(share):
    rng = np.random.default_rng(4)
    realisations = rng.uniform(size=(7, 6, 5)) < share
    realisations[2] = False
    for truth in (rng.uniform(size=(6, 5)) < 0.5, np.zeros((6, 5), dtype=bool)):
        assert energy_score(realisations, truth) == pytest.approx(naive_energy_score(realisations, truth))


def test_energy_score_prefers_the_right_spread():
    """Truths from the same law as the realisations score better than those realisations' own mode."""
    rng = np.random.default_rng(0)
    columns = np.arange(20)

    def draw(n):
        return np.broadcast_to(columns < rng.integers(5, 16, size=(n, 1, 1)), (n, 4, 20))

    mode = np.broadcast_to(columns < 10, (20, 4, 20))
    truths = draw(300)
    honest = np.mean([energy_score(draw(20), truth) for truth in truths])
    overconfident = np.mean([energy_score(mode, truth) for truth in truths])
    assert honest < overconfident


def test_energy_score_needs_two_realisations_of_the_truths_shape():
    with pytest.raises(ValueError, match="at least 2"):
        energy_score(np.zeros((1, 3, 3)), np.zeros((3, 3)))
    with pytest.raises(ValueError, match="equal shapes"):
        energy_score(np.zeros((2, 3, 3)), np.zeros((3, 4)))


def test_mean_in_bins():
    magnitude = np.array([20.0, 20.9, 20.5, 20.5, 20.5, 20.5, 21.0, 23.5, 19.0, np.nan])
    score = np.array([0.8, 0.6, 0.8, 0.6, 0.8, 0.6, 0.5, 0.1, 1.0, 0.3])
    table = mean_in_bins(magnitude, score, [20, 21, 22, 23])
    assert table["n"].tolist() == [6, 1, 0]
    assert table["mean"][:2].tolist() == pytest.approx([0.7, 0.5])
    assert np.isnan(table["mean"][2])
    assert 0.6 <= table["mean_low"][0] < 0.7 < table["mean_high"][0] <= 0.8
    assert np.isnan(table["mean_low"][1])  # of one value
    assert table["std"][0] == pytest.approx(0.1)


def test_rank_correlation_is_spearmans_and_sees_only_ranks():
    rng = np.random.default_rng(1)
    spread = rng.exponential(size=400)
    error = np.abs(rng.normal(scale=spread))
    interval = rank_correlation(spread, error, n_resamples=200)
    assert interval.value == pytest.approx(stats.spearmanr(spread, error).statistic)
    assert interval.low < interval.value < interval.high
    assert rank_correlation(np.log(spread), error**3, n_resamples=200) == interval
    assert np.isnan(rank_correlation(np.ones(10), np.arange(10)).value)


def test_rank_correlation_given_a_size_is_that_of_the_residuals():
    rng = np.random.default_rng(7)
    size = rng.lognormal(0.0, 1.0, 600)
    spread, error = size * rng.lognormal(0.0, 0.4, 600), size * np.abs(rng.normal(size=600))
    assert rank_correlation(spread, error, n_resamples=50).value > 0.3
    knows_nothing = rank_correlation(spread, error, size, n_resamples=200)
    assert knows_nothing.low < 0.0 < knows_nothing.high
    told = rank_correlation(spread, np.abs(rng.normal(scale=spread)), size, n_resamples=200)
    assert told.low > 0.05
    ranks = [stats.rankdata(each) for each in (spread, error, size)]
    residuals = [each - np.polyval(np.polyfit(ranks[2], each, 1), ranks[2]) for each in ranks[:2]]
    assert knows_nothing.value == pytest.approx(stats.pearsonr(*residuals).statistic)
    assert np.isnan(rank_correlation(spread, error, np.ones(600), n_resamples=50).value)

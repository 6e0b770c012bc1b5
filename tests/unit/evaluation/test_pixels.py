"""Tallies of pixels, against the plain functions and against probabilities that are true by construction."""

import numpy as np
import pytest

from appulse.evaluation.pixel_scores import (
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
    reliability,
)
from appulse.evaluation.pixels import HardTally, PixelTally


def truthful(shape=(600, 520), seed=0):
    rng = np.random.default_rng(seed)
    probability = rng.beta(0.3, 0.6, shape).astype(np.float32)
    return probability, rng.random(shape) < probability


def test_tallies_agree_with_the_plain_scores():
    probability, truth = truthful()
    probability[3, 5] = np.nan
    tally = PixelTally.of(probability, truth)
    assert tally.brier().value == pytest.approx(brier_score(probability, truth))
    assert tally.log_loss().value == pytest.approx(negative_log_likelihood(probability, truth))
    assert tally.calibration_error().value == pytest.approx(expected_calibration_error(probability, truth))
    table, points = tally.reliability_table(), reliability(probability, truth)
    np.testing.assert_allclose(table["frequency"], points.frequency)
    assert (table["frequency_low"] <= table["frequency"]).all()
    assert (table["frequency"] <= table["frequency_high"]).all()


def test_fields_add_up_to_one_large_field():
    probability, truth = truthful((512, 512))
    halves = [PixelTally.of(probability[part], truth[part]) for part in (slice(0, 256), slice(256, 512))]
    whole, added = PixelTally.of(probability, truth), halves[0] + halves[1]
    assert added.brier().value == pytest.approx(whole.brier().value)
    assert added.calibration_error().value == pytest.approx(whole.calibration_error().value)
    assert len(np.unique(added.block)) == 4


def test_intervals_hold_the_truth_of_true_probabilities():
    # Brier score of true probabilities p: E p (1 - p) = ab / ((a + b)(a + b + 1)) for a beta distribution.
    expected = 0.3 * 0.6 / (0.9 * 1.9)
    inside = 0
    for seed in range(20):
        interval = PixelTally.of(*truthful((768, 768), seed)).brier()
        inside += interval.low <= expected <= interval.high
    assert inside >= 14  # few squares make the bootstrap's interval a little narrow


@pytest.mark.parametrize("wrong", [0.005, 0.03])
def test_intervals_hold_a_known_calibration_error(wrong):
    """Of probabilities that are wrong by as much everywhere, toward one half."""
    inside = 0
    for seed in range(20):
        rng = np.random.default_rng(seed)
        probability = rng.uniform(0.02, 0.98, (128, 60)).astype(np.float32)
        event = rng.random(probability.shape) < probability + np.where(probability < 0.5, wrong, -wrong)
        square = np.repeat(np.arange(len(probability), dtype=np.int32), probability.shape[1])
        blocks = np.ones((len(probability), 3))
        interval = PixelTally(blocks, probability.ravel(), event.ravel(), square).calibration_error()
        assert interval.low <= interval.value <= interval.high
        inside += interval.low <= wrong <= interval.high
    assert inside >= 16


def test_noise_alone_is_what_a_true_map_shows():
    """Pixels that err together, six of a kind: the error shown is that of the noise, on average."""
    shown, expected = [], []
    for seed in range(15):
        rng = np.random.default_rng(seed)
        chance = rng.uniform(0.02, 0.98, (600, 1)).astype(np.float32)
        probability = np.repeat(chance, 6, axis=1)
        event = np.repeat(rng.random(chance.shape) < chance, 6, axis=1)
        square = np.repeat(np.arange(200, dtype=np.int32), 18)
        tally = PixelTally(np.ones((200, 3)), probability.ravel(), event.ravel(), square)
        shown.append(tally.calibration_error().value)
        expected.append(tally.calibration_noise())
    assert np.mean(shown) > 0.04
    assert np.mean(expected) == pytest.approx(np.mean(shown), rel=0.15)
    certain = PixelTally(tally.blocks, tally.probability, tally.probability > 0.5, tally.block)
    assert certain.calibration_error().value > 0.2 and certain.calibration_noise() < 0.05


def test_a_bin_in_few_squares_is_not_pulled_to_zero():
    """Resamples without any of its pixels say nothing of it."""
    probability = np.zeros((1024, 1024), np.float32)
    probability[:5, :5] = probability[-5:, -5:] = 0.9
    table = PixelTally.of(probability, probability > 0).reliability_table()
    assert list(table["frequency_low"]) == [1.0]


def test_a_map_without_uncertain_pixels_has_no_calibration_error():
    tally = PixelTally.of(np.zeros((40, 40), np.float32), np.zeros((40, 40), bool))
    assert np.isnan(tally.calibration_error().value) and len(tally.reliability_table()) == 0
    nothing = PixelTally.of(np.full((40, 40), np.nan, np.float32), np.zeros((40, 40), bool))
    assert np.isnan((nothing + nothing).brier().value)


def test_best_probabilities_of_a_yes_and_no_map():
    rng = np.random.default_rng(1)
    truth = rng.random((300, 300)) < 0.3
    claimed = truth ^ (rng.random((300, 300)) < 0.1)
    shares = np.where(claimed, truth[claimed].mean(), truth[~claimed].mean())
    tally = HardTally.of(claimed, truth)
    assert tally.best_brier().value == pytest.approx(brier_score(shares, truth))
    assert tally.best_log_loss().value == pytest.approx(negative_log_likelihood(shares, truth))
    assert (tally + tally).best_brier().value == pytest.approx(tally.best_brier().value)
    assert HardTally.of(truth, truth).best_log_loss().value == 0


@pytest.mark.parametrize("edge", [0.979999995, 0.02000000001, 0.5])
def test_probabilities_that_rounding_takes_to_a_limit_cost_no_table(edge):
    """In double precision below it, in single precision on it: `reliability` has no place for such."""
    rng = np.random.default_rng(4)
    probability = rng.uniform(0.0, 1.0, (80, 90))
    probability[3, 4] = edge
    tally = PixelTally.of(probability, rng.random(probability.shape) < probability)
    assert tally.reliability_table()["n_pixels"].sum() == len(tally.probability)
    assert np.isfinite(tally.calibration_error().value)

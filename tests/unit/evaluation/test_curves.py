"""Calibration curves against samples whose miscalibration is known."""

import numpy as np
import pytest
from scipy import special

from appulse.evaluation.curves import fit_curve
from appulse.network.calibration import IDENTITY

KNOTS = np.array(IDENTITY)


@pytest.mark.parametrize(
    "should_be",
    [lambda x: x, lambda x: 0.6 * x - 0.8, lambda x: x + 1.5 * np.tanh(x / 2)],
    ids=["right", "line", "bent"],
)
def test_the_curve_that_drew_the_truth_is_found(should_be):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2.5, 200_000)
    truth = rng.random(logits.size) < special.expit(should_be(logits))
    curve = fit_curve(logits[None], truth)
    near = np.abs(KNOTS) <= 4
    np.testing.assert_allclose(np.array(curve)[near], should_be(KNOTS)[near], atol=0.12)
    assert (np.diff(curve) > 0).all()


def test_without_pixels_the_curve_goes_straight_on():
    rng = np.random.default_rng(1)
    logits = rng.uniform(-2, 2, 200_000)
    curve = np.array(fit_curve(logits[None], rng.random(logits.size) < special.expit(logits + 1)))
    assert np.ptp(np.diff(curve[KNOTS >= 2])) < 0.1
    np.testing.assert_allclose(curve, KNOTS + 1, atol=0.6)


def test_nothing_to_learn_from_is_the_identity():
    np.testing.assert_allclose(fit_curve(np.zeros((1, 0)), np.zeros(0, bool)), IDENTITY, atol=1e-6)


def test_the_curve_of_each_draw_is_found_from_events_that_follow_their_mean():
    def should_be(x):
        return 1.5 * x - 1.0

    rng = np.random.default_rng(3)
    draws = rng.normal(0, 2, 100_000) + rng.normal(0, 1.5, (4, 100_000))
    within = special.expit(rng.normal(1, 1, draws.shape))
    probability = (within * special.expit(should_be(draws))).mean(axis=0)
    curve = np.array(fit_curve(draws, rng.random(probability.size) < probability, within=within))
    near = np.abs(KNOTS) <= 3
    np.testing.assert_allclose(curve[near], should_be(KNOTS)[near], atol=0.25)


def test_a_pixel_that_stands_for_several_counts_as_often():
    rng = np.random.default_rng(4)
    logits = rng.normal(0, 2, (2, 3000))
    truth = rng.random(3000) < special.expit(0.5 * logits.mean(axis=0))
    times = rng.integers(0, 4, 3000)
    repeated = fit_curve(logits.repeat(times, axis=1), truth.repeat(times))
    np.testing.assert_allclose(fit_curve(logits, truth, weights=times), repeated, atol=2e-4)

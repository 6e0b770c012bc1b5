"""Calibration curves against samples whose miscalibration is known."""

import numpy as np
import pytest
from scipy import interpolate, special

from appulse.evaluation.curves import along, compose, fit_curve
from appulse.network.calibration import IDENTITY

KNOTS = np.array(IDENTITY)


@pytest.mark.parametrize(
    "should_be",
    [lambda x: x, lambda x: 0.6 * x - 0.8, lambda x: x + 1.5 * np.tanh(x / 2)],
    ids=["right", "line", "bent"],
)
def test_the_curve_that_drew_the_truth_is_found(should_be):
    rng = np.random.default_rng(0)
    logits = rng.normal(0, 2.5, 400_000)
    truth = rng.random(logits.size) < special.expit(should_be(logits))
    curve = fit_curve(logits, truth)
    near = np.abs(KNOTS) <= 4
    np.testing.assert_allclose(np.array(curve)[near], should_be(KNOTS)[near], atol=0.12)
    assert (np.diff(curve) > 0).all()


def test_without_pixels_the_curve_goes_straight_on():
    rng = np.random.default_rng(1)
    logits = rng.uniform(-2, 2, 200_000)
    curve = np.array(fit_curve(logits, rng.random(logits.size) < special.expit(logits + 1)))
    assert np.ptp(np.diff(curve[KNOTS >= 2])) < 0.1
    np.testing.assert_allclose(curve, KNOTS + 1, atol=0.6)


def test_nothing_to_learn_from_is_the_identity():
    np.testing.assert_allclose(fit_curve(np.zeros(0), np.zeros(0, bool)), IDENTITY, atol=1e-6)


def test_along_is_linear_interpolation_and_compose_one_after_the_other():
    rng = np.random.default_rng(2)
    first, then = (tuple(np.sort(rng.normal(0, 6, KNOTS.size))) for _ in range(2))
    logits = rng.uniform(-15, 15, (7, 9))
    plain = interpolate.interp1d(KNOTS, first, fill_value="extrapolate")
    np.testing.assert_allclose(along(first, logits), plain(logits), atol=1e-9)
    np.testing.assert_allclose(
        along(compose(first, then), KNOTS), along(then, along(first, KNOTS)), atol=1e-3
    )

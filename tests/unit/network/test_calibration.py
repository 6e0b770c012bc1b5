"""Calibration curves, read."""

import numpy as np
from scipy import interpolate

from appulse.network.calibration import CURVE_END, IDENTITY, calibrated_logit

KNOTS = np.array(IDENTITY)


def test_a_curve_is_straight_between_its_knots_and_outside_them_and_ends():
    rng = np.random.default_rng(2)
    curve = tuple(np.sort(rng.normal(0, 6, KNOTS.size)))
    logits = rng.uniform(-1.5 * CURVE_END, 1.5 * CURVE_END, (7, 90))
    straight = interpolate.interp1d(KNOTS, curve, fill_value="extrapolate")
    expected = straight(np.clip(logits, -CURVE_END, CURVE_END))
    np.testing.assert_allclose(calibrated_logit(curve, logits), expected, atol=1e-9)
    assert calibrated_logit(curve, 1e9) == calibrated_logit(curve, CURVE_END)

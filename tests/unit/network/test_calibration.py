"""Calibration curves, read."""

import numpy as np
import pytest
from scipy import interpolate

from appulse.network.calibration import CURVE_END, IDENTITY, Calibration, calibrated_logit


@pytest.mark.parametrize("reach", [1, 10, 20, CURVE_END])
def test_a_curve_is_straight_between_its_knots_and_outside_them_and_ends(reach):
    rng = np.random.default_rng(2)
    knots = np.arange(-reach, reach + 1)
    curve = tuple(np.sort(rng.normal(0, 6, knots.size)))
    end = max(reach, 20)
    logits = rng.uniform(-1.5 * CURVE_END, 1.5 * CURVE_END, (7, 90))
    straight = interpolate.interp1d(knots, curve, fill_value="extrapolate")
    expected = straight(np.clip(logits, -end, end))
    np.testing.assert_allclose(calibrated_logit(curve, logits), expected, atol=1e-9)
    assert calibrated_logit(curve, 1e9) == calibrated_logit(curve, end)


def test_a_curve_that_is_as_straight_as_the_identity_is_the_identity():
    logits = np.linspace(-20, 20, 999)
    np.testing.assert_allclose(
        calibrated_logit((-1.0, 0.0, 1.0), logits), calibrated_logit(IDENTITY, logits), atol=1e-12
    )


@pytest.mark.parametrize(
    "curve", [(), (0.0,), (0.0, 1.0), (0.0, 2.0, 1.0), tuple(map(float, range(2 * CURVE_END + 3)))]
)
def test_what_is_no_curve_is_refused(curve):
    with pytest.raises(ValueError, match="calibration curve overlap"):
        Calibration(overlap=curve)

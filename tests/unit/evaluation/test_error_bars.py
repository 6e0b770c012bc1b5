"""Error bars by signal-to-noise ratio, against samples whose spreads are wrong in a known way."""

import dataclasses

import numpy as np
import pytest
from astropy.table import Table

from appulse.evaluation.error_bars import conformal_quantile, fit_error_bars, median_shift, needed_factors
from appulse.evaluation.interval_coverage import LEVEL_68, LEVEL_95, covered
from appulse.evaluation.measured import deviations
from appulse.network.calibration import Calibration, ErrorBars


def sample(n, seed, *, tails=False, bias=0.0):
    """Areas whose claimed spread is too small by a factor that grows from 1 to 4 with the signal.

    They are too large by `bias` claimed spreads at little signal, too small by as many at much.
    """
    rng = np.random.default_rng(seed)
    snr = 10 ** rng.uniform(0.5, 2.5, n)
    error = rng.standard_t(3, n) if tails else rng.normal(size=n)
    claimed = 1.0 / np.where(snr < 30, 1.0, 4.0)
    error = error - bias * claimed * np.where(snr < 30, 1.0, -1.0)
    table = Table({"true_area": 100.0 + error, "area_p16": 100.0 - claimed, "area_p84": 100.0 + claimed})
    table["flux"], table["flux_noise"], table["blended"] = snr, 1.0, False
    return table


def calibrated(table, bars):
    calibration = Calibration(error_bars={"area": bars})
    half = 0.5 * (table["area_p84"] - table["area_p16"])
    middle = 100.0 + calibration.shift("area", table["flux"], False) * half
    half = calibration.factor("area", table["flux"], False) * half
    moved = table.copy()
    moved["area_p16"], moved["area_p84"] = middle - half, middle + half
    return moved


def covered_with(table, factor):
    """Share of the areas inside intervals that one factor widens."""
    widened = calibrated(table, ErrorBars((), (factor,), (1.96,), (0.0,)))
    return covered(widened, "area", Calibration(), LEVEL_68).value


@pytest.mark.parametrize("tails", [False, True])
@pytest.mark.parametrize("bias", [0.0, 1.5])
def test_both_intervals_cover_unseen_galaxies_at_every_signal(tails, bias):
    bars = fit_error_bars(sample(20_000, 1, tails=tails, bias=bias), "area")
    calibration = Calibration(error_bars={"area": bars})
    unseen = calibrated(sample(20_000, 2, tails=tails, bias=bias), bars)
    for group in (unseen, unseen[unseen["flux"] < 20], unseen[unseen["flux"] > 60]):
        assert covered(group, "area", calibration, LEVEL_68).value == pytest.approx(0.683, abs=0.03)
        assert covered(group, "area", calibration, LEVEL_95).value == pytest.approx(0.95, abs=0.015)


def test_a_known_bias_is_found_and_leaves_the_factors_as_they_are_without_it():
    bars, unbiased = (fit_error_bars(sample(20_000, 1, bias=bias), "area") for bias in (1.5, 0.0))
    unseen = calibrated(sample(20_000, 2, bias=1.5), bars)
    for group in (unseen, unseen[unseen["flux"] < 20], unseen[unseen["flux"] > 60]):
        error, _, _ = deviations(group, "area")
        assert np.mean(error > 0) == pytest.approx(0.5, abs=0.02)
    pure = [0, 1, 3, 4]  # the third bin holds galaxies with little signal and with much
    fitted, expected = (
        np.array([each.shifts, each.factors, each.ratios_95])[:, pure] for each in (bars, unbiased)
    )
    expected[0] += [-1.5, -1.5, 1.5, 1.5]
    np.testing.assert_allclose(fitted, expected, atol=1e-3)


def test_a_shift_is_a_median_and_has_bounds():
    table = sample(4000, 6)
    table["true_area"] = 100.0 + np.random.default_rng(7).exponential(size=4000)
    table["area_p16"], table["area_p84"] = 98.0, 102.0
    assert median_shift(table, "area") == pytest.approx(np.log(2) / 2, abs=0.03)
    for sign in (-1, 1):
        table["true_area"] = 100.0 + sign * 50.0
        assert median_shift(table, "area") == sign * 3.0


def test_orientations_and_galaxies_without_a_spread_are_not_shifted():
    table = sample(500, 5, bias=1.5)
    table = table[table["flux"] < 30]
    for name in ("true_{}", "{}_p16", "{}_p84"):
        table[name.format("orientation")] = table[name.format("area")]
    assert median_shift(table, "area") == pytest.approx(-1.5, abs=0.4)
    assert median_shift(table, "orientation") == 0.0
    table["area_p16"] = table["area_p84"] = 100.0
    assert median_shift(table, "area") == 0.0


def test_one_factor_for_all_would_not_do():
    unseen = sample(20_000, 3)
    single = conformal_quantile(needed_factors(sample(4000, 1), "area"), 0.683)
    assert covered_with(unseen[unseen["flux"] > 60], single) < 0.55


def test_the_needed_factor_just_reaches_the_truth():
    table = sample(50, 4)
    needed = needed_factors(table, "area")
    for k in range(50):
        row = table[k : k + 1]
        assert covered_with(row, needed[k] * (1 + 1e-9)) == 1
        assert covered_with(row, needed[k] * (1 - 1e-9)) == 0


@pytest.mark.parametrize(
    ("n", "level", "expected"), [(9, 0.5, 5), (9, 0.9, 9), (9, 0.95, np.inf), (99, 0.95, 95)]
)
def test_conformal_quantile_is_an_order_statistic(n, level, expected):
    values = np.random.default_rng(0).permutation(np.arange(1.0, n + 1))
    assert conformal_quantile(np.append(values, np.nan), level) == expected


def test_intervals_without_error_bars_stay_as_they_are_and_are_a_gaussians():
    calibration = Calibration()
    assert calibration.factor("area", 5.0, True) == 1.0 and calibration.shift("area", 5.0, False) == 0.0
    assert calibration.ratio_95("area", 5.0, False) == 1.96


def test_error_bars_survive_the_weight_file():
    bars = ErrorBars((3.0, 10.0), (1.0, 2.0, 3.0), (1.9, 2.0, 2.1), (0.1, -0.2, 0.0))
    calibration = dataclasses.replace(
        Calibration(), error_bars={"area": bars}, blend_error_bars={"flux": bars}
    )
    again = Calibration.from_dict(calibration.to_dict())
    assert again == calibration
    np.testing.assert_array_equal(
        again.factor("area", np.array([2.9, 3.0, 50.0, np.nan]), False), [1, 2, 3, 3]
    )
    np.testing.assert_array_equal(again.shift("area", np.array([2.9, 3.0, 50.0]), False), [0.1, -0.2, 0.0])

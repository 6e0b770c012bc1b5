"""Error bars by signal-to-noise ratio, against samples whose spreads are wrong in a known way."""

import dataclasses

import numpy as np
import pytest
from astropy.table import Table

from appulse.evaluation.error_bars import conformal_quantile, fit_error_bars, needed_factors
from appulse.evaluation.interval_coverage import covered
from appulse.evaluation.measured import coverage_68
from appulse.network.calibration import Calibration, ErrorBars


def sample(n, seed, *, tails=False):
    """Areas whose claimed spread is too small by a factor that grows from 1 to 4 with the signal."""
    rng = np.random.default_rng(seed)
    snr = 10 ** rng.uniform(0.5, 2.5, n)
    error = rng.standard_t(3, n) if tails else rng.normal(size=n)
    claimed = 1.0 / np.where(snr < 30, 1.0, 4.0)
    table = Table({"true_area": 100.0 + error, "area_p16": 100.0 - claimed, "area_p84": 100.0 + claimed})
    table["flux"], table["flux_noise"], table["blended"] = snr, 1.0, False
    return table


def calibrated(table, bars):
    factor = Calibration(error_bars={"area": bars}).factor("area", table["flux"], False)
    half = factor * 0.5 * (table["area_p84"] - table["area_p16"])
    stretched = table.copy()
    stretched["area_p16"], stretched["area_p84"] = 100.0 - half, 100.0 + half
    return stretched


@pytest.mark.parametrize("tails", [False, True])
def test_both_intervals_cover_unseen_galaxies_at_every_signal(tails):
    bars = fit_error_bars(sample(20_000, 1, tails=tails), "area")
    calibration = Calibration(error_bars={"area": bars})
    unseen = calibrated(sample(20_000, 2, tails=tails), bars)
    for group in (unseen, unseen[unseen["flux"] < 20], unseen[unseen["flux"] > 60]):
        assert covered(group, "area", calibration, 0.68).value == pytest.approx(0.683, abs=0.03)
        assert covered(group, "area", calibration, 0.95).value == pytest.approx(0.95, abs=0.015)


def test_one_factor_for_all_would_not_do():
    unseen = sample(20_000, 3)
    single = conformal_quantile(needed_factors(sample(4000, 1), "area"), 0.683)
    assert coverage_68(unseen[unseen["flux"] > 60], "area", single).value < 0.55


def test_the_needed_factor_just_reaches_the_truth():
    table = sample(50, 4)
    needed = needed_factors(table, "area")
    for k in range(50):
        row = table[k : k + 1]
        assert coverage_68(row, "area", needed[k] * (1 + 1e-9)).value == 1
        assert coverage_68(row, "area", needed[k] * (1 - 1e-9)).value == 0


@pytest.mark.parametrize(
    ("n", "level", "expected"), [(9, 0.5, 5), (9, 0.9, 9), (9, 0.95, np.inf), (99, 0.95, 95)]
)
def test_conformal_quantile_is_an_order_statistic(n, level, expected):
    values = np.random.default_rng(0).permutation(np.arange(1.0, n + 1))
    assert conformal_quantile(np.append(values, np.nan), level) == expected


def test_weight_files_without_error_bars_fall_back_to_one_factor():
    old = Calibration(scales={"area": 2.0}).to_dict()
    del old["error_bars"], old["blend_error_bars"]
    calibration = Calibration.from_dict(old)
    assert calibration.factor("area", 5.0, True) == 2.0 and calibration.factor("flux", 5.0, False) == 1.0
    assert calibration.ratio_95("area", 5.0, False) == 1.96


def test_error_bars_survive_the_weight_file():
    bars = ErrorBars((3.0, 10.0), (1.0, 2.0, 3.0), (1.9, 2.0, 2.1))
    calibration = dataclasses.replace(
        Calibration(), error_bars={"area": bars}, blend_error_bars={"flux": bars}
    )
    again = Calibration.from_dict(calibration.to_dict())
    assert again == calibration
    np.testing.assert_array_equal(
        again.factor("area", np.array([2.9, 3.0, 50.0, np.nan]), False), [1, 2, 3, 3]
    )

"""Calibration against samples whose miscalibration is known."""

import dataclasses

import numpy as np
import pytest
from astropy.table import Table

from appulse.evaluation.calibrate import (
    _with_length,
    calibrate,
    calibration_paths,
    fit_length,
    with_error_bars,
)
from appulse.evaluation.error_bars import conformal_quantile, needed_factors
from appulse.evaluation.interval_coverage import LEVEL_68, covered
from appulse.evaluation.measured import deviations
from appulse.files import InputError, UsageError
from appulse.network import Calibration
from appulse.network.weights import load_model
from appulse.objects import MEASURED
from appulse.sky import Survey, simulate_field, write_field
from appulse.sky.population import Pairs
from by_hand import by_hand, field_of_discs


def galaxies(n=4000, *, claimed=1.0, noise=0.0, seed=2):
    """Galaxies whose quantities err by a unit Gaussian, and that claim another spread."""
    rng = np.random.default_rng(seed)
    table = Table()
    for quantity in MEASURED:
        true = rng.uniform(50, 100, n)
        middle = true + rng.normal(0, np.hypot(1.0, noise if quantity == "flux" else 0.0), n)
        table[f"true_{quantity}"] = true
        table[f"{quantity}_p16"], table[f"{quantity}_p84"] = middle - claimed, middle + claimed
    table["flux_noise"] = noise
    table["flux"], table["blended"] = table["true_flux"], rng.random(n) < 0.2
    return table


def one_factor(table, quantity):
    """With which 68.3 % of the truths lie in the interval, whatever their signal."""
    return conformal_quantile(needed_factors(table, quantity), 0.683)


@pytest.mark.parametrize("claimed", [0.25, 1.0, 3.0])
@pytest.mark.parametrize("quantity", MEASURED)
def test_factor_undoes_a_wrong_spread(claimed, quantity):
    assert one_factor(galaxies(claimed=claimed), quantity) == pytest.approx(1 / claimed, rel=0.06)


def test_pixel_noise_is_added_in_quadrature():
    table = galaxies(claimed=2.0, noise=1.5)
    assert one_factor(table, "flux") == pytest.approx(0.5, rel=0.12)
    unit = galaxies(claimed=1.0, noise=1.5)
    assert covered(unit, "flux", Calibration(), LEVEL_68).value == pytest.approx(0.683, abs=0.02)


def test_coverage_of_true_intervals_has_the_interval_of_a_share():
    coverage = covered(galaxies(claimed=1.0), "area", Calibration(), LEVEL_68)
    assert coverage.low < 0.683 < coverage.high


def test_orientations_are_compared_on_the_circle():
    table = galaxies(n=200)
    table["true_orientation"], table["orientation_p16"], table["orientation_p84"] = 179.0, 0.0, 4.0
    error, spread, _ = deviations(table, "orientation")
    assert len(error) == len(table)
    assert np.allclose(error, -3.0) and np.allclose(spread, 2.0)


def test_too_few_galaxies_are_refused():
    with pytest.raises(InputError, match="at least 90"):
        with_error_bars(Calibration(), galaxies(n=50))


def test_galaxies_in_blends_get_error_bars_of_their_own():
    table = galaxies(n=2000, claimed=0.5, noise=0.0)
    for quantity in MEASURED:  # those in blends err twice as much
        error = np.asarray(
            table[f"true_{quantity}"] - 0.5 * (table[f"{quantity}_p16"] + table[f"{quantity}_p84"])
        )
        table[f"true_{quantity}"] += np.where(table["blended"], error, 0.0)
    table["flux_noise"] = 1e-6
    fitted = with_error_bars(Calibration(), table)
    for quantity in MEASURED:
        assert fitted.factor(quantity, 10.0, False) == pytest.approx(2.0, rel=0.2)
        assert fitted.factor(quantity, 10.0, True) == pytest.approx(4.0, rel=0.2)


def test_few_blends_share_the_error_bars_of_the_others():
    table = galaxies(n=400, noise=1e-6)
    table["blended"] = np.arange(400) < 20
    fitted = with_error_bars(Calibration(), table)
    assert not fitted.blend_error_bars
    assert fitted.factor("area", 10.0, True) == fitted.factor("area", 10.0, False)


def test_fields_that_a_model_has_seen_are_refused_before_anything_is_fitted(tmp_path):
    survey = Survey.load("paper")
    for seed in (5, 1000, 2000):  # their names do not tell
        write_field(simulate_field(survey, 64, seed=seed), tmp_path / f"field_{seed + 2000:04d}_00.fits")
    assert [path.name for path in calibration_paths(tmp_path, {"seeds": [6], "selection_seeds": [1001]})] == [
        "field_2005_00.fits",
        "field_3000_00.fits",
        "field_4000_00.fits",
    ]
    with pytest.raises(UsageError, match="seed 5, 1000, too"):
        calibration_paths(tmp_path, {"seeds": [5, 6], "selection_seeds": [1000]})
    with pytest.raises(InputError, match="no simulated fields"):
        calibration_paths(tmp_path / "none", {})


def test_fields_with_injected_pairs_are_refused(tmp_path):
    survey = dataclasses.replace(Survey.load("paper"), pairs=Pairs(share=0.3, separation=1.0))
    write_field(simulate_field(survey, 64, seed=2000), tmp_path / "field_2000_00.fits")
    with pytest.raises(UsageError, match="injected pairs"):
        calibration_paths(tmp_path, {})


@pytest.mark.slow
def test_processes_that_share_the_fields_find_the_same():
    survey = Survey.load("euclid-crowded")
    fields = [simulate_field(survey, (640, 640), seed=2900, index=index) for index in range(2)]
    model = load_model("euclid")
    (alone, report), (shared, same) = (calibrate(model, fields, workers=workers) for workers in (1, 2))
    assert shared == alone and same == report
    assert set(alone.error_bars) == set(MEASURED)
    assert " galaxies found, " in report and ("WARNING" in report) == (not alone.blend_error_bars)
    # What is found lies near what the model ships with, which was found on larger fields.
    point, shipped = (each.operating_points["balanced"] for each in (alone, model.calibration))
    assert abs(point.t_galaxy - shipped.t_galaxy) < 0.25


def test_the_length_is_the_one_that_suits_every_survey(monkeypatch):
    """The first survey alone would have the shortest; realisations themselves are another test's."""
    claimed = {  # half widths: 1 covers 68 %
        "paper": {1.0: 1.0, 1.5: 0.9, 2.0: 0.8},
        "euclid-wide": {1.0: 0.2, 1.5: 0.4, 2.0: 0.9},
    }
    tried = []

    def found(trial, model, progress):
        length, name, field = trial
        assert field.survey.name == name
        tried.append(name)
        table = galaxies(claimed=claimed[name].get(length, 0.1))
        table["alone"] = True
        return table

    monkeypatch.setattr("appulse.evaluation.calibrate._with_length", found)
    fields = [simulate_field(Survey.load(name), 400, seed=2000) for name in ("paper", "paper", "euclid-wide")]
    assert fit_length(None, fields) == 2.0
    assert set(tried) == {"paper", "euclid-wide"}
    assert fit_length(None, fields[:2]) == 1.0


def test_a_length_that_is_tried_is_that_of_the_realisations(monkeypatch):
    """What pixels far apart have in common does not average out."""
    monkeypatch.setattr("appulse.evaluation.calibrate._SAMPLES", 24)  # of which each costs a random field
    field = field_of_discs().cut(np.s_[18:82, 8:72])
    short, long = (
        _with_length((length, field.survey.name, field), by_hand(), progress=None) for length in (1.0, 6.0)
    )
    assert list(short["id"]) == list(long["id"]) == [1]
    assert long["area_std"][0] > 1.1 * short["area_std"][0]


def test_fields_with_too_few_galaxies_are_refused_before_the_model_looks_at_them():
    field = simulate_field(Survey.load("paper"), 64, seed=2000)
    seen = np.count_nonzero(field.catalog["isophotal_area"] >= 10)
    with pytest.raises(InputError, match=rf"only {seen} galaxies are in the calibration fields"):
        calibrate(None, [field])

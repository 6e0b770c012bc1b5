"""How often the truth lies within a value and its standard deviation, on a table built by hand."""

import numpy as np
import pytest
from astropy.table import Table

from appulse.evaluation.interval_coverage import coverage_table, within_std
from appulse.network.calibration import Calibration
from appulse.objects import MEASURED


@pytest.fixture
def measured():
    """Three lone galaxies and one that overlaps; every value is 10 with a standard deviation of 2."""
    table = Table({"alone": [True, True, True, False], "blended": [False, False, False, True]})
    table["magnitude"], table["blendedness"] = [20.5, 20.5, 20.5, 21.5], [0.0, 0.0, 0.0, 0.2]
    for quantity in MEASURED:
        # The interval is wide and beside the value: it is not what is asked here.
        columns = {"": 10.0, "_std": 2.0, "_p16": 11.0, "_p84": 19.0}
        for suffix, value in columns.items():
            table[quantity + suffix] = np.full(4, value)
        table[f"true_{quantity}"] = [8.5, 12.5, 10.0, 7.0]  # off by 1.5, 2.5, 0 and 3
    table["flux_noise"] = [0.1, 1.0, 0.1, 2.3]  # with 2 in quadrature: 2.0, 2.24, 2.0 and 3.05
    return table


def test_the_share_is_that_of_truths_within_one_standard_deviation(measured):
    assert within_std(measured, "area").value == 2 / 4
    table = coverage_table(measured, Calibration(), np.array([20.0, 21.0, 22.0]))
    groups = {row["group"]: row for row in table[table["quantity"] == "half_light_radius"]}
    shares = {name: groups[name]["within_std"] for name in ("all", "alone", "overlapping", "20 to 21 mag")}
    assert shares == {"all": 2 / 4, "alone": 2 / 3, "overlapping": 0.0, "20 to 21 mag": 2 / 3}
    assert groups["all"]["within_std_low"] < 0.5 < groups["all"]["within_std_high"]


def test_pixel_noise_counts_for_a_flux_and_an_orientation_has_no_beginning(measured):
    assert within_std(measured, "flux").value == 3 / 4
    measured["orientation"], measured["true_orientation"] = [179.0, 1.0, 90.0, 0.5], [0.5, 178.0, 0.0, 179.0]
    assert within_std(measured, "orientation").value == 2 / 4


def test_what_is_unknown_does_not_count(measured):
    measured["area_std"][0] = measured["true_area"][1] = np.nan
    assert within_std(measured, "area").value == 1 / 2
    assert np.isnan(within_std(measured[:0], "area").value)

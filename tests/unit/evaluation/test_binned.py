"""The data behind the figures, on a sky of discs and on an empty one."""

import dataclasses

import numpy as np
import pytest
from astropy.table import Table

from appulse.baselines import SepDetector
from appulse.evaluation import Kind, binned
from appulse.evaluation.claimed import probability_table
from appulse.evaluation.ensembles import RANKED
from appulse.evaluation.interval_coverage import coverage_table
from appulse.evaluation.scoring import Scoring, evidence_of
from appulse.evaluation.snapshots import Snapshot
from by_hand import SHAPE, SURVEY, by_hand, discs, field_of_discs

EDGES = np.array([20.0, 22.5, 24.5, 26.0])


@pytest.fixture(scope="module")
def evidence():
    return evidence_of(by_hand(), field_of_discs(), [SepDetector()], Scoring(samples=8))


@pytest.fixture(scope="module")
def nothing():
    field = field_of_discs()
    dark = {name: np.zeros_like(getattr(field, name)) for name in ("first", "second", "id1", "id2")}
    empty = dataclasses.replace(field, image=discs(SHAPE, seed=3), **dark)
    return evidence_of(by_hand(), empty, [SepDetector()], Scoring(samples=4))


def test_iou_by_magnitude_counts_every_true_galaxy(evidence):
    oracle = Table({"magnitude_low": [20.0], "magnitude_high": [26.0], "iou": [0.99]})
    table = binned.iou_by_magnitude(evidence, EDGES, oracle)
    ours = table[(table["detector"] == "by hand") & (table["kind"] == "isolated")]
    assert list(ours["n"]) == [1, 1, 1]  # magnitudes 21, 24 and 25; 22 and 23 are the pair
    assert (ours["mean"] > 0.8).all()
    assert list(table["mean"][table["detector"] == "oracle"]) == [0.99]
    variance = binned.variance_by_magnitude(evidence, EDGES)
    for name in ("class", "galaxy or sky"):
        rows = variance[variance["variance"] == name]
        assert list(rows["n"][rows["kind"] == "blended"]) == [1, 1, 0]
    # The classes are nested, so that the class varies at least as much as galaxy against sky, up to the
    # spread of eight realisations; more where overlaps are in doubt.
    of_class, of_galaxy = (variance[variance["variance"] == name] for name in ("class", "galaxy or sky"))
    there = of_class["n"] > 0
    assert (of_class["mean"] > of_galaxy["mean"] - 0.005)[there].all()
    assert (of_class["mean"] > 2 * of_galaxy["mean"])[there & (of_class["kind"] == "blended")].all()


def test_blends_stand_in_the_bin_of_their_separation(evidence):
    table = binned.blends_by(evidence, "separation_over_size")
    ours = table[table["detector"] == "by hand"]
    (row,) = ours[ours["n"] > 0]
    # Centres 12.5 apart; a disc's half-light radius is its radius over the root of 2.
    assert row["low_edge"] <= 12.53 / (8.5 / np.sqrt(2)) < row["high_edge"]
    assert (row["n"], row["n_galaxies"], row["recognised"], row["unrecognised"]) == (1, 2, 1.0, 0.0)
    assert table["n"].sum() == 2 and np.isnan(table["variance"][table["detector"] == "SEP"]).all()


def test_trade_off_begins_with_blends_everywhere_and_ends_with_those_beyond_doubt(evidence):
    table = binned.tradeoff(evidence)
    ours, sep = (table[table["detector"] == name] for name in ("by hand", "SEP"))
    for rows in (ours, sep):
        assert (np.diff(rows["threshold"]) > 0).all()
        assert rows["purity_blended"][0] == 1 / 4 and rows["completeness_isolated"][0] == 0
        assert rows["completeness_blended"][0] == rows["completeness_isolated"][-1] == 1
    # The network is certain of the pair's lens; SEP parts nothing any more.
    assert ours["completeness_blended"][-1] == ours["purity_blended"][-1] == 1
    assert sep["completeness_blended"][-1] == 0 and np.isnan(sep["purity_blended"][-1])
    at_balance = evidence.curves["by hand", 0.5]
    assert at_balance.table[Kind.BLENDED, Kind.BLENDED] == 1
    np.testing.assert_array_equal(at_balance.table, evidence.counts["by hand"].table)


def test_ranks_fall_into_tenths(evidence):
    table = binned.rank_histogram(evidence, RANKED)
    for quantity in RANKED:
        rows = table[table["quantity"] == quantity]
        assert rows["n"].sum() == len(evidence.ranks) and rows["share"].sum() == pytest.approx(1)


def test_residuals_are_averaged_over_pixels_of_like_dispersion():
    truth = np.zeros((10, 10), np.uint8)
    truth[:, 5:] = 1
    mean, std = np.full((10, 10), 0.25, np.float32), np.zeros((10, 10), np.float32)
    std[:, 5:] = 0.4
    table = binned.residuals_by_dispersion(Snapshot("", 0.0, mean, truth, mean, std))
    assert table["n_pixels"].sum() == 100 and table["n_pixels"][0] == 50
    assert table["residual"][0] == pytest.approx(0.25) and table["residual"][-1] == pytest.approx(0.75)


def test_an_empty_sky_has_every_table_and_no_number(nothing):
    for table in (
        binned.iou_by_magnitude(nothing, EDGES),
        binned.variance_by_magnitude(nothing, EDGES),
        *(binned.blends_by(nothing, column) for column in binned.BLEND_BINS),
    ):
        assert len(table) and (table["n"] == 0).all()
    assert np.isnan(binned.tradeoff(nothing)["completeness_blended"]).all()
    assert (
        len(binned.reliability_curves(nothing)) == 0
        or binned.reliability_curves(nothing)["frequency"].max() == 0
    )
    assert (coverage_table(nothing.measured, by_hand().calibration, EDGES)["n"] == 0).all()
    assert len(binned.ensemble_table(nothing)) == 2 and len(binned.rank_histogram(nothing, RANKED)) == 30
    assert (binned.pixel_table(nothing)["brier"] < 0.01).all()
    assert (probability_table(nothing.claimed)["n"] == 0).all()


def test_bins_of_magnitude_end_at_the_faintest_galaxies():
    population = SURVEY.population
    edges = binned.magnitude_edges(SURVEY)
    assert edges[0] == population.magnitude_bright and edges[-1] == population.magnitude_faint
    assert np.allclose(np.diff(edges)[1:], 0.5)

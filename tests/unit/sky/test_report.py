"""The report of a sky, on skies made by hand."""

import dataclasses
import json

import numpy as np
import pytest
from astropy.table import Table
from matplotlib.image import imread

from appulse.files import write_json
from appulse.sky import Population, Survey
from appulse.sky.counts import count_strip, merge
from appulse.sky.figure import draw_sky
from appulse.sky.report import SkyReport

SURVEY = dataclasses.replace(
    Survey.load("paper"), name="tiny", population=Population(density=40.0, magnitude_bright=22.0)
)


def catalog(n, shape, rng, **changes):
    """A catalogue drawn from the survey's population."""
    drawn = SURVEY.population.draw(max(n, 1), rng)
    table = Table({name: values[:n] for name, values in drawn.items()})
    table["x"], table["y"] = rng.uniform(-0.5, shape[1] - 0.5, n), rng.uniform(-0.5, shape[0] - 0.5, n)
    table["isophotal_area"] = np.full(n, 50.0)
    table["isophotal_ellipticity"] = table["isophotal_orientation"] = np.zeros(n)
    for name, values in changes.items():
        table[name] = values
    return table


def hand_made():
    """256 x 128: two stamps, everything in the upper one."""
    ternary, id1, id2 = (np.zeros((256, 128), int) for _ in range(3))
    ternary[140:150, 10:20], id1[140:150, 10:20] = 1, 1  # isolated

    ternary[140:150, 40:50], id1[140:150, 40:50] = 1, 2  # blended: 4 pixels shared by two
    ternary[140:150, 50:60], id1[140:150, 50:60] = 1, 3
    ternary[143:147, 49], id2[143:147, 49] = 2, 3

    ternary[170:180, 10:20], id1[170:180, 10:20] = 1, 4  # touching: 3 pixels shared
    ternary[170, 10:13], id2[170, 10:13] = 2, 5

    ternary[200:205, 10:15], id1[200:205, 10:15] = 1, 6  # touching at a corner: one 8-connected object
    ternary[205:210, 15:20], id1[205:210, 15:20] = 1, 7
    id2[200:205, 10:15] = 1  # second, but below the threshold: no galaxy counted
    return ternary, id1, id2


def test_a_sky_made_by_hand():
    ternary, id1, id2 = hand_made()
    counts = merge([count_strip(ternary, id1, id2, 0)])
    assert (counts.objects, counts.isolated, counts.touching, counts.blended) == (4, 1, 2, 1)
    assert counts.pixels == (256 * 128 - 450, 443, 7)
    assert (counts.stamps, counts.empty_stamps) == (2, 1)
    assert (counts.galaxies, counts.blended_galaxies) == (7, 4)

    rng = np.random.default_rng(0)
    areas = [100.0, 102, 102, 100, 3, 25, 25]
    table = catalog(7, ternary.shape, rng, isophotal_area=areas)
    # A giant whose centre is off the field reaches it, but is none of this field's galaxies.
    table.add_row(table[0])
    table["y"][7], table["isophotal_area"][7] = -3.0, 1e6
    report = SkyReport.of(SURVEY, ternary.shape, [counts], [table])
    assert len(report.galaxies) == 7
    shares = {share.name: share for share in report.shares()}
    assert shares["overlap"].measured == 7 / 32768
    assert shares["background"].expected == pytest.approx(np.exp(-457 / 32768))
    assert shares["empty stamps"].measured == 0.5
    assert shares["blended galaxies"].measured == pytest.approx(4 / 7)
    text = str(report)
    assert "tiny: 1 field of 128 x 256 pixels" in text
    assert "4 objects: 1 isolated, 2 touching, 1 blended (25.0 %)" in text


def test_bins_hold_what_the_catalogue_holds():
    rng = np.random.default_rng(1)
    shape = (15000, 12000)  # 500 arcmin^2
    tables = [catalog(4000 * 5, shape, rng) for _ in range(2)]
    empty = np.zeros((128, 128), np.uint8)
    counts = merge([count_strip(empty, empty, empty, 0)])
    counts = dataclasses.replace(counts, pixels=(shape[0] * shape[1], 0, 0))
    report = SkyReport.of(SURVEY, shape, [counts, counts], tables)
    assert report.area == pytest.approx(1000.0)
    bins = report.by_magnitude(0.8)
    assert bins["number"].sum() == 40000 and bins["magnitude_high"][-1] == 25.2
    # 40 per arcmin^2 were drawn, so the law holds within its Poisson errors: chi2 of 4 bins.
    chi2 = np.sum(((bins["density"] - bins["density_law"]) / bins["density_error"]) ** 2)
    assert len(bins) == 4 and chi2 < 18.5
    np.testing.assert_allclose(bins["size"], bins["size_law"], rtol=0.025)
    low, high = np.sum(bins["size"] > bins["size_p16"]), np.sum(bins["size"] < bins["size_p84"])
    assert (low, high) == (4, 4)


def test_nothing_at_all():
    nothing = np.zeros((100, 130), np.uint8)
    counts = merge([count_strip(nothing, nothing, nothing, 0)])
    report = SkyReport.of(SURVEY, nothing.shape, [counts], [catalog(0, (100, 130), np.random.default_rng(0))])
    assert "0 objects" in str(report) and "nan" not in str(report)
    shares = {share.name: share for share in report.shares()}
    assert shares["background"].measured == shares["background"].expected == 1.0


def test_json_and_picture(tmp_path):
    ternary, id1, id2 = hand_made()
    rng = np.random.default_rng(2)
    report = SkyReport.of(
        SURVEY,
        ternary.shape,
        [merge([count_strip(ternary, id1, id2, 0)])],
        [catalog(30, ternary.shape, rng)],
    )
    write_json(tmp_path / "sky.json", report.as_dict())
    content = json.loads((tmp_path / "sky.json").read_text())
    assert content["blended"] == 1 and content["survey_digest"] == SURVEY.digest()
    assert [share["name"] for share in content["shares"]][:3] == ["background", "galaxy", "overlap"]
    assert sum(content["by_magnitude"]["number"]) == 30

    oracle = Table(
        {
            "magnitude_low": [22.0, 24.0],
            "magnitude_high": [24.0, 25.2],
            "visible": [1.0, 0.0],
            "completeness": [1.0, np.nan],
            "iou": [0.9, np.nan],
            "iou_error": [0.01, np.nan],
        }
    )
    draw_sky(report, rng.standard_normal(ternary.shape), ternary, oracle, tmp_path / "sky.png")
    picture = imread(tmp_path / "sky.png")
    assert picture.shape[0] > 500 and picture[..., :3].std() > 0.05

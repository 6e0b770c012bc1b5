"""``appulse simulate``: what is there is kept, what does not belong is refused, reports add up."""

import dataclasses
import json

import numpy as np
import pytest
from astropy.table import Table

from appulse.files import InputError
from appulse.sky import Field, Population, Survey, read_field
from appulse.sky.simulate import SkyReport, simulate_fields

SURVEY = dataclasses.replace(Survey.load("paper"), name="tiny", population=Population(density=40.0))


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    output = tmp_path_factory.mktemp("sky") / "new"
    return output, simulate_fields(output, SURVEY, size=136, fields=2, seed=12)


def hand_made(first, second, id1, id2):
    shape = np.shape(first)
    sigma = SURVEY.sigma
    return Field(
        image=np.zeros(shape, np.float32),
        first=(np.asarray(first) * sigma).astype(np.float32),
        second=(np.asarray(second) * sigma).astype(np.float32),
        id1=np.asarray(id1, np.int32),
        id2=np.asarray(id2, np.int32),
        deeper=Table(),
        catalog=Table({"id": np.arange(1, 8)}),
        survey=SURVEY,
        seed=0,
        index=0,
    )


def test_files(made):
    output, report = made
    names = sorted(path.name for path in output.iterdir())
    assert names == ["field_0012_00.fits", "field_0012_01.fits", "sky.json", "sky.png"]
    content = json.loads((output / "sky.json").read_text())
    assert content["seed"] == 12 and content["size"] == 136 and content["survey_digest"] == SURVEY.digest()
    assert content["pixels"] == list(report.pixels)
    assert (output / "sky.png").read_bytes().startswith(b"\x89PNG")


def test_report_counts_add_up(made):
    output, report = made
    fields = [read_field(output / f"field_0012_0{i}.fits") for i in (0, 1)]
    parts = [SkyReport.of(field) for field in fields]
    assert report == SkyReport.total(parts)
    assert report.fields == 2 and report.galaxies == sum(len(field.catalog) for field in fields)
    assert report.objects == report.isolated + report.touching + report.blended > 0
    assert sum(report.pixels) == 2 * 136**2
    ternary = np.stack([field.ternary() for field in fields])
    assert report.pixels == tuple(np.bincount(ternary.ravel(), minlength=3))
    assert report.stamps == 2  # one 128-pixel stamp fits each
    text = str(report)
    assert "2 fields of tiny" in text and f"{report.objects} objects" in text


def test_existing_fields_are_kept(made):
    output, report = made
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in output.glob("*.fits")}
    assert simulate_fields(output, SURVEY, size=136, fields=2, seed=12) == report
    for path, (content, written) in before.items():
        assert path.stat().st_mtime_ns == written and path.read_bytes() == content


def test_other_survey_or_size_is_refused(made):
    output, _ = made
    other = dataclasses.replace(SURVEY, noise=26.0)
    with pytest.raises(InputError, match="another survey or size"):
        simulate_fields(output, other, size=136, seed=12)
    with pytest.raises(InputError, match="another survey or size"):
        simulate_fields(output, SURVEY, size=64, seed=12)


@pytest.mark.parametrize("change", [{"size": 3}, {"fields": 0}, {"seed": -1}, {"workers": 0}])
def test_numbers_out_of_range(tmp_path, change):
    with pytest.raises(InputError, match=next(iter(change))):
        simulate_fields(tmp_path, SURVEY, **change)
    assert not list(tmp_path.iterdir())


def test_report_of_a_hand_made_field():
    # 256 x 128: two stamps, everything in the upper one.
    first, second = np.zeros((256, 128)), np.zeros((256, 128))
    id1, id2 = np.zeros((256, 128), int), np.zeros((256, 128), int)
    first[140:150, 10:20], id1[140:150, 10:20] = 5, 1  # isolated

    first[140:150, 40:50], id1[140:150, 40:50] = 5, 2  # blended: 4 pixels shared by two
    first[140:150, 50:60], id1[140:150, 50:60] = 5, 3
    second[143:147, 49], id2[143:147, 49] = 2, 3

    first[170:180, 10:20], id1[170:180, 10:20] = 5, 4  # touching: 3 pixels shared
    second[170, 10:13], id2[170, 10:13] = 2, 5

    first[200:205, 10:15], id1[200:205, 10:15] = (
        5,
        6,
    )  # touching at a corner: one 8-connected object, no overlap
    first[205:210, 15:20], id1[205:210, 15:20] = 5, 7
    second[200:205, 10:15], id2[200:205, 10:15] = 0.5, 1  # below the threshold: no galaxy counted

    report = SkyReport.of(hand_made(first, second, id1, id2))
    assert (report.objects, report.isolated, report.touching, report.blended) == (4, 1, 2, 1)
    assert report.pixels == (256 * 128 - 450, 443, 7)
    assert (report.stamps, report.empty_stamps) == (2, 1)
    assert report.galaxies == 7


def test_report_of_an_empty_field():
    nothing = np.zeros((128, 130))
    report = SkyReport.of(hand_made(nothing, nothing, nothing, nothing))
    assert (report.objects, report.isolated, report.touching, report.blended) == (0, 0, 0, 0)
    assert (report.stamps, report.empty_stamps) == (1, 1)
    assert "0 objects" in str(report)


def test_progress_counts_galaxies(tmp_path):
    calls = []
    simulate_fields(tmp_path, SURVEY, size=16, seed=4, progress=lambda *args: calls.append(args))
    assert {name for name, _, _ in calls} == {"galaxies"}
    assert calls[-1][1] == calls[-1][2]

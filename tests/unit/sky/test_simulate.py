"""``appulse simulate``: what is there is kept, what does not belong is refused, reports add up."""

import dataclasses
import json

import numpy as np
import pytest

from appulse.files import InputError, sole_process
from appulse.sky import Population, Survey, read_field
from appulse.sky.ranges import Ranges
from appulse.sky.simulate import simulate_fields

SURVEY = dataclasses.replace(
    Survey.load("paper"), name="tiny", population=Population(density=40.0, magnitude_bright=24.5)
)


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    output = tmp_path_factory.mktemp("sky") / "new"
    [report] = simulate_fields(output, SURVEY, size=136, fields=2, seed=12, workers=1)
    return output, report


def test_files(made):
    output, report = made
    names = sorted(path.name for path in output.iterdir())
    assert names == ["field_0012_00.fits", "field_0012_01.fits", "oracle.ecsv", "sky.json", "sky.png"]
    content = json.loads((output / "sky.json").read_text())
    assert content["seed"] == 12 and content["size"] == 136 and content["survey_digest"] == SURVEY.digest()
    assert content["pixels"] == list(report.counts.pixels)
    assert (output / "sky.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize(
    "population",
    [
        Population(density=0.0, magnitude_bright=24.5),
        Population(magnitude_bright=25.1),
        Population(magnitude_bright=25.15),
    ],
)
def test_a_sky_without_galaxies_or_of_one_magnitude(population, tmp_path):
    survey = dataclasses.replace(SURVEY, population=population)
    [report] = simulate_fields(tmp_path, survey, size=64, seed=12, workers=1)
    bins = report.by_magnitude()
    assert (bins["magnitude_low"][0], bins["magnitude_high"][-1]) == (population.magnitude_bright, 25.2)
    assert (tmp_path / "sky.png").exists() and (tmp_path / "oracle.ecsv").exists()


def test_report_counts_add_up(made):
    output, report = made
    fields = [read_field(output / f"field_0012_0{i}.fits") for i in (0, 1)]
    ternary = np.stack([field.ternary() for field in fields])
    counts = report.counts
    assert counts.pixels == tuple(np.bincount(ternary.ravel(), minlength=3))
    assert (counts.fields, counts.stamps) == (2, 2)  # one 128-pixel stamp fits each
    assert counts.objects > 0
    centres = [(field.catalog["x"], field.catalog["y"]) for field in fields]
    assert len(report.galaxies) == sum(
        np.count_nonzero((abs(x - 67.5) <= 68) & (abs(y - 67.5) <= 68)) for x, y in centres
    )


def test_existing_fields_are_kept(made):
    output, report = made
    before = {path: (path.read_bytes(), path.stat().st_mtime_ns) for path in output.glob("*.fits")}
    [again] = simulate_fields(output, SURVEY, size=136, fields=2, seed=12, workers=1)
    assert again.as_dict() == report.as_dict()
    for path, (content, written) in before.items():
        assert path.stat().st_mtime_ns == written and path.read_bytes() == content


def test_other_survey_or_size_is_refused(made):
    output, _ = made
    other = dataclasses.replace(SURVEY, noise=26.0)
    with pytest.raises(InputError, match="another survey or size"):
        simulate_fields(output, other, size=136, seed=12)
    with pytest.raises(InputError, match="another survey or size"):
        simulate_fields(output, SURVEY, size=64, seed=12)


def test_a_survey_that_no_file_could_give_back_is_refused_before_it_is_drawn(tmp_path):
    crowded = dataclasses.replace(SURVEY, population=Population(density=2500.0))
    with pytest.raises(InputError, match=r"density is 2500"):
        simulate_fields(tmp_path, crowded, size=64)
    assert not list(tmp_path.iterdir())


def test_two_processes_at_one_field(tmp_path):
    parts = tmp_path / ".field_0012_00.parts"
    with sole_process(parts), pytest.raises(InputError, match="another process is at work there"):
        simulate_fields(tmp_path, SURVEY, size=64, seed=12)
    assert not list(parts.iterdir())
    simulate_fields(tmp_path, SURVEY, size=64, seed=12)
    assert (tmp_path / "field_0012_00.fits").exists() and not parts.exists()


@pytest.mark.parametrize("change", [{"size": 3}, {"fields": 0}, {"seed": -1}, {"workers": 0}])
def test_numbers_out_of_range(tmp_path, change):
    with pytest.raises(InputError, match=next(iter(change))):
        simulate_fields(tmp_path, SURVEY, **change)
    assert not list(tmp_path.iterdir())


def test_progress_names_the_stage(tmp_path):
    calls = []
    simulate_fields(tmp_path, SURVEY, size=16, seed=4, progress=lambda *args: calls.append(args))
    assert {name for name, _, _ in calls} == {"galaxies", "oracle.ecsv"}
    assert calls[-1][1] == calls[-1][2]


def test_fields_of_ranges_have_a_report_each(tmp_path):
    ranges = Ranges(pixel_scale=(0.1, 0.2), density=(20.0, 60.0))
    survey = dataclasses.replace(SURVEY, ranges=ranges)
    reports = simulate_fields(tmp_path, survey, size=136, fields=2, seed=3, workers=1)
    assert [report.survey for report in reports] == [survey.for_field(3, index) for index in (0, 1)]
    content = json.loads((tmp_path / "sky.json").read_text())
    assert [part["survey_digest"] for part in content["reports"]] == [r.survey.digest() for r in reports]
    # They are known again.
    again = simulate_fields(tmp_path, survey, size=136, fields=2, seed=3, workers=1)
    assert [str(report) for report in again] == [str(report) for report in reports]

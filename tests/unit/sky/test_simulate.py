"""``appulse simulate``: what is there is kept, what does not belong is refused, reports add up."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from appulse.files import InputError
from appulse.sky import Population, Survey, read_field
from appulse.sky import simulate as simulate_module
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


def test_a_renamed_field_is_not_taken_for_another(made, tmp_path):
    output, _ = made
    for name in ("field_0012_00.fits", "field_0013_01.fits"):
        (tmp_path / name).write_bytes((output / "field_0012_01.fits").read_bytes())
    for seed, fields in ((12, 1), (13, 2)):
        with pytest.raises(InputError, match="holds field 1 of seed 12, whatever its name"):
            simulate_fields(tmp_path, SURVEY, size=136, fields=fields, seed=seed, workers=1)


def test_a_survey_that_no_file_could_give_back_is_refused_before_it_is_drawn(tmp_path):
    crowded = dataclasses.replace(SURVEY, population=Population(density=2500.0))
    with pytest.raises(InputError, match=r"density is 2500"):
        simulate_fields(tmp_path, crowded, size=64)
    assert not list(tmp_path.iterdir())


# Nothing to draw and a single bin of the oracle: what counts here is the number of fields.
EMPTY = dataclasses.replace(SURVEY, population=Population(density=0.0, magnitude_bright=25.15))
ALONE = """
import dataclasses, sys
from appulse.sky import Population, Survey, simulate
population = Population(density=0.0, magnitude_bright=25.15)
survey = dataclasses.replace(Survey.load("paper"), name="tiny", population=population)
"""
AT_WORK = """
write = simulate.write_strip
def wait(job):
    if job.task.index == 2:
        print("at work", flush=True)
        sys.stdin.read()
    write(job)
simulate.write_strip = wait
simulate.simulate_fields(sys.argv[1], survey, size=16, fields=3, seed=12)
"""
FEW_DESCRIPTORS = """
import os, resource
held = len(os.listdir("/proc/self/fd"))
resource.setrlimit(resource.RLIMIT_NOFILE, (held + 12, held + 12))
simulate.simulate_fields(sys.argv[1], survey, size=16, fields=60, seed=12)
"""


def test_a_second_process_at_the_fields_of_a_seed_is_refused_until_the_first_is_gone(tmp_path):
    def run(fields, seed):
        simulate_fields(tmp_path, EMPTY, size=16, fields=fields, seed=seed)
        return sorted(path.name for path in tmp_path.glob("*.fits"))

    command = [sys.executable, "-c", ALONE + AT_WORK, tmp_path]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE}
    with subprocess.Popen(command, text=True, **pipes) as process:
        assert process.stdout.readline() == "at work\n"
        first = [f"field_0012_0{index}.fits" for index in range(3)]
        for fields in (3, 4):
            with pytest.raises(InputError, match="another process is at work there"):
                run(fields, seed=12)
        # What is finished may be reported, other seeds drawn.
        assert run(fields=2, seed=12) == first[:2]
        assert run(fields=1, seed=13) == [*first[:2], "field_0013_00.fits"]
        with pytest.raises(InputError, match="another process is at work there"):
            run(fields=3, seed=12)
        process.kill()
    assert process.returncode == -signal.SIGKILL
    assert sorted(path.suffix for path in tmp_path.glob(".*")) == [".lock", ".parts"]
    assert run(fields=3, seed=12) == [*first, "field_0013_00.fits"]
    assert not list(tmp_path.glob(".*"))


def test_what_a_run_leaves_that_is_killed_at_its_very_end_goes_with_the_next(made):
    output, _ = made
    before = sorted(output.iterdir())
    leftovers = [
        ".seed_0012.lock",
        ".field_0012_00.parts",  # its file is in its place
        f"..field_0012_01.{'0' * 16}.part.parts",  # and its folder half removed
    ]
    for name in leftovers:
        (output / name).mkdir()
        if "parts" in name:
            (output / name / "plan.json").write_text("{}")
    simulate_fields(output, SURVEY, size=136, fields=2, seed=12, workers=1)
    assert sorted(output.iterdir()) == before


def test_temporaries_of_a_killed_writer_leave_room_for_the_next(tmp_path, monkeypatch):
    folder = tmp_path / ".field_0012_00.parts"
    folder.mkdir()
    hidden = [f".{stem}.{'0' * 16}.part{end}" for stem, end in (("strip_0000", ".npz"), ("plan", ".json"))]
    for name in (*hidden, f".field_0012_00.{'0' * 16}.part.fits"):
        (folder / name).write_text("half")
    seen = []
    write = simulate_module.write_strip
    monkeypatch.setattr(
        simulate_module, "write_strip", lambda job: seen.extend(os.listdir(folder)) or write(job)
    )
    simulate_fields(tmp_path, EMPTY, size=16, seed=12)
    assert seen == ["plan.json"]


def test_another_process_may_clear_the_parts_of_a_finished_field(tmp_path, monkeypatch):
    """It finds the file in its place, and the folder beside it."""
    remove = simulate_module.remove_folder

    def second(path):
        remove(path)
        remove(path)

    monkeypatch.setattr(simulate_module, "remove_folder", second)
    simulate_fields(tmp_path, EMPTY, size=16, seed=12)
    assert not list(tmp_path.glob(".*"))


@pytest.mark.skipif(not Path("/proc/self/fd").is_dir(), reason="no /proc")
def test_many_fields_need_few_descriptors(tmp_path):
    command = [sys.executable, "-c", ALONE + FEW_DESCRIPTORS, tmp_path]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(list(tmp_path.glob("field_0012_*.fits"))) == 60 and not list(tmp_path.glob(".*"))
    assert json.loads((tmp_path / "sky.json").read_text())["pixels"][0] == 60 * 16**2


def test_a_strip_that_a_file_system_forgets_is_looked_up_in_its_folder(tmp_path, monkeypatch):
    """As NFS does, which goes on saying that a path is missing until its folder is listed."""
    looked_up, listed, exists, lists = set(), set(), Path.exists, os.listdir

    def forgetful(path):
        if path.name.startswith("strip_") and path.parent not in listed:
            looked_up.add(path.name)
            return False
        return exists(path)

    def listing(folder="."):
        if looked_up:  # what was listed before is no news
            listed.add(folder)
        return lists(folder)

    monkeypatch.setattr(Path, "exists", forgetful)
    monkeypatch.setattr(os, "listdir", listing)
    simulate_fields(tmp_path, EMPTY, size=16, seed=12)
    assert looked_up == {"strip_0000.npz"} and (tmp_path / "field_0012_00.fits").exists()


def test_a_strip_that_is_nowhere_is_told(tmp_path, monkeypatch):
    monkeypatch.setattr(simulate_module, "write_strip", lambda job: None)
    with pytest.raises(InputError, match=r"strip_0000\.npz: not there, .* needs a shared directory"):
        simulate_fields(tmp_path, EMPTY, size=16, seed=12)


@pytest.mark.parametrize("change", [{"size": 3}, {"fields": 0}, {"seed": -1}, {"workers": 0}])
def test_numbers_out_of_range(tmp_path, change):
    with pytest.raises(InputError, match=next(iter(change))):
        simulate_fields(tmp_path, SURVEY, **change)
    assert not list(tmp_path.iterdir())


def test_progress_names_the_stage(tmp_path):
    calls = []
    simulate_fields(tmp_path, SURVEY, size=16, seed=4, progress=lambda *args: calls.append(args))
    assert {name for name, _, _ in calls} == {"galaxies", "limit of an ideal fit"}
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

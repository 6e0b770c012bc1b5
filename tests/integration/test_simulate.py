"""``appulse simulate`` that is killed, runs out of room, or is spread over processes and clusters."""

import dataclasses
import json
import os
import signal
import subprocess
import sys

import numpy as np
import pytest

from appulse.cli import main
from appulse.files import InputError, UsageError
from appulse.sky import Population, Survey, read_field, simulate_field, strips, write_field
from appulse.sky.simulate import simulate_fields

SURVEY = dataclasses.replace(
    Survey.load("euclid-wide"), population=Population(density=60.0, magnitude_bright=24.5)
)
SIZE, FIELDS, SEED = 560, 2, 4
STRIPS = 3 * FIELDS

# The same run as `whole` in a process of its own, which tells of every strip and dies where it is told to.
SCRIPT = f"""
import dataclasses, os, signal, sys
from appulse.sky import Population, Survey, simulate, strips
strips.STRIP_ROWS = 256
population = Population(density=60.0, magnitude_bright=24.5)
survey = dataclasses.replace(Survey.load("euclid-wide"), population=population)
output, workers, moment = sys.argv[1], int(sys.argv[2]), sys.argv[3]

def die(*_, **__):
    os.kill(os.getpid(), signal.SIGKILL)

rename = os.replace
if moment == "before the rename":
    os.replace = lambda old, new: die() if str(new) == output + "/field_0004_00.fits" else rename(old, new)
elif moment == "before the clean-up":
    simulate.shutil.rmtree = die
elif moment == "while writing":
    write = simulate.write_field_file
    def half(path, *arguments):
        write(path, *arguments)
        os.truncate(path, 100_000)
        os.rename(path, path.with_name("." + path.stem + ".0123456789abcdef.part.fits"))
        die()
    simulate.write_field_file = half
simulate.simulate_fields(output, survey, size={SIZE}, fields={FIELDS}, seed={SEED}, workers=workers,
                         progress=lambda *_: print("strip", flush=True))
"""


@pytest.fixture(autouse=True)
def short_strips(monkeypatch):
    monkeypatch.setattr(strips, "STRIP_ROWS", 256)


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """Files of an undisturbed run in one process."""
    output = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(strips, "STRIP_ROWS", 256)
        simulate_fields(output, SURVEY, size=SIZE, fields=FIELDS, seed=SEED, workers=1)
    return contents(output)


@pytest.fixture
def output(whole, tmp_path):
    """An empty directory, but for the oracle, which takes longer than everything else here."""
    (tmp_path / "oracle.ecsv").write_bytes(whole["oracle.ecsv"])
    return tmp_path


def contents(output):
    return {path.name: path.read_bytes() for path in output.iterdir()}


def run(output, **options):
    """Strips drawn by the same command."""
    calls = []
    simulate_fields(
        output,
        SURVEY,
        size=SIZE,
        fields=FIELDS,
        seed=SEED,
        progress=lambda *call: calls.append(call),
        **options,
    )
    return [call for call in calls if call[0] == "galaxies"]


def test_the_file_holds_the_field_in_memory(whole, tmp_path):
    field = simulate_field(SURVEY, SIZE, SEED, 1)
    write_field(field, tmp_path / "field.fits")
    assert set(whole) == {"field_0004_00.fits", "field_0004_01.fits", "oracle.ecsv", "sky.json", "sky.png"}
    path = tmp_path / "again.fits"
    path.write_bytes(whole["field_0004_01.fits"])
    again = read_field(path)
    np.testing.assert_array_equal(again.image, field.image)
    np.testing.assert_array_equal(again.catalog["blendedness"], field.catalog["blendedness"])
    assert (tmp_path / "field.fits").read_bytes() == whole["field_0004_01.fits"]


def test_two_processes_write_the_same_bytes(whole, output):
    calls = run(output, workers=2)
    assert len(calls) == STRIPS and calls[-1][1] == calls[-1][2]
    assert contents(output) == whole


def test_a_dask_cluster_writes_the_same_bytes(whole, output):
    from distributed import LocalCluster

    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster:
        assert len(run(output, dask=cluster.scheduler_address)) == STRIPS
    assert contents(output) == whole


@pytest.mark.parametrize(("after", "workers"), [(2, 1), (3, 2)])
def test_a_killed_run_goes_on(whole, output, after, workers):
    command = [sys.executable, "-c", SCRIPT, str(output), str(workers), "-"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        for _ in range(after):
            assert process.stdout.readline() == "strip\n"
        process.kill()
        # The end of its output: workers, which share it, have gone too.
        rest = len(process.stdout.read().split())
    assert process.returncode == -signal.SIGKILL
    kept = {path: path.stat().st_mtime_ns for path in output.glob("field_*.fits")}
    finished = len(list(output.glob(".*.parts/strip_*.npz"))) + 3 * len(kept)
    assert finished >= after + rest
    # No strip that was finished is drawn again.
    assert len(run(output, workers=1)) == STRIPS - finished
    assert contents(output) == whole
    assert all(path.stat().st_mtime_ns == written for path, written in kept.items())


@pytest.mark.parametrize("moment", ["while writing", "before the rename", "before the clean-up"])
def test_a_run_killed_while_its_file_is_put_together(whole, output, moment):
    command = [sys.executable, "-c", SCRIPT, str(output), "1", moment]
    assert subprocess.run(command, check=False, capture_output=True).returncode == -signal.SIGKILL
    assert len(list(output.glob(".*.parts"))) == FIELDS  # the second has its plan only
    assert len(run(output, workers=1)) == STRIPS - 3
    assert contents(output) == whole


# `SURVEY` as a file, so that its oracle serves.
TOML = """
name = "here"
description = ""
pixel_scale = 0.1
zero_point = 23.9
[psf]
fwhm = 0.18
[noise]
surface_brightness = 25.7
[population]
density = 60.0
magnitude_bright = 24.5
"""
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[1]), resource.RLIM_INFINITY))
from appulse.cli import main
main(sys.argv[2:])
"""


@pytest.mark.parametrize(("limit", "kept"), [(1_000_000, 0), (7_200_000, 2)], ids=["strip", "file"])
def test_no_room_left(output, limit, kept, monkeypatch):
    """A limit on the size of files stands for the full disk: it meets the same calls."""
    monkeypatch.setattr(strips, "STRIP_ROWS", 1024)  # as in the other process
    file = output / "survey.toml"
    file.write_text(TOML)
    command = ("simulate", "-o", str(output), "--survey", str(file), "--size", "1300", "--workers", "1")
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(limit), *command], capture_output=True, text=True, check=False
    )
    assert done.returncode == 1, done.stderr
    assert len(done.stderr.splitlines()) == 1
    assert "cannot be written (File too large)" in done.stderr and "is kept" in done.stderr
    parts = list(output.glob(".field_0000_00.parts/*"))
    assert sorted(part.suffix for part in parts) == [".json", *[".npz"] * kept]
    assert not list(output.glob("*.fits"))
    with pytest.raises(SystemExit) as stopped:
        main(list(command))
    assert not stopped.value.code
    assert not list(output.glob(".*")) and len(list(output.glob("*.fits"))) == 1


def test_a_damaged_strip_is_told(whole, output):
    command = [sys.executable, "-c", SCRIPT, str(output), "1", "before the rename"]
    subprocess.run(command, check=False, capture_output=True)
    part = output / ".field_0004_00.parts" / "strip_0001.npz"
    content = bytearray(part.read_bytes())
    content[len(content) // 2] ^= 255
    part.write_bytes(content)
    with pytest.raises(InputError, match=r"field_0004_00\.parts: a strip in it is damaged"):
        run(output, workers=1)


def test_strips_of_another_survey_are_refused(tmp_path):
    folder = tmp_path / ".field_0004_00.parts"
    folder.mkdir()
    (folder / "plan.json").write_text(json.dumps({"version": "0", "shape": [7, 7]}))
    with pytest.raises(UsageError, match="another survey or size"):
        run(tmp_path, workers=1)


def test_a_disk_that_is_too_small_is_refused_before_anything_is_drawn(tmp_path, capsys):
    survey = dataclasses.replace(SURVEY, population=Population(density=0.001))
    total = os.statvfs(tmp_path).f_blocks * os.statvfs(tmp_path).f_frsize
    size = int(np.sqrt(total / 4)) + 1000
    said = []
    with pytest.raises(InputError, match=r"are needed and .* are free"):
        simulate_fields(tmp_path, survey, size=size, seed=0, workers=1, say=said.append)
    assert "GB are free" in said[0]
    assert not list(tmp_path.iterdir())


def test_workers_and_dask_exclude_each_other(tmp_path, capsys):
    with pytest.raises(SystemExit) as stopped:
        main(["simulate", "-o", str(tmp_path), "--workers", "2", "--dask", "tcp://localhost:1"])
    assert stopped.value.code == 2
    assert "--workers or --dask" in capsys.readouterr().err

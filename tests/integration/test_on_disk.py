"""Fields on disk: the same bytes whoever works on them in what blocks, and whenever they are killed."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
from astropy.io import fits

from appulse.batch import run_batch
from appulse.batch.journal import RECORDS
from appulse.engine.job import FIRST, stages
from appulse.engine.on_disk import Task, claim_folder, opened
from appulse.engine.settings import Settings
from appulse.engine.stages import run
from appulse.engine.workers import processes
from appulse.files import InputError, UsageError
from appulse.inference.store import DiskStore
from appulse.network.weights import load_model, save_model
from appulse.segmentation import segment
from batches import batch_options
from by_hand import SAMPLES, by_hand, discs

PRODUCTS = ("f_segmentation.fits", "f_catalog.fits", "f_summary.json", "f_preview.png", "f_regions.reg")
KEPT = {"keep_realisations": True, "keep_background": True}
SHAPE = (150, 210)
# On the corner of four blocks, across seams, at borders, overlapping, and one larger than a stamp.
CIRCLES = ((64, 64, 8), (128, 30, 7), (131, 66, 8), (120, 60, 9), (209, 149, 6), (30, 110, 30), (180, 90, 5))


@pytest.fixture(scope="module")
def inputs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("inputs")
    image = discs(SHAPE, *CIRCLES) * 2 + 30
    image[100:104, 150:180] = np.nan
    header = fits.Header({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CDELT1": -1e-5, "CDELT2": 1e-5})
    fits.writeto(folder / "f.fits", image, header)
    return folder / "f.fits", str(save_model(by_hand(), folder / "hand.safetensors"))


def options(inputs, output, **changes):
    wanted = {"samples": SAMPLES, "regions": True} | KEPT | changes
    return batch_options(output=output, model=inputs[1], **wanted)


def read(folder):
    assert {path.name for path in folder.glob(".*")} <= {RECORDS}, "nothing but products is left"
    return {name: (folder / name).read_bytes() for name in PRODUCTS}


@pytest.fixture(scope="module")
def expected(inputs, tmp_path_factory):
    folder = tmp_path_factory.mktemp("expected")
    result = segment(inputs[0], model=inputs[1], samples=SAMPLES)
    result.write(folder, regions=True, **KEPT)
    assert len(result.catalog) == 7 and len(result.pairs)
    return read(folder)


@pytest.mark.parametrize("block", [64, 128, 2048])
def test_products_are_those_of_the_field_in_memory(inputs, expected, tmp_path, block):
    assert run_batch([inputs[0]], {}, options(inputs, tmp_path, block=block)) == 0
    assert read(tmp_path) == expected


def test_a_cutout_knows_its_place(inputs, expected, tmp_path):
    with pytest.raises(UsageError, match="multiples of 192"):
        run_batch([inputs[0]], {}, options(inputs, tmp_path, origin=(0, 64)))
    assert run_batch([inputs[0]], {}, options(inputs, tmp_path, origin=(192, 384)), workers=2) == 0
    segment(inputs[0], model=inputs[1], samples=SAMPLES, origin=(192, 384)).write(
        tmp_path / "expected", regions=True, **KEPT
    )
    assert read(tmp_path) == read(tmp_path / "expected") != expected
    assert json.loads((tmp_path / "f_summary.json").read_text())["origin"] == "192,384"


def test_slopes_of_photon_noise_go_through_the_disk(inputs, tmp_path):
    image = fits.getdata(inputs[0])
    given = tmp_path / "variance.fits"
    fits.writeto(given, np.clip(4 + 0.5 * np.nan_to_num(image - 30), 2, None).astype(np.float32))
    plain = {"regions": False, "keep_realisations": False, "preview": False}
    plain = options(inputs, tmp_path / "disk", block=64, **plain)
    assert run_batch([inputs[0]], {"variance": [str(given)]}, plain) == 0
    result = segment(inputs[0], model=inputs[1], samples=SAMPLES, variance=given)
    result.write(tmp_path / "memory", keep_background=True, preview=False)
    kept = segment(inputs[0], model=inputs[1], samples=SAMPLES, rms=2.0)
    assert (np.nan_to_num(result.image) != np.nan_to_num(kept.image)).any()
    for name in PRODUCTS[:3]:
        assert (tmp_path / "disk" / name).read_bytes() == (tmp_path / "memory" / name).read_bytes()


class Killed(BaseException):
    """Stands for a SIGKILL: nothing of ours catches it."""


def kill_at(monkeypatch, moment, after_the_record):
    put, calls = DiskStore.put, []

    def deadly(store, kind, record, number=0):
        calls.append((kind, number))
        if len(calls) == moment and not after_the_record:
            raise Killed
        put(store, kind, record, number)
        if len(calls) == moment and after_the_record:
            raise Killed

    monkeypatch.setattr(DiskStore, "put", deadly)
    return calls


@pytest.mark.parametrize("after_the_record", [False, True])
def test_a_run_that_was_stopped_goes_on_and_does_nothing_twice(
    inputs, expected, tmp_path, after_the_record, monkeypatch
):
    random, done = np.random.default_rng(int(after_the_record)), []
    for _ in range(100):
        with monkeypatch.context() as patch:
            calls = kill_at(patch, int(random.integers(1, 12)), after_the_record)
            try:
                assert run_batch([inputs[0]], {}, options(inputs, tmp_path, block=64)) == 0
                done += calls
                break
            except Killed:
                done += calls if after_the_record else calls[:-1]
    # The noise, and every stage of twelve blocks.
    assert len(done) == len(set(done)) == 1 + len(stages("two-step")) * 12
    assert read(tmp_path) == expected


def test_a_run_stopped_while_it_wrote_its_products_goes_on(inputs, expected, tmp_path, monkeypatch):
    with monkeypatch.context() as patch:
        patch.setattr("appulse.products.write_catalog", lambda *_: (_ for _ in ()).throw(Killed))
        with pytest.raises(Killed):
            run_batch([inputs[0]], {}, options(inputs, tmp_path, block=64))
    with monkeypatch.context() as patch:
        calls = kill_at(patch, 0, False)
        assert run_batch([inputs[0]], {}, options(inputs, tmp_path, block=64)) == 0
    assert calls == [] and read(tmp_path) == expected


def test_unfinished_work_is_not_mixed_with_that_of_other_options(inputs, expected, tmp_path, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        kill_at(patch, 9, True)
        run_batch([inputs[0]], {}, options(inputs, tmp_path, block=64))
    for changes, block, held in (({"seed": 1}, 64, "other options"), ({}, 128, "unfinished work")):
        with pytest.raises(UsageError, match=held):
            run_batch([inputs[0]], {}, options(inputs, tmp_path, block=block, **changes))
    assert run_batch([inputs[0]], {}, options(inputs, tmp_path, block=128), overwrite=True) == 0
    assert read(tmp_path) == expected


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"workers": 0}, "--workers is 0"),
        ({"shard": "3/2"}, "I from 1 to N"),
        ({"shard": "two"}, "I from 1 to N"),
        ({"shard": "1/2", "workers": 2}, "choose one"),
        ({"shard": "1/2", "dask": "tcp://nowhere:1"}, "choose one"),
        ({"shard": "1/2", "overwrite": True}, "empty the directory"),
        ({"block": 100}, "multiple of the model's stamp"),
    ],
)
def test_ways_to_share_the_work_that_make_no_sense_are_refused(inputs, tmp_path, given, message):
    with pytest.raises(UsageError, match=message):
        run_batch([inputs[0]], {}, options(inputs, tmp_path / "out", block=given.pop("block", 64)), **given)
    assert not (tmp_path / "out").exists()


def test_shards_share_the_blocks_and_one_writes(inputs, expected, tmp_path, capsys):
    """Two runs at once; in threads here, on machines of a cluster elsewhere."""
    codes = {}

    def shard(number):
        codes[number] = run_batch([inputs[0]], {}, options(inputs, tmp_path, block=64), shard=f"{number}/2")

    threads = [threading.Thread(target=shard, args=(number,)) for number in (1, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == {1: 0, 2: 0} and read(tmp_path) == expected
    assert capsys.readouterr().out.count("7 galaxies") == 1


def test_a_shard_takes_over_from_one_that_never_came(inputs, expected, tmp_path, monkeypatch):
    monkeypatch.setattr("appulse.engine.workers.PATIENCE", 0.0)
    assert run_batch([inputs[0]], {}, options(inputs, tmp_path, block=64), shard="2/3") == 0
    assert read(tmp_path) == expected


COMMAND = "from appulse.batch import *; from batches import *; import pathlib, json, sys; "
COMMAND += "a = json.loads(sys.argv[1]); "
COMMAND += "a['options']['output'] = pathlib.Path(a['options']['output']); "
COMMAND += "run_batch([pathlib.Path(a['image'])], {}, batch_options(**a['options']), **a['how'])"


def start(inputs, output, **how):
    wanted = {"output": str(output), "model": inputs[1], "samples": SAMPLES, "block": 64}
    wanted |= {"regions": True} | KEPT
    given = json.dumps({"image": str(inputs[0]), "options": wanted, "how": how})
    # The guard that a spawned worker needs is in the command: it has no main module to import again.
    return subprocess.Popen(
        [sys.executable, "-c", COMMAND, given],
        start_new_session=True,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(__file__).parents[1])},
    )


def children(pid):
    out = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(line) for line in out.stdout.split()]


@pytest.mark.slow
def test_a_killed_worker_costs_its_block_only(inputs, expected, tmp_path):
    process = start(inputs, tmp_path, workers=2)
    work = tmp_path / ".f.work"
    while process.poll() is None and len(list(work.glob("*/records/*.npz"))) < 5:
        time.sleep(0.02)
    finished = {path: path.stat().st_mtime_ns for path in work.glob("*/records/*.npz")}
    os.kill(children(process.pid)[-1], signal.SIGKILL)
    while process.poll() is None and (now := list(work.glob("*/records/galaxies-*.npz"))) and len(now) < 9:
        time.sleep(0.02)
    again = [path for path, at in finished.items() if path.exists() and path.stat().st_mtime_ns != at]
    assert process.wait() == 0, process.stderr.read()
    process.stderr.close()
    assert again == [] and read(tmp_path) == expected


@pytest.mark.slow
def test_kill_at_twenty_moments(inputs, expected, tmp_path):
    random = np.random.default_rng(0)
    for _ in range(20):
        process = start(inputs, tmp_path)
        work = tmp_path / ".f.work"
        had = len(list(work.glob("*/records/*.npz")))
        while process.poll() is None and len(list(work.glob("*/records/*.npz"))) == had:
            time.sleep(0.001)
        time.sleep(random.uniform(0, 0.1))
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        process.stderr.close()
        if (tmp_path / "f_summary.json").exists():
            break
    process = start(inputs, tmp_path)
    assert process.wait() == 0, process.stderr.read()
    process.stderr.close()
    assert read(tmp_path) == expected


@pytest.mark.slow
def test_a_dask_cluster_gives_the_same_bytes(inputs, expected, tmp_path):
    distributed = pytest.importorskip("distributed")
    with distributed.LocalCluster(n_workers=2, threads_per_worker=1, dashboard_address=":0") as cluster:
        address = cluster.scheduler_address
        assert run_batch([inputs[0]], {}, options(inputs, tmp_path, block=64), dask=address) == 0
    assert read(tmp_path) == expected


class Deadly:
    """Takes the process that receives it with it."""

    def __reduce__(self):
        return os._exit, (1,)


@pytest.mark.slow
def test_workers_that_die_of_every_block_are_given_up():
    with processes(1) as executor_for, pytest.raises(InputError, match="block 5: 3 workers died"):
        executor_for(Deadly())(None, FIRST, [5, 6], lambda by: None)


def test_an_image_that_fails_in_a_worker_says_where(inputs, tmp_path, monkeypatch, capsys):
    error = ValueError("odd")
    error.add_note("In a worker:\n  line 5")
    monkeypatch.setattr("appulse.engine.job.measure_noise", Mock(side_effect=error))
    assert run_batch([inputs[0]], {}, options(inputs, tmp_path)) == 1
    assert capsys.readouterr().err == f"{inputs[0]}: ValueError: odd\nIn a worker:\n  line 5\n"


@pytest.mark.slow
def test_workers_that_failed_serve_the_next_task(inputs, tmp_path):
    place = claim_folder(tmp_path / "work", {}, overwrite=False)
    settings = Settings(samples=4, method="grid", device="cpu", block=64)
    good = Task(str(inputs[0]), str(place), inputs[1], load_model(inputs[1]).sha256, settings)
    bad = dataclasses.replace(good, model_sha256="another")
    with opened(good) as (job, *_), processes(2) as executor_for:
        with pytest.raises(InputError, match="not the file that this run began with"):
            run(job, executor_for(bad))
        assert not job.store.has(FIRST)
        run(job, executor_for(good))
        assert all(job.store.has(stage, block) for stage in stages("grid") for block in range(12))

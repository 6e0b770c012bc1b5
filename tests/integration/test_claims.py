"""Whose work a folder holds, when several runs follow or meet each other: none uses what is another's."""

import dataclasses
import shutil
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from astropy.io import fits

from appulse import products
from appulse.batch import run_batch
from appulse.engine import stages
from appulse.engine.job import FIRST
from appulse.engine.job import stages as stage_names
from appulse.engine.on_disk import Task, claim_folder, finished, opened
from appulse.files import InputError
from appulse.network.weights import load_model, save_model
from appulse.segmentation import segment
from batches import batch_options, changed
from by_hand import by_hand, discs

SAMPLES = 4
DISCS = ((64, 64, 8), (100, 100, 8), (30, 30, 8), (110, 40, 7))
SHAPE = (130, 150)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_model(by_hand(), tmp_path_factory.mktemp("model") / "hand.safetensors"))


@pytest.fixture
def options(tmp_path, model):
    return batch_options(output=tmp_path / "out", model=model, samples=SAMPLES, preview=False)


@pytest.fixture
def image(tmp_path):
    fits.writeto(tmp_path / "f.fits", discs(SHAPE, *DISCS))
    return tmp_path / "f.fits"


def assert_products_are_of(image, options):
    """Every byte is what this image gives in memory, and nothing else is left."""
    result = segment(image, model=options.model, samples=SAMPLES, seed=options.settings.seed)
    expected = options.output.parent / "expected"
    for path in result.write(expected, preview=False):
        assert (options.output / path.name).read_bytes() == path.read_bytes(), path.name
    assert not list(options.output.glob(".f*")) and not list(options.output.glob("..*"))


def replace(image, *circles):
    new = image.with_name("new.fits")
    fits.writeto(new, discs(SHAPE, *circles, seed=5) * 3)
    new.replace(image)


def test_a_worker_that_outlives_a_run_sees_the_new_image(image, options):
    distributed = pytest.importorskip("distributed")
    alone = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": ":0"}
    with distributed.LocalCluster(**alone) as cluster:
        options, how = changed(options, block=192), {"dask": cluster.scheduler_address}
        assert run_batch([image], {}, options, **how) == 0
        replace(image, (100, 40, 8), (40, 100, 8))
        assert run_batch([image], {}, options, overwrite=True, **how) == 0
    assert_products_are_of(image, options)


def test_a_late_shard_writes_over_nothing(image, options, monkeypatch):
    """One stalls with a block of the first pass in hand until the other has done everything."""
    put, stalled, all_done, written = stages._put, *(threading.Event() for _ in range(3))

    def slowly(store, stage, block, *others):
        late = threading.current_thread().name == "late"
        if late and (stage, block) == (FIRST, 0):
            stalled.set()
            assert all_done.wait(60)
        put(store, stage, block, *others)
        if late:
            written.set()
        elif len(list(options.output.glob(".f.work/*/records/galaxies*"))) == 9:
            all_done.set()
            assert written.wait(60)

    monkeypatch.setattr(stages, "_put", slowly)
    monkeypatch.setattr("appulse.engine.workers.PATIENCE", 0.2)
    monkeypatch.setattr("appulse.engine.workers.POLL", 0.02)
    codes = {}

    def shard(number):
        codes[number] = run_batch([image], {}, changed(options, block=64), shard=f"{number}/2")

    late, other = (threading.Thread(target=shard, args=(n,), name=name) for n, name in ((1, "late"), (2, "")))
    late.start()
    assert stalled.wait(60)
    other.start()
    late.join()
    other.join()
    assert codes == {1: 0, 2: 0}
    assert_products_are_of(image, options)


@pytest.mark.parametrize("method", ["two-step", "grid", "sliding"])
def test_any_work_done_again_late_writes_what_is_there(image, options, tmp_path, method):
    rows, columns = np.indices(SHAPE)
    pair = [5 * np.exp(-((columns - x) ** 2 + (rows - 66) ** 2) / 50) for x in (71, 90.14)]
    # Half-way between the two, and across seams, a faint bridge.
    light = sum(pair) + discs(SHAPE, (30, 30, 8), (110, 110, 7), (120, 112, 7), noise=0.1)
    fits.writeto(image, light.astype(np.float32), overwrite=True)
    fits.writeto(tmp_path / "rms.fits", np.ones(SHAPE))
    chosen = changed(options, method=method, block=64, subtract_background=False)
    task = task_of(image, chosen, claim_folder(tmp_path / "work", {}, overwrite=False))
    task = dataclasses.replace(task, maps={"rms": str(tmp_path / "rms.fits")})
    with opened(task) as (job, *_):
        stages.run(job)
        assert len(job.bridges), "a scene in which every stage changes something"
    before = contents(tmp_path / "work")
    done = [(stage, block) for stage in stage_names(method) for block in range(9)]
    for number in np.random.default_rng(0).permutation(len(done)):
        with opened(task) as (job, *_):
            stages.work(job, *done[number])
    assert contents(tmp_path / "work") == before


def task_of(image, options, place):
    sha256 = load_model(options.model).sha256
    return Task(str(image), str(place), options.model, sha256, options.settings)


def contents(folder):
    return {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Killed(BaseException):
    """Stands for a SIGKILL: nothing of ours catches it."""


def die(*_, **__):
    raise Killed


def kill_while_products_are_written(image, options, monkeypatch, **how):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("appulse.products.write_catalog", die)
        run_batch([image], {}, options, **how)


def test_records_without_a_manifest_are_nobodys(image, options, monkeypatch):
    """A removal that was stopped, or a late writer, may leave them."""
    kill_while_products_are_written(image, options, monkeypatch)
    (options.output / ".f.work" / "task.json").unlink()
    other = changed(options, seed=5)
    assert run_batch([image], {}, other, overwrite=True) == 0
    assert_products_are_of(image, other)


def test_a_removal_that_is_stopped_leaves_no_half(tmp_path, monkeypatch):
    work = tmp_path / "work"
    first = claim_folder(work, {"seed": 0}, overwrite=False)
    (first / "records" / "first-pass-000000.npz").write_bytes(b"a record")
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("shutil.rmtree", die)
        claim_folder(work, {"seed": 1}, overwrite=True)
    assert not work.exists()
    assert not list((claim_folder(work, {"seed": 0}, overwrite=False) / "records").iterdir())


def test_what_is_written_after_the_end_of_a_run_reaches_no_other(image, options, tmp_path):
    work = tmp_path / "work"
    first = claim_folder(work, {"seed": 0}, overwrite=False)
    task = task_of(image, changed(options, method="grid", block=64), first)
    with opened(task) as (job, *_):
        second = claim_folder(work, {"seed": 1}, overwrite=True)
        with pytest.raises(FileNotFoundError):
            stages.work(job, FIRST, 0)
    assert first != second and not list(second.glob("records/*"))
    assert claim_folder(work, {"seed": 1}, overwrite=False) == second


def test_products_are_not_made_of_what_is_gone(image, options, tmp_path):
    """Missing parts of an array read as zeros, and in an empty sky nothing else is read that could fail."""
    replace(image)
    place = claim_folder(tmp_path / "work", {}, overwrite=False)
    task = task_of(image, changed(options, block=64), place)
    with finished(task, None, None, lambda place: True) as result:
        shutil.rmtree(tmp_path / "work")
        with pytest.raises(InputError, match="removed while it was read"):
            result.write(tmp_path / "out")
    assert not list((tmp_path / "out").iterdir())


def test_a_shard_that_fails_leaves_the_others_work(image, options, monkeypatch):
    with monkeypatch.context() as patch, pytest.raises(Killed):
        patch.setattr("appulse.inference.store.DiskStore.put", die)
        run_batch([image], {}, options, shard="1/2")
    (place,) = options.output.glob(".f.work/*/")
    with monkeypatch.context() as patch:
        patch.setattr("appulse.engine.workers.PATIENCE", 0.0)
        patch.setattr("appulse.engine.job.measure_noise", lambda *_, **__: 1 / 0)
        assert run_batch([image], {}, options, shard="2/2") == 1
    assert (place / "records").exists()


def test_of_many_who_claim_at_once_all_get_the_same_place(tmp_path):
    work = tmp_path / "work"
    with ThreadPoolExecutor(16) as pool:
        places = list(pool.map(lambda _: claim_folder(work, {}, overwrite=False), range(64)))
    assert len(set(places)) == 1 and (places[0] / "records").exists()


def test_the_products_of_a_shard_that_died_writing_them_are_written(image, options, monkeypatch, capsys):
    kill_while_products_are_written(image, options, monkeypatch, shard="1/2")
    monkeypatch.setattr("appulse.engine.workers.PATIENCE", 0.1)
    assert run_batch([image], {}, options, shard="3/4") == 0
    assert_products_are_of(image, options)
    for shard in ("4/4", "2/2"):
        assert run_batch([image], {}, options, shard=shard) == 0
    assert capsys.readouterr().out.count("done before") == 2


def test_a_shard_that_comes_again_goes_on_at_once(image, options, monkeypatch):
    kill_while_products_are_written(image, options, monkeypatch, shard="1/1")
    monkeypatch.setattr("appulse.engine.workers.PATIENCE", float("inf"))
    assert run_batch([image], {}, options, shard="1/1") == 0
    assert_products_are_of(image, options)


class Turns:
    """An hour goes by whenever a shard has looked for products, and then whoever writes them does a step."""

    perf_counter = staticmethod(time.perf_counter)

    def __init__(self):
        self.hours, self.written = 0, False
        self.looked, self.stepped = threading.Semaphore(0), threading.Semaphore(0)

    def monotonic(self):
        return 3600.0 * self.hours

    def sleep(self, seconds):
        if self.written:
            return time.sleep(seconds)
        self.hours += 1
        self.looked.release()
        assert self.stepped.acquire(timeout=60)


def test_a_shard_ends_well_only_when_the_products_are_there(image, options, monkeypatch, capsys):
    """The one that writes them takes eight hours, with a sign of life in every other; three are too many."""
    turns = Turns()
    monkeypatch.setattr("appulse.engine.workers.PATIENCE", 2.5 * 3600)
    monkeypatch.setattr("appulse.engine.workers.POLL", 0.02)
    monkeypatch.setattr("appulse.batch.images.time", turns)
    write_catalog, found = products.write_catalog, []

    def slowly(*given):
        for step in range(8):
            assert turns.looked.acquire(timeout=60)
            if step % 2 == 0:
                (options.output / ".f_catalog.0123456789abcdef.part.fits").write_text("x" * step)
            turns.stepped.release()
        turns.written = True
        turns.stepped.release()
        return write_catalog(*given)

    monkeypatch.setattr(products, "write_catalog", slowly)

    def shard(number):
        assert run_batch([image], {}, changed(options, block=64), shard=f"{number}/2") == 0
        found.append((options.output / "f_summary.json").exists())

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(shard, (1, 2)))
    assert found == [True, True] and capsys.readouterr().out.count(" 4 galaxies") == 1
    monkeypatch.undo()
    assert_products_are_of(image, options)


def test_shards_take_turns_at_images_of_one_block(options, tmp_path, monkeypatch, capsys):
    images = [tmp_path / f"{name}.fits" for name in "abcd"]
    for seed, path in enumerate(images):
        fits.writeto(path, discs((70, 70), (40, 40, 8), seed=seed))
    monkeypatch.setattr("appulse.engine.workers.PATIENCE", 60.0)
    monkeypatch.setattr("appulse.engine.workers.POLL", 0.05)

    at = {1: set(), 2: set()}

    def shard(number):
        how = {"shard": f"{number}/2", "progress": lambda course: at[number].add(course.name)}
        return run_batch(images, {}, changed(options, block=128), **how)

    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(shard, (1, 2))) == [0, 0]
    assert at == {1: {"a", "c"}, 2: {"b", "d"}}
    assert capsys.readouterr().out.count("4 of 4 images done") == 2

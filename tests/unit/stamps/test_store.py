"""The store: what it holds is what the fields hold, at places that depend on the seed alone."""

import dataclasses
import json
import os
import shutil
import tracemalloc

import numpy as np
import pytest

from appulse.files import InputError
from appulse.sky import field_paths, read_field
from appulse.stamps import StampConfig, StampStore, build_store, cutting, stored_stamps
from skies_by_hand import SURVEY, blobs, field_of, plain

CONFIG = StampConfig(size=32)


def contents(store):
    return {file.name: file.read_bytes() for file in store.path.iterdir()}


@pytest.fixture
def small_strips(monkeypatch):
    monkeypatch.setattr(cutting, "_STRIP_PIXELS", 160 * 40)


def test_stamps_equal_cuts_from_the_fields(sky_directory, sky_store):
    fields = [read_field(path) for path in field_paths(sky_directory)]
    dense = sky_store.dense(range(len(sky_store)))
    seen = set()
    for stamp, number, (y, x) in zip(dense, sky_store.field, sky_store.corner, strict=True):
        field = fields[number]
        window = slice(y, y + 32), slice(x, x + 32)
        for layer, image in zip(stamp, (field.light, field.first, field.second), strict=True):
            # Half precision, and rounding of the sum.
            np.testing.assert_allclose(layer, image[window] / field.sigma, rtol=2e-3, atol=0.011)
        np.testing.assert_array_equal(stamp[1:] > 0, [field.first[window] > 0, field.second[window] > 0])
        seen.add(int(number))
    assert seen == {0, 1}


def test_values_that_half_precision_holds_are_kept_exactly(store_of):
    first, second = blobs((64, 64))
    third = [(40, 35, 0.5), (41, 35, 2.0)]
    store = store_of(field_of(first, second, third), count=40)
    light = first + second
    for y, x, flux in third:
        light[int(y), int(x)] += flux
    for stamp, (y, x) in zip(store.dense(range(40)), store.corner, strict=True):
        cut = [layer[y : y + 32, x : x + 32] for layer in (light, first, second)]
        np.testing.assert_allclose(stamp, cut, rtol=1e-6)


def test_a_whole_stamp_can_be_lit_and_galaxies_brighter_than_half_precision_stay_finite(store_of):
    store = store_of(field_of(np.full((32, 32), 1e6)), count=3)
    dense = store.dense([0, 2])
    assert np.isfinite(dense).all() and (dense[:, :2] > 5e4).all() and not dense[:, 2].any()


def test_a_stamp_wider_than_255_pixels(store_of):
    first = np.zeros((300, 300))
    first[10:290, 20:250] = 2.0
    store = store_of(field_of(first), config=plain(size=256), count=3)
    assert store.layers[0].runs.dtype == np.uint32
    for stamp, (y, x) in zip(store.dense(range(3)), store.corner, strict=True):
        np.testing.assert_array_equal(stamp[1], first[y : y + 256, x : x + 256])


@pytest.mark.usefixtures("small_strips")
def test_same_bytes_after_a_kill(sky_directory, tmp_path, monkeypatch):
    whole = build_store(tmp_path / "whole", sky_directory, CONFIG, count=100, workers=1)

    class Killed(Exception):
        pass

    cut, done = cutting._cut_strip, []

    def until(strip):
        if len(done) == 3:
            raise Killed
        done.append(cut(strip))

    monkeypatch.setattr(cutting, "_cut_strip", until)
    with pytest.raises(Killed):
        build_store(tmp_path / "killed", sky_directory, CONFIG, count=100, workers=1)
    assert not (tmp_path / "killed").exists()
    left = []
    monkeypatch.setattr(cutting, "_cut_strip", lambda strip: left.append(cut(strip)))
    resumed = build_store(tmp_path / "killed", sky_directory, CONFIG, count=100, workers=1)
    assert contents(resumed) == contents(whole)
    assert len(left) == 2  # of 5: 97 places for the first row at 40 a strip, and 129 at 66
    assert sorted(path.name for path in tmp_path.iterdir()) == ["killed", "whole"]


@pytest.mark.usefixtures("small_strips")
@pytest.mark.parametrize("step", ["_cut_strip", "_load", "_length"])
@pytest.mark.parametrize("call", [0, 1, 4])
def test_two_builds_at_a_time(sky_directory, tmp_path, monkeypatch, step, call):
    """The second one is all done within one step of the first."""
    whole = build_store(tmp_path / "whole", sky_directory, CONFIG, count=100, workers=1)
    inner, calls = getattr(cutting, step), []

    def overtaken(*arguments):
        calls.append(arguments)
        if len(calls) == call + 1:
            with monkeypatch.context() as patch:
                patch.setattr(cutting, step, inner)
                build_store(tmp_path / "both", sky_directory, CONFIG, count=100, workers=1)
        return inner(*arguments)

    monkeypatch.setattr(cutting, step, overtaken)
    first = build_store(tmp_path / "both", sky_directory, CONFIG, count=100, workers=1)
    assert contents(first) == contents(whole)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["both", "whole"]


def test_parts_that_a_run_left_at_its_very_end_go_away(sky_directory, tmp_path, monkeypatch):
    run = tmp_path / "run"
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(sky_directory))
    with monkeypatch.context() as patch:
        patch.setattr(cutting, "remove_folder", lambda path: None)
        store = stored_stamps(sky_directory, CONFIG, elsewhere=run)
    assert len([*run.iterdir()]) == 2
    assert stored_stamps(sky_directory, CONFIG, elsewhere=run).path == store.path
    assert [*run.iterdir()] == [store.path]


@pytest.mark.usefixtures("small_strips")
@pytest.mark.parametrize("spoil", [lambda b: b"", lambda b: b[:-40], lambda b: b[:500] + b"?" + b[501:]])
def test_parts_that_a_disk_has_spoilt_are_cut_again(sky_directory, tmp_path, monkeypatch, spoil):
    whole = build_store(tmp_path / "whole", sky_directory, CONFIG, count=100, workers=1)
    with monkeypatch.context() as patch:
        patch.setattr(cutting, "_join", lambda *_: pytest.exit("killed"))
        with pytest.raises(pytest.exit.Exception):
            build_store(tmp_path / "spoilt", sky_directory, CONFIG, count=100, workers=1)
    parts = sorted(tmp_path.glob(".spoilt-*.part/part_*.npz"))
    assert len(parts) == 5
    for part in parts[1:3]:
        part.write_bytes(spoil(part.read_bytes()))
    cut, again = cutting._cut_strip, []
    monkeypatch.setattr(cutting, "_cut_strip", lambda strip: again.append(strip.part) or cut(strip))
    store = build_store(tmp_path / "spoilt", sky_directory, CONFIG, count=100, workers=1)
    assert again == parts[1:3]
    assert contents(store) == contents(whole)


def test_a_store_is_on_the_disk_before_its_parts_go(sky_directory, tmp_path, monkeypatch):
    synced, sync = [], os.fsync

    def recorded(descriptor):
        sync(descriptor)
        synced.append(os.fstat(descriptor).st_ino)

    def removed(path):
        store = tmp_path / "store"
        files = {file.stat().st_ino for file in store.iterdir()}
        assert len(files) == 15 and files <= set(synced)
        # The names in it, then its own.
        assert store.stat().st_ino in synced and synced[-1] == tmp_path.stat().st_ino
        synced.append("parts are gone")

    monkeypatch.setattr(os, "fsync", recorded)
    monkeypatch.setattr(cutting, "remove_folder", removed)
    build_store(tmp_path / "store", sky_directory, CONFIG, count=20, workers=1)
    assert synced[-1] == "parts are gone"


def test_stamps_of_a_strip_are_never_all_dense(store_of, monkeypatch):
    peaks, cut = [], cutting._cut_strip

    def traced(strip):
        tracemalloc.start()
        cut(strip)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()

    monkeypatch.setattr(cutting, "_cut_strip", traced)
    store_of(field_of(*blobs()), count=10_000)
    assert len(peaks) == 1 and peaks[0] < 10_000 * 32**2 * 4 / 3  # bytes of one layer of the stamps, dense


@pytest.mark.slow
def test_same_bytes_from_processes(sky_directory, sky_store, tmp_path):
    split = build_store(tmp_path / "split", sky_directory, CONFIG, count=200, workers=2)
    assert contents(split) == contents(sky_store)


def test_as_many_processes_as_asked_cut(sky_directory, tmp_path, monkeypatch):
    asked = []

    def run_tasks(function, tasks, *, workers):
        asked.append(workers)
        return ((task, function(task)) for task in tasks)

    monkeypatch.setattr(cutting, "run_tasks", run_tasks)
    monkeypatch.setattr(cutting, "usable_cpus", lambda: 8)
    monkeypatch.setattr(cutting, "_STAMPS_PER_WORKER", 100)
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(sky_directory))
    for number, workers in enumerate((None, 1, 3)):
        stored_stamps(sky_directory, CONFIG, elsewhere=tmp_path / str(number), workers=workers)
    assert asked == [3, 1, 3]  # by itself as many as 280 stamps are worth


def test_without_a_number_as_many_stamps_as_the_sky_yields(sky_directory, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(sky_directory))
    stored = stored_stamps(sky_directory, CONFIG, elsewhere=tmp_path, workers=1)
    built = build_store(tmp_path / "built", sky_directory, CONFIG, workers=1)
    assert contents(built) == contents(stored)
    assert len(built) == 8 * (128 * 160 + 160 * 96) // 32**2


def test_the_seed_changes_the_places(sky_directory, sky_store, tmp_path):
    other = build_store(tmp_path / "other", sky_directory, CONFIG, count=200, seed=1, workers=1)
    assert not np.array_equal(other.corner, sky_store.corner)
    assert len(other) == len(sky_store) == 200


@pytest.mark.usefixtures("small_strips")
def test_no_more_than_a_strip_is_read_at_a_time(sky_directory, tmp_path, monkeypatch):
    heights = []
    read = cutting.open_field

    def watched(path):
        field = read(path)
        whole = field.read

        def read_window(window):
            heights.append(window[0].stop - window[0].start)
            return whole(window)

        field.read = read_window
        return field

    monkeypatch.setattr(cutting, "open_field", watched)
    build_store(tmp_path / "store", sky_directory, CONFIG, count=100, workers=1)
    # 6400 pixels of a field 160 wide are 40 rows, one 96 wide 66; and the reach of stamps on either side.
    assert len(heights) > 3 and max(heights) <= 66 + 3 * 32


@pytest.mark.parametrize("rows", [32, 50, 1000])
def test_places_are_uniform_whatever_the_strips(rows, store_of, monkeypatch):
    monkeypatch.setattr(cutting, "_STRIP_PIXELS", 100 * rows)
    corners = store_of(field_of(np.zeros((200, 100))), count=4000).corner
    assert corners.min() == 0 and tuple(corners.max(axis=0)) == (168, 68)
    for along, side in zip(corners.T, (169, 69), strict=True):
        counts, _ = np.histogram(along, 5, (0, side))
        assert np.all(abs(counts - 800) < 5 * np.sqrt(800))


def test_fields_give_by_their_area(store_of):
    fields = [field_of(np.zeros((64, 64))), field_of(np.zeros((64, 128)), index=1)]
    share = np.bincount(store_of(*fields, count=520).field)
    # Places for a corner: 33 x 33 and 33 x 97.
    np.testing.assert_allclose(share, [520 * 33 / 130, 520 * 97 / 130], atol=1)


@pytest.mark.parametrize("rows", [40, 1000])
def test_stamps_around_overlaps(rows, sky_directory, tmp_path, monkeypatch):
    monkeypatch.setattr(cutting, "_STRIP_PIXELS", 160 * rows)
    config = StampConfig(size=32, overlap_share=1.0, giant_share=0.0)
    store = build_store(tmp_path / "store", sky_directory, config, count=100, workers=1)
    assert (store.dense(range(100))[:, 2] > 1).any(axis=(1, 2)).all()


def test_overlaps_lie_anywhere_in_their_stamps_and_reach_the_border(store_of):
    first, second = np.zeros((2, 96, 96))
    for y, x in ((48, 48), (0, 0), (95, 95)):
        first[y, x], second[y, x] = 3.0, 2.0
    store = store_of(field_of(first, second), config=plain(overlap_share=1.0), count=300)
    rows = np.array([np.argwhere(stamp[2])[0, 0] for stamp in store.dense(range(300))])
    inner = (store.corner > 0).all(axis=1) & (store.corner < 64).all(axis=1)
    assert rows[inner].min() == 4 and rows[inner].max() == 27  # its position must teach nothing
    assert {tuple(corner) for corner in store.corner} >= {(0, 0), (64, 64)}


def test_stamps_on_objects_that_no_stamp_holds(store_of):
    light = np.zeros((160, 160))
    light[60:72, 60:72] = 5.0  # a stamp holds it
    light[10:50, 100:140] = 1.2
    store = store_of(field_of(light), config=plain(giant_share=1.0), count=200)
    seen = store.dense(range(200))[:, 0]
    assert (seen == np.float16(1.2)).any(axis=(1, 2)).all()
    # Within it, too, where nothing tells them from sky but the light itself.
    assert ((seen > 1).mean(axis=(1, 2)) == 1).any()
    some = store_of(field_of(light), config=plain(giant_share=0.5), count=400).dense(range(400))[:, 0]
    apart = (some != np.float16(1.2)).all(axis=(1, 2)).mean()
    free = 1 - 50 * 60 / 129**2  # corners from which no pixel of it is seen
    assert apart == pytest.approx(0.5 * free, abs=0.08)


def test_shares_that_are_more_than_all():
    with pytest.raises(ValueError, match="more than 1"):
        StampConfig(overlap_share=0.8, giant_share=0.3)
    for name in ("overlap_share", "giant_share", "blank_share"):
        with pytest.raises(ValueError, match=rf"{name} is 3\.0; a share is at most 1"):
            StampConfig(**{"overlap_share": 0.0, "giant_share": 0.0, name: 3.0})


def test_overlaps_asked_from_a_sky_without(store_of):
    assert len(store_of(field_of(blobs()[0]), config=plain(overlap_share=1.0), count=4)) == 4


def test_what_a_store_says_of_its_fields(sky_store, sky_directory):
    fields = [read_field(path) for path in field_paths(sky_directory)]
    np.testing.assert_allclose(sky_store.noise, [27.2, 26.8])
    assert sky_store.seeds == (5,) and sky_store.size == 32
    assert sky_store.surveys == {field.survey.name: field.survey.digest() for field in fields}
    assert sky_store.psf_fwhm_pixels == pytest.approx((1.8, 3.0))
    assert sky_store.bytes == sum(len(content) for content in contents(sky_store).values())


def test_fields_of_a_survey_with_ranges_have_one_digest_of_all(store_of):
    def digest(*noises):
        surveys = [dataclasses.replace(SURVEY, name="ranged", noise=noise) for noise in noises]
        fields = [field_of(np.zeros((32, 32)), survey=s, index=i) for i, s in enumerate(surveys)]
        store = store_of(*fields, count=4)
        assert list(store.surveys) == ["ranged"]
        return store.surveys["ranged"]

    assert digest(27.0) == digest(27.0, 27.0) == SURVEY.digest()
    assert digest(27.0, 26.0) == digest(26.0, 27.0)
    assert len({digest(27.0), digest(26.0), digest(27.0, 26.0), digest(27.0, 25.0)}) == 4
    assert len(digest(27.0, 26.0)) == len(SURVEY.digest())


def test_the_store_of_a_directory_is_built_once_per_way_of_cutting(sky_directory, tmp_path):
    folder = tmp_path / "fields"
    folder.mkdir()
    for path in field_paths(sky_directory):
        (folder / path.name).symlink_to(path)
    stages = []
    store = stored_stamps(folder, CONFIG, progress=lambda *stage: stages.append(stage))
    assert store.path.parent == folder and len(store) == 8 * (128 * 160 + 160 * 96) // 32**2
    assert stages[0] == ("cutting stamps", 0, 2) and stages[-1] == ("cutting stamps", 2, 2)
    del stages[:]
    drawn_otherwise = StampConfig(size=32, depth_range=(25.0, 26.0), flips=False)
    for same in (
        stored_stamps(folder, drawn_otherwise, progress=lambda *stage: stages.append(stage)),
        stored_stamps(store.path, CONFIG),
    ):
        assert same.path == store.path
    assert not stages
    other = stored_stamps(folder, StampConfig(size=32, overlap_share=0.0))
    assert other.path != store.path
    (folder / field_paths(folder)[1].name).unlink()
    assert stored_stamps(folder, CONFIG).path not in (store.path, other.path)


def test_a_directory_that_cannot_be_written_to(sky_directory, tmp_path, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: str(path) != str(sky_directory))
    store = stored_stamps(sky_directory, CONFIG, elsewhere=tmp_path / "run")
    assert store.path.parent == tmp_path / "run"
    assert stored_stamps(sky_directory, CONFIG, elsewhere=tmp_path / "run").path == store.path


def test_refusals(store_of, sky_store, sky_directory, tmp_path):
    with pytest.raises(InputError, match=r"\(64, 80\) pixels is smaller than a stamp of 65"):
        store_of(field_of(np.zeros((64, 80))), config=plain(size=65))
    with pytest.raises(InputError, match="no simulated fields"):
        stored_stamps(tmp_path, CONFIG)
    with pytest.raises(InputError, match="is there already"):
        build_store(sky_store.path, sky_directory, CONFIG)
    with pytest.raises(InputError, match="not a store of stamps"):
        StampStore.open(tmp_path)
    about = json.loads((sky_store.path / "stamps.json").read_text())
    (tmp_path / "stamps.json").write_text(json.dumps(about | {"format": 99}))
    with pytest.raises(InputError, match="format 99, this version reads 1"):
        StampStore.open(tmp_path)


@pytest.mark.parametrize(
    ("name", "spoil"),
    [
        ("first_values.npy", lambda b: b""),  # as a power cut leaves files that were not synced
        ("rest_runs.npy", lambda b: b[:-2]),
        ("corner.npy", lambda b: b"?" * len(b)),
        ("stamps.json", lambda b: b[:50]),
        ("stamps.json", lambda b: b"{}"),
    ],
)
def test_a_damaged_store_is_refused_with_what_to_do(sky_store, tmp_path, name, spoil):
    store = tmp_path / "store"
    shutil.copytree(sky_store.path, store)
    (store / name).write_bytes(spoil((store / name).read_bytes()))
    with pytest.raises(InputError, match=r"store: a damaged store of stamps \(.*\); delete it, give the dir"):
        StampStore.open(store)


def test_shallow_fields_are_refused_before_anything_is_cut(sky_directory, tmp_path):
    deep = StampConfig(size=32, depth_range=(25.0, 31.0))
    with pytest.raises(InputError, match="asked from a field rendered for"):
        stored_stamps(sky_directory, deep, elsewhere=tmp_path / "run")
    assert not (tmp_path / "run").exists() and not [*sky_directory.glob("*stamps-*")]

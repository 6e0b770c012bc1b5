"""Work on disk: what a power cut leaves of it."""

import os
from pathlib import Path

import numpy as np
import pytest

from appulse.inference.store import DiskStore, MemoryStore

SHAPE, SAMPLES, BLOCK = (70, 100), 10, 32


@pytest.fixture
def store(tmp_path):
    (tmp_path / "records").mkdir()
    return DiskStore(tmp_path, SHAPE, SAMPLES, BLOCK)


def files(folder):
    return {path for path in folder.rglob("*") if path.is_file() and path.name != "zarr.json"}


@pytest.mark.parametrize("name", ["p_galaxy", "planes"])
def test_chunks_of_a_window_reach_the_disk_before_their_record_has_its_name(store, monkeypatch, name):
    window = slice(32, 70), slice(20, 64)  # chunks in two rows and two columns
    store.array(name)[..., *window] = 1
    store.array(name)[..., 0, 99] = 1  # of another block, which is not done
    synced, fsync, replace = [], os.fsync, os.replace

    def watched(descriptor):
        synced.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")))
        fsync(descriptor)

    def moved(source, target):
        synced.append(Path(target))
        replace(source, target)

    monkeypatch.setattr(os, "fsync", watched)
    monkeypatch.setattr(os, "replace", moved)
    store.sync((name,), window)
    chunks = {path.resolve() for path in files(store.path / name)}
    assert len(chunks) == len(synced) + 1 == 5 and set(synced) < chunks
    store.put("first pass", {"values": np.arange(3)}, 7)
    record, named, folder = synced[4:]
    assert record.suffix == ".npz" and record.parent == named.parent == folder
    assert store.has("first pass", 7) and named.exists() and not record.exists()


def test_disk_and_memory_hold_the_same(store):
    memory = MemoryStore(SHAPE, SAMPLES)
    values = np.random.default_rng(0).integers(0, 256, (2, 2, *SHAPE)).astype(np.uint8)
    for each in (store, memory):
        each.array("planes")[:, :, 10:50, 3:90] = values[:, :, 10:50, 3:90]
        each.put("galaxies", {"kept": values[0, 0], "left": values[1, 0]}, 3)
    np.testing.assert_array_equal(store.array("planes")[:], memory.array("planes"))
    for each in (store, memory):
        assert each.has("galaxies", 3) and not each.has("galaxies", 2) and not each.has("parting", 3)
        (name, kept), *others = each.get("galaxies", 3, omit=("left",)).items()
        assert name == "kept" and not others
        np.testing.assert_array_equal(kept, values[0, 0])

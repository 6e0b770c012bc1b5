"""What a field will take, against the arrays that the work holds and the files that it makes."""

import gzip
import shutil

import numpy as np
import pytest
import torch
from astropy.io import fits

from appulse.engine.forecast import forecast
from appulse.engine.observation import observe
from appulse.inference.realisations import Realisations
from appulse.inference.sampler import Sampler
from appulse.inference.store import MemoryStore
from appulse.segmentation import segment
from by_hand import by_hand, discs

SHAPE = (4096, 4096)


def needs(samples, **options):
    options = {
        "shape": SHAPE,
        "block": 2048,
        "method": "grid",
        "workers": 1,
        "keep_realisations": False,
        "keep_background": False,
    } | options
    return forecast(sampler=Sampler(by_hand(), samples, 0, "copula", "cpu"), per_stamp=0.01, **options)


@pytest.fixture(scope="module")
def forecasts():
    return {samples: needs(samples) for samples in (2, 50, 200)}


@pytest.mark.parametrize("samples", [2, 50, 200])
def test_memory_is_what_a_block_and_the_random_fields_hold(forecasts, samples):
    outer = 2048 + by_hand().network.config.stamp_size
    block = Realisations(samples, (outer, outer)).planes.nbytes * 1.5  # the first pass's are kept as well
    block += 5 * 4 * outer**2  # image, noise, and the probabilities
    fields = Sampler(by_hand(), samples, 0, "copula", "cpu").uniform.nbytes
    memory = forecasts[samples].memory
    assert block + fields < memory < 0.5e9 + 3 * (block + fields)


def test_disk_grows_with_the_realisations_and_is_less_than_it_is_in_memory(forecasts):
    works = [forecasts[samples].work for samples in (2, 50, 200)]
    assert works == sorted(works) and works[2] > 1.2 * works[1]
    for samples, work in zip((50, 200), works[1:], strict=True):
        small = MemoryStore((8, 8), samples)
        per_pixel = sum(
            small.array(name).nbytes
            for name in ("planes", "first_planes", "p_galaxy", "p_overlap", "state", "pieces", "detected")
        )
        assert work / (SHAPE[0] * SHAPE[1]) < per_pixel / 64


@pytest.mark.parametrize("kept", [{}, {"keep_realisations": True}, {"keep_background": True}], ids=str)
def test_the_products_are_as_large_as_the_file_of_maps(tmp_path, kept):
    shape = (150, 210)
    result = segment(discs(shape, (40, 50, 8), (120, 60, 9)), model=by_hand(), samples=4, method="grid")
    path, *_ = result.write(tmp_path, preview=False, **kept)
    with fits.open(path) as hdus:
        headers = sum(hdu.fileinfo()["datLoc"] - hdu.fileinfo()["hdrLoc"] for hdu in hdus)
    expected = path.stat().st_size - headers
    assert needs(4, shape=shape, **kept).products == pytest.approx(expected, rel=0.05)


@pytest.mark.parametrize("threads", [1, 3])
def test_workers_share_the_stamps_with_a_thread_each_and_one_has_them_all(threads):
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        alone, four = (needs(2, workers=workers).seconds for workers in (1, 4))
    finally:
        torch.set_num_threads(before)
    assert four == pytest.approx(alone * threads / 4)
    # A stamp takes 0.01 s, and there are at least those of the grid.
    assert alone > 0.01 * SHAPE[0] * SHAPE[1] / 112**2


def test_the_unpacked_copies_of_gzipped_files_are_counted(tmp_path):
    fits.writeto(tmp_path / "a.fits", discs((70, 70)))
    fits.writeto(tmp_path / "rms.fits", np.ones((70, 70)))
    for name in ("a.fits", "rms.fits"):
        with open(tmp_path / name, "rb") as plain, gzip.open(tmp_path / f"{name}.gz", "wb") as packed:
            shutil.copyfileobj(plain, packed)
    sizes = {name: (tmp_path / name).stat().st_size for name in ("a.fits", "rms.fits")}
    for image, rms, expected in (
        ("a.fits", "rms.fits", 0),
        ("a.fits.gz", "rms.fits", sizes["a.fits"]),
        ("a.fits.gz", "rms.fits.gz", sum(sizes.values())),
    ):
        with observe(tmp_path / image, None, {"rms": tmp_path / rms}) as observation:
            assert observation.temporary == expected
    told = needs(2, shape=(70, 70), workers=3, temporary=10**9)
    assert told.temporary == 3e9 and "and 3.00 GB in TMPDIR to unpack" in str(told)
    assert "TMPDIR" not in str(needs(2, shape=(70, 70)))


@pytest.mark.parametrize(
    ("block", "shards", "most", "told"), [(2048, 2, 2 / 4, 2), (2048, 3, 2 / 4, 3), (4096, 8, 1, 0)]
)
def test_a_shard_takes_as_long_as_the_blocks_that_it_has(block, shards, most, told):
    """Of four blocks, or of one, which cannot be shared."""
    alone, shared = needs(2, block=block), needs(2, block=block, shards=shards)
    assert shared.seconds == pytest.approx(most * alone.seconds)
    assert (f"in each of {told} shards" in str(shared)) == (told > 0) and "shards" not in str(alone)

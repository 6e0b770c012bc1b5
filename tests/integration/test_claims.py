"""Whose work a folder holds, when several runs follow or meet each other: none uses what is another's."""

import pytest
from astropy.io import fits

from appulse.batch import BatchOptions, run_batch
from appulse.network.weights import save_model
from appulse.segmentation import segment
from by_hand import by_hand, discs

SAMPLES = 4
DISCS = ((64, 64, 8), (100, 100, 8), (30, 30, 8), (110, 40, 7))
SHAPE = (130, 150)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return str(save_model(by_hand(), tmp_path_factory.mktemp("model") / "hand.safetensors"))


@pytest.fixture
def options(tmp_path, model):
    return BatchOptions(output=tmp_path / "out", model=model, samples=SAMPLES, preview=False)


@pytest.fixture
def image(tmp_path):
    fits.writeto(tmp_path / "f.fits", discs(SHAPE, *DISCS))
    return tmp_path / "f.fits"


def assert_products_are_of(image, options):
    """Every byte is what this image gives in memory, and nothing else is left."""
    result = segment(image, model=options.model, samples=options.samples, seed=options.seed)
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
    alone = {"n_workers": 1, "threads_per_worker": 1, "processes": False, "dashboard_address": None}
    with distributed.LocalCluster(**alone) as cluster:
        how = {"block": 192, "dask": cluster.scheduler_address}
        assert run_batch([image], {}, options, **how) == 0
        replace(image, (100, 40, 8), (40, 100, 8))
        assert run_batch([image], {}, options, overwrite=True, **how) == 0
    assert_products_are_of(image, options)

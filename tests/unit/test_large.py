"""Objects too large to be taken apart, against the same objects taken apart."""

import tracemalloc

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable

from appulse.batch import run_batch
from appulse.engine import large, stages
from appulse.engine.describe import Region
from appulse.engine.large import describe_whole
from appulse.inference.noise import NoiseQuality, NoiseScaled
from appulse.inference.realisations import Realisations
from appulse.network.weights import save_model
from appulse.objects import MEASURED, ObjectFlag
from appulse.segmentation import segment
from batches import batch_options
from by_hand import SAMPLES, by_hand, discs

# A disc larger than the limit below and than a stamp, one at the border, a small pair and a lone one.
CIRCLES = ((60, 70, 30), (196, 100, 28), (120, 30, 9), (131, 36, 8), (140, 130, 7))
SHAPE = (150, 210)
LIMIT = 45**2
KNOWN = ("area", "flux", "x_centroid", "y_centroid", "bbox_xmin", "bbox_xmax", "bbox_ymin", "bbox_ymax")
MAPS = ("ternary", "mean", "std", "p_galaxy", "p_overlap", "segm", "segm2", "flags")


def scene():
    image = discs(SHAPE, *CIRCLES, noise=0.6)
    image[99, 88] = np.nan  # at the edge of the first
    return image


def run(**options):
    return segment(scene(), model=by_hand(), samples=SAMPLES, rms=1.0, **options)


def large_rows(result):
    sizes = [
        (result.catalog[f"bbox_{axis}max"] - result.catalog[f"bbox_{axis}min"]).value + 1 for axis in "xy"
    ]
    return np.flatnonzero(sizes[0] * sizes[1] > LIMIT)


@pytest.fixture(scope="module")
def apart():
    result = run()
    assert len(large_rows(result)) == 2 and len(result.catalog) == 5
    return result


@pytest.fixture
def limited(monkeypatch):
    monkeypatch.setattr(large, "LARGEST_BOX", LIMIT)
    monkeypatch.setattr(large, "PART", 32)


def assert_whole(result, apart, rows):
    for name in MAPS:
        np.testing.assert_array_equal(getattr(result, name), getattr(apart, name), err_msg=name)
    whole, other = result.catalog[rows], apart.catalog[rows]
    for name in (*KNOWN, "p_detect", "flux_noise"):
        np.testing.assert_allclose(whole[name].value, other[name].value, rtol=1e-6, err_msg=name)
    flags = whole["flags"].value
    extra = ObjectFlag.LARGER_THAN_STAMP | ObjectFlag.MEASUREMENT_FAILED
    np.testing.assert_array_equal(flags, other["flags"].value | extra)
    for name in MEASURED:
        assert np.isnan(whole[f"{name}_std"].value).all()
    for row in rows:
        one, two = result.cutouts[row], apart.cutouts[row]
        mask = np.zeros(SHAPE, bool), np.zeros(SHAPE, bool)
        mask[0][one.window], mask[1][two.window] = one.mask, two.mask
        np.testing.assert_array_equal(*mask)
    others = np.setdiff1d(np.arange(len(apart.catalog)), rows)
    for name in apart.catalog.colnames:
        np.testing.assert_array_equal(result.catalog[name][others], apart.catalog[name][others])


@pytest.mark.parametrize("block", [64, 2048])
def test_a_large_object_is_one_galaxy_of_the_same_light(apart, limited, block):
    result = run(block=block)
    assert_whole(result, apart, large_rows(apart))


def test_the_products_hold_a_large_object_as_well(apart, limited, tmp_path):
    fits.writeto(tmp_path / "f.fits", scene())
    fits.writeto(tmp_path / "rms.fits", np.ones(SHAPE, np.float32))
    model = str(save_model(by_hand(), tmp_path / "hand.safetensors"))
    options = batch_options(output=tmp_path / "out", model=model, samples=SAMPLES, block=64, regions=True)
    assert run_batch([tmp_path / "f.fits"], {"rms": [str(tmp_path / "rms.fits")]}, options) == 0
    np.testing.assert_array_equal(fits.getdata(tmp_path / "out/f_segmentation.fits", "SEGM"), apart.segm)
    catalog = QTable.read(tmp_path / "out/f_catalog.fits")
    rows = large_rows(apart)
    np.testing.assert_allclose(catalog["area"][rows].value, apart.catalog["area"][rows].value)
    regions = (tmp_path / "out/f_regions.reg").read_text()
    assert regions.count("ellipse") == 5 and "nan" not in regions
    assert (tmp_path / "out/f_preview.png").stat().st_size > 0


def test_an_object_for_which_memory_fails_costs_nothing_else(apart, monkeypatch):
    failing = large_rows(apart)[0]
    describe = stages.describe_object

    def short_of_memory(region, number, box, *options):
        cutout = apart.cutouts[failing].window
        if (
            box[0].start >= cutout[0].start
            and box[0].stop <= cutout[0].stop
            and box[1].stop <= cutout[1].stop
        ):
            raise MemoryError
        return describe(region, number, box, *options)

    def none_left(*_):
        raise MemoryError

    monkeypatch.setattr(stages, "describe_object", short_of_memory)
    monkeypatch.setattr(stages, "faint_bridges", none_left)
    assert_whole(run(), apart, np.array([failing]))


def test_memory_does_not_grow_with_the_box(monkeypatch):
    """Trails across 512 and 1024 pixels on a side; the box of the second holds four times as many."""
    monkeypatch.setattr(large, "LARGEST_BOX", 300**2)
    monkeypatch.setattr(large, "PART", 128)
    peaks = []
    for side in (512, 1024):
        shape = side, side
        realisations = Realisations(SAMPLES, shape)
        on_trail = np.abs(np.subtract.outer(np.arange(side), np.arange(side))) < 4

        def read(window, on_trail=on_trail, realisations=realisations, shape=shape):
            mask = on_trail[window]
            plain = np.ones(mask.shape, np.float32)
            nowhere, quality = np.zeros(mask.shape, bool), NoiseQuality(1.0, 0.0, 0.0, ())
            scaled = NoiseScaled(*vars(quality).values(), plain, plain, plain, plain, nowhere, nowhere)
            return Region(
                window,
                shape,
                mask.astype(np.int32),
                mask.astype(np.uint8),
                plain,
                realisations,
                np.full((2, 1, *mask.shape), 255, np.uint8),
                scaled,
            )

        box = slice(0, side), slice(0, side)
        assert large.is_large(box)
        tracemalloc.start()
        (row,) = describe_whole(read, 1, box, shape, SAMPLES).rows
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert row["area"] == row["flux"] == on_trail.sum() and row["p_detect"] == 1
    assert peaks[1] < 1.2 * peaks[0]


def test_its_place_is_that_of_its_flux_where_the_noise_varies(monkeypatch):
    rms = np.where(np.arange(SHAPE[1]) < 60, 1.0, 1.6) * np.ones(SHAPE)
    options = {"model": by_hand(), "samples": SAMPLES, "rms": rms}
    apart = segment(scene(), **options)
    rows = large_rows(apart)
    monkeypatch.setattr(large, "LARGEST_BOX", LIMIT)
    monkeypatch.setattr(large, "PART", 32)
    whole = segment(scene(), **options)
    assert len(rows) == 2
    for name in ("flux", "x_centroid", "y_centroid"):
        np.testing.assert_allclose(
            whole.catalog[name][rows].value, apart.catalog[name][rows].value, rtol=1e-5
        )

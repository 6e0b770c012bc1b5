"""Noise and mask that come in the image's own file, from the file to the maps."""

import json

import numpy as np
import pytest
from astropy.io import fits

from appulse.files import InputError
from appulse.inference.background import CELL
from appulse.objects import PixelFlag
from appulse.segmentation import segment
from by_hand import SAMPLES, SIZE, by_hand, discs

SHAPE = (80, 100)
SCALE = 3.0  # of the units: without the noise plane nothing would be as bright as the network's galaxies
BAD = np.zeros(SHAPE, bool)
BAD[36:40, 46:60] = True
SCENE = SCALE * discs(SHAPE, (40, 40, 8), (75, 60, 6))


def run(image, **options):
    return segment(image, **{"model": by_hand(), "samples": SAMPLES, "subtract_background": False} | options)


def save(path, *planes, **primary):
    hdus = [fits.PrimaryHDU()]
    hdus[0].header.update(primary)
    for name, values, cards in planes:
        hdus.append(fits.ImageHDU(values, name=name))
        hdus[-1].header.update(cards)
    fits.HDUList(hdus).writeto(path)
    return path


def hst(path):
    dq = np.where(BAD, 4, 64).astype(np.int16)  # 64: a warm pixel, which is good
    noise = np.full(SHAPE, SCALE, np.float32)
    return save(path, ("SCI", SCENE, {}), ("ERR", noise, {}), ("DQ", dq, {}), TELESCOP="HST")


def rubin(path):
    mask = np.where(BAD, 2**8, 2**5).astype(np.int32)
    planes = {"MP_SAT": 8, "HIERARCH MP_DETECTED": 5}
    return save(
        path, ("IMAGE", SCENE, {}), ("MASK", mask, planes), ("VARIANCE", np.full(SHAPE, SCALE**2), {})
    )


def euclid(path):
    flags = np.where(BAD, 1 + 16, 2).astype(np.int32)
    planes = (("1-1.E.SCI", SCENE, {}), ("1-1.E.RMS", np.full(SHAPE, SCALE), {}), ("1-1.E.FLG", flags, {}))
    return save(path, *planes)


def assert_same(one, other):
    for name in ("ternary", "mean", "std", "p_galaxy", "p_overlap", "segm", "flags", "image"):
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@pytest.fixture(scope="module")
def expected():
    result = run(SCENE, rms=SCALE, mask=BAD)
    assert len(result.catalog) == 2
    return result


@pytest.mark.parametrize(
    ("layout", "words", "maps"),
    [
        (hst, "HST: SCI with ERR as rms, DQ as mask", "rms ERR; mask DQ"),
        (rubin, "Rubin: IMAGE with VARIANCE as variance, MASK as mask", "variance VARIANCE; mask MASK"),
        (
            euclid,
            "Euclid: 1-1.E.SCI with 1-1.E.RMS as rms, 1-1.E.FLG as mask",
            "rms 1-1.E.RMS; mask 1-1.E.FLG",
        ),
    ],
)
def test_planes_in_the_file_do_what_maps_do(tmp_path, expected, layout, words, maps):
    result = run(layout(tmp_path / "a.fits"))
    assert_same(result, expected)
    assert (result.provenance["input"], result.provenance["maps"]) == (words, maps)
    result.write(tmp_path, "a", preview=False)
    assert json.loads((tmp_path / "a_summary.json").read_text())["input"] == words
    assert fits.getheader(tmp_path / "a_segmentation.fits")["input"] == words


def test_given_maps_beat_those_in_the_file(tmp_path, expected):
    path = hst(tmp_path / "a.fits")
    other = run(path, weight=1 / (1.5 * SCALE) ** 2)
    np.testing.assert_allclose(other.image, expected.image / 1.5, rtol=1e-5)
    assert other.provenance["maps"] == "weight given; mask DQ"
    unmasked = run(path, mask=np.zeros(SHAPE, bool))
    assert not np.isnan(unmasked.image).any()
    assert unmasked.provenance["maps"] == "mask given; rms ERR"
    np.testing.assert_array_equal(unmasked.image[~BAD], expected.image[~BAD])


def test_what_is_in_the_file_can_be_left_out(tmp_path, expected):
    path = hst(tmp_path / "a.fits")
    unmasked = run(path, mask="none")
    assert not np.isnan(unmasked.image).any() and unmasked.provenance["maps"] == "mask none; rms ERR"
    measured = run(path, rms="none")
    assert measured.provenance["maps"] == "rms none; mask DQ"
    measured_elsewhere = run(SCENE, mask=BAD)
    np.testing.assert_array_equal(measured.image, measured_elsewhere.image)
    assert (measured.image != expected.image)[~BAD].any()


@pytest.mark.parametrize(("layout", "others"), [(hst, "ERR, DQ"), (rubin, "MASK, VARIANCE")])
def test_a_map_of_a_file_with_several_images_needs_a_name(tmp_path, layout, others):
    path = layout(tmp_path / "a.fits")
    first, science = others.partition(",")[0], "SCI" if layout is hst else "IMAGE"
    there = f"as in '{path}[{first}]'. Besides {science} it holds {others}."
    with pytest.raises(InputError, match=r"a\.fits is the image itself; name the map's HDU") as itself:
        run(path, rms=path)
    with pytest.raises(InputError, match=r"a\.fits holds 3 images; name the map's HDU") as several:
        run(SCENE, weight=path)
    for error in (itself, several):
        assert str(error.value).endswith(there)


def test_the_image_is_no_map_of_itself(tmp_path):
    path = tmp_path / "plain.fits"
    fits.writeto(path, SCENE)
    with pytest.raises(InputError, match=r"plain\.fits is the image itself, and holds no other"):
        run(path, mask=path)


def test_gaps_saturation_and_borders_change_nothing_far_from_them(tmp_path):
    """A chip gap without weight, a saturated star and a border of NaN, on a sky that has to be measured."""
    shape = (150, 512)
    circles = [(x, y, 7) for x in range(20, 500, 48) for y in (30, 75, 120)]
    image = 100 + discs(shape, *circles) + np.random.default_rng(2).normal(0, 0.2, shape)
    dq, noise = np.zeros(shape, np.int16), np.ones(shape, np.float32)

    def result(name):
        planes = (("SCI", image, {}), ("ERR", noise, {}), ("DQ", dq, {}))
        path = save(tmp_path / name, *planes, TELESCOP="HST")
        return run(path, subtract_background=True, method="grid", samples=4)

    clean = result("clean.fits")
    image[:, :3] = np.nan
    noise[70:76, :40] = 0
    image[114:122, 55:64], dq[114:122, 55:64] = 65535, 256
    spoilt = result("spoilt.fits")
    bad = np.isnan(image) | (noise == 0) | (dq > 0)
    np.testing.assert_array_equal((spoilt.flags & PixelFlag.BAD_PIXEL) > 0, bad)
    assert (spoilt.ternary != clean.ternary)[:, :80].any()
    far = np.s_[:, (63 // CELL + 1 + 2) * CELL + SIZE :]
    assert clean.ternary[far].any()
    for name in ("ternary", "mean", "std", "p_galaxy", "p_overlap", "image", "flags"):
        np.testing.assert_array_equal(getattr(spoilt, name)[far], getattr(clean, name)[far], err_msg=name)

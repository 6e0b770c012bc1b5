import tempfile
from pathlib import Path

import numpy as np
from astropy.io import fits
from hypothesis import example, given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from appulse.files import open_image, recognise, stem
from whole_images import read_image

SHAPES = hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=9)
INTEGERS = st.sampled_from(["u1", "i2", "u2", "i4", "u4", "i8", "u8"])


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays(INTEGERS | st.sampled_from(["f4", "f8"]), SHAPES),
    st.sampled_from(["a.fits", "a.fits.gz"]),
    st.booleans(),
)
@example(np.array([[2**63, 2**63 + 2**40]], "u8"), "a.fits", False)
def test_any_pixels_come_back_as_float32_and_nan(pixels, name, primary):
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / name
        hdus = [fits.PrimaryHDU(pixels)] if primary else [fits.PrimaryHDU(), fits.ImageHDU(pixels)]
        fits.HDUList(hdus).writeto(path)
        read = read_image(path).data
    with np.errstate(over="ignore"):
        expected = pixels.astype(np.float32)
    expected[~np.isfinite(expected)] = np.nan
    np.testing.assert_array_equal(read, expected)


@settings(max_examples=60, deadline=None)
@given(
    hnp.arrays("i2", SHAPES),
    st.floats(1e-12, 1e6),
    st.floats(-1e6, 1e6),
    st.none() | st.integers(-(2**15), 2**15 - 1),
)
def test_stored_integers_mean_scale_times_value_plus_zero(stored, scale, zero, blank):
    hdu = fits.ImageHDU(stored)
    hdu.header.update({"BSCALE": scale, "BZERO": zero})
    if blank is not None:
        hdu.header["BLANK"] = blank
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.fits"
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
        read = read_image(path).data
    expected = stored * np.float64(scale) + zero
    if blank is not None:
        expected[stored == blank] = np.nan
    np.testing.assert_allclose(read, expected, rtol=1e-6, atol=1e-30)


@st.composite
def windows(draw, height, width):
    y0, y1 = sorted(draw(st.tuples(st.integers(0, height), st.integers(0, height))))
    x0, x1 = sorted(draw(st.tuples(st.integers(0, width), st.integers(0, width))))
    return slice(y0, y1), slice(x0, x1)


@settings(max_examples=80, deadline=None)
@given(
    st.data(),
    st.integers(1, 40),
    st.integers(1, 40),
    st.sampled_from(["u1", "i2", "u2", "i4", "f4"]),
    st.none() | st.tuples(st.integers(1, 40), st.integers(1, 40)),
)
def test_windows_of_an_open_image_are_parts_of_what_astropy_reads(data, height, width, dtype, tiles):
    random = np.random.default_rng(data.draw(st.integers(0, 1000)))
    values = random.integers(0, 200, (height, width)).astype(dtype)
    if tiles is None:
        hdu = fits.ImageHDU(values)
    else:
        tiles = (min(tiles[0], height), min(tiles[1], width))
        hdu = fits.CompImageHDU(values, tile_shape=tiles, compression_type="GZIP_2")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "a.fits"
        fits.HDUList([fits.PrimaryHDU(), hdu]).writeto(path)
        expected = fits.getdata(path, 1, memmap=False).astype(np.float32)
        with open_image(path) as source:
            for _ in range(5):
                window = data.draw(windows(height, width))
                np.testing.assert_array_equal(source.window(*window), expected[window])


NAMES = st.sampled_from(
    ["", "SCI", "ERR", "DQ", "WHT", "IMAGE", "MASK", "VARIANCE", "A.SCI", "A.RMS", "A.FLG", "X"]
)
SIDES = st.sampled_from([0, 5, 6])


@st.composite
def headers(draw):
    header = fits.Header({"XTENSION": draw(st.sampled_from(["IMAGE", "BINTABLE"]))})
    sides = draw(st.lists(SIDES, max_size=3))
    header.update({"NAXIS": len(sides)} | {f"NAXIS{axis}": side for axis, side in enumerate(sides, start=1)})
    header["EXTNAME"] = draw(NAMES)
    header["EXTVER"] = draw(st.sampled_from([1, 1, 2, "two"]))
    header["TELESCOP"] = draw(st.sampled_from(["HST", "JWST", "", "VST"]))
    header["MP_SAT"] = draw(st.sampled_from([-1, 0, 5, 900, "x", 1.5]))
    return header


@settings(max_examples=300, deadline=None)
@given(st.lists(headers(), max_size=8), st.integers(0, 7))
def test_whatever_is_recognised_belongs_together(given_headers, wanted):
    def shape(index):
        header = given_headers[index]
        sides = [header[f"NAXIS{axis}"] for axis in range(header["NAXIS"], 0, -1)]
        return tuple(sides) if sides and 0 not in sides and header["XTENSION"] == "IMAGE" else ()

    images = [index for index in range(len(given_headers)) if shape(index)]
    layout = recognise(given_headers)
    assert (layout is None) == (not images)
    for found in (layout, recognise(given_headers, wanted) if wanted in images else None):
        if found is None:
            continue
        assert shape(found.image)
        assert len({companion.kind for companion in found.companions}) == len(found.companions) <= 2
        for companion in found.companions:
            assert companion.index != found.image
            assert shape(companion.index)[-2:] == shape(found.image)[-2:]
        assert str(found.image) in found.description or given_headers[found.image]["EXTNAME"]
    if wanted in images:
        assert recognise(given_headers, wanted).image == wanted


@given(st.text("ab.fitsgz", min_size=1, max_size=12), st.sampled_from([".fits", ".fit", ".fts"]))
def test_suffixes_come_off_once_and_only_at_the_end(name, suffix):
    name = "x" + name + "x"
    for compression in ("", ".gz", ".fz"):
        assert stem(f"/data/{name}{suffix}{compression}") == name

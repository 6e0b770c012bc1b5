"""Reading windows: the same pixels as reading everything, and only what is needed."""

import errno
import gzip
import os
import tempfile
import tracemalloc
import warnings
from pathlib import Path

import numpy as np
import pytest
from astropy.io import fits
from astropy.wcs import WCS

from appulse.files import InputError, open_image, wcs_cards
from appulse.files.pixels import Pixels
from whole_images import read_image

SHAPE = (70, 90)
WHOLE = (slice(None), slice(None))
WINDOW = (slice(31, 65), slice(7, 52))


def pixels(dtype, shape=SHAPE, seed=0):
    random = np.random.default_rng(seed)
    if np.dtype(dtype).kind == "f":
        values = random.normal(100, 10, shape).astype(dtype)
        values[40, 10:14] = np.nan, np.inf, -np.inf, 0
        return values
    low = max(np.iinfo(dtype).min, -30_000)
    return random.integers(low, min(np.iinfo(dtype).max, 60_000), shape, dtype)


def save(path, *hdus):
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)
    return path


def gzipped(path):
    target = path.with_name(path.name + ".gz")
    target.write_bytes(gzip.compress(path.read_bytes(), 1))
    return target


def as_float32(values):
    """What astropy reads, in our terms."""
    with np.errstate(over="ignore"):
        values = values.astype(np.float32)
    values[~np.isfinite(values)] = np.nan
    return values


# ------------------------------------------------------------------------------------------ pixels


@pytest.mark.parametrize("packing", ["plain", "gzip", "rows", "tiles"])
@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "f4", "f8"])
def test_a_window_is_that_part_of_what_astropy_reads(tmp_path, dtype, packing):
    values = pixels(dtype)
    if packing in ("plain", "gzip"):
        path = save(tmp_path / "a.fits", fits.ImageHDU(values))
        path = gzipped(path) if packing == "gzip" else path
    else:
        tiles = {"tile_shape": (16, 32)} if packing == "tiles" else {}
        # Floats are quantised by default; NaN goes through, infinities do not.
        values = np.where(np.isinf(values), 0, values).astype(dtype)
        path = save(tmp_path / "a.fits.fz", fits.CompImageHDU(values, **tiles))
    expected = as_float32(fits.getdata(path, 1))
    with open_image(path) as source:
        read = source.window(*WINDOW)
        np.testing.assert_array_equal(read, expected[WINDOW])
        assert read.dtype == np.float32 and read.dtype.isnative
        assert read.flags.writeable and read.flags.c_contiguous
        np.testing.assert_array_equal(source.window(*WHOLE), expected)
    np.testing.assert_array_equal(read_image(path).data, expected)


@pytest.mark.parametrize("compressed", [False, True])
def test_scaling_and_blank_hold_in_a_window(tmp_path, compressed):
    stored = pixels("i2")
    hdu = (fits.CompImageHDU if compressed else fits.ImageHDU)(stored)
    hdu.header.update({"BSCALE": 0.25, "BZERO": 1000.0, "BLANK": int(stored[33, 9])})
    expected = as_float32(stored * 0.25 + 1000)
    expected[stored == stored[33, 9]] = np.nan
    with open_image(save(tmp_path / "a.fits", hdu)) as source:
        read = source.window(*WINDOW)
        assert np.isnan(read[2, 2])
        np.testing.assert_array_equal(read, expected[WINDOW])
        assert not {"BSCALE", "BZERO", "BLANK"} & set(source.header)


def test_an_image_in_the_primary_hdu_and_a_plane_of_a_cube(tmp_path):
    values = pixels("f8")
    fits.PrimaryHDU(np.stack([values, values + 1])).writeto(tmp_path / "a.fits")
    with open_image(tmp_path / "a.fits", "0[1]") as source:
        assert source.shape == SHAPE and source.hdu_name == "PRIMARY"
        np.testing.assert_array_equal(source.window(*WINDOW), as_float32(values + 1)[WINDOW])


@pytest.mark.parametrize("name", ["a.fits", "a.fits.fz"])
@pytest.mark.parametrize(
    "window",
    [
        (slice(-5, None), slice(None, -80)),
        (slice(60, 200), slice(85, 1000)),
        (slice(3, 3), slice(0, 4)),
        (slice(0, 0), slice(0, 0)),
        (slice(9, 4), slice(0, 4)),
        (slice(100, 120), slice(0, 4)),
    ],
)
def test_windows_reach_as_numpy_slices_do(tmp_path, name, window):
    values = pixels("i4")
    hdu = fits.CompImageHDU(values) if name.endswith("fz") else fits.ImageHDU(values)
    with open_image(save(tmp_path / name, hdu)) as source:
        np.testing.assert_array_equal(source.window(*window), values[window])
        with pytest.raises(ValueError, match="no steps"):
            source.window(slice(0, 9, 2), slice(None))


# ---------------------------------------------------------------------------------- only what is needed


@pytest.mark.parametrize(
    ("packing", "bound"), [("plain", 2), ("rows", 28), ("tiles", 6), ("gzip", 8)]
)  # in windows of 0.25 MiB: whole rows, which are kept, are 8 of them, the buffers of gunzip are 8
def test_a_window_of_a_large_file_takes_little_memory(tmp_path, packing, bound):
    side, part = 2048, 256
    values = np.random.default_rng(1).integers(0, 99, (side, side)).astype(np.int32)
    if packing in ("plain", "gzip"):
        path = save(tmp_path / "a.fits", fits.ImageHDU(values))
        path = gzipped(path) if packing == "gzip" else path
    else:
        tiles = {"tile_shape": (256, 256)} if packing == "tiles" else {}
        path = save(tmp_path / "a.fits", fits.CompImageHDU(values, **tiles))
    read_image(path)  # whatever astropy loads and keeps on first use
    tracemalloc.start()
    with open_image(path) as source:
        read = source.window(slice(800, 800 + part), slice(1000, 1000 + part))
        peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_array_equal(read, values[800 : 800 + part, 1000 : 1000 + part])
    assert peak < bound * read.nbytes + 2**20 < values.nbytes


def test_rows_that_are_kept_are_those_asked_for(tmp_path):
    values = pixels("i4")
    plane = fits.CompImageHDU(values, name="SCI")
    flags = fits.CompImageHDU((values % 4).astype(np.int16), name="DQ")
    with open_image(save(tmp_path / "a.fits.fz", plane, flags)) as source:
        mask = source.companions["mask"]
        for y, x in ((0, 0), (0, 30), (20, 30), (0, 30), (20, 0), (21, 0)):
            window = slice(y, y + 20), slice(x, x + 30)
            read = source.window(*window)
            np.testing.assert_array_equal(read, values[window])
            np.testing.assert_array_equal(mask.window(*window), values[window] % 4 != 0)
            read[:] = -1  # the caller's own


def test_a_block_and_what_is_looked_at_around_it_unpack_their_rows_once(tmp_path, monkeypatch):
    """Windows of blocks, of blocks with two margins, by turns and along a row of blocks."""
    values = np.random.default_rng(1).integers(0, 99, (900, 400)).astype(np.int32)
    unpacked, read = [], Pixels._scaled

    def counted(pixels, rows, columns):
        unpacked.append(rows)
        return read(pixels, rows, columns)

    monkeypatch.setattr(Pixels, "_scaled", counted)
    with open_image(save(tmp_path / "a.fits.fz", fits.CompImageHDU(values))) as source:
        for top in (0, 256, 512):
            for left in (0, 150):
                for margin in (0, 15, 0, 70):
                    window = slice(max(top - margin, 0), top + 256 + margin), slice(left, left + 200)
                    np.testing.assert_array_equal(source.window(*window), values[window])
    assert len(unpacked) == 3


def test_the_unpacked_copy_of_a_gzipped_file_is_nowhere_to_be_found(tmp_path, monkeypatch):
    scratch = tmp_path / "scratch"
    scratch.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(scratch))
    values = pixels("f4")
    with open_image(gzipped(save(tmp_path / "a.fits", fits.ImageHDU(values)))) as source:
        assert os.listdir(scratch) == []
        np.testing.assert_array_equal(source.window(*WINDOW), as_float32(values)[WINDOW])


def test_a_full_disk_is_named(tmp_path, monkeypatch):
    path = gzipped(save(tmp_path / "a.fits", fits.ImageHDU(pixels("f4"))))

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("shutil.copyfileobj", full)
    with pytest.raises(InputError, match="set TMPDIR to a larger disk"):
        open_image(path)


def test_nothing_stays_open(tmp_path):
    path = save(tmp_path / "a.fits", fits.ImageHDU(pixels("f4")))
    packed = gzipped(path)
    before = len(os.listdir("/proc/self/fd")) if Path("/proc/self/fd").exists() else pytest.skip("no /proc")
    for each in (path, packed):
        with open_image(each) as source:
            source.window(*WINDOW)
        with pytest.raises(InputError, match="no HDU 'X'"):
            open_image(each, "X")
    assert len(os.listdir("/proc/self/fd")) == before


def test_damage_is_found_where_it_is_read(tmp_path):
    noise = np.random.default_rng(3).integers(0, 2**20, (200, 200)).astype(np.int32)
    path = save(
        tmp_path / "a.fits.fz", fits.CompImageHDU(noise, compression_type="GZIP_1", tile_shape=(50, 200))
    )
    with fits.open(path, disable_image_compression=True) as hdus:
        end = (
            hdus[1]._data_offset
            + hdus[1].header["NAXIS1"] * hdus[1].header["NAXIS2"]
            + hdus[1].header["PCOUNT"]
        )
    damaged = bytearray(path.read_bytes())
    damaged[end - 900 : end - 400] = bytes(500)  # in the last tile
    path.write_bytes(damaged)
    with open_image(path) as source:
        np.testing.assert_array_equal(source.window(slice(0, 150), slice(None)), noise[:150])
        with pytest.raises(InputError, match=r"a\.fits\.fz: cannot be read as FITS"):
            source.window(*WHOLE)


# ------------------------------------------------------------------------------------------ header and WCS

TPV_CARDS = """\
CTYPE1  = 'RA---TPV'           / TAN projection + PV polynomial
CTYPE2  = 'DEC--TPV'
CRVAL1  =   1.501162500000E+02
CRVAL2  =                 2.20
CRPIX1  =  45.5000000
CRPIX2  =                35.50
CD1_1   = -7.30000000000000E-5
CD1_2   =                  0.0
CD2_1   =                 0.00
CD2_2   =  7.30000000000000E-5
PV1_0   =  -3.8E-05            / coefficients
PV1_1   =   1.01000000
PV1_4   =   0.0200
PV2_1   =   1.0100000
PV2_5   =  -0.01000
RADESYS = 'FK5'
EQUINOX =               2000."""


@pytest.mark.parametrize("packing", ["plain", "gzip", "fz"])
def test_tpv_cards_are_kept_to_the_byte_and_understood(tmp_path, packing):
    header = fits.Header([fits.Card.fromstring(line) for line in TPV_CARDS.splitlines()])
    values = pixels("f4")
    path = save(
        tmp_path / "a.fits", (fits.CompImageHDU if packing == "fz" else fits.ImageHDU)(values, header)
    )
    path = gzipped(path) if packing == "gzip" else path
    with open_image(path) as source:
        assert [str(card).rstrip() for card in wcs_cards(source.header).cards] == TPV_CARDS.splitlines()
        corner = [[80.0, 10.0]]
        np.testing.assert_allclose(
            source.wcs.all_pix2world(corner, 0), WCS(header).all_pix2world(corner, 0), rtol=0, atol=1e-12
        )
        linear = header.copy()
        linear["CTYPE1"], linear["CTYPE2"] = "RA---TAN", "DEC--TAN"
        del linear["PV*"]
        moved = WCS(linear).all_pix2world(corner, 0) - source.wcs.all_pix2world(corner, 0)
        assert np.abs(moved).max() * 3600 > 0.01  # the distortion is there


# ------------------------------------------------------------------------------------------ real files


@pytest.mark.parametrize(
    ("name", "hdu", "plane"),
    [
        ("ntt-emmi/image.fits", None, ()),
        ("hst-hsc-pairs/Cut_HST.fits", None, ()),
        ("hst-hsc-pairs/Cut_HSC.fits", "PRIMARY[3]", (3,)),
    ],
)
def test_windows_of_real_images(name, hdu, plane):
    folder = os.environ.get("APPULSE_DATA")
    if not folder or not (Path(folder) / name).exists():
        pytest.skip(f"set APPULSE_DATA to a folder with {name}")
    with warnings.catch_warnings(action="ignore"):  # astropy remarks on a card of the observatory's
        expected = as_float32(fits.getdata(Path(folder) / name, memmap=False)[plane])
    with open_image(Path(folder) / name, hdu) as source:
        window = slice(11, 40), slice(5, 49)
        np.testing.assert_allclose(source.window(*window), expected[window], rtol=1e-6)
        assert source.recognised.startswith("plain image")

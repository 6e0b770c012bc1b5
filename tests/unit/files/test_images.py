import gzip
import json
import os
import stat
import subprocess
import sys
import warnings
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.coordinates import FK4, FK5, ICRS, Galactic, SkyCoord
from astropy.io import fits
from astropy.wcs import WCS

from appulse.files import (
    InputError,
    atomic_write,
    open_image,
    pixel_scale,
    pixels,
    sole_process,
    stem,
    wcs_cards,
    write_json,
)
from appulse.files.wcs import usable_wcs
from whole_images import read_image

SIP_CARDS = """\
CTYPE1  = 'RA---TAN-SIP'       / gnomonic, distorted
CTYPE2  = 'DEC--TAN-SIP'
CRVAL1  =          150.1162500 / [deg]
CRVAL2  =            2.2009700
CRPIX1  =                 33.5 / reference pixel
CRPIX2  =                   21
CD1_1   = -8.3333333330000E-06 / every digit counts
CD1_2   =   1.0000000000000E-7
CD2_1   =   1.0000000000000E-7
CD2_2   =   8.3333333333300E-6
A_ORDER =                    2
A_2_0   =  2.1000000000000E-04
A_1_1   =             -3.0E-05
B_ORDER =                    2
B_0_2   =              -1.2E-4
LONPOLE =                180.0
RADESYS = 'ICRS    '
EQUINOX =               2000.0
CTYPE1P = 'LINEAR  '           / physical coordinates
CTYPE2P = 'LINEAR  '
CRPIX1P =                  1.0
CRPIX2P =                  1.0
CRVAL1P =               1001.0
CRVAL2P =               2001.0
DATE-OBS= '2003-12-27T12:00:00'
MJD-OBS =              53000.5"""


def sip_header():
    return fits.Header([fits.Card.fromstring(line) for line in SIP_CARDS.splitlines()])


def save(path, *hdus):
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(path)
    return path


def ramp(height=6, width=9):
    return np.arange(height * width, dtype=np.float32).reshape(height, width)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a/b.fits", "b"),
        ("b.fit", "b"),
        ("b.fts", "b"),
        ("b.fits.gz", "b"),
        ("B.FITS.FZ", "B"),
        ("m31.v2.fits", "m31.v2"),
        ("b.gz", "b"),
        ("b.txt", "b.txt"),
        (".fits", ".fits"),
    ],
)
def test_stem(name, expected):
    assert stem(Path(name)) == expected


# ------------------------------------------------------------------------------------------ what is read


def test_plain_gzipped_and_tile_compressed_files_read_alike(tmp_path):
    image = np.random.default_rng(1).integers(0, 1000, (40, 50)).astype(np.int16)
    plain = save(tmp_path / "a.fits", fits.ImageHDU(image, name="SCI"))
    (tmp_path / "a.fits.gz").write_bytes(gzip.compress(plain.read_bytes()))
    save(tmp_path / "a.fits.fz", fits.CompImageHDU(image, name="SCI", compression_type="RICE_1"))
    for name in ("a.fits", "a.fits.gz", "a.fits.fz"):
        read = read_image(tmp_path / name)
        np.testing.assert_array_equal(read.data, image)
        assert read.data.dtype == np.dtype("=f4")
        assert read.hdu_name == "SCI"


def test_second_compressed_hdu_is_reached_by_name(tmp_path):
    path = save(
        tmp_path / "a.fits.fz",
        fits.CompImageHDU(ramp(), name="ERR"),
        fits.CompImageHDU(ramp().astype(np.int32) * 2, name="SCI"),
    )
    np.testing.assert_array_equal(read_image(path).data, 2 * ramp())
    assert read_image(path, "ERR").hdu_name == "ERR"


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "i8", "u8", "f4", "f8"])
def test_each_pixel_type_comes_back_as_native_float32(tmp_path, dtype):
    values = np.array([[0, 1, 2], [3, 100, 127]], dtype)
    read = read_image(save(tmp_path / "a.fits", fits.ImageHDU(values)))
    np.testing.assert_array_equal(read.data, values.astype(np.float32))
    assert read.data.dtype.isnative and read.data.dtype == np.float32


@pytest.mark.parametrize("factor", [1e-12, 1e-30, 1e9, 1e30])
def test_extreme_units_keep_their_digits(tmp_path, factor):
    values = (1 + ramp().astype(np.float64)) * factor
    read = read_image(save(tmp_path / "a.fits", fits.ImageHDU(values)))
    np.testing.assert_allclose(read.data, values, rtol=1e-7)


def test_scale_zero_and_blank_are_applied_in_double_precision(tmp_path):
    stored = np.array([[-32768, 0, 1], [2, 3, 32767]], np.int16)
    hdu = fits.ImageHDU(stored)
    hdu.header.update({"BSCALE": 0.25, "BZERO": 2.0**24, "BLANK": -32768})
    read = read_image(save(tmp_path / "a.fits", hdu))
    expected = (stored * 0.25 + 2.0**24).astype(np.float32)
    assert np.isnan(read.data[0, 0])
    np.testing.assert_array_equal(read.data.ravel()[1:], expected.ravel()[1:])
    assert not {"BSCALE", "BZERO", "BLANK"} & set(read.header)


def test_blank_holds_for_unsigned_integers_which_astropy_forgets(tmp_path):
    hdu = fits.ImageHDU(np.array([[7, 8, 9]] * 2, np.uint16))
    hdu.header["BLANK"] = 8 - 32768  # as stored, below the offset
    read = read_image(save(tmp_path / "a.fits", hdu))
    np.testing.assert_array_equal(np.isnan(read.data), [[False, True, False]] * 2)


def test_infinities_become_nan(tmp_path):
    values = ramp()
    values[1, 2], values[3, 4], values[0, 0] = np.inf, -np.inf, np.nan
    read = read_image(save(tmp_path / "a.fits", fits.ImageHDU(values)))
    assert np.argwhere(np.isnan(read.data)).tolist() == [[0, 0], [1, 2], [3, 4]]


@pytest.mark.parametrize("tile", [None, (16, 32), (1, 90)])
@pytest.mark.parametrize("strip", [1, 100, 1000])
def test_an_image_is_the_same_whatever_the_strips_it_is_read_in(tmp_path, monkeypatch, strip, tile):
    values = np.random.default_rng(2).integers(-900, 900, (130, 90)).astype(np.int16)
    mask = (values & 3).astype(np.int32)
    hdus = [fits.ImageHDU(values, name="SCI"), fits.ImageHDU(mask, name="DQ")]
    if tile is not None:
        hdus = [fits.CompImageHDU(hdu.data, name=hdu.name, tile_shape=tile) for hdu in hdus]
    path = save(tmp_path / "a.fits", *hdus)
    monkeypatch.setattr(pixels, "STRIP", strip)
    np.testing.assert_array_equal(read_image(path).data, values)
    with open_image(path) as source:
        np.testing.assert_array_equal(source.window(slice(37, 129), slice(5, 71)), values[37:129, 5:71])
    with open_image(path, "DQ") as source:
        np.testing.assert_array_equal(source.window(slice(3, 100), slice(0, 90)), mask[3:100])


# ------------------------------------------------------------------------------------------ which HDU


def test_science_hdu_is_preferred_and_otherwise_the_first_flat_one(tmp_path):
    cube = fits.ImageHDU(np.zeros((2, 6, 9), np.float32), name="CUBE")
    first, science = fits.ImageHDU(ramp(), name="FIRST"), fits.ImageHDU(ramp() + 1, name="SCI")
    assert read_image(save(tmp_path / "a.fits", cube, first, science)).hdu_name == "SCI"
    assert read_image(save(tmp_path / "b.fits", cube, first)).hdu_name == "FIRST"


@pytest.mark.parametrize(
    ("choice", "level"),
    [("SCI", 1), ("sci,2", 2), ("SCI,2", 2), ("2", 2), (3, 30), ("CUBE[0]", 30), ("3[1]", 31)],
)
def test_named_hdus_versions_numbers_and_planes(tmp_path, choice, level):
    flat = [fits.ImageHDU(np.full((2, 3), n, np.float32), name="SCI", ver=n) for n in (1, 2)]
    planes = np.stack([np.full((2, 3), n, np.float32) for n in (30, 31)])
    path = save(tmp_path / "a.fits", *flat, fits.ImageHDU(planes, name="CUBE"))
    if choice == 3:
        with pytest.raises(InputError, match=r"HDU 'CUBE' has 3 axes \(2, 2, 3\)"):
            read_image(path, choice)
    else:
        np.testing.assert_array_equal(read_image(path, choice).data, level)


def test_axes_of_length_one_do_not_count(tmp_path):
    path = tmp_path / "radio.fits"
    fits.PrimaryHDU(ramp()[None, None]).writeto(path)
    np.testing.assert_array_equal(read_image(path).data, ramp())


def test_a_cube_says_how_to_choose_a_plane(tmp_path):
    path = save(tmp_path / "field.fits", fits.ImageHDU(np.zeros((2, 5, 4), np.float32), name="SCI"))
    with pytest.raises(InputError) as error:
        read_image(path)
    assert str(error.value) == (
        f"{path}: HDU 'SCI' has 3 axes (2, 5, 4); appulse needs a 2-D image. "
        "Choose a plane with --hdu 'SCI[0]'."
    )


@pytest.mark.parametrize(
    ("choice", "message"),
    [
        ("WHT", r"no HDU 'WHT'.*1 SCI"),
        ("9", "no HDU '9'"),
        ("SCI,4", "no HDU 'SCI,4'"),
        ("SCI[0]", "no plane"),
        ("CUBE[2]", "no plane"),
        ("CUBE[0,0]", "no plane"),
        ("CUBE[x]", "not understood"),
        ("TABLE", "not an image"),
        ("0", "not an image"),
        ("LINE", r"1 axis \(7,\)"),
    ],
)
def test_a_bad_choice_of_hdu_is_explained(tmp_path, choice, message):
    table = fits.BinTableHDU.from_columns([fits.Column("x", "E", array=[1.0])], name="TABLE")
    path = save(
        tmp_path / "a.fits",
        fits.ImageHDU(ramp(), name="SCI"),
        fits.ImageHDU(np.zeros((2, 6, 9), np.float32), name="CUBE"),
        table,
        fits.ImageHDU(np.zeros(7, np.float32), name="LINE"),
    )
    with pytest.raises(InputError, match=message) as error:
        read_image(path, choice)
    assert str(error.value).startswith(str(path)) and "\n" not in str(error.value)


# ------------------------------------------------------------------------------------------ unreadable files


def unreadable(kind, folder):
    path = folder / "bad.fits"
    good = save(
        folder / "good.fits", fits.ImageHDU(np.zeros((100, 100), np.float32), name="SCI")
    ).read_bytes()
    if kind == "missing":
        return path
    if kind == "directory":
        path.mkdir()
        return path
    if kind == "table only":
        return save(path, fits.BinTableHDU.from_columns([fits.Column("x", "E", array=[1.0])]))
    if kind == "truncated gzip":
        path = folder / "bad.fits.gz"
    path.write_bytes(
        {
            "empty": b"",
            "text": b"hello, this is not FITS\n" * 300,
            "truncated": good[:-5760],
            "truncated in a header": good[:4000],
            "truncated gzip": gzip.compress(np.random.default_rng(0).bytes(0) + good)[:-40],
            "no data": good[:2880],
        }[kind]
    )
    return path


@pytest.mark.parametrize(
    "kind",
    [
        "missing",
        "directory",
        "table only",
        "empty",
        "text",
        "truncated",
        "truncated in a header",
        "truncated gzip",
        "no data",
    ],
)
def test_an_unusable_file_gives_one_line_that_names_it(tmp_path, kind):
    path = unreadable(kind, tmp_path)
    with pytest.raises(InputError) as error:
        read_image(path)
    assert str(error.value).startswith(f"{path}: ") and "\n" not in str(error.value)


def test_a_truncated_compressed_file_is_refused(tmp_path):
    noise = np.random.default_rng(3).normal(size=(200, 200)).astype(np.float32)
    path = save(tmp_path / "a.fits.fz", fits.CompImageHDU(noise, name="SCI"))
    path.write_bytes(path.read_bytes()[:-8640])
    with pytest.raises(InputError, match="truncated"):
        read_image(path)


# ------------------------------------------------------------------------------------------ units and WCS


@pytest.mark.parametrize(
    ("text", "unit"),
    [
        ("nJy", u.nJy),
        ("electron/s", u.electron / u.s),
        ("10**-9 Jy", 1e-9 * u.Jy),
        ("MJy/sr", u.MJy / u.sr),
        ("ELECTRONS/S", u.electron / u.s),
        ("ELECTRONS", u.electron),
        ("e-/s", u.electron / u.s),
        ("ADU", u.adu),
        ("COUNTS/sec", u.count / u.s),
        ("cps", u.count / u.s),
        ("nanomaggies", u.Unit("nmgy")),
        ("bananas", None),
        ("", None),
        (3, None),
        (None, None),
    ],
)
def test_units(tmp_path, text, unit):
    hdu = fits.ImageHDU(ramp())
    if text is not None:
        hdu.header["BUNIT"] = text
    with open_image(save(tmp_path / "a.fits", hdu)) as source:
        assert source.unit == unit
        told = [warning for warning in source.warnings if "unit" in warning]
    assert bool(told) == (unit is None and text not in (None, ""))


def test_wcs_agrees_with_astropy_and_keeps_the_distortion(tmp_path):
    path = save(tmp_path / "a.fits", fits.ImageHDU(ramp(40, 60), sip_header()))
    read = read_image(path)
    ours = read.wcs.pixel_to_world(50.0, 30.0)
    theirs = WCS(fits.getheader(path, 1)).pixel_to_world(50.0, 30.0)
    assert ours.separation(theirs).arcsec < 1e-9
    linear = read.wcs.wcs_pix2world([[50.0, 30.0]], 0)[0]
    assert np.hypot(*(linear - [ours.ra.deg, ours.dec.deg])) * 3600 > 1e-3
    assert pixel_scale(read.wcs) == pytest.approx(0.03, rel=1e-3)


@pytest.mark.parametrize(
    "cards",
    [
        {},
        {"CTYPE1": "        ", "CTYPE2": "        "},
        {"CTYPE1": "LINEAR", "CTYPE2": "LINEAR", "CRVAL1": 1.0},
        {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CD1_1": 1.0, "CD1_2": 1.0, "CD2_1": 1.0, "CD2_2": 1.0},
        {"CTYPE1": "RA---TAN", "CTYPE2": "VELO"},
        {"CTYPE1": "RA---XXX", "CTYPE2": "DEC--XXX", "CDELT1": 1e-5, "CDELT2": 1e-5},
        {"CTYPE1": "RA---TAN-SIP", "CTYPE2": "DEC--TAN-SIP", "A_ORDER": "two"},
    ],
)
def test_an_absent_or_broken_wcs_is_none(tmp_path, cards):
    hdu = fits.ImageHDU(ramp())
    hdu.header.update(cards)
    wcs = read_image(save(tmp_path / "a.fits", hdu)).wcs
    assert wcs is None and pixel_scale(wcs) is None


SKY_CARDS = {"CDELT1": -1e-5, "CDELT2": 1e-5, "CRPIX1": 1.0, "CRPIX2": 1.0, "CRVAL1": 120.0, "CRVAL2": 35.0}
EQUATORIAL = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN"}
GALACTIC = {"CTYPE1": "GLON-TAN", "CTYPE2": "GLAT-TAN"}


@pytest.mark.parametrize(
    ("cards", "reason"),
    [
        (EQUATORIAL | {"RADESYS": "GAPPT"}, "RADESYS 'GAPPT' is not known"),
        (EQUATORIAL | {"RADESYS": "J2000"}, "RADESYS 'J2000' is not known"),
        ({"CTYPE1": "HPLN-TAN", "CTYPE2": "HPLT-TAN"}, "axes HPLN and HPLT"),
        ({"CTYPE1": "ELON-TAN", "CTYPE2": "ELAT-TAN"}, "axes ELON and ELAT"),
        ({"CTYPE1": "MALN-TAN", "CTYPE2": "MALT-TAN"}, "axes MALN and MALT"),
        (EQUATORIAL | {"CDELT1": 0.0}, "singular"),
    ],
)
def test_a_wcs_of_an_unknown_frame_is_none_and_the_reason_is_told(tmp_path, cards, reason):
    hdu = fits.ImageHDU(ramp())
    hdu.header.update(SKY_CARDS | cards)
    with open_image(save(tmp_path / "a.fits", hdu)) as source:
        assert source.wcs is None
        (warning,) = source.warnings
        assert warning.startswith("no sky positions") and reason in warning
        assert {key: source.header[key] for key in cards} == cards


@pytest.mark.filterwarnings("error")
def test_odd_cards_of_an_extension_are_no_news(tmp_path):
    card = "ESO-LOG 00:00:00> DATE         = '1992-10-26'  / Mon Oct 26, 1992"
    with warnings.catch_warnings(action="ignore"):
        hdu = fits.ImageHDU(ramp())
        hdu.header.append(fits.Card.fromstring(card))
        path = save(tmp_path / "a.fits", hdu)
    with open_image(path) as source:
        assert source.shape == ramp().shape and source.warnings == ()


def test_a_wcs_without_a_scale_is_none_instead_of_a_degree_a_pixel(tmp_path):
    hdu = fits.ImageHDU(ramp())
    hdu.header.update(EQUATORIAL | {"CRVAL1": 120.0, "CRVAL2": 35.0})
    with open_image(save(tmp_path / "a.fits", hdu)) as source:
        assert source.wcs is None and "no scale" in source.warnings[0]
    for odd in ({"PC1_1": 1.0, "PC2_2": 1.0}, {"CDELT3": 1e-5}, {"CD1_1A": 1e-5, "CD2_2A": 1e-5}):
        without = fits.ImageHDU(ramp(), hdu.header)
        without.header.update(odd)
        assert read_image(save(tmp_path / f"{next(iter(odd))}.fits", without)).wcs is None
    scale = {"PC1_1": -1e-5, "PC1_2": 0.0, "PC2_1": 0.0, "PC2_2": 1e-5}  # in the matrix alone
    hdu.header.update(scale)
    assert pixel_scale(read_image(save(tmp_path / "b.fits", hdu)).wcs) == pytest.approx(0.036)


@pytest.mark.parametrize(
    ("cards", "frame"),
    [
        (EQUATORIAL, ICRS()),
        (EQUATORIAL | {"RADESYS": "icrs"}, ICRS()),
        (EQUATORIAL | {"RADESYS": "fk5", "EQUINOX": 1975.0}, FK5(equinox="J1975")),
        (EQUATORIAL | {"RADESYS": "Fk4", "EQUINOX": 1950.0}, FK4(equinox="B1950")),
        (GALACTIC, Galactic()),
        (GALACTIC | {"RADESYS": "ICRS"}, Galactic()),
    ],
)
def test_positions_are_in_the_frame_that_the_header_means(tmp_path, cards, frame):
    hdu = fits.ImageHDU(ramp())
    hdu.header.update(SKY_CARDS | cards)
    with open_image(save(tmp_path / "a.fits", hdu)) as source:
        expected = SkyCoord(120, 35, unit="deg", frame=frame)
        assert source.wcs.pixel_to_world(0, 0).icrs.separation(expected.icrs).arcsec < 1e-6
        assert source.warnings == () and source.header.get("RADESYS") == cards.get("RADESYS")


def test_cards_are_copied_to_the_byte_and_nothing_else_is():
    header = fits.ImageHDU(ramp(), sip_header()).header
    header["OBSERVER"], header["HISTORY"], header["EXPTIME"] = "H. Leavitt", "flat-fielded", 12.0
    cards = wcs_cards(header)
    assert [str(card).rstrip() for card in cards.cards] == SIP_CARDS.splitlines()
    assert [str(card) for card in wcs_cards(cards).cards] == [str(card) for card in cards.cards]


def test_a_cubes_third_axis_is_left_out():
    header = fits.ImageHDU(np.zeros((1, 6, 9), np.float32), sip_header()).header
    header.update({"WCSAXES": 3, "CTYPE3": "FREQ", "CRPIX3": 1.0, "CD3_3": 1e6})
    cards = wcs_cards(header)
    assert cards["WCSAXES"] == 2
    assert not [keyword for keyword in cards if "3" in keyword]
    assert usable_wcs(header)[0].naxis == 2


# ------------------------------------------------------------------------------------------ writing


def test_a_failed_write_leaves_the_old_file_and_no_other(tmp_path):
    path = tmp_path / "result.txt"
    path.write_text("old")

    def fail(temporary):
        temporary.write_text("half")
        raise RuntimeError("disk full")

    with pytest.raises(RuntimeError):
        atomic_write(path, fail)
    assert path.read_text() == "old" and os.listdir(tmp_path) == ["result.txt"]


def test_a_written_file_has_the_users_permissions(tmp_path):
    plain = tmp_path / "plain"
    plain.write_text("x")
    atomic_write(tmp_path / "new" / "atomic", lambda temporary: temporary.write_text("x"))
    assert stat.S_IMODE((tmp_path / "new" / "atomic").stat().st_mode) == stat.S_IMODE(plain.stat().st_mode)


def test_json_of_numpy_values_is_read_by_any_reader(tmp_path):
    path = tmp_path / "a.json"
    write_json(
        path, {"n": np.int64(3), "x": [np.float32(0.5), np.nan, -np.inf], "a": np.eye(2), "p": Path("b")}
    )
    read = json.loads(path.read_text(), parse_constant=lambda name: pytest.fail(f"{name} is not JSON"))
    assert read == {"n": 3, "x": [0.5, None, None], "a": [[1.0, 0.0], [0.0, 1.0]], "p": "b"}


# ------------------------------------------------------------------------------------------ real files


def real_file(name):
    folder = os.environ.get("APPULSE_DATA")
    if not folder or not (Path(folder) / name).exists():
        pytest.skip(f"set APPULSE_DATA to a folder with {name}")
    return Path(folder) / name


def test_real_image_with_scaled_integers_and_blank_wcs():
    path = real_file("ntt-emmi/image.fits")
    read = read_image(path)
    with warnings.catch_warnings(action="ignore"):  # astropy remarks on a card of the observatory's
        expected = fits.getdata(path, memmap=False)
    np.testing.assert_allclose(read.data, expected, rtol=1e-6)
    assert read.wcs is None
    assert {"CRPIX1", "CRVAL2"} <= set(wcs_cards(read.header))


def test_real_hst_image():
    read = read_image(real_file("hst-hsc-pairs/Cut_HST.fits"))
    assert pixel_scale(read.wcs) == pytest.approx(0.03, rel=1e-3)


def test_a_folder_is_held_by_one_process_and_let_go_with_it(tmp_path):
    hold = "import sys; from appulse.files import sole_process as sole\n"
    hold += "with sole(sys.argv[1]): print(1, flush=True); input()"
    folder = tmp_path / "run"
    command = [sys.executable, "-c", hold, str(folder)]
    other = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert other.stdout.readline() == "1\n"
    with pytest.raises(InputError, match="another process"), sole_process(folder):
        pass
    other.kill()
    other.communicate()
    with sole_process(folder), pytest.raises(InputError), sole_process(folder):
        pass
    with sole_process(folder):
        pass

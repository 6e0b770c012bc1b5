"""Synthetic files of each instrument's layout, read through `open_image`."""

from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits

from appulse.files import InputError, open_image, recognise, split_hdu, wcs_cards

SHAPE = (12, 17)
WHOLE = (slice(None), slice(None))
RANDOM = np.random.default_rng(5)
IMAGE = RANDOM.normal(size=SHAPE).astype(np.float32)
NOISE = RANDOM.uniform(1, 2, SHAPE).astype(np.float32)


def flags(*bits, dtype=np.int16):
    """One pixel with each value, the rest 0."""
    plane = np.zeros(SHAPE, dtype)
    plane[3, : len(bits)] = bits
    return plane


def save(path, *hdus, **cards):
    primary = fits.PrimaryHDU()
    primary.header.update(cards)
    fits.HDUList([primary, *hdus]).writeto(path)
    return path


def hdu(data, name, version=1, compressed=False, **cards):
    made = (fits.CompImageHDU if compressed else fits.ImageHDU)(data, name=name)
    made.header["EXTVER"] = version
    for keyword, value in cards.items():
        made.header[keyword if len(keyword) < 9 else f"HIERARCH {keyword}"] = value
    return made


def bad_columns(source):
    """Columns of row 3 that the mask calls bad; no other row may have any."""
    mask = source.companions["mask"].window(*WHOLE)
    assert mask.dtype == bool and mask.shape == SHAPE
    assert not np.delete(mask, 3, axis=0).any()
    return np.flatnonzero(mask[3]).tolist()


# ------------------------------------------------------------------------------------------ the layouts


def hst(path, **names):
    dq = flags(0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32 + 1)
    planes = (hdu(IMAGE, "SCI"), hdu(NOISE, "ERR"), hdu(dq, "DQ"))
    return save(path, *planes, TELESCOP="HST", INSTRUME="ACS")


def test_hst(tmp_path):
    with open_image(hst(tmp_path / "a_flc.fits")) as source:
        assert source.recognised == "HST: SCI with ERR as rms, DQ as mask"
        np.testing.assert_array_equal(source.window(*WHOLE), IMAGE)
        np.testing.assert_array_equal(source.companions["rms"].window(*WHOLE), NOISE)
        # CTE tail, warm, uncertain flat and charge trap (32, 64, 512, 1024) are no reason to lose a pixel.
        assert bad_columns(source) == [1, 2, 3, 4, 5, 8, 9, 12, 13, 14, 15, 16]


def test_drizzled_hst_takes_the_weight_as_coverage_only(tmp_path):
    weight = np.full(SHAPE, 507.0, np.float32)
    weight[3, [2, 5]] = 0, np.nan
    path = save(tmp_path / "a_drz.fits", hdu(IMAGE, "SCI"), hdu(weight, "WHT"), TELESCOP="HST")
    with open_image(path) as source:
        assert list(source.companions) == ["mask"] and bad_columns(source) == [2, 5]


@pytest.mark.parametrize(
    ("telescope", "bad"), [({"TELESCOP": "JWST"}, [1, 3]), ({"TELESCOP": "XYZ"}, [1, 2, 3]), ({}, [1, 2, 3])]
)
def test_bits_of_hst_are_not_applied_to_other_telescopes(tmp_path, telescope, bad):
    dq = flags(0, 1, 64, 2**31 + 1, dtype=np.uint32)
    path = save(tmp_path / "a.fits", hdu(IMAGE, "SCI"), hdu(NOISE, "ERR"), hdu(dq, "DQ"), **telescope)
    with open_image(path) as source:
        assert bad_columns(source) == bad


@pytest.mark.parametrize("quality", ["FLG", "DQ"])
def test_euclid_takes_noise_and_flags_of_the_same_detector(tmp_path, quality):
    planes = []
    for number, detector in enumerate(("1-1.E", "1-1.F")):
        planes += [
            hdu(NOISE + number, f"{detector}.RMS"),
            hdu(flags(0, 1, 2 + 32, 2**24 + 1, dtype=np.int32), f"{detector}.{quality}"),
            hdu(IMAGE + number, f"{detector}.SCI"),
        ]
    path = save(tmp_path / "a.fits", *planes)
    with open_image(path) as source:
        assert source.recognised == (
            f"Euclid: 1-1.E.SCI with 1-1.E.RMS as rms, 1-1.E.{quality} as mask; "
            "one of 2 images, another with --hdu 1-1.F.SCI"
        )
        np.testing.assert_array_equal(source.companions["rms"].window(*WHOLE), NOISE)
        assert bad_columns(source) == [1, 3]
    with open_image(path, "1-1.F.SCI") as source:
        np.testing.assert_array_equal(source.window(*WHOLE), IMAGE + 1)
        np.testing.assert_array_equal(source.companions["rms"].window(*WHOLE), NOISE + 1)


@pytest.mark.parametrize("compressed", [False, True])
def test_rubin_planes_are_found_by_name_whatever_their_number(tmp_path, compressed):
    numbers = {"MP_DETECTED": 0, "MP_SAT": 5, "MP_NO_DATA": 9, "MP_CR": 3, "MP_INTRP": 2, "MP_BAD": 30}
    mask = flags(0, 1, 2**5, 2**9, 2**3 + 2**2, 2**30 + 1, dtype=np.int32)
    path = save(
        tmp_path / "calexp.fits",
        hdu(IMAGE.astype(np.int16), "IMAGE", compressed=compressed),
        hdu(mask, "MASK", compressed=compressed, **numbers),
        hdu(NOISE, "VARIANCE"),
    )
    with open_image(path) as source:
        assert source.recognised == "Rubin: IMAGE with VARIANCE as variance, MASK as mask"
        assert bad_columns(source) == [2, 3, 5]


def test_a_rubin_mask_without_names_is_left_alone(tmp_path):
    # One of its bits marks every detected source.
    path = save(tmp_path / "a.fits", hdu(IMAGE, "IMAGE"), hdu(flags(32), "MASK"), hdu(NOISE, "VARIANCE"))
    with open_image(path) as source:
        assert list(source.companions) == ["variance"]


@pytest.mark.parametrize(
    "names",
    [("IMAGE", "FIRST"), ("SCI", "PSF"), ("PRIMARY", "A"), ("", ""), ("IMAGE", "WEIGHT"), ("ERR", "DQ")],
)
def test_other_files_are_plain_images(tmp_path, names):
    path = save(tmp_path / "a.fits", *(hdu(IMAGE + number, name) for number, name in enumerate(names)))
    with open_image(path) as source:
        assert source.companions == {} and source.recognised.startswith("plain image ")
        np.testing.assert_array_equal(source.window(*WHOLE), IMAGE)


# ------------------------------------------------------------------------------------------ chips, choices


def two_chips(path):
    planes = []
    for version in (1, 2):
        planes += [
            hdu(IMAGE * version, "SCI", version),
            hdu(NOISE * version, "ERR", version),
            hdu(flags(0, *[4] * version), "DQ", version),
        ]
    return save(path, *planes, TELESCOP="HST")


def test_the_first_of_two_chips_is_taken_and_the_other_is_named(tmp_path):
    path = two_chips(tmp_path / "a_flc.fits")
    with open_image(path) as source:
        assert source.hdu_name == "SCI,1"
        assert source.recognised == (
            "HST: SCI,1 with ERR,1 as rms, DQ,1 as mask; one of 2 images, another with --hdu SCI,2"
        )
        assert bad_columns(source) == [1]
    for choice in ("SCI,2", "sci,2", 4):
        with open_image(path, choice) as source:
            np.testing.assert_array_equal(source.window(*WHOLE), 2 * IMAGE)
            np.testing.assert_array_equal(source.companions["rms"].window(*WHOLE), 2 * NOISE)
            assert bad_columns(source) == [1, 2] and source.hdu_name == "SCI,2"


def test_an_hdu_that_is_no_image_of_the_layout_has_no_companions(tmp_path):
    with open_image(two_chips(tmp_path / "a.fits"), "ERR,2") as source:
        np.testing.assert_array_equal(source.window(*WHOLE), 2 * NOISE)
        assert source.companions == {}


def test_what_the_user_gives_beats_what_the_file_holds(tmp_path):
    with open_image(hst(tmp_path / "a.fits")) as source:
        assert list(source.companions_beside({})) == ["rms", "mask"]
        for kind in ("rms", "variance", "weight"):
            assert list(source.companions_beside({kind: 1.0, "mask": None})) == ["mask"]
        assert list(source.companions_beside({"rms": None, "mask": "m.fits"})) == ["rms"]


@pytest.mark.parametrize("spoilt", ["shape", "version", "empty", "table", "cube"])
def test_a_plane_that_does_not_belong_to_the_image_is_not_taken(tmp_path, spoilt):
    noise = {
        "shape": hdu(NOISE[:5], "ERR"),
        "version": hdu(NOISE, "ERR", 2),
        "empty": hdu(None, "ERR", PIXVALUE=1.0),  # HST's way of storing a constant
        "table": fits.BinTableHDU.from_columns([fits.Column("x", "E", array=[1.0])], name="ERR"),
        "cube": hdu(np.stack([NOISE, NOISE]), "ERR"),
    }[spoilt]
    path = save(tmp_path / "a.fits", hdu(IMAGE, "SCI"), noise, hdu(flags(0, 4), "DQ"), TELESCOP="HST")
    with open_image(path) as source:
        assert list(source.companions) == ["mask"] and bad_columns(source) == [1]


def test_flags_stored_as_floats_mean_the_same_and_nan_is_bad(tmp_path):
    dq = flags(0, 1, 64, 4096, np.nan, np.inf, dtype=np.float64)
    path = save(tmp_path / "a.fits", hdu(IMAGE, "SCI"), hdu(dq, "DQ"), TELESCOP="HST")
    with open_image(path) as source:
        assert bad_columns(source) == [1, 3, 4, 5]


@pytest.mark.parametrize("dtype", ["u1", "i2", "u2", "i4", "u4", "i8", "u8"])
def test_bits_survive_every_integer_type(tmp_path, dtype):
    top = int(np.iinfo(dtype).max) // 2 + 1  # one high bit alone
    path = save(
        tmp_path / "a.fits",
        hdu(IMAGE, "IMAGE"),
        hdu(flags(0, top, 1, top + 2, dtype=dtype), "MASK", MP_BAD=top.bit_length() - 1, MP_DETECTED=0),
    )
    with open_image(path) as source:
        assert bad_columns(source) == [1, 3]


def test_recognition_needs_headers_only():
    headers = [fits.Header({"SIMPLE": True, "NAXIS": 0, "TELESCOP": "HST"})]
    for name in ("ERR", "SCI"):
        headers.append(
            fits.Header(
                {"XTENSION": "IMAGE", "NAXIS": 2, "NAXIS1": 30, "NAXIS2": 20, "EXTNAME": name, "EXTVER": 1}
            )
        )
    layout = recognise(headers)
    assert (layout.instrument, layout.image) == ("HST", 2)
    assert [(one.kind, one.index) for one in layout.companions] == [("rms", 1)]
    assert recognise(headers[:1]) is None


def test_a_cube_is_still_refused_with_advice(tmp_path):
    cube = hdu(np.stack([IMAGE, IMAGE]), "SCI")
    path = save(tmp_path / "a.fits", cube, hdu(NOISE, "ERR"), TELESCOP="HST")
    with pytest.raises(InputError, match=r"Choose a plane with --hdu 'SCI\[0\]'"):
        open_image(path)
    with open_image(path, "SCI[1]") as source:
        np.testing.assert_array_equal(source.window(*WHOLE), IMAGE)
        np.testing.assert_array_equal(source.companions["rms"].window(*WHOLE), NOISE)


def test_maps_that_may_belong_to_a_plain_image_are_those_of_its_chip(tmp_path):
    planes = [
        hdu(np.zeros(SHAPE, np.float32), name, version) for version in (1, 2) for name in ("IM", "IVAR")
    ]
    path = save(tmp_path / "a.fits", *planes)
    for choice, named in ((None, "IVAR,1"), ("IM,2", "IVAR,2")):
        with open_image(path, choice) as source:
            (words,) = source.unused_maps
            assert words.startswith(f"{named} of the file")
    alone = save(
        tmp_path / "b.fits",
        hdu(np.zeros(SHAPE, np.float32), "IM"),
        hdu(np.zeros(SHAPE, np.float32), "WHT", 7),
        hdu(np.zeros(SHAPE, np.float32), "OTHER"),
    )
    with open_image(alone) as source:
        assert source.unused_maps[0].startswith("WHT of")


def test_a_weight_and_a_mask_under_the_dark_energy_surveys_names_are_told(tmp_path):
    planes = [hdu(np.zeros(SHAPE, np.float32), name) for name in ("SCI", "MSK", "WGT")]
    with open_image(save(tmp_path / "a.fits", *planes)) as source:
        (words,) = source.unused_maps
        assert words.startswith("MSK, WGT of the file")


@pytest.mark.parametrize(
    ("names", "companions", "unused"),
    [
        (("SCI", "VAR", "DQ"), ["mask"], "VAR of the file"),  # Gemini's DRAGONS
        (("SCI", "WHT", "RMS"), ["mask"], "RMS of the file"),
        (("SCI", "ERR", "DQ", "WHT"), ["rms", "mask"], None),
        (("IMAGE", "VARIANCE", "FLAGS"), ["variance"], "FLAGS of the file"),
    ],
)
def test_a_map_that_a_recognised_image_lacks_is_told(tmp_path, names, companions, unused):
    kinds = {"DQ": np.int16, "FLAGS": np.int32}
    planes = [hdu(np.ones(SHAPE, kinds.get(name, np.float32)), name) for name in names]
    with open_image(save(tmp_path / "a.fits", *planes)) as source:
        assert list(source.companions) == companions
        told = [words.partition(":")[0] for words in source.unused_maps]
        assert told == ([] if unused is None else [unused])


def test_a_unit_in_the_primary_header_is_inherited(tmp_path):
    """As afw wrote its files until 2025."""
    for inherit, unit in ((True, "nJy"), (False, None)):
        image = hdu(IMAGE, "IMAGE")
        image.header["INHERIT"] = inherit
        path = save(tmp_path / f"{inherit}.fits", image, BUNIT="nJy")
        with open_image(path) as source:
            assert source.unit == (None if unit is None else u.Unit(unit))


@pytest.mark.parametrize("text", ["DN/S", "count/S", "ELECTRONS/S"])
def test_a_second_in_capitals_is_no_siemens(tmp_path, text):
    image = hdu(IMAGE, "SCI")
    image.header["BUNIT"] = text
    with open_image(save(tmp_path / "a.fits", image)) as source:
        assert u.s in source.unit.bases and u.S not in source.unit.bases


def test_a_plane_of_a_map_can_be_named():
    assert split_hdu("c.fits[ERR[0]]") == (Path("c.fits"), "ERR[0]")
    assert split_hdu("c.fits[ERR,2]") == (Path("c.fits"), "ERR,2")
    assert split_hdu("odd[1].fits[ERR]") == (Path("odd[1].fits"), "ERR")


def test_an_odd_card_of_the_wcs_keeps_its_value_without_a_warning(tmp_path):
    """An exponent as C writes it."""
    image = hdu(IMAGE, "SCI")
    image.header.update({"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CD1_1": -2.7e-5, "CD2_2": 2.7e-5})
    path = save(tmp_path / "a.fits", image)
    content = path.read_bytes()
    odd = b"CD1_1   =             -2.7e-05 / deg per pixel"
    start = content.index(b"CD1_1   =")
    path.write_bytes(content[:start] + odd.ljust(80) + content[start + 80 :])
    with open_image(path) as source:
        assert source.wcs is not None
        assert wcs_cards(source.header)["CD1_1"] == -2.7e-5
    with fits.open(path) as hdus:
        assert wcs_cards(hdus[1].header)["CD1_1"] == -2.7e-5

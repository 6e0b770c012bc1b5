"""Surveys: units and depths by hand, and files that are wrong in one place."""

import dataclasses

import numpy as np
import pytest

from appulse.files import InputError
from appulse.sky import PSF, Survey, survey_names
from appulse.sky.population import Population
from appulse.sky.survey_file import noise_from_point_source

GOOD = """
name = "mine"
description = "A telescope of my own"
pixel_scale = 0.2
zero_point = 30.0
unit = "ADU"
[psf]
model = "gaussian"
fwhm = 0.8
[noise]
surface_brightness = 26.0
[population]
density = 30.0
magnitude_faint = 26.5
"""


@pytest.fixture
def load(tmp_path):
    def of(text):
        path = tmp_path / "mine.toml"
        path.write_text(text, encoding="utf-8")
        return Survey.load(path)

    return of


def test_user_file(load):
    survey = load(GOOD)
    assert survey.name == "mine" and survey.unit == "ADU"
    assert survey.psf == PSF("gaussian", 0.8)
    assert survey.population == Population(density=30.0, magnitude_faint=26.5)
    # 26 mag/arcsec^2 is 10^1.6 units per arcsec^2 at zero-point 30, and a pixel covers 0.04 arcsec^2.
    assert survey.sigma == pytest.approx(10**1.6 * 0.04)
    assert survey.sigma_at(28.5) == pytest.approx(survey.sigma / 10)


def test_noise_of_the_requirement():
    # "24.5 at 10 sigma in a 1.3 arcsec aperture", 0.1 arcsec pixels (REFERENCE, 3).
    assert noise_from_point_source(24.5, 10, 1.3, 0.1) == pytest.approx(24.65, abs=0.005)


@pytest.mark.parametrize(
    ("magnitude", "snr", "aperture", "scale"),
    [(24.5, 10, 1.3, 0.1), (26.0, 5, 2.0, 0.2), (20.0, 3, 0.5, 0.05)],
)
def test_noise_round_trip(load, magnitude, snr, aperture, scale):
    survey = load(
        GOOD.replace("pixel_scale = 0.2", f"pixel_scale = {scale}").replace(
            "surface_brightness = 26.0", f"magnitude = {magnitude}\nsnr = {snr}\naperture = {aperture}"
        )
    )
    flux = 10 ** (-0.4 * (magnitude - survey.zero_point))
    pixels = np.pi * (aperture / 2 / scale) ** 2
    assert flux / (survey.sigma * np.sqrt(pixels)) == pytest.approx(snr)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("fwhm", "fwhn", ["psf.fwhn", "fwhm"]),
        ("zero_point = 30.0", "zero_point = 30.0\ncolour = 3", ["colour", "zero_point"]),
        ("[psf]", "[pfs]", ["pfs"]),
        ("density = 30.0", "densty = 30.0", ["population.densty", "density"]),
        ("pixel_scale = 0.2", "pixel_scale = '0.2'", ["pixel_scale", "'0.2'", "number"]),
        ("pixel_scale = 0.2", "pixel_scale = true", ["pixel_scale", "True"]),
        ("pixel_scale = 0.2", "pixel_scale = [0.2]", ["pixel_scale"]),
        ("pixel_scale = 0.2", "pixel_scale = -0.2", ["pixel_scale", "0.01"]),
        ("fwhm = 0.8", "fwhm = nan", ["psf.fwhm"]),
        ("fwhm = 0.8", "fwhm = inf", ["psf.fwhm"]),
        ("density = 30.0", "density = -1", ["population.density"]),
        ("surface_brightness = 26.0", "surface_brightness = 99", ["noise.surface_brightness"]),
        ("surface_brightness = 26.0", "magnitude = 24.5\nsnr = 10", ["noise", "aperture"]),
        ("surface_brightness = 26.0", "surface_brightness = 26\nsnr = 10", ["noise", "snr"]),
        ("surface_brightness = 26.0", "", ["noise", "surface_brightness"]),
        ("pixel_scale = 0.2", "", ["pixel_scale", "missing"]),
        ('name = "mine"', "", ["name", "missing"]),
        ("zero_point = 30.0", "", ["zero_point", "missing"]),
        ('"gaussian"', '"airy"', ["airy", "gaussian", "moffat"]),
        ("magnitude_faint = 26.5", "magnitude_faint = 17.0", ["magnitude_bright", "magnitude_faint"]),
        ("fwhm = 0.8", "fwhm = ", ["TOML"]),
    ],
)
def test_one_mistake_one_clear_line(load, old, new, words):
    with pytest.raises(InputError) as caught:
        load(GOOD.replace(old, new))
    message = str(caught.value)
    assert "mine.toml" in message and "\n" not in message
    for word in words:
        assert word in message


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("[noise]\nsurface_brightness = 26.0", ""),  # no depth at all
        ('[psf]\nmodel = "gaussian"\nfwhm = 0.8', 'psf = "gaussian"'),
        ('[psf]\nmodel = "gaussian"\nfwhm = 0.8\n[noise]\nsurface_brightness = 26.0', "noise = 26.0"),
    ],
)
def test_a_value_where_a_table_belongs(load, old, new):
    with pytest.raises(InputError, match=r"noise|psf"):
        load(GOOD.replace(old, new))


@pytest.mark.parametrize("line", ["name = 5", "description = 5", "unit = 5"])
def test_text_must_be_text(load, line):
    key = line.split()[0]
    text = "\n".join(line if row.startswith(f"{key} =") else row for row in GOOD.splitlines())
    with pytest.raises(InputError, match=key):
        load(text)


@pytest.mark.parametrize("content", [b'name = "\xff"', b"\xfe\xff\x00n"])
def test_not_utf8(tmp_path, content):
    path = tmp_path / "mine.toml"
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"mine\.toml"):
        Survey.load(path)


def test_unknown_survey_lists_the_known():
    with pytest.raises(InputError) as caught:
        Survey.load("euclid-narrow")
    for name in survey_names():
        assert name in str(caught.value)


def test_missing_file(tmp_path):
    with pytest.raises(InputError, match=r"none\.toml"):
        Survey.load(tmp_path / "none.toml")


@pytest.mark.parametrize("name", ["paper", "euclid-wide", "euclid-crowded"])
def test_bundled_surveys(name):
    survey = Survey.load(name)
    assert survey.name == name
    assert survey.pixel_scale == 0.1 and survey.psf == PSF("moffat", 0.18, 3.5)
    assert survey.population.magnitude_faint == 25.2


def test_bundled_depths():
    assert {"paper", "euclid-wide"} <= set(survey_names())
    assert Survey.load("paper").noise == 27.2
    wide = Survey.load("euclid-wide")
    assert (wide.noise, wide.population.density) == (25.7, 53.0)


def test_digest_is_of_the_physics():
    survey = Survey.load("paper")
    same = dataclasses.replace(survey, name="another", description="Another text")
    assert same.digest() == survey.digest()
    others = [
        dataclasses.replace(survey, noise=27.1),
        dataclasses.replace(survey, pixel_scale=0.2),
        dataclasses.replace(survey, zero_point=25.0),
        dataclasses.replace(survey, psf=PSF("moffat", 0.19, 3.5)),
        dataclasses.replace(survey, psf=PSF("moffat", 0.18, 3.4)),
        dataclasses.replace(survey, psf=PSF("gaussian", 0.18, 3.5)),
    ]
    for name in Population.__dataclass_fields__:
        value = getattr(survey.population, name)
        others.append(
            dataclasses.replace(
                survey, population=dataclasses.replace(survey.population, **{name: value * 1.01})
            )
        )
    digests = {survey.digest(), *(other.digest() for other in others)}
    assert len(digests) == len(others) + 1


def test_equal_surveys_have_equal_digests(load):
    # 1 and 1.0 are one number in a TOML file written by hand.
    whole = load(
        GOOD.replace("density = 30.0", "density = 30").replace("zero_point = 30.0", "zero_point = 30")
    )
    assert whole == load(GOOD)
    assert whole.digest() == load(GOOD).digest()

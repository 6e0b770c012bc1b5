"""The optional tables of a survey file: what they mean, and one clear line for each mistake."""

import dataclasses
import json

import pytest

from appulse.files import InputError
from appulse.sky import Survey
from appulse.sky.population import Bulges, Clumps, Faint, Pairs, Stars
from appulse.sky.ranges import Ranges

GOOD = """
name = "mine"
description = "A telescope of my own"
pixel_scale = 0.2
zero_point = 30.0
[noise]
surface_brightness = 26.0
correlation = 0.7
gain = 3
[population]
magnitude_faint = 25.0
[bulges]
share = 0.5
[clumps]
share = 0.4
light = 0.3
[stars]
density = 3
magnitude_faint = 24.0
[faint]
magnitude_limit = 26.5
[pairs]
share = 0.2
separation = 1.5
[ranges]
pixel_scale = [0.1, 0.3]
density = [10, 100]
"""


@pytest.fixture
def load(tmp_path):
    def of(text):
        path = tmp_path / "mine.toml"
        path.write_text(text)
        return Survey.load(path)

    return of


def test_every_option(load):
    survey = load(GOOD)
    assert (survey.correlation, survey.gain) == (0.7, 3.0)
    assert survey.bulges == Bulges(0.5) and survey.clumps == Clumps(0.4, 0.3)
    assert survey.stars == Stars(3.0, magnitude_faint=24.0)
    assert survey.faint == Faint(26.5) and survey.pairs == Pairs(0.2, 1.5)
    assert survey.ranges == Ranges(pixel_scale=(0.1, 0.3), density=(10.0, 100.0))
    back = Survey.from_dict(json.loads(json.dumps(survey.to_dict())))
    assert back == survey and hash(back) == hash(survey)


def test_every_option_is_part_of_the_digest(load):
    survey = load(GOOD)
    options = ("correlation", "gain", "bulges", "clumps", "stars", "faint", "pairs", "ranges")
    without = [dataclasses.replace(survey, **{name: None}) for name in options]
    changed = [
        dataclasses.replace(survey, bulges=Bulges(0.5, 0.2)),
        dataclasses.replace(survey, clumps=Clumps(0.4, 0.2)),
        dataclasses.replace(survey, stars=Stars(4.0, magnitude_faint=24.0)),
        dataclasses.replace(survey, faint=Faint(26.6)),
        dataclasses.replace(survey, pairs=Pairs(0.2, 1.6)),
        dataclasses.replace(survey, ranges=Ranges(pixel_scale=(0.1, 0.31), density=(10.0, 100.0))),
    ]
    assert len({each.digest() for each in (survey, *without, *changed)}) == 15


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("correlation = 0.7", "correlation = 9", ["noise.correlation", "9", "0.2 to 5.0"]),
        ("correlation = 0.7", "corelation = 0.7", ["noise.corelation", "correlation"]),
        ("gain = 3", "gain = 0", ["noise.gain", "number from"]),
        ("gain = 3", "gain = '3'", ["noise.gain", "'3'"]),
        (
            "surface_brightness = 26.0",
            "magnitude = 25\nsnr = 5\naperture = 1",
            ["noise.correlation", "surface_brightness"],
        ),
        ("share = 0.5", "share = 1.5", ["bulges.share", "0.0 to 1.0"]),
        ("share = 0.5", "", ["bulges.share", "missing"]),
        ("share = 0.5", "share = 0.5\nindex = 4", ["bulges.index", "scale"]),
        ("density = 3\n", "", ["stars.density", "missing"]),
        (
            "magnitude_faint = 24.0",
            "magnitude_faint = 17.0",
            ["stars.magnitude_bright", "stars.magnitude_faint"],
        ),
        ("magnitude_limit = 26.5", "magnitude_limit = 24.5", ["faint.magnitude_limit", "25.0"]),
        ("magnitude_limit = 26.5", "limit = 26.5", ["faint.limit", "magnitude_limit"]),
        ("share = 0.2", "share = true", ["pairs.share", "True"]),
        ("separation = 1.5", "separation = 0", ["pairs.separation", "0.01"]),
        ("[0.1, 0.3]", "[0.3, 0.1]", ["ranges.pixel_scale", "[low, high]"]),
        ("[0.1, 0.3]", "0.3", ["ranges.pixel_scale", "[low, high]"]),
        ("[0.1, 0.3]", "[0.1, 0.2, 0.3]", ["ranges.pixel_scale"]),
        ("[0.1, 0.3]", "[0.1, nan]", ["ranges.pixel_scale"]),
        ("density = [10, 100]", "fwhm = [1, 2]", ["ranges.fwhm", "fwhm_pixels"]),
        ("density = [10, 100]", "fwhm_pixels = [1, 20]\n[psf]\nfwhm = 1", None),
        (
            "[0.1, 0.3]\ndensity = [10, 100]",
            "[0.1, 3.0]\nfwhm_pixels = [1, 20]",
            ["ranges.fwhm_pixels", "60 arcsec", "10.0"],
        ),
        ("[faint]\nmagnitude_limit = 26.5", "", None),
        ("[pairs]", "[clustering]", ["clustering", "pairs"]),
        ("pixel_scale = 0.2", "pixel_scale = 0.2\nreal_galaxies = 3", ["real_galaxies", "text"]),
        (
            "pixel_scale = 0.2",
            "pixel_scale = 0.2\nreal_galaxies = 'nowhere'",
            ["real_galaxies", "nowhere", "real_galaxy_catalog*.fits"],
        ),
    ],
)
def test_one_mistake_one_clear_line(load, old, new, words):
    text = GOOD.replace(old, new)
    assert text != GOOD
    if words is None:  # no mistake
        assert load(text) != load(GOOD)
        return
    with pytest.raises(InputError) as caught:
        load(text)
    message = str(caught.value)
    assert "mine.toml" in message and "\n" not in message
    for word in words:
        assert word in message


def test_a_dictionary_that_is_none_of_ours():
    content = Survey.load("hst-acs").to_dict()
    for change in ({"psf": {"fwhn": 1.0}}, {"noise": None}, {"extra": 1}, {"stars": 5}):
        with pytest.raises(InputError, match=r"somewhere\.fits"):
            Survey.from_dict(content | change, "somewhere.fits")

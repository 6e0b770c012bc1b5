"""How crowded an image is, where the answer is known."""

import numpy as np
import pytest
from scipy import ndimage

from appulse.inference.crowding import Sampling, measure_crowding


def test_parts_are_spread_over_a_large_image():
    assert Sampling(300, 50, 3).windows((100, 300)) == [[(slice(0, 100), slice(0, 300))]]
    ((first, second),) = Sampling(300, 50, 2).windows((100, 301))
    assert first[1] == slice(0, 50) and second[1] == slice(251, 301) and first[0] == slice(0, 100)


def test_coverage_is_the_share_of_good_pixels():
    image = np.random.default_rng(0).standard_normal((200, 200))
    image[50:100, 50:150] += 20
    bad = np.zeros(image.shape, bool)
    bad[:, 150:] = True
    coverage, width = measure_crowding(image, bad)
    assert coverage == pytest.approx(50 * 100 / (200 * 150), rel=0.1)
    assert np.isnan(width)
    assert measure_crowding(image, np.ones(image.shape, bool)).coverage == 0


@pytest.mark.parametrize("width", [1.5, 3.0, 5.0])
def test_compact_sources_have_their_width(width):
    rng = np.random.default_rng(1)
    light = np.zeros((300, 300))
    light[25::50, 25::50] = 500 * width**2
    light = ndimage.gaussian_filter(light, width / np.sqrt(8 * np.log(2)))
    image = light + rng.standard_normal(light.shape)
    # A large one beside them is no compact source, a faint one too faint to tell.
    y, x = np.mgrid[:300, :300]
    image += 60 * np.exp(-((x - 150) ** 2 + (y - 200) ** 2) / 800)
    crowding = measure_crowding(image, np.zeros(image.shape, bool))
    assert crowding.width == pytest.approx(width, rel=0.15, abs=0.3)


def test_hot_pixels_are_narrower_than_any_source():
    image = np.random.default_rng(2).standard_normal((300, 300))
    image[10::25, 10::25] += 500
    assert measure_crowding(image, np.zeros(image.shape, bool)).width < 0.66  # 0.6 of a PSF of 1.1 pixels


def test_an_image_full_of_light_is_one_source():
    """SEP's deblending takes minutes and gigabytes over it, or ends the process."""
    image = 5 + np.random.default_rng(3).standard_normal((1536, 1536))
    coverage, width = measure_crowding(image, np.zeros(image.shape, bool))
    assert coverage > 0.99 and np.isnan(width)


def test_no_pixel_is_covered_twice_where_most_are_bad():
    rng = np.random.default_rng(4)
    light = np.zeros((300, 300))
    light[30::60, 30::60] = 4000
    image = ndimage.gaussian_filter(light, 4.0) + rng.standard_normal(light.shape)
    covered = measure_crowding(image, np.zeros(image.shape, bool)).coverage
    half = np.zeros(image.shape, bool)
    half[:, ::2] = True
    # Smoothing sees fewer sources where half of the light is missing, and never more than there are.
    assert 0.5 * covered < measure_crowding(image, half).coverage < 1.1 * covered
    dark = np.zeros(image.shape, bool)
    dark[:, 150:] = True
    assert measure_crowding(image, dark).coverage == pytest.approx(covered, rel=0.1)


def test_a_masked_core_has_no_say_in_the_width():
    rng = np.random.default_rng(5)
    light = np.zeros((400, 400))
    light[25::50, 25::50] = 30000
    light = ndimage.gaussian_filter(light, 4.0)
    image = light + rng.standard_normal(light.shape)
    bad = np.zeros(image.shape, bool)
    expected = measure_crowding(image, bad).width
    assert expected == pytest.approx(4.0 * np.sqrt(8 * np.log(2)), rel=0.15)
    bad[172:179, 172:179] = True  # one core is saturated
    bad[74:77, 75] = True  # and of another a column is lost
    assert measure_crowding(image, bad).width == pytest.approx(expected, rel=0.02)
    bad[24::50, 25::50] = True
    assert np.isnan(measure_crowding(image, bad).width)


@pytest.mark.parametrize(("sources", "is_known"), [(15, False), (16, True)])
def test_a_few_compact_sources_tell_no_width(sources, is_known):
    rng = np.random.default_rng(6)
    light = np.zeros((200, 200))
    light.flat[[200 * y + x for y in range(25, 200, 50) for x in range(25, 200, 50)][:sources]] = 9000
    image = ndimage.gaussian_filter(light, 1.5) + rng.standard_normal(light.shape)
    assert np.isfinite(measure_crowding(image, np.zeros(image.shape, bool)).width) == is_known

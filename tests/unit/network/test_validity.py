"""What a model knows, from its header."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from appulse.inference.background import scale_to_noise
from appulse.network.bundled import range_warnings
from appulse.network.validity import INDEPENDENT, LARGEST_COVERAGE, Validity, neighbour_correlation
from appulse.segmentation import segment
from by_hand import by_hand

KNOWN = Validity((1.8, 3.0))


def test_a_header_that_says_nothing_limits_no_width():
    taken = Validity.of({})
    assert taken.widths is None and taken.correlations == INDEPENDENT
    assert taken.warnings(0.0, 0.1, 40.0) == []


def test_each_thing_outside_is_named_once():
    assert KNOWN.warnings(0.0, 0.1, 2.5) == []
    for found, words in (
        (KNOWN.warnings(0.5, 0.1, 2.5), "independent noise"),
        (KNOWN.warnings(-0.5, 0.1, 2.5), "independent noise"),
        (KNOWN.warnings(0.0, LARGEST_COVERAGE + 0.01, 2.5), "hold sources"),
        (KNOWN.warnings(0.0, 0.1, 0.9), "cosmic rays"),
        (KNOWN.warnings(0.0, 0.1, 6.0), "more than the model knows"),
    ):
        (warning,) = found
        assert words in warning
    assert KNOWN.warnings(0.0, 0.1, float("nan")) == []


def test_a_crowd_is_told_though_the_noise_is_given():
    """The background of 600 wide sources comes out half a sigma too high; the truth is 0."""
    rng = np.random.default_rng(0)
    spikes = np.zeros((256, 256))
    np.add.at(spikes, tuple(rng.integers(0, 256, (2, 600))), rng.uniform(50, 800, 600))
    image = ndimage.gaussian_filter(spikes, 3.0) + rng.standard_normal(spikes.shape)
    assert np.median(scale_to_noise(image, rms=1.0).background) > 0.5
    options = {"model": by_hand(), "samples": 2, "method": "grid", "rms": 1.0}
    (warning,) = (text for text in segment(image, **options).warnings if "hold sources" in text)
    assert "--no-background" in warning and "--rms" not in warning
    alone = segment(image, subtract_background=False, **options)
    assert not [text for text in alone.warnings if "hold sources" in text or "left in" in text]
    (warning,) = KNOWN.warnings(0.0, LARGEST_COVERAGE + 0.01, 2.5, subtracted=False)
    assert "--rms" in warning


@pytest.mark.parametrize(("pedestal", "rms"), [(40, None), (900, None), (-900, None), (900, 1.2)])
def test_a_sky_that_is_left_in_is_no_crowd(pedestal, rms):
    image = pedestal + np.random.default_rng(1).standard_normal((192, 192))
    options = {"model": by_hand(), "samples": 2, "method": "grid", "rms": rms}
    result = segment(image, subtract_background=False, **options)
    assert [text for text in result.warnings if "left in with --no-background" in text]
    assert not [text for text in result.warnings if "hold sources" in text]


def test_a_crowd_does_not_hide_which_model_knows_the_rest():
    found = range_warnings(KNOWN, 0.5, 0.9, 6.0, noise_given=True)
    assert len(found) == 4 and "'mixed'" in found[-1]
    assert len(range_warnings(KNOWN, 0.0, 0.9, 2.5)) == 1


@pytest.mark.parametrize("length", [0.0, 0.6, 1.0, 2.0])
def test_correlation_of_smoothed_noise(length):
    rng = np.random.default_rng(0)
    smooth = ndimage.gaussian_filter(rng.standard_normal((700, 700)), length)
    measured = np.corrcoef(smooth[:, 1:].ravel(), smooth[:, :-1].ravel())[0, 1]
    assert neighbour_correlation(length) == pytest.approx(measured, abs=0.02)


def test_noise_is_taken_as_it_was_in_training_and_no_other():
    taken = Validity.of({"noise_correlation": [0.0, 1.2]})
    for correlation, strange in ((0.0, False), (0.8, False), (0.95, True), (-0.4, True)):
        assert bool(taken.warnings(correlation, 0.0, 2.0)) == strange
    drizzled = Validity.of({"noise_correlation": [0.6, 0.6]})
    assert drizzled.warnings(0.0, 0.0, 2.0) and not drizzled.warnings(0.45, 0.0, 2.0)


def scene(correlated):
    """Thirty-six wide Gaussian sources."""
    rng = np.random.default_rng(3)
    sky = rng.standard_normal((300, 300))
    if correlated:
        sky = ndimage.gaussian_filter(sky, 1.0)
        sky /= sky.std()
    spikes = np.zeros(sky.shape)
    spikes[25::50, 25::50] = 4000
    return sky + ndimage.gaussian_filter(spikes, 2.0)


def test_a_long_image_is_looked_at_in_parts():
    image = np.tile(scene(False), (1, 6))  # longer than what is measured whole
    result = segment(image, model=knowing(psf_fwhm_pixels=[1.8, 1.8]), samples=2, method="grid")
    (warning,) = (text for text in result.warnings if "pixels wide" in text)
    assert float(warning.split()[3]) == pytest.approx(4.7, rel=0.1)


def knowing(**training):
    return dataclasses.replace(by_hand(), training=training)


@pytest.mark.parametrize("correlated", [False, True])
def test_segment_warns_of_what_the_model_does_not_know(correlated):
    options = {"samples": 2, "method": "grid"}
    image = scene(correlated)
    strange = segment(image, model=knowing(psf_fwhm_pixels=[1.8, 1.8]), **options)
    (width,) = (text for text in strange.warnings if "pixels wide" in text)
    measured = float(width.split()[3])
    assert measured == pytest.approx(2 * np.sqrt(2 * np.log(2)) * 2, rel=0.05)
    noise = [text for text in strange.warnings if "neighbouring sky pixels" in text]
    assert len(noise) == correlated
    at_home = segment(
        image, model=knowing(psf_fwhm_pixels=[1.8, 5.0], noise_correlation=[0.0, 1.2]), **options
    )
    assert not [text for text in at_home.warnings if "pixels" in text]
    # The flag of the catalogue follows the same limit.
    assert (strange.catalog["flags"] & 32).astype(bool).any() == correlated
    assert not (at_home.catalog["flags"] & 32).any()

"""Peaks, smoothing and sharpening against scikit-image's and closed forms."""

import numpy as np
import pytest
from scipy import ndimage
from skimage.measure import label
from skimage.morphology import h_maxima

from appulse.objects.peaks import REACH, SHARPENED_NOISE, SMOOTHED_NOISE, find_peaks, sharpen, smooth

BINOMIAL = np.outer([1, 4, 6, 4, 1], [1, 4, 6, 4, 1]) / 256


@pytest.mark.parametrize("dip", [0.2, 0.5])
def test_peaks_deeper_than_a_limit_are_the_h_maxima(dip):
    image = ndimage.gaussian_filter(np.random.default_rng(1).normal(size=(40, 50)), 1) * 5
    image -= image.min()
    smoothed = ndimage.convolve(image, BINOMIAL, mode="constant")
    expected = label(h_maxima(smoothed, dip), connectivity=2).max()
    peaks = find_peaks(smooth(image), np.ones(image.shape, dtype=bool))
    assert expected > 3
    assert (peaks.dip >= dip).sum() == expected


def test_two_gaussians_have_their_saddle_between_them():
    rows, columns = np.mgrid[:41, :61]
    sigma, half_distance = 3.0, 9.0
    image = sum(
        peak * np.exp(-((columns - x) ** 2 + (rows - 20) ** 2) / (2 * sigma**2))
        for x, peak in ((30 - half_distance, 10.0), (30 + half_distance, 10.0))
    )
    peaks = find_peaks(smooth(image), np.ones(image.shape, dtype=bool))
    deep = peaks.dip > 0.1
    # Smoothing adds its variance of 1: peak 10 s^2 / (s^2 + 1), saddle 2 peak exp(-d^2 / (2 (s^2 + 1))).
    variance = sigma**2 + 1
    height = 10 * sigma**2 / variance
    saddle = 2 * height * np.exp(-(half_distance**2) / (2 * variance))
    assert sorted(peaks.places[deep, 1]) == [21, 39]
    np.testing.assert_allclose(peaks.height[deep], height, rtol=0.01)
    np.testing.assert_allclose(peaks.dip[deep].min(), height - saddle, rtol=0.01)


def test_noise_after_smoothing():
    noise = np.random.default_rng(2).normal(size=(500, 500))
    assert ndimage.convolve(noise, BINOMIAL).std() == pytest.approx(SMOOTHED_NOISE, rel=0.02)


def test_bad_pixels_are_no_peaks():
    image = np.ones((9, 9))
    image[4, 4] = np.nan
    image[2, 6] = np.inf
    peaks = find_peaks(smooth(image), np.ones((9, 9), dtype=bool))
    assert np.isfinite(peaks.height).all() and np.isfinite(peaks.dip).all()


def test_noise_after_sharpening():
    noise = np.random.default_rng(3).normal(size=(500, 500))
    assert sharpen(noise)[REACH:-REACH, REACH:-REACH].std() == pytest.approx(SHARPENED_NOISE, rel=0.02)


def test_a_gaussian_is_sharpened_as_in_closed_form():
    rows, columns = np.mgrid[:61, :61]
    variance = 2.5**2
    image = 10 * np.exp(-((columns - 30) ** 2 + (rows - 30) ** 2) / (2 * variance))
    # Binomial kernels of variance 1 and 4 are nearly Gaussian.
    expected = 10 * variance * (1 / (variance + 1) - 1 / (variance + 4))
    assert sharpen(image)[30, 30] == pytest.approx(expected, rel=0.01)


def test_nothing_stands_out_beside_holes_and_borders():
    image = np.full((40, 50), 7.0)
    image[10:14, 20:30] = np.nan
    np.testing.assert_allclose(sharpen(image), 0.0, atol=1e-9)

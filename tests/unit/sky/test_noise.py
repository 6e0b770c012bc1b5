"""Noise of strips: the same however a field is cut, with the variance and correlation of its kernel."""

import dataclasses
import itertools

import numpy as np
import pytest
from scipy import stats

from appulse.sky import Survey
from appulse.sky.noise import BAND, correlation_kernel, draw_noise, whiten

WHITE = dataclasses.replace(Survey.load("euclid-wide"), zero_point=25.7, pixel_scale=1.0)  # sigma is 1
DRIZZLED = dataclasses.replace(WHITE, correlation=0.8)
PHOTONS = dataclasses.replace(WHITE, gain=0.25)
SURVEYS = {"white": WHITE, "drizzled": DRIZZLED, "photons": dataclasses.replace(DRIZZLED, gain=0.25)}


def dark(rows, width):
    return np.zeros((rows, width), np.float32)


@pytest.mark.parametrize("name", SURVEYS)
@pytest.mark.parametrize("cuts", [[256, 512], [1, 2, 255, 257, 300], [599], [100, 256]])
def test_strips_are_the_field(name, cuts):
    survey = SURVEYS[name]
    light = np.random.default_rng(0).random((600, 40)).astype(np.float32)
    whole = draw_noise(survey, light, 0, seed=5, index=1)
    edges = [0, *cuts, 600]
    strips = [
        draw_noise(survey, light[low:high], low, seed=5, index=1) for low, high in itertools.pairwise(edges)
    ]
    np.testing.assert_array_equal(np.concatenate(strips), whole, strict=True)
    assert whole.dtype == np.float32


@pytest.mark.parametrize("survey", [WHITE, DRIZZLED])
def test_seed_and_index_and_row_give_other_noise(survey):
    light = dark(64, 64)
    first = draw_noise(survey, light, 0, 1, 0)
    for other in (
        draw_noise(survey, light, 0, 2, 0),
        draw_noise(survey, light, 0, 1, 1),
        draw_noise(survey, light, BAND, 1, 0),
    ):
        assert abs(np.corrcoef(first.ravel(), other.ravel())[0, 1]) < 0.07


def test_white_noise_is_gaussian_of_sigma():
    noise = draw_noise(dataclasses.replace(WHITE, zero_point=30.7), dark(400, 500), 0, 3, 0) / 100.0
    assert stats.kstest(noise.ravel()[::7], stats.norm.cdf).pvalue > 1e-3


@pytest.mark.parametrize("length", [0.3, 0.6, 1.0, 2.5])
def test_kernel_keeps_the_variance_and_is_a_gaussian(length):
    kernel = correlation_kernel(length)
    assert np.sum(kernel**2) == pytest.approx(1.0, rel=1e-12)
    assert len(kernel) % 2 == 1 and (kernel == kernel[::-1]).all()
    if length >= 1:
        # Autocorrelation of a Gaussian: again a Gaussian, sqrt(2) wider.
        autocorrelation = np.correlate(kernel, kernel, "full")[len(kernel) - 1 :]
        distance = np.arange(len(kernel))
        np.testing.assert_allclose(autocorrelation, np.exp(-(distance**2) / (4 * length**2)), atol=2e-3)


@pytest.mark.parametrize("length", [0.6, 1.2])
def test_correlated_noise(length):
    noise = draw_noise(dataclasses.replace(WHITE, correlation=length), dark(800, 800), 0, 4, 0).astype(float)
    kernel = correlation_kernel(length)
    expected = np.correlate(kernel, kernel, "full")[len(kernel) - 1 :]
    # Correlated pixels: fewer independent ones, by the sum of the squared correlations over the plane.
    error = np.sqrt((expected[0] + 2 * np.sum(expected[1:] ** 2)) ** 2 / noise.size)
    assert noise.mean() == pytest.approx(0, abs=4 * kernel.sum() ** 2 / np.sqrt(noise.size))
    assert np.var(noise) == pytest.approx(1, abs=4 * np.sqrt(2) * error)
    for distance in (1, 2, 3):
        for a, b in (
            (noise[:, distance:], noise[:, :-distance]),
            (noise[distance:], noise[:-distance]),
        ):
            assert np.mean(a * b) == pytest.approx(expected[distance], abs=6 * error)
    diagonal = np.mean(noise[1:, 1:] * noise[:-1, :-1])
    assert diagonal == pytest.approx(expected[1] ** 2, abs=6 * error)


@pytest.mark.parametrize("length", [0.6, 1.2])
def test_noise_of_an_aperture_is_that_of_its_kernel(length):
    """Sums over squares: every pair of pixels adds its correlation. At 0.6 twice the noise of white ones."""
    survey = dataclasses.replace(WHITE, correlation=length)
    noise = draw_noise(survey, dark(1000, 1000), 0, 4, 0).astype(float)
    side = 25
    sums = noise.reshape(40, side, 40, side).sum(axis=(1, 3))
    kernel = correlation_kernel(length)
    correlation = np.correlate(kernel, kernel, "full")
    distance = np.abs(np.arange(len(correlation)) - len(kernel) + 1)
    along_a_line = np.sum((side - distance) * correlation)
    assert sums.std() == pytest.approx(along_a_line, rel=4 / np.sqrt(2 * sums.size))
    if length == 0.6:
        assert sums.std() / side == pytest.approx(2.0, rel=0.1)


def test_correlation_has_no_seam_between_bands_or_at_the_border():
    noise = [draw_noise(DRIZZLED, dark(2 * BAND, 300), 0, seed, 0).astype(float) for seed in range(8)]
    kernel = correlation_kernel(DRIZZLED.correlation)
    expected = np.sum(kernel[1:] * kernel[:-1])
    lines = [np.mean([(n[BAND - 1] * n[BAND]).mean() for n in noise])]
    assert lines[0] == pytest.approx(expected, abs=5 * 2 / np.sqrt(8 * 300))
    for edge in (0, -1):
        assert np.mean([np.var(n[edge]) for n in noise]) == pytest.approx(1, abs=5 * 2 / np.sqrt(8 * 300))
        assert np.mean([np.var(n[:, edge]) for n in noise]) == pytest.approx(1, abs=5 * 2 / np.sqrt(8 * 512))


def test_photons_add_light_over_gain():
    # 12 units of light at 0.25 electrons per unit: variance 48 on top of the background's 1.
    light = np.zeros((256, 512), np.float32)
    light[:, 256:] = 12.0
    noise = draw_noise(PHOTONS, light, 0, 8, 0)
    n = 256 * 256
    assert np.var(noise[:, :256]) == pytest.approx(1, rel=5 * np.sqrt(2 / n))
    assert np.var(noise[:, 256:]) == pytest.approx(49, rel=5 * np.sqrt(2 / n))
    assert abs(noise[:, 256:].mean()) < 5 * 7 / np.sqrt(n)
    # Where there is no light, the gain changes nothing.
    np.testing.assert_array_equal(noise[:, :256], draw_noise(WHITE, light, 0, 8, 0)[:, :256])


@pytest.mark.parametrize("length", [0.6, 0.8])
def test_whitened_noise_is_independent_and_as_strong(length):
    noise = draw_noise(dataclasses.replace(WHITE, correlation=length), dark(600, 600), 0, 4, 0).astype(float)
    # The field's borders do not meet, as the transform has it: its outskirts stay correlated.
    white = whiten(noise / WHITE.sigma, length)[40:-40, 40:-40]
    assert white.std() == pytest.approx(1.0, abs=0.01)
    power = np.abs(np.fft.fft2(white)) ** 2 / white.size
    low = np.hypot(*np.meshgrid(*2 * [np.fft.fftfreq(520)])) < 0.1
    assert power[low].mean() == pytest.approx(1.0, abs=4 / np.sqrt(low.sum() / 2))
    for shift in ((0, 1), (1, 0), (1, 1), (0, 2)):
        assert np.mean(white * np.roll(white, shift, (0, 1))) == pytest.approx(0.0, abs=0.01)


def test_whitening_is_the_inverse_of_the_covariance():
    """Squared signal-to-noise of a blob: whitened, and by the matrix that the kernel itself makes."""
    side, length = 25, 0.6
    y, x = np.mgrid[:side, :side] - side // 2
    blob = np.exp(-0.5 * ((x - 0.3) ** 2 + 1.5 * y**2) / 2.0**2)
    kernel = correlation_kernel(length)
    autocorrelation = np.correlate(kernel, kernel, "full")
    distance = np.abs(np.subtract.outer(np.arange(side), np.arange(side)))
    along = np.append(autocorrelation[len(kernel) - 1 :], np.zeros(side))[distance]
    expected = blob.ravel() @ np.linalg.solve(np.kron(along, along), blob.ravel())
    assert (whiten(blob, length) ** 2).sum() == pytest.approx(expected, rel=0.01)
    assert expected < 0.5 * (blob**2).sum()
    assert whiten(blob, None) is blob


def test_whitening_of_long_correlations_stays_finite():
    light = np.random.default_rng(3).standard_normal((2, 31, 40))
    white = whiten(light, 2.0)
    assert white.shape == light.shape and np.abs(white).max() < 20**2 * np.abs(light).max()

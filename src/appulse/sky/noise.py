"""The noise of a field, strip by strip: the same whatever the strips."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import correlate1d

from appulse.sky.survey import Survey
from appulse.streams import OfField, field_stream

# Rows of white noise drawn from one key.
BAND = 256
_REACH = 4.0
# Shorter lengths leave pixels independent.
_SHORTEST = 1e-3
# Nothing is told by details that noise spares more than this: no real image is as free of it.
_LEAST_TRANSFER = 0.05


def correlation_kernel(length: float, reach: int | None = None) -> np.ndarray:
    """Kernel that correlates white noise along one axis and keeps its variance.

    Parameters
    ----------
    length : float, pixels
        Standard deviation of the Gaussian kernel. Two pixels a distance ``d`` apart then correlate as
        ``exp(-d**2 / (4 length**2))``, a little less for lengths below 0.7. With 0 they do not.
    reach : int, pixels
        ``r``; by default `kernel_reach` of the length.

    Returns
    -------
    (2 r + 1,) float64 array
        Its squares sum to 1. Applied along rows and columns it is the field's kernel.
    """
    reach = kernel_reach(length) if reach is None else reach
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / max(length, _SHORTEST)) ** 2)
    return kernel / np.sqrt(np.sum(kernel**2))


def kernel_reach(length: float) -> int:
    """How far a kernel of a length goes: to four of its standard deviations, 3e-4 of its peak.

    Parameters
    ----------
    length : float, pixels
    """
    return int(np.ceil(_REACH * length))


def whiten(images: np.ndarray, correlation: float | None) -> np.ndarray:
    """Undo what makes the noise of neighbouring pixels alike, so that a fit may weigh pixels alone.

    Parameters
    ----------
    images : (..., height, width) float array
        Light with noise of a survey's ``correlation``, or light alone; dark at the borders, which are taken
        to meet.
    correlation : float or None, pixels
        As in `correlation_kernel`; None leaves the images as they are.

    Returns
    -------
    (..., height, width) float array
        In it the noise is independent from pixel to pixel, and as strong as before; but where the kernel
        leaves less than a twentieth of the noise, at the finest details of long correlations, weaker.
    """
    if correlation is None:
        return images
    height, width = images.shape[-2:]
    kernel = correlation_kernel(correlation)
    offsets = np.arange(len(kernel)) - len(kernel) // 2
    along_y, along_x = (
        np.maximum(np.cos(2 * np.pi * np.outer(frequencies, offsets)) @ kernel, _LEAST_TRANSFER)
        for frequencies in (np.fft.fftfreq(height), np.fft.rfftfreq(width))
    )
    spectrum = np.fft.rfft2(images) / (along_y[:, None] * along_x)
    return np.fft.irfft2(spectrum, s=(height, width))


def draw_noise(survey: Survey, light: np.ndarray, y0: int, seed: int, index: int) -> np.ndarray:
    """Noise of a strip of rows of a field.

    Its standard deviation per pixel is ``survey.sigma`` where there is no light, whether neighbouring pixels
    correlate or not: ``Survey.noise`` is what one measures on the image. With a ``correlation`` the noise of
    an aperture is therefore larger than ``sigma * sqrt(n_pixels)``. Where the survey has a ``gain``, the
    photons of the sources add the variance ``light / gain``, as Gaussian noise, correlated like the rest.

    Parameters
    ----------
    survey : Survey
        Gives sigma, correlation and gain.
    light : (rows, width) float array, flux units
        Noise-free light of rows ``y0`` to ``y0 + rows`` of the field, whole rows.
    y0 : int
        First row of the strip.
    seed, index : int
        Of the field.

    Returns
    -------
    (rows, width) float32 array, flux units
        Depends on the rows' numbers, and on nothing else of how a field is cut into strips.
    """
    rows, width = light.shape
    if survey.correlation is None:
        noise = _white(y0, rows, width, seed, index)
    else:
        # The sky goes on beyond the field: white noise starts `reach` rows and columns before it.
        kernel = correlation_kernel(survey.correlation)
        reach = len(kernel) // 2
        white = _white(y0, rows + 2 * reach, width + 2 * reach, seed, index)
        smooth = correlate1d(white, kernel, axis=0)[reach : reach + rows]
        noise = correlate1d(smooth, kernel, axis=1)[:, reach : reach + width]
    if survey.gain is None:
        return noise * np.float32(survey.sigma)
    variance = survey.sigma**2 + np.maximum(light, 0.0, dtype=np.float64) / survey.gain
    return noise * np.sqrt(variance).astype(np.float32)


def _white(y0: int, rows: int, width: int, seed: int, index: int) -> np.ndarray:
    white = np.empty((rows, width), np.float32)
    for band in range(y0 // BAND, (y0 + rows - 1) // BAND + 1):
        rng = field_stream(seed, index, OfField.NOISE, band)
        drawn = rng.standard_normal((BAND, width), dtype=np.float32)
        first = band * BAND
        low, high = max(y0, first), min(y0 + rows, first + BAND)
        white[low - y0 : high - y0] = drawn[low - first : high - first]
    return white

"""The noise of a field, strip by strip: the same whatever the strips."""

from __future__ import annotations

import numpy as np
from scipy.ndimage import correlate1d

from appulse.sky.survey import Purpose, Survey

# Rows of white noise drawn from one key.
BAND = 256
# A kernel ends at this many of its standard deviations, where it has fallen to 3e-4 of its peak.
_REACH = 4.0


def correlation_kernel(length: float) -> np.ndarray:
    """Kernel that correlates white noise along one axis and keeps its variance.

    Parameters
    ----------
    length : float, pixels
        Standard deviation of the Gaussian kernel. Two pixels a distance ``d`` apart then correlate as
        ``exp(-d**2 / (4 length**2))``, a little less for lengths below 0.7.

    Returns
    -------
    (2 r + 1,) float64 array
        Its squares sum to 1. Applied along rows and columns it is the field's kernel.
    """
    reach = int(np.ceil(_REACH * length))
    kernel = np.exp(-0.5 * (np.arange(-reach, reach + 1) / length) ** 2)
    return kernel / np.sqrt(np.sum(kernel**2))


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
        rng = np.random.Generator(
            np.random.Philox(np.random.SeedSequence([seed, index, Purpose.NOISE, band]))
        )
        drawn = rng.standard_normal((BAND, width), dtype=np.float32)
        first = band * BAND
        low, high = max(y0, first), min(y0 + rows, first + BAND)
        white[low - y0 : high - y0] = drawn[low - first : high - first]
    return white

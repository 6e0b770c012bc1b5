"""Background noise, drawn band by band so that any strip of a field can be made alone."""

from __future__ import annotations

import numpy as np

from appulse.sky.survey import Survey

# Rows of a band; each has its own random stream.
BAND_ROWS = 64
_PURPOSE = 1


def draw_noise(survey: Survey, light: np.ndarray, y0: int, seed: int, index: int) -> np.ndarray:
    """Noise of some rows of a field.

    Parameters
    ----------
    survey : Survey
        Gives the noise.
    light : (rows, width) float32 array, flux units
        Noise-free image of the rows.
    y0 : int
        Row of the field that ``light[0]`` is; a multiple of `BAND_ROWS`.
    seed, index : int
        Seed, and number of the field under that seed.

    Returns
    -------
    (rows, width) float32 array, flux units
    """
    noise = np.empty(light.shape, np.float32)
    for start in range(0, len(noise), BAND_ROWS):
        band = np.random.SeedSequence([seed, index, _PURPOSE, (y0 + start) // BAND_ROWS])
        rng = np.random.Generator(np.random.Philox(band))
        rng.standard_normal(dtype=np.float32, out=noise[start : start + BAND_ROWS])
    noise *= np.float32(survey.sigma)
    return noise

"""Photon noise of sources in a supplied variance, found in the surroundings of each mesh cell.

Such a variance (HST ERR, Rubin VARIANCE) rises with the light by a slope, 1 / gain. The gain is that of the
detector, but the slope of a co-added image varies with the exposures that reached a place; it is measured
from the 5 x 5 cells around each, and where too little light shows it, nothing is removed.
"""

from collections.abc import Sequence

import numpy as np

from appulse.inference.mesh import CELL

REACH = 2  # cells to every side
FEWEST = 20  # bright pixels in those cells that show a slope
BRIGHT = 5.0  # sigma
# Bright pixels looked at in each cell: hundreds around it, and a quarter of a kilobyte.
_KEPT = 32
SMALLEST = 0.02  # of the sky's variance; half as much in sigma


def bright_pixels(
    light: np.ndarray, variance: np.ndarray, sigma: np.ndarray, sky_variance: np.ndarray
) -> np.ndarray:
    """Evenly spaced ones of the bright pixels of cells.

    Parameters
    ----------
    light, variance : (columns, CELL, CELL) float64 array
        Over the cell's own level, and as supplied; NaN where bad.
    sigma, sky_variance : (columns,) float64 array
        The cell's own; NaN where it has none, and then has no bright pixels.

    Returns
    -------
    (columns, n, 3) float64 array
        Light, variance over the sky's, and the sky's; NaN after the last.
    """
    flat = light.reshape(len(light), -1), variance.reshape(len(light), -1)
    with np.errstate(invalid="ignore"):
        bright = flat[0] > BRIGHT * sigma[:, None]
    bright &= np.isfinite(sky_variance)[:, None]
    kept = np.full((len(light), _KEPT, 3), np.nan)
    for column in np.flatnonzero(bright.any(axis=1)):
        places = np.flatnonzero(bright[column])
        places = places[np.arange(min(len(places), _KEPT)) * len(places) // min(len(places), _KEPT)]
        sky = sky_variance[column]
        kept[column, : len(places)] = np.stack(
            [flat[0][column, places], flat[1][column, places] - sky, np.full(len(places), sky)], axis=1
        )
    return kept


def local_slopes(bright: Sequence[np.ndarray]) -> np.ndarray:
    """Slope of variance over light in each cell's surroundings; 0 where there is none.

    Parameters
    ----------
    bright : list of (columns, n, 3) float64 array
        From `bright_pixels`, one for each row of cells.

    Returns
    -------
    (rows, columns) float64 array
    """
    samples = np.pad(
        np.stack(bright), [(REACH, REACH), (REACH, REACH), (0, 0), (0, 0)], constant_values=np.nan
    )
    slopes = np.zeros((len(bright), len(bright[0])))
    across = 2 * REACH + 1
    for row, column in np.ndindex(slopes.shape):
        near = samples[row : row + across, column : column + across].reshape(-1, 3)
        slopes[row, column] = _slope(near[np.isfinite(near[:, 0])])
    return slopes


def _slope(bright: np.ndarray) -> float:
    """Median of excess variance over light: Theil-Sen through the sky's own point.

    Weighted by the light: of faint pixels those are taken for bright whose noise is positive, and half of
    their light may be noise (a plain median comes out a quarter too low where photon noise is strong).
    """
    if len(bright) < FEWEST:
        return 0.0
    bright = bright[np.argsort(bright[:, 1] / bright[:, 0], kind="stable")]
    light, excess, sky = bright.T
    weight = np.cumsum(light)
    slope = (excess / light)[np.searchsorted(weight, weight[-1] / 2)]
    explained = slope * light
    small = np.median(explained / sky) < SMALLEST  # zero and falling slopes as well
    poor = np.abs(excess - explained).sum() > 0.5 * np.abs(excess).sum()
    return 0.0 if small or poor else slope


def follows_pixels(
    light: np.ndarray, variance: np.ndarray, sky_variance: np.ndarray, slopes: np.ndarray
) -> np.ndarray:
    """In which cells the variance of the sky rises with the noise in its pixels.

    Parameters
    ----------
    light, variance : (columns, CELL, CELL) float64 array
        As in `bright_pixels`; NaN where there is no sky.
    sky_variance, slopes : (columns,) float64 array
        Of the cells.

    Returns
    -------
    (columns,) bool array
    """
    excess = (variance - sky_variance[:, None, None]).reshape(-1, CELL**2)
    without = excess - slopes[:, None] * light.reshape(-1, CELL**2)
    enough = (slopes > 0) & np.isfinite(without).any(axis=1)
    found = np.zeros(len(slopes), bool)
    left, whole = (np.nanmedian(np.abs(values[enough]), axis=1) for values in (without, excess))
    found[enough] = left < 0.9 * whole
    return found


def within_sky(variance: np.ndarray, sky_variance: np.ndarray, removed: np.ndarray) -> np.ndarray:
    """Supplied variance of sky pixels without what followed their noise, half of the sky's at least.

    Parameters
    ----------
    variance, sky_variance, removed : array
        As supplied, of the sky around, and slope times light.
    """
    return np.maximum(variance - removed, sky_variance / 2)

"""Level, noise and sources of each cell of the mesh, from its own pixels only."""

import numpy as np
from scipy import ndimage

from appulse.inference.mesh import CELL

CLIP = 3.0  # sigma
# Variance of a unit Gaussian cut at +-3 sigma is 1 - 2 k phi(k) / (2 Phi(k) - 1), with k = 3.
CLIPPED_STD = 0.98658
CLIP_ROUNDS = 8
_FURTHEST = 1e6  # first spreads; in as many rounds no interval grows beyond a tenth of it
LOPSIDED = 3.0
SMOOTHING = 1.5  # pixels, Gaussian sigma: faint wings rise above the noise
SOURCE_THRESHOLD = 2.5  # sigma of the smoothed image
SOURCE_MARGIN = 4  # pixels around what the threshold finds
# Noise of rounding: fewer than this share of it lies beyond so many sigma, and neighbours correlate less.
EVEN_END, EVEN_SHARE, WHITE = 2.0, 0.005, 0.1
# Share of the pixels at the lowest value from which on the sky is clipped. That of counts may be as common:
# the share up to which they have a spread, and the least and the sure distance of the others, in steps.
PILED, SPARSE, PILED_STEPS, SURE_STEPS = 0.05, 0.9, 1.5, 100
ENOUGH = 0.15  # share of a cell's pixels that must be left for a measurement


def measure_cells(cells: np.ndarray, rounding: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Level, noise and sources of cells.

    Parameters
    ----------
    cells : (n, CELL, CELL) float64 array
        NaN where bad.
    rounding : float
        Noise of rounding, of a quantised image.

    Returns
    -------
    level, sigma : (n,) float64 array
        NaN where too few pixels of the sky are left.
    sources : (n, CELL, CELL) bool array
        Pixels left out.
    """
    count = len(cells)
    level, sigma = clipped(cells.reshape(count, -1), rounding)
    sources = source_mask(cells, level, sigma)
    sky = np.where(sources, np.nan, cells).reshape(count, -1)
    level, sigma = clipped(sky, rounding)
    unknown = too_few(sky)
    return np.where(unknown, np.nan, level), np.where(unknown, np.nan, sigma), sources


def too_few(cells: np.ndarray) -> np.ndarray:
    """Which of n cells, of whatever further axes, have too few pixels that are not NaN for a measurement."""
    return np.isfinite(cells).reshape(len(cells), -1).sum(axis=1) < ENOUGH * CELL**2


def flat_cells(cells: np.ndarray) -> np.ndarray:
    """Which of (n, CELL, CELL) cells hold no noise: most pixels are equal to their left neighbours."""
    pairs = (np.isfinite(cells[:, :, 1:]) & np.isfinite(cells[:, :, :-1])).sum(axis=(1, 2))
    return 2 * (cells[:, :, 1:] == cells[:, :, :-1]).sum(axis=(1, 2)) > pairs


def piled_up(cells: np.ndarray, step: float) -> np.ndarray:
    """The lowest value of each of (n, CELL, CELL) cells if the sky is clipped there; NaN where it is not.

    In noise without steps no value comes often. The lowest of counts may, but then the next one does as well,
    or few others are left; clipped noise reaches several steps further.

    Parameters
    ----------
    cells : (n, CELL, CELL) float64 array
        NaN where bad.
    step : float
        Of the values of a quantised image, else 0.

    Returns
    -------
    (n,) float64 array
    """
    flat = cells.reshape(len(cells), -1)
    lowest = np.fmin.reduce(flat, axis=1)
    count = np.isfinite(flat).sum(axis=1)
    at_lowest = (flat == lowest[:, None]).sum(axis=1)
    piled = (at_lowest > PILED * count) & (at_lowest < count)
    for cell in np.flatnonzero(piled) if step else ():
        steps = (flat[cell][flat[cell] > lowest[cell]] - lowest[cell]) / step
        typical, next_to_it = np.median(steps), np.count_nonzero(steps < 1.5)
        piled[cell] = typical > SURE_STEPS or (
            at_lowest[cell] < SPARSE * count[cell]
            and typical > PILED_STEPS
            and at_lowest[cell] > 2 * next_to_it
        )
    return np.where(piled, lowest, np.nan)


def even_cells(cells: np.ndarray, level: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Which of (n, CELL, CELL) cells hold the noise of rounding with dither only.

    It is white, even, and ends at the square root of 3 sigma; 4.3 % of Gaussian noise lies between 2 and 3.
    What is clipped is light, or another part of the cell.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        noise = (cells - level[:, None, None]) / sigma[:, None, None]
    noise[~(np.abs(noise) <= CLIP)] = np.nan
    outer = (np.abs(noise) > EVEN_END).sum(axis=(1, 2)) < EVEN_SHARE * np.isfinite(noise).sum(axis=(1, 2))
    even = np.zeros(len(cells), bool)
    for cell in np.flatnonzero(outer):
        products = noise[cell, :, 1:] * noise[cell, :, :-1]
        products = products[np.isfinite(products)]
        even[cell] = products.size > 0 and abs(products.mean()) < WHITE
    return even


def clipped(values: np.ndarray, rounding: float = 0.0) -> tuple[np.ndarray, np.ndarray]:
    """Median and standard deviation of each row of (n, pixels) values, NaN ignored, outliers clipped.

    A row is sorted once; each round of clipping is then an interval of it, and its moments come from running
    sums. The first spread is taken below the median, where there is no light of sources. Clipping never goes
    below 1.5 steps of a quantised image, whose rounding noise is ``rounding``.
    """
    ordered = np.sort(values, axis=1)  # NaN last
    rows = np.arange(len(ordered))
    count = np.isfinite(ordered).sum(axis=1)
    last = np.maximum(count - 1, 0)
    centre = ordered[rows, last // 2]
    spread = centre - ordered[rows, np.round(0.158655 * last).astype(int)]
    above = ordered[rows, np.round(0.841345 * last).astype(int)] - centre
    # There may be padding, though: noise itself is never so lopsided.
    spread = np.where((above > 0) & (spread > LOPSIDED * above), above, spread)
    origin = np.where(count > 0, centre, 0.0)[:, None]
    # A fill value of -1e30 would swamp the running sums; no kept interval reaches as far as these bounds.
    furthest = _FURTHEST * np.nan_to_num(np.maximum(spread, rounding))[:, None]
    offset = np.clip(np.nan_to_num(ordered - origin), -furthest, furthest)
    sums = _running_sum(offset)
    squares = _running_sum(offset**2)
    low, high = np.zeros_like(count), count
    for _ in range(CLIP_ROUNDS):
        with np.errstate(invalid="ignore"):
            reach = np.maximum(CLIP * spread, 1.5 * np.sqrt(12) * rounding)[:, None]
            low = (ordered < centre[:, None] - reach).sum(axis=1)
            high = (ordered <= centre[:, None] + reach).sum(axis=1)
        kept = np.maximum(high - low, 1)
        mean = (sums[rows, high] - sums[rows, low]) / kept
        scatter = (squares[rows, high] - squares[rows, low]) / kept - mean**2
        spread = np.sqrt(np.maximum(scatter, 0)) / CLIPPED_STD
        centre = ordered[rows, np.clip((low + high) // 2, 0, last)]
    return np.where(count > 0, centre, np.nan), np.where(count > 0, spread, np.nan)


def _running_sum(values: np.ndarray) -> np.ndarray:
    return np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)


def source_mask(cells: np.ndarray, level: np.ndarray, sigma: np.ndarray) -> np.ndarray:
    """Pixels near anything that stands out of the smoothed cell. No cell looks at its neighbours."""
    good = np.isfinite(cells)
    safe = np.where(sigma > 0, sigma, np.inf)[:, None, None]
    excess = np.where(good, (cells - level[:, None, None]) / safe, 0.0)
    width = (0, SMOOTHING, SMOOTHING)
    coverage = ndimage.gaussian_filter(good.astype(float), width, mode="constant")
    smooth = ndimage.gaussian_filter(np.nan_to_num(excess), width, mode="constant")
    smooth = np.where(good, smooth / np.maximum(coverage, 1e-3), np.nan)
    centre, spread = (values[:, None, None] for values in clipped(smooth.reshape(len(cells), -1)))
    found = (smooth > centre + SOURCE_THRESHOLD * spread) & (spread > 0)
    reach = 2 * SOURCE_MARGIN + 1
    return ndimage.maximum_filter(found, size=(1, reach, reach), mode="constant")


def medians(cells: np.ndarray) -> np.ndarray:
    """Lower median of the pixels of each of (n, CELL, CELL) cells; NaN where all are."""
    flat = np.sort(cells.reshape(len(cells), -1), axis=1)
    middle = np.maximum(np.isfinite(flat).sum(axis=1) - 1, 0) // 2
    return flat[np.arange(len(flat)), middle]

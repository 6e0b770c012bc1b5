"""How much of an image sources cover, and how wide the compact ones are: what a model may not know."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import sep
from scipy import ndimage

from appulse.windows import Window

# Radii whose fluxes tell the width of a core up to 7 pixels: small, so that wings of a PSF or a galaxy, and
# neighbours, stay outside.
INNER, OUTER = 1.0, 2.0
# Of cutouts of 300 to 900 pixels of fields without a star, of `paper` (seed 2000) and `euclid-wide` (2200 and
# 9804), 9 to 18 in 100 with 8 or 9 such sources came out wider than a model of their PSF takes; of 2200 with
# 16 and more, half a percent.
FEWEST_COMPACT = 16
# A source: connected pixels, and how far above the noise once smoothed; of a bright one, unsmoothed.
_FEWEST_PIXELS, _LIMIT, _BRIGHT = 5, 1.5, 20.0
_SMOOTHING = np.outer((1, 2, 1), (1, 2, 1)).astype(np.float32) / 16


class Crowding(NamedTuple):
    """Measurements of an image.

    Parameters
    ----------
    coverage : float
        Share of the good pixels in sources: five or more connected ones above 1.5 sigma once smoothed.
    width : float, pixels
        Full width at half maximum of the most compact bright sources; NaN where there are too few.
    """

    coverage: float
    width: float


def measure_crowding(scaled: np.ndarray, bad: np.ndarray) -> Crowding:
    """Find the sources of an image, and measure the compact ones.

    Parameters
    ----------
    scaled : (height, width) float array, units of the noise
        Without background.
    bad : (height, width) bool array
        Pixels that do not count.

    Returns
    -------
    Crowding
    """
    clean = np.where(bad, 0.0, scaled).astype(np.float32)
    # Not by sep.extract: one detection that fills the image takes its deblending minutes and gigabytes.
    smooth = ndimage.convolve(clean, _SMOOTHING, mode="constant")
    labels, count = ndimage.label(smooth > _LIMIT, np.ones((3, 3)))
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    sizes[0] = 0
    kept = np.flatnonzero(sizes >= _FEWEST_PIXELS)
    in_sources = np.bincount(labels[~bad], minlength=count + 1)[kept].sum()
    coverage = float(in_sources / max(np.count_nonzero(~bad), 1))
    return Crowding(coverage, _compact_width(clean, smooth, bad, labels, kept))


@dataclass(frozen=True)
class Sampling:
    """Parts that stand for a large image, spread evenly over it.

    Parameters
    ----------
    longest : int, pixels
        An axis up to this long is taken whole.
    part : int, pixels
        Length of the parts of a longer one.
    count : int
        Their number; together they are no longer than `longest`.
    """

    longest: int
    part: int
    count: int

    def windows(self, shape: tuple[int, int]) -> list[list[Window]]:
        """The parts, row by row.

        Parameters
        ----------
        shape : (height, width), pixels
            Of the image.
        """
        return [[(rows, columns) for columns in self._along(shape[1])] for rows in self._along(shape[0])]

    def _along(self, length: int) -> list[slice]:
        if length <= self.longest:
            return [slice(0, length)]
        starts = np.linspace(0, length - self.part, self.count).astype(int).tolist()
        return [slice(start, start + self.part) for start in starts]


# Where it is measured whether the sources of an image are such as a model knows.
SAMPLING = Sampling(longest=2048, part=512, count=4)


def _compact_width(
    image: np.ndarray, smooth: np.ndarray, bad: np.ndarray, labels: np.ndarray, kept: np.ndarray
) -> float:
    # Sources well above the noise; stars, or else the most compact galaxies, bound the PSF.
    bright = kept[ndimage.maximum(image, labels, kept) > _BRIGHT] if len(kept) else kept
    if len(bright) < FEWEST_COMPACT:
        return float("nan")
    y, x = np.transpose(ndimage.center_of_mass(smooth, labels, bright))
    inner, outer = (sep.sum_circle(image, x, y, radius, subpix=9)[0] for radius in (INNER, OUTER))
    # A core with bad pixels, as saturated stars have, tells no width.
    masked = sep.sum_circle(bad.astype(np.float32), x, y, OUTER, subpix=9)[0]
    told = (masked == 0) & (outer > 0)
    if np.count_nonzero(told) < FEWEST_COMPACT:
        return float("nan")
    # The width of the Gaussian with that ratio: a circle holds 1 - exp(-radius^2 / 2 sigma^2) of its light.
    sigmas = np.linspace(0.2, 10, 2000)
    shares = np.expm1(-(INNER**2) / (2 * sigmas**2)) / np.expm1(-(OUTER**2) / (2 * sigmas**2))
    sigma = np.interp(-inner[told] / outer[told], -shares, sigmas)
    return float(2 * np.sqrt(2 * np.log(2)) * np.percentile(sigma, 10))

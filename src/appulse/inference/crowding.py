"""How much of an image sources cover, and how wide the compact ones are: what a model may not know."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import sep

# Radii whose fluxes tell the width of a core up to 7 pixels: small, so that wings of a PSF or a galaxy, and
# neighbours, stay outside.
INNER, OUTER = 1.0, 2.0
FEWEST_COMPACT = 8
# sep's buffers are process-wide and too small for dense fields; on overflow they grow by this factor.
_GROWTH = 4
_MAX_GROWTHS = 8


class Crowding(NamedTuple):
    """Measurements of an image.

    Parameters
    ----------
    coverage : float
        Share of the good pixels in sources: five or more above 1.5 sigma after light smoothing.
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
    if bad.all():
        return Crowding(0.0, float("nan"))
    clean = np.where(bad, 0.0, scaled).astype(np.float32)
    sources = with_growing_buffers(lambda: sep.extract(clean, 1.5, minarea=5, mask=bad))
    coverage = float(sources["npix"].sum() / np.count_nonzero(~bad))
    return Crowding(coverage, _compact_width(clean, bad, sources))


def parts(shape: tuple[int, int], longest: int, part: int, count: int) -> list[list[tuple[slice, slice]]]:
    """Windows that stand for a large image: spread evenly over it, row by row.

    Parameters
    ----------
    shape : (height, width), pixels
        Of the image.
    longest : int, pixels
        An axis up to this long is taken whole.
    part, count : int, pixels
        Length and number of the parts of a longer one.
    """

    def along(length: int) -> list[slice]:
        if length <= longest:
            return [slice(0, length)]
        return [slice(start, start + part) for start in np.linspace(0, length - part, count).astype(int)]

    return [[(rows, columns) for columns in along(shape[1])] for rows in along(shape[0])]


def _compact_width(image: np.ndarray, bad: np.ndarray, sources: np.ndarray) -> float:
    # Sources well above the noise; stars, or else the most compact galaxies, bound the PSF.
    bright = sources[(sources["peak"] > 20) & (sources["flag"] == 0)]
    if len(bright) < FEWEST_COMPACT:
        return float("nan")
    inner, outer = (
        sep.sum_circle(image, bright["x"], bright["y"], radius, mask=bad, subpix=9)[0]
        for radius in (INNER, OUTER)
    )
    # The width of the Gaussian with that ratio: a circle holds 1 - exp(-radius^2 / 2 sigma^2) of its light.
    sigmas = np.linspace(0.3, 10, 2000)
    shares = np.expm1(-(INNER**2) / (2 * sigmas**2)) / np.expm1(-(OUTER**2) / (2 * sigmas**2))
    sigma = np.interp(-inner / outer, -shares, sigmas)
    return float(2 * np.sqrt(2 * np.log(2)) * np.percentile(sigma, 10))


def with_growing_buffers(extract):
    """Call ``extract``; enlarge sep's buffers as long as it complains of them, then put them back.

    Parameters
    ----------
    extract : callable
        Calls ``sep.extract``.
    """
    pixstack, sub_objects = sep.get_extract_pixstack(), sep.get_sub_object_limit()
    try:
        for _ in range(_MAX_GROWTHS):
            try:
                return extract()
            except Exception as error:  # sep raises bare Exception
                message = str(error)
                if "pixel buffer full" in message:
                    sep.set_extract_pixstack(sep.get_extract_pixstack() * _GROWTH)
                elif "deblending overflow" in message:
                    sep.set_sub_object_limit(sep.get_sub_object_limit() * _GROWTH)
                else:
                    raise
        return extract()
    finally:
        sep.set_extract_pixstack(pixstack)
        sep.set_sub_object_limit(sub_objects)

"""What is odd about an image's background and noise: one sentence each, in lists of one or none."""

from __future__ import annotations

import itertools
import math

import numpy as np

from appulse.inference.mesh import CELL

# Rise of the level over its surroundings, times the noise, from which on a galaxy loses much of its light;
# cells from its middle to these. Simulated fields and real ones of small galaxies have 0.02, at most 0.1.
RISE = 0.5
REACHES = range(1, 5)
# Factor between the noise of neighbouring cells, the median of all, past which it is no noise: sky has 1.1,
# wings of galaxies without noise a hundred.
UNEVEN = 3.0
# Level of the darkest tenth of the sky, over its noise, past which nobody has subtracted it. Fields of all
# bundled surveys, simulated on a sky of 0, have a median level of -0.02 to 0.04.
PEDESTAL = 1.0
LARGEST_PADDING = 0.5


def of_clipping(lowest: float, *, is_given: bool) -> list[str]:
    """A sky that is clipped.

    Parameters
    ----------
    lowest : float
        At which value; NaN where it is not.
    is_given : bool
        Whether there is a noise map, and the measured noise is not used.
    """
    if math.isnan(lowest):
        return []
    clipped = f"many sky pixels hold the lowest value, {lowest:g}: the sky is clipped there, "
    if is_given:
        return [clipped + "which no model knows; give the image before clipping"]
    return [
        clipped + "no noise is left to measure, and thresholds mean nothing; give the image before clipping, "
        "or a noise map (--rms)"
    ]


def of_one_value() -> list[str]:
    """An image of which no noise could be measured."""
    return [
        "nearly all pixels hold one value, and the scatter of all, sources too, is taken for the noise: give "
        "a noise map (--rms)"
    ]


def of_padding(share: float) -> list[str]:
    """An image that is mostly zeros.

    Parameters
    ----------
    share : float
        Of the pixels: in blocks of zeros, and bad for that.
    """
    if share <= LARGEST_PADDING:
        return []
    return [
        f"{100 * share:.0f} % of the image are blocks of zeros, taken for pixels that no exposure reached: a "
        "simulation needs noise, and so does its empty sky"
    ]


def of_unevenness(sigma: np.ndarray) -> list[str]:
    """A scatter that is no noise.

    Parameters
    ----------
    sigma : (rows, columns) float64 array
        Noise of each mesh cell alone; NaN where not known.
    """
    magnitude = np.log(sigma)
    steps = np.abs(np.concatenate([np.diff(magnitude, axis=axis).ravel() for axis in (0, 1)]))
    steps = steps[np.isfinite(steps)]
    factor = np.exp(np.median(steps)) if steps.size else 1.0
    if factor <= UNEVEN:
        return []
    return [
        f"the scatter of the sky differs by a factor of {factor:.3g} from place to place, as light does and "
        "no noise: is this a simulation without noise?"
    ]


def of_rounding(level: float, sigma: float, step: float) -> list[str]:
    """Noise that single precision rounds away on a large pedestal.

    Parameters
    ----------
    level, sigma : float
        Typical background and noise.
    step : float
        Of the values of a quantised image, else 0.
    """
    if not sigma < step <= 2.1 * np.spacing(np.float32(abs(level))):  # of 8 bits, steps are far wider
        return []
    return [
        f"single precision rounds values near {level:.3g} to steps of {step:g}, more than the noise: "
        "subtract a constant before"
    ]


def of_rise(level: np.ndarray, sigma: np.ndarray) -> list[str]:
    """A level that takes the light of a large galaxy.

    Parameters
    ----------
    level, sigma : (rows, columns) float64 array
        Background and noise of mesh cells, as they are used; NaN where no pixel is.
    """
    rise, place = largest_rise(level, sigma)
    if rise <= RISE:
        return []
    y, x = (CELL * index + CELL // 2 for index in place)
    return [
        f"the background rises by {rise:.1f} times the noise around pixel ({x}, {y}), as under a galaxy "
        "wider than some 150 pixels, whose light it takes: subtract it yourself and use --no-background"
    ]


def of_pedestal(level: np.ndarray, sigma: np.ndarray) -> list[str]:
    """A sky that is taken for subtracted, and is not.

    Parameters
    ----------
    level, sigma : (rows, columns) float64 array
        Background and noise of mesh cells.
    """
    pedestal = darkest(level, sigma)
    if not is_pedestal(pedestal):
        return []
    return [
        f"the sky lies at {pedestal:.3g} times its noise where it is darkest, and is left in with "
        "--no-background: models know skies of 0; subtract it, or leave that option out, unless a galaxy "
        "covers the whole image"
    ]


def is_pedestal(level: float) -> bool:
    """Whether nobody can have subtracted such a sky.

    Parameters
    ----------
    level : float, units of the noise
        Where it is darkest.
    """
    return abs(level) > PEDESTAL


def darkest(level: np.ndarray, sigma: np.ndarray) -> float:
    """Level of the darkest tenth of the sky, in units of its noise; in a crowd, light lifts the rest.

    Parameters
    ----------
    level, sigma : (rows, columns) float64 array
        Background and noise of mesh cells.
    """
    return float(np.percentile(level / sigma, 10))


def largest_rise(level: np.ndarray, sigma: np.ndarray) -> tuple[float, tuple[int, int]]:
    """How far a level rises somewhere over all that is around: not along a gradient, a ridge or a step.

    Parameters
    ----------
    level, sigma : (rows, columns) float64 array
        Of mesh cells; NaN has no say.

    Returns
    -------
    rise : float
        Over the highest of the eight cells at one distance, in units of the noise there: the largest of all
        places and distances; minus infinity where the mesh is too small.
    place : (row, column)
        Of the mesh.
    """
    best, place = -math.inf, (0, 0)
    for reach in REACHES:
        rows, columns = (length - 2 * reach for length in level.shape)
        if min(rows, columns) < 1:
            break
        top = level[reach : reach + rows, reach : reach + columns]
        rise = np.full(top.shape, np.inf)
        for y, x in itertools.product((0, reach, 2 * reach), repeat=2):
            if (y, x) != (reach, reach):
                there = slice(y, y + rows), slice(x, x + columns)
                rise = np.minimum(rise, (top - level[there]) / sigma[there])
        rise[np.isnan(rise)] = -np.inf
        if rise.max() > best:
            row, column = np.unravel_index(rise.argmax(), rise.shape)
            best, place = float(rise.max()), (int(row) + reach, int(column) + reach)
    return best, place

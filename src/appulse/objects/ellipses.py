"""Several overlapping ellipses fitted to one ternary map.

An isophote of a galaxy is close to an ellipse, so a ternary map is close to ``min(2, number of ellipses
covering the pixel)``. Given rough ellipses, every class-1 pixel belongs to the ellipse it lies deepest in (or
least far outside), every class-2 pixel to at least two; the second moments of each galaxy's pixels give its
ellipse anew. Where two ellipses really overlap this converges to them in a few rounds, however the crescents
are connected.

An ellipse is a row ``(x, y, qxx, qxy, qyy)``: the boundary is ``qxx dx^2 + 2 qxy dx dy + qyy dy^2 = 1``.
"""

import numpy as np
from numba import njit

# A pixel that would need a boundary to move further than this is wrong, not wronger (pixels).
MAX_MISFIT = 3.0
_COMPILE = {"cache": True, "nogil": True}


@njit(**_COMPILE)
def level(ellipse: np.ndarray, x: float | np.ndarray, y: float | np.ndarray) -> float | np.ndarray:
    """Square of the elliptical radius: 1 on the boundary, less inside.

    Parameters
    ----------
    ellipse : (5,) float array
    x, y : float, or (n,) float arrays, pixels

    Returns
    -------
    float or (n,) float array
    """
    dx = x - ellipse[0]
    dy = y - ellipse[1]
    return ellipse[2] * dx * dx + 2.0 * ellipse[3] * dx * dy + ellipse[4] * dy * dy


@njit(**_COMPILE)
def _depth(ellipse: np.ndarray, x: float, y: float) -> float:
    """Distance (pixels) from the point to the boundary, to first order; positive inside."""
    dx = x - ellipse[0]
    dy = y - ellipse[1]
    gx = ellipse[2] * dx + ellipse[3] * dy
    gy = ellipse[3] * dx + ellipse[4] * dy
    slope = np.sqrt(gx * gx + gy * gy)
    if slope < 1e-9:
        return MAX_MISFIT
    rho = np.sqrt(max(gx * dx + gy * dy, 0.0))
    return (1.0 - rho) * rho / slope


@njit(**_COMPILE)
def _from_moments(moments: np.ndarray, ellipse: np.ndarray) -> None:
    """Uniform ellipse with the same moments: its boundary lies at twice the standard deviation."""
    n = moments[0]
    mx = moments[1] / n
    my = moments[2] / n
    # 1/12 is the variance of a pixel's own width; it also keeps a one-pixel-wide galaxy's matrix regular.
    sxx = moments[3] / n - mx * mx + 1.0 / 12.0
    sxy = moments[4] / n - mx * my
    syy = moments[5] / n - my * my + 1.0 / 12.0
    det = 4.0 * max(sxx * syy - sxy * sxy, 1e-6)
    ellipse[0] = mx
    ellipse[1] = my
    ellipse[2] = syy / det
    ellipse[3] = -sxy / det
    ellipse[4] = sxx / det


@njit(**_COMPILE)
def _accumulate(moments: np.ndarray, x: float, y: float) -> None:
    moments[0] += 1.0
    moments[1] += x
    moments[2] += y
    moments[3] += x * x
    moments[4] += x * y
    moments[5] += y * y


@njit(**_COMPILE)
def ellipses_of(members: np.ndarray, ys: np.ndarray, xs: np.ndarray) -> np.ndarray:
    """Ellipses of galaxies whose pixels are known.

    Parameters
    ----------
    members : (n_galaxies, n_pixels) bool array
    ys, xs : (n_pixels,) float array

    Returns
    -------
    (n_galaxies, 5) float array
        A galaxy without pixels gets an ellipse around the mean of all pixels.
    """
    k = members.shape[0]
    ellipses = np.zeros((k, 5))
    for j in range(k):
        moments = np.zeros(6)
        for i in range(ys.size):
            if members[j, i]:
                _accumulate(moments, xs[i], ys[i])
        if moments[0] == 0:
            for i in range(ys.size):
                _accumulate(moments, xs[i], ys[i])
        _from_moments(moments, ellipses[j])
    return ellipses


@njit(**_COMPILE)
def _two_deepest(ellipses: np.ndarray, x: float, y: float, levels: np.ndarray) -> tuple[int, int]:
    """Of the ellipses, the two that a point lies deepest in; the second is -1 where there is but one."""
    first = 0
    second = -1
    for j in range(ellipses.shape[0]):
        levels[j] = level(ellipses[j], x, y)
        if j > 0:
            if levels[j] < levels[first]:
                second = first
                first = j
            elif second < 0 or levels[j] < levels[second]:
                second = j
    return first, second


@njit(**_COMPILE)
def assign(ys: np.ndarray, xs: np.ndarray, classes: np.ndarray, ellipses: np.ndarray) -> np.ndarray:
    """Share pixels out among ellipses.

    Parameters
    ----------
    ys, xs : (n_pixels,) float array
    classes : (n_pixels,) uint8 array
        1 or 2.
    ellipses : (n_galaxies, 5) float array

    Returns
    -------
    (n_galaxies, n_pixels) bool array
        A class-1 pixel belongs to one galaxy; a class-2 pixel to its two deepest (one, if there is only one)
        and to every further one that covers it.
    """
    k = ellipses.shape[0]
    members = np.zeros((k, ys.size), dtype=np.bool_)
    levels = np.empty(k)
    for i in range(ys.size):
        first, second = _two_deepest(ellipses, xs[i], ys[i], levels)
        members[first, i] = True
        if classes[i] >= 2 and second >= 0:
            members[second, i] = True
            for j in range(k):
                if levels[j] <= 1.0:
                    members[j, i] = True
    return members


@njit(**_COMPILE)
def refine(
    ys: np.ndarray,
    xs: np.ndarray,
    classes: np.ndarray,
    ellipses: np.ndarray,
    rounds: int,
    reach: float = np.inf,
) -> np.ndarray:
    """Alternate `assign` and moments until no pixel changes hands, at most ``rounds`` times.

    Parameters
    ----------
    ys, xs, classes, ellipses
        As for `assign`.
    rounds : int
    reach : float, pixels
        Pixels further outside an ellipse than this are left out of its moments: they wait for a galaxy that
        is not there yet, and must not draw the others towards them.

    Returns
    -------
    (n_galaxies, 5) float array
        A galaxy that loses all its pixels keeps its last ellipse.
    """
    k = ellipses.shape[0]
    ellipses = ellipses.copy()
    levels = np.empty(k)
    previous = np.full(ys.size, -1, dtype=np.int64)
    for _ in range(rounds):
        moments = np.zeros((k, 6))
        changed = False
        for i in range(ys.size):
            first, second = _two_deepest(ellipses, xs[i], ys[i], levels)
            owners = 0
            if levels[first] <= 1.0 or _depth(ellipses[first], xs[i], ys[i]) >= -reach:
                owners |= 1 << first
            if classes[i] >= 2 and second >= 0:
                if levels[second] <= 1.0 or _depth(ellipses[second], xs[i], ys[i]) >= -reach:
                    owners |= 1 << second
                for j in range(k):
                    if levels[j] <= 1.0:
                        owners |= 1 << j
            for j in range(k):
                if owners & (1 << j):
                    _accumulate(moments[j], xs[i], ys[i])
            if owners != previous[i]:
                changed = True
                previous[i] = owners
        if not changed:
            break
        for j in range(k):
            if moments[j, 0] > 0:
                _from_moments(moments[j], ellipses[j])
    return ellipses


@njit(**_COMPILE)
def misfit(ternary: np.ndarray, ellipses: np.ndarray) -> float:
    """How far boundaries would have to move for the ellipses to give the ternary map.

    Parameters
    ----------
    ternary : (height, width) uint8 array
    ellipses : (n_galaxies, 5) float array

    Returns
    -------
    float, pixels squared
        Sum over wrongly classified pixels of the distance to the boundary that must move, each at most
        `MAX_MISFIT`. A pixelised ellipse fitted by its own moments has about 0.01 to 0.03 per boundary pixel.
    """
    k = ellipses.shape[0]
    depths = np.empty(k)
    total = 0.0
    for i in range(ternary.shape[0]):
        for column in range(ternary.shape[1]):
            covered = 0
            for j in range(k):
                if level(ellipses[j], float(column), float(i)) < 1.0:
                    covered += 1
            want = ternary[i, column]
            if min(covered, 2) == want:
                continue
            for j in range(k):
                depths[j] = _depth(ellipses[j], float(column), float(i))
            # As many boundaries must move: of those that must retreat, or advance, the nearest ones.
            retreat = covered > want
            for _ in range(abs(covered - want)):
                nearest = MAX_MISFIT
                best = -1
                for j in range(k):
                    if (depths[j] > 0) == retreat and abs(depths[j]) < nearest:
                        nearest = abs(depths[j])
                        best = j
                if best >= 0:
                    depths[best] = -2 * MAX_MISFIT if retreat else 2 * MAX_MISFIT
                total += nearest
    return total

"""A mesh fixed to the pixel grid: level, noise and sources of each cell, from its own pixels only."""

import functools
import itertools

import numpy as np
from scipy import ndimage

CELL = 64  # pixels; well above the galaxies of surveys, well below flat-field and sky gradients
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


def mesh_shape(shape):
    """Rows and columns of cells that cover an image of a (height, width)."""
    return tuple(-(-length // CELL) for length in shape)


def cut_cells(values, bad):
    """Cells of a strip of rows that begins at a cell's first row.

    Parameters
    ----------
    values : (height, width) array
        At most CELL rows.
    bad : (height, width) bool array

    Returns
    -------
    (columns, CELL, CELL) float64 array
        NaN where bad or outside the image.
    """
    height, width = values.shape
    columns = -(-width // CELL)
    strip = np.full((CELL, columns * CELL), np.nan)
    strip[:height, :width] = np.where(bad, np.nan, values)
    return strip.reshape(CELL, columns, CELL).swapaxes(0, 1)


def join_cells(cells, shape):
    """The inverse of `cut_cells`: a strip of a (height, width)."""
    return cells.swapaxes(0, 1).reshape(CELL, -1)[: shape[0], : shape[1]]


def measure_cells(cells, rounding):
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


def too_few(cells):
    """Which of n cells, of whatever further axes, have too few pixels that are not NaN for a measurement."""
    return np.isfinite(cells).reshape(len(cells), -1).sum(axis=1) < ENOUGH * CELL**2


def flat_cells(cells):
    """Which of (n, CELL, CELL) cells hold no noise: most pixels are equal to their left neighbours."""
    pairs = (np.isfinite(cells[:, :, 1:]) & np.isfinite(cells[:, :, :-1])).sum(axis=(1, 2))
    return 2 * (cells[:, :, 1:] == cells[:, :, :-1]).sum(axis=(1, 2)) > pairs


def piled_up(cells, step):
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


def even_cells(cells, level, sigma):
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


def clipped(values, rounding=0.0):
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


def _running_sum(values):
    return np.concatenate([np.zeros((len(values), 1)), np.cumsum(values, axis=1)], axis=1)


def source_mask(cells, level, sigma):
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


def medians(cells):
    """Lower median of the pixels of each of (n, CELL, CELL) cells; NaN where all are."""
    flat = np.sort(cells.reshape(len(cells), -1), axis=1)
    middle = np.maximum(np.isfinite(flat).sum(axis=1) - 1, 0) // 2
    return flat[np.arange(len(flat)), middle]


def filtered(mesh):
    """Take out the outliers of a mesh by 3x3 medians, NaN ignored.

    Where all nine cells are NaN, deep inside what has no sky, the nearest cell of the result that is not.
    """
    padded = np.pad(mesh, 1, mode="edge")
    return _filled(_median(np.lib.stride_tricks.sliding_window_view(padded, (3, 3))))


def filtered_level(mesh, outside, shape):
    """Take out the outliers of a mesh by 3x3 medians, and give a plane back as it is.

    Where some of the nine cells are not known, beside the image's borders too, the median of the others would
    lie up to a cell further inside. There it is one among what planes tell: neighbours on opposite sides, and
    those on two sides with the one between. The first cells outside what was exposed go on straight, since
    pixels as far as its border are interpolated towards them.

    Parameters
    ----------
    mesh : (rows, columns) float array
        NaN where not known.
    outside : (rows, columns) bool array
        Cells with too few good pixels. Those that hold too little sky for sources are bridged, not continued:
        the wings of a galaxy would rise into it.
    shape : (height, width), pixels
        Of the image.

    Returns
    -------
    (rows, columns) float array
    """
    around = np.lib.stride_tricks.sliding_window_view(np.pad(mesh, 1, constant_values=np.nan), (3, 3))
    opposite = np.where(np.isnan(around[..., ::-1, ::-1]), np.nan, around)
    told = [*np.moveaxis(opposite.reshape(*mesh.shape, 9), -1, 0), *_corners(mesh, mesh), _median(around)]
    whole = np.isfinite(around).all(axis=(-2, -1))
    smooth = _filled(np.where(whole, told[-1], _median(np.stack(told, axis=-1)[..., None])))
    beside = _mean(*(_continued(mesh, axis, shape[axis]) for axis in (0, 1)))
    return np.where(outside, _known(beside, _mean(*_corners(mesh, beside)), smooth), smooth)


def _continued(mesh, axis, length):
    """What two known cells on one side of each tell of it along an axis; the median with those beside it.

    NaN where no two are, and between known ones.
    """
    along = np.pad(np.moveaxis(mesh, axis, 0), [(2, 2), (1, 1)], constant_values=np.nan)
    centres = np.pad(_centres(length), 2, constant_values=np.nan)[:, None]
    one_sided = np.full((len(along) - 4, along.shape[1]), np.nan)
    sides = [(slice(1, -3), slice(0, -4)), (slice(3, -1), slice(4, None))]
    for (near, far), (opposite, _) in (sides, sides[::-1]):
        steps = (centres[2:-2] - centres[near]) / (centres[near] - centres[far])
        told = along[near] + (along[near] - along[far]) * steps
        one_sided = np.where(np.isnan(along[opposite]), _known(one_sided, told), one_sided)
    own = one_sided[:, 1:-1]
    three = np.stack([_known(one_sided[:, :-2], own), own, _known(one_sided[:, 2:], own)], axis=-1)
    result = np.where(np.isnan(own), np.nan, _median(three[..., None]))
    return np.moveaxis(result, 0, axis)


def _filled(mesh):
    nearest = ndimage.distance_transform_edt(np.isnan(mesh), return_distances=False, return_indices=True)
    return mesh[tuple(nearest)]


def _corners(mesh, beside):
    """What the planes of two cells beside each, on two sides, and the one between tell of it: four arrays."""
    rows, columns = mesh.shape
    mesh, beside = (np.pad(values, 1, constant_values=np.nan) for values in (mesh, beside))
    for y, x in itertools.product((0, 2), (0, 2)):
        down, across = slice(y, y + rows), slice(x, x + columns)
        yield beside[down, 1:-1] + beside[1:-1, across] - mesh[down, across]


def _known(*values):
    """The first of several arrays that is not NaN, element by element."""
    return functools.reduce(lambda first, other: np.where(np.isnan(first), other, first), values)


def _mean(*values):
    """The mean of arrays, NaN ignored; NaN where all are."""
    count = np.isfinite(values).sum(axis=0)
    return np.where(count > 0, np.nansum(values, axis=0) / np.maximum(count, 1), np.nan)


def _median(around):
    """Of the last two axes, NaN ignored; NaN where all are."""
    values = around.reshape(*around.shape[:-2], -1)
    result = np.full(values.shape[:-1], np.nan)
    known = np.isfinite(values).any(axis=-1)
    result[known] = np.nanmedian(values[known], axis=-1)
    return result


def of_pixels(mesh, window):
    """Value of each pixel's own cell.

    Parameters
    ----------
    mesh : (rows, columns) array
        One value per cell.
    window : (slice, slice)
        Of the image.

    Returns
    -------
    (height, width) array
    """
    rows, columns = (np.arange(side.start, side.stop) // CELL for side in window)
    return mesh[rows[:, None], columns]


def join_mesh(mesh, shape, window=None, dtype=np.float32, *, onwards=False):
    """Mesh values, which belong to the cells' centres, interpolated linearly to every pixel.

    Parameters
    ----------
    mesh : (rows, columns) float array
        One value per cell.
    shape : (height, width), pixels
        Of the image.
    window : (slice, slice), optional
        Of the image; by default the whole.
    dtype : dtype
        Of the result: a variance may be too small for single precision where a flux is not.
    onwards : bool
        Whether values go on straight from the outermost centres to the image's borders, as a level does; a
        noise keeps the outermost value, so that it stays positive.

    Returns
    -------
    (height, width) array
        Of the window; the same numbers whatever the window.
    """
    rows, columns = window or (slice(0, shape[0]), slice(0, shape[1]))
    centres_y, centres_x = map(_centres, shape)
    x = np.arange(columns.start, columns.stop)

    @functools.cache
    def across(row):
        if onwards:
            return np.interp(x, *_to_the_borders(centres_x, mesh[row], shape[1]))
        return np.interp(x, centres_x, mesh[row])

    joined = np.empty((rows.stop - rows.start, len(x)), dtype)
    for y in range(rows.start, rows.stop):
        above = min(max(int(np.searchsorted(centres_y, y)), 1), len(mesh) - 1)
        below = max(above - 1, 0)
        share = (y - centres_y[below]) / (centres_y[above] - centres_y[below]) if above > below else 0.0
        if not onwards:
            share = min(max(share, 0.0), 1.0)
        joined[y - rows.start] = across(below) * (1 - share) + across(above) * share
    return joined


def _centres(length):
    edges = np.append(np.arange(0, length, CELL), length)
    return (edges[:-1] + edges[1:] - 1) / 2


def _to_the_borders(centres, values, length):
    """Places and values of a row of cells, and those of the image's borders on the same straight lines."""
    if len(centres) == 1:
        return centres, values
    places = np.concatenate([[-0.5], centres, [length - 0.5]])
    (first, second), (last_but_one, last) = values[:2], values[-2:]
    ends = (
        first - (second - first) * (centres[0] - places[0]) / (centres[1] - centres[0]),
        last + (last - last_but_one) * (places[-1] - centres[-1]) / (centres[-1] - centres[-2]),
    )
    return places, np.concatenate([ends[:1], values, ends[1:]])

"""Background and noise on a mesh fixed to the pixel grid, and the image in units of its noise.

SEP would measure this well, but it joins its mesh with one global spline, so that a masked pixel changes the
whole field. Here a mesh cell depends on its own pixels only, the mesh is smoothed by a 3x3 median and joined
linearly: nothing reaches further than two cells. The tests hold the result against SEP's.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from appulse.files import InputError

CELL = 64  # pixels; well above the galaxies of surveys, well below flat-field and sky gradients
CLIP = 3.0  # sigma
# Variance of a unit Gaussian cut at +-3 sigma is 1 - 2 k phi(k) / (2 Phi(k) - 1), with k = 3.
CLIPPED_STD = 0.98658
CLIP_ROUNDS = 8
SMOOTHING = 1.5  # pixels, Gaussian sigma: faint wings rise above the noise
SOURCE_THRESHOLD = 2.5  # sigma of the smoothed image
SOURCE_MARGIN = 4  # pixels around what the threshold finds
SAMPLE = 1_000_000  # pixels enough to tell a quantised image
DISTINCT = 0.25  # distinct values per pixel; a quantised image has fewer
# Share of exact zeros beside each other that noise does not make. Single ones it does, where lossy
# compression rounds each tile on its own scale.
PADDED = 0.005
FEWEST_BRIGHT = 20  # pixels that show whether a noise map follows the light
# Measured scatter over supplied noise outside which a map disagrees with its image.
RATIO_RANGE = (0.8, 1.25)
# Correlation of neighbouring sky pixels past which an image is unlike the independent noise of the training.
LARGEST_CORRELATION = 0.25
INDEPENDENT = 6  # pixels; further than drizzling or resampling correlates noise
ENOUGH = 0.15  # share of a cell's pixels that must be left for a measurement


@dataclass(frozen=True)
class NoiseScaled:
    """An image in units of its background noise. See `scale_to_noise`.

    Attributes
    ----------
    scaled : (height, width) float32 array, units of the noise
        ``(image - background) / sigma``; NaN where `bad`.
    sigma, background : (height, width) float32 array, units of the image
        The noise of the empty sky, without the photon noise of sources, and its level.
    noise : (height, width) float32 array, units of the image
        The supplied map whole, with the sources' photon noise if it has it; else `sigma`. For flux errors.
    bad : (height, width) bool array
        Not finite, masked, without a positive and finite noise, or the zero padding of a mosaic.
    noise_ratio : float
        Measured scatter over supplied sigma, the median over the background; 1 where no map was supplied.
    correlation : float
        Correlation of neighbouring background pixels: 0 for white noise, more in drizzled images.
    """

    scaled: np.ndarray
    sigma: np.ndarray
    background: np.ndarray
    noise: np.ndarray
    bad: np.ndarray
    noise_ratio: float
    correlation: float

    @property
    def noise_disagrees(self) -> bool:
        """Whether the supplied noise is not what the pixels scatter by."""
        return not RATIO_RANGE[0] <= self.noise_ratio <= RATIO_RANGE[1]

    @property
    def is_correlated(self) -> bool:
        """Whether neighbouring sky pixels know of each other."""
        return abs(self.correlation) > LARGEST_CORRELATION

    @property
    def warnings(self) -> list[str]:
        """What in the noise is unlike what the models were trained for; one sentence each."""
        found = []
        if self.noise_disagrees:
            found.append(
                f"the scatter is {self.noise_ratio:.2f} times the supplied noise: every threshold moves"
            )
        if self.is_correlated:
            found.append(
                f"neighbouring sky pixels correlate by {self.correlation:.2f} (drizzled?); the models know "
                "independent noise, so expect false small objects and too small error bars"
            )
        return found


def scale_to_noise(image, *, rms=None, variance=None, weight=None, mask=None, subtract_background=True):
    """Subtract the background and divide by its noise.

    Parameters
    ----------
    image : (height, width) array
    rms, variance, weight : (height, width) array or scalar, optional
        At most one: noise, its square, or the inverse of its square, in the image's units. Where it includes
        the photon noise of the sources, that part is taken out of `sigma` (and stays in `noise`).
    mask : (height, width) array, optional
        Non-zero or NaN is bad.
    subtract_background : bool
        False for an image whose background is already 0.

    Returns
    -------
    NoiseScaled

    Raises
    ------
    InputError
        No good pixel, all good pixels of one value, maps of another shape, or more than one noise map.
    """
    image = np.asarray(image)
    supplied = _supplied_variance(image.shape, rms, variance, weight)
    bad = ~np.isfinite(image)
    if mask is not None:
        bad |= _same_shape("mask", mask, image.shape) != 0
    if supplied is not None:
        bad |= ~(np.isfinite(supplied) & (supplied > 0))
    _check_contrast(image, bad)

    rounding, empty = _rounding_and_empty(image, bad)
    bad = bad | empty
    level_mesh, sigma_mesh, sources = _measure_mesh(image, bad, rounding)
    measured_sigma = _join_mesh(sigma_mesh, image.shape)
    background = _join_mesh(level_mesh, image.shape)
    light = image - background
    sky = ~(bad | sources)

    sigma, noise, ratio = measured_sigma, measured_sigma, 1.0
    if supplied is not None:
        sky_variance = _without_source_noise(supplied, light, measured_sigma, sky, bad)
        sigma, noise = np.sqrt(sky_variance), np.sqrt(supplied)
        usable = sky if sky.any() else ~bad
        ratio = float(np.median(measured_sigma[usable] / sigma[usable]))

    correlation = _neighbour_correlation(light, measured_sigma, sky)
    if not subtract_background:
        background, light = np.zeros(image.shape, np.float32), image
    scaled = np.full(image.shape, np.nan, np.float32)
    np.divide(light, sigma, out=scaled, where=~bad, casting="same_kind")
    sigma, noise = sigma.astype(np.float32, copy=False), noise.astype(np.float32, copy=False)
    return NoiseScaled(scaled, sigma, background, noise, bad, ratio, correlation)


def _supplied_variance(shape, rms, variance, weight):
    """The one noise map given, as a float64 variance; None where none is."""
    given = {"rms": rms, "variance": variance, "weight": weight}
    given = {name: values for name, values in given.items() if values is not None}
    if not given:
        return None
    if len(given) > 1:
        raise InputError(f"both {' and '.join(given)} were given; appulse needs one of them.")
    name, values = given.popitem()
    values = np.broadcast_to(values, shape) if np.ndim(values) == 0 else _same_shape(name, values, shape)
    values = values.astype(np.float64)
    values = np.where(values > 0, values, np.nan)
    with np.errstate(over="ignore", under="ignore"):
        return {"rms": np.square, "variance": np.positive, "weight": np.reciprocal}[name](values)


def _same_shape(name, values, shape):
    values = np.asarray(values)
    if values.shape != shape:
        raise InputError(f"the {name} map has shape {values.shape}, the image {shape}; they must agree.")
    return values


def _check_contrast(image, bad):
    good = image[~bad]
    if not good.size:
        raise InputError(
            "every pixel is bad (NaN, masked, or without a positive noise or weight); "
            "there is nothing to segment."
        )
    if good.min() == good.max():
        raise InputError(
            f"every pixel has the same value ({float(good[0])}); "
            "there is no noise to measure and nothing to segment."
        )


# ---------------------------------------------------------------------------------------------- the mesh


def _rows_of_cells(values, bad):
    """Cells of the mesh, (n, CELL, CELL) of one row after the other, NaN where bad or outside the image."""
    height, width = values.shape
    columns = -(-width // CELL)
    for row, top in enumerate(range(0, height, CELL)):
        rows = slice(top, min(top + CELL, height))
        strip = np.full((CELL, columns * CELL), np.nan)
        strip[: rows.stop - top, :width] = np.where(bad[rows], np.nan, values[rows])
        yield row, rows, strip.reshape(CELL, columns, CELL).swapaxes(0, 1)


def _measure_mesh(image, bad, rounding):
    """Level and noise per mesh cell, filtered, and the mask of sources that were left out of them."""
    mesh_shape = tuple(-(-n // CELL) for n in image.shape)
    level, sigma = np.empty(mesh_shape), np.empty(mesh_shape)
    sources = np.empty(image.shape, bool)
    for row, rows, cells in _rows_of_cells(image, bad):
        level[row], sigma[row], found = _measure_cells(cells, rounding)
        sources[rows] = found.swapaxes(0, 1).reshape(CELL, -1)[: rows.stop - rows.start, : image.shape[1]]

    sigma = np.maximum(sigma, rounding)
    measured = np.isfinite(level) & (sigma > 0)
    if measured.any():
        return _fill_and_filter(level, measured), _fill_and_filter(sigma, measured), sources
    values = image[~bad].astype(np.float64)  # a small or sparse image: one cell
    one_level, one_sigma = (float(statistic[0]) for statistic in _clipped(values[None, :], rounding))
    one_sigma = max(one_sigma, rounding) or values.std()
    return np.full(mesh_shape, one_level), np.full(mesh_shape, one_sigma), sources


def _fill_and_filter(mesh, measured):
    """Give cells without a measurement their nearest neighbour's; then take out outliers by a 3x3 median."""
    nearest = ndimage.distance_transform_edt(~measured, return_distances=False, return_indices=True)
    return ndimage.median_filter(mesh[tuple(nearest)], size=3, mode="nearest")


def _measure_cells(cells, rounding):
    """Level, noise and source mask of (n, CELL, CELL) cells; NaN where too few pixels of the sky are left."""
    count = len(cells)
    level, sigma = _clipped(cells.reshape(count, -1), rounding)
    sources = _source_mask(cells, level, sigma)
    sky = np.where(sources, np.nan, cells).reshape(count, -1)
    level, sigma = _clipped(sky, rounding)
    too_few = np.isfinite(sky).sum(axis=1) < ENOUGH * CELL**2
    return np.where(too_few, np.nan, level), np.where(too_few, np.nan, sigma), sources


def _clipped(values, rounding=0.0):
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
    origin = np.where(count > 0, centre, 0.0)[:, None]
    offset = np.nan_to_num(ordered - origin)
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


def _source_mask(cells, level, sigma):
    """Pixels near anything that stands out of the smoothed cell. No cell looks at its neighbours."""
    good = np.isfinite(cells)
    safe = np.where(sigma > 0, sigma, np.inf)[:, None, None]
    excess = np.where(good, (cells - level[:, None, None]) / safe, 0.0)
    width = (0, SMOOTHING, SMOOTHING)
    coverage = ndimage.gaussian_filter(good.astype(float), width, mode="constant")
    smooth = ndimage.gaussian_filter(np.nan_to_num(excess), width, mode="constant")
    smooth = np.where(good, smooth / np.maximum(coverage, 1e-3), np.nan)
    centre, spread = (values[:, None, None] for values in _clipped(smooth.reshape(len(cells), -1)))
    found = (smooth > centre + SOURCE_THRESHOLD * spread) & (spread > 0)
    reach = 2 * SOURCE_MARGIN + 1
    return ndimage.maximum_filter(found, size=(1, reach, reach), mode="constant")


def _rounding_and_empty(image, bad):
    """Noise of rounding, and the pixels that no exposure reached.

    An image with few distinct values (8 bits, say) is quantised: no noise in it can be smaller than
    step / sqrt(12), the step being the smallest gap between values. In any other image a value hardly ever
    comes twice, and many zeros side by side are padding, which would pull level and noise down.
    """
    good = image[~bad & (image != 0)]
    sample = good[:: max(1, good.size // SAMPLE)].astype(np.float64)
    values = np.unique(np.append(sample, 0.0))
    if values.size < DISTINCT * sample.size or sample.size < CELL:
        return float(np.diff(values).min() / np.sqrt(12)), np.zeros(image.shape, bool)
    zeros = (image == 0) & ~bad
    side_by_side = np.count_nonzero(zeros[:, 1:] & zeros[:, :-1])
    return 0.0, zeros if side_by_side > PADDED * image.size else np.zeros(image.shape, bool)


def _join_mesh(mesh, shape):
    """Mesh values, which belong to the cells' centres, interpolated linearly to every pixel; float32."""
    edges = [np.append(np.arange(0, length, CELL), length) for length in shape]
    centres_y, centres_x = ((edge[:-1] + edge[1:] - 1) / 2 for edge in edges)
    across = np.stack([np.interp(np.arange(shape[1]), centres_x, row) for row in mesh])
    joined = np.empty(shape, np.float32)
    for y in range(shape[0]):
        above = min(int(np.searchsorted(centres_y, y)), len(mesh) - 1)
        below = max(above - 1, 0)
        share = (y - centres_y[below]) / (centres_y[above] - centres_y[below]) if above > below else 0.0
        share = min(max(share, 0.0), 1.0)
        joined[y] = across[below] * (1 - share) + across[above] * share
    return joined


# ------------------------------------------------------------------------------------ supplied noise maps


def _without_source_noise(supplied, light, sigma, sky, bad):
    """Variance of the sky alone: what rises with the light of sources is taken out of a supplied variance.

    The slope (1 / gain) is the median of excess variance over light: Theil-Sen through the sky's own point.
    """
    bright = ~bad & (light > 5 * sigma)
    if bright.sum() < FEWEST_BRIGHT or not sky.any():
        return supplied
    level = _sky_level(supplied, sky)
    excess = supplied - level
    slope = np.median(excess[bright] / light[bright])
    explained = slope * light[bright]
    small = np.median(explained / level[bright]) < 0.02  # 1 % of sigma
    poor = np.abs(excess[bright] - explained).sum() > 0.5 * np.abs(excess[bright]).sum()
    if small or poor:
        return supplied
    sky_variance = supplied.copy()
    sources = ~sky & ~bad
    left_over = np.where(bad, 0.0, supplied - slope * light)
    # The light's noise came in with it; what is left of the sources is flat and may be smoothed.
    coverage = ndimage.gaussian_filter((~bad).astype(np.float64), SMOOTHING)
    smooth = ndimage.gaussian_filter(left_over, SMOOTHING) / np.maximum(coverage, 1e-3)
    sky_variance[sources] = np.maximum(smooth, level)[sources]
    # Some pipelines (Rubin) take the photon noise from the noisy image itself, in the empty sky too.
    without = (excess - slope * light)[sky]
    if np.median(np.abs(without)) < 0.9 * np.median(np.abs(excess[sky])):
        sky_variance[sky] = np.maximum(without + level[sky], level[sky] / 2)
    return sky_variance


def _sky_level(variance, sky):
    """Median variance of the sky pixels, cell by cell, joined like the background."""
    level = np.empty(tuple(-(-n // CELL) for n in variance.shape))
    for row, _, cells in _rows_of_cells(variance, ~sky):
        flat = np.sort(cells.reshape(len(cells), -1), axis=1)
        middle = np.maximum(np.isfinite(flat).sum(axis=1) - 1, 0) // 2
        level[row] = flat[np.arange(len(flat)), middle]
    return _join_mesh(_fill_and_filter(level, np.isfinite(level)), variance.shape)


def _neighbour_correlation(light, sigma, sky):
    """Mean correlation of horizontally and of vertically adjacent sky pixels; 0 where there are none.

    From differences: those of neighbours have twice the variance times (1 - correlation), those of pixels
    `INDEPENDENT` apart twice the variance. Faint wings of galaxies are common to both pixels and drop out,
    which in the product of two pixels they would not.
    """
    scaled = np.divide(light, sigma, out=np.zeros(light.shape, np.float32), where=sky, casting="same_kind")
    quiet = sky & (np.abs(scaled) < CLIP)
    near, far = (_mean_square_difference(scaled, quiet, lag) for lag in (1, INDEPENDENT))
    return float(1 - near / far) if far > 0 else 0.0


def _mean_square_difference(values, good, lag):
    total, pairs = 0.0, 0
    for one, other in ((np.s_[:, :-lag], np.s_[:, lag:]), (np.s_[:-lag], np.s_[lag:])):
        both = good[one] & good[other]
        total += np.square(values[one] - values[other], where=both, out=np.zeros(both.shape)).sum()
        pairs += np.count_nonzero(both)
    return total / pairs if pairs else 0.0

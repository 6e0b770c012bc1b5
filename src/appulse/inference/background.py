"""Background and noise on a mesh fixed to the pixel grid, and the image in units of its noise.

SEP would measure this well, but it joins its mesh with one global spline, so that a masked pixel changes the
whole field. Here a mesh cell depends on its own pixels only, the mesh is smoothed by a 3x3 median and joined
linearly: nothing reaches further than two cells. The tests hold the result against SEP's.

An image is measured in strips of one row of cells (`measure_noise`) and scaled window by window
(`Noise.scale`), so that neither needs the whole image, and no number depends on the window.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from scipy import ndimage

from appulse.files import InputError
from appulse.inference.exposure import ArraySource, EveryNth, Exposure, Window, cropped, whole
from appulse.inference.mesh import (
    CELL,
    CLIP,
    SMOOTHING,
    clipped,
    cut_cells,
    fill_and_filter,
    join_cells,
    join_mesh,
    measure_cells,
    mesh_shape,
)

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
# Pixels that the smoothing of a noise map reaches: SciPy cuts its Gaussian at four standard deviations.
_REACH = int(4 * SMOOTHING + 0.5)


@dataclass(frozen=True)
class NoiseQuality:
    """How the noise of an image compares with what the models know.

    Attributes
    ----------
    noise_ratio : float
        Measured scatter over supplied sigma, the median over the background; 1 where no map was supplied.
    correlation : float
        Correlation of neighbouring background pixels: 0 for white noise, more in drizzled images.
    """

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


@dataclass(frozen=True)
class NoiseScaled(NoiseQuality):
    """A window of an image in units of its background noise. See `Noise.scale`.

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
    """

    scaled: np.ndarray
    sigma: np.ndarray
    background: np.ndarray
    noise: np.ndarray
    bad: np.ndarray


@dataclass(frozen=True)
class Noise(NoiseQuality):
    """Background and noise of a whole image, in as many numbers as it has mesh cells. See `measure_noise`.

    Attributes
    ----------
    shape : (height, width), pixels
        Of the image.
    level, sigma : (rows, columns) float64 array, units of the image
        Background and measured noise per mesh cell, filtered.
    rounding : float, units of the image
        Noise of rounding, of a quantised image.
    zero_is_bad : bool
        Whether exact zeros are the padding of a mosaic.
    subtract_background : bool
        Whether `level` is taken off.
    slope : float or None
        What a supplied variance gains per unit of light, if it includes the sources' photon noise.
    follows_pixels : bool
        Whether that photon noise was taken from the noisy pixels themselves, in the empty sky too (Rubin).
    sky_variance : (rows, columns) float64 array or None
        Median supplied variance of the sky per mesh cell, filtered; None where no map was supplied.
    """

    shape: tuple[int, int]
    level: np.ndarray
    sigma: np.ndarray
    rounding: float
    zero_is_bad: bool
    subtract_background: bool
    slope: float | None
    follows_pixels: bool
    sky_variance: np.ndarray | None

    def record(self) -> dict[str, np.ndarray]:
        """All of it as plain arrays; None becomes NaN."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: np.array(np.nan if value is None else value) for name, value in values.items()}

    @classmethod
    def from_record(cls, record: dict[str, np.ndarray]) -> Noise:
        """What `record` was made of.

        Parameters
        ----------
        record : dict of str to array
            Plain arrays.
        """
        plain = {name: value.item() if value.ndim == 0 else value for name, value in record.items()}
        plain["shape"] = tuple(int(side) for side in record["shape"])
        for name in ("slope", "sky_variance"):
            plain[name] = None if record[name].ndim == 0 and np.isnan(record[name]) else plain[name]
        return cls(**plain)

    def scale(self, exposure: Exposure, window: Window | None = None) -> NoiseScaled:
        """A window of the image in units of its noise.

        Parameters
        ----------
        exposure : Exposure
            What was measured.
        window : (slice, slice), optional
            By default the whole image.

        Returns
        -------
        NoiseScaled
            The same numbers whatever the window.
        """
        window = window or whole(self.shape)
        image, variance, bad = exposure.read(window)
        bad = self._bad(image, bad)
        background = join_mesh(self.level, self.shape, window)
        if variance is None:
            sigma = noise = join_mesh(self.sigma, self.shape, window)
        else:
            noise = np.sqrt(variance)
            sigma = noise if self.slope is None else np.sqrt(self._sky_variance(exposure, window))
        light = image - background if self.subtract_background else image
        if not self.subtract_background:
            background = np.zeros(image.shape, np.float32)
        scaled = np.full(image.shape, np.nan, np.float32)
        np.divide(light, sigma, out=scaled, where=~bad, casting="same_kind")
        sigma, noise = sigma.astype(np.float32, copy=False), noise.astype(np.float32, copy=False)
        return NoiseScaled(self.noise_ratio, self.correlation, scaled, sigma, background, noise, bad)

    def _bad(self, image, bad):
        return bad | (image == 0) if self.zero_is_bad else bad

    def _sky_variance(self, exposure, window):
        """Supplied variance without what rises with the light of sources."""
        outer = tuple(
            slice(max(side.start - _REACH, 0) // CELL * CELL, min(-(-(side.stop + _REACH) // CELL) * CELL, n))
            for side, n in zip(window, self.shape, strict=True)
        )
        image, variance, bad = exposure.read(outer)
        bad = self._bad(image, bad)
        sources = np.empty(bad.shape, bool)
        for top in range(0, len(bad), CELL):
            rows = slice(top, min(top + CELL, len(bad)))
            found = measure_cells(cut_cells(image[rows], bad[rows]), self.rounding)[2]
            sources[rows] = join_cells(found, bad[rows].shape)
        light = (image - join_mesh(self.level, self.shape, outer)).astype(np.float64)
        level = join_mesh(self.sky_variance, self.shape, outer)
        sky, sources = ~(bad | sources), sources & ~bad
        result = variance.copy()
        left_over = np.where(bad, 0.0, variance - self.slope * light)
        # The light's noise came in with it; what is left of the sources is flat and may be smoothed.
        coverage = ndimage.gaussian_filter((~bad).astype(np.float64), SMOOTHING)
        smooth = ndimage.gaussian_filter(left_over, SMOOTHING) / np.maximum(coverage, 1e-3)
        result[sources] = np.maximum(smooth, level)[sources]
        if self.follows_pixels:
            without = (variance - level - self.slope * light)[sky]
            result[sky] = np.maximum(without + level[sky], level[sky] / 2)
        return result[cropped(window, outer)]


def scale_to_noise(image, *, rms=None, variance=None, weight=None, mask=None, subtract_background=True):
    """Subtract the background and divide by its noise: `measure_noise` and `Noise.scale` of a whole array.

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
    exposure = Exposure.of(ArraySource(image), rms=rms, variance=variance, weight=weight, mask=mask)
    return measure_noise(exposure, subtract_background=subtract_background).scale(exposure)


def measure_noise(exposure: Exposure, *, subtract_background: bool = True, progress=None) -> Noise:
    """Measure background and noise of an image, strip by strip.

    Parameters
    ----------
    exposure : Exposure
        Image and maps.
    subtract_background : bool
        False for an image whose background is already 0.
    progress : callable, optional
        Called with "background", strips done and their total.

    Returns
    -------
    Noise

    Raises
    ------
    InputError
        No good pixel, or all good pixels of one value.
    """
    shape = exposure.shape
    tops = range(0, shape[0], CELL)
    total = (3 if exposure.kind is None else 4) * len(tops)
    done = 0

    def strips():
        nonlocal done
        for row, top in enumerate(tops):
            window = slice(top, min(top + CELL, shape[0])), slice(0, shape[1])
            yield row, window, *exposure.read(window)
            done += 1
            if progress:
                progress("background", done, total)

    rounding, zero_is_bad = _rounding_and_padding(strips)
    level, sigma = np.empty(mesh_shape(shape)), np.empty(mesh_shape(shape))
    # A bit per pixel: strips are looked at again, and measuring a cell costs far more than reading it.
    sources = []
    for row, _, image, _, bad in strips():
        bad = bad | (image == 0) if zero_is_bad else bad
        level[row], sigma[row], found = measure_cells(cut_cells(image, bad), rounding)
        sources.append(np.packbits(join_cells(found, bad.shape), axis=1))
    sigma = np.maximum(sigma, rounding)
    measured = np.isfinite(level) & (sigma > 0)
    if measured.any():
        level, sigma = fill_and_filter(level, measured), fill_and_filter(sigma, measured)
    else:
        level[:], sigma[:] = _one_cell(strips, zero_is_bad, rounding)

    def looked_at():
        for row, window, image, variance, bad in strips():
            bad = bad | (image == 0) if zero_is_bad else bad
            found = np.unpackbits(sources[row], axis=1, count=shape[1]).astype(bool)
            yield row, window, image - join_mesh(level, shape, window), variance, bad, ~(bad | found)

    correlation, sky_variance = _Correlation(), np.empty(level.shape)
    for row, window, light, variance, _, sky in looked_at():
        correlation.add(light, join_mesh(sigma, shape, window), sky)
        if variance is not None:
            sky_variance[row] = _median_of_cells(cut_cells(variance, ~sky))
    slope, follows_pixels, ratio = None, False, 1.0
    if exposure.kind is not None:
        seen = np.isfinite(sky_variance)
        sky_variance = fill_and_filter(sky_variance, seen) if seen.any() else None
        slope, follows_pixels, ratio = _compare_with_supplied(looked_at, sigma, sky_variance, shape)
    return Noise(
        ratio,
        correlation.value(),
        shape,
        level,
        sigma,
        rounding,
        zero_is_bad,
        subtract_background,
        slope,
        follows_pixels,
        sky_variance if exposure.kind is not None else None,
    )


def _rounding_and_padding(strips):
    """Noise of rounding, and whether zeros are pixels that no exposure reached.

    An image with few distinct values (8 bits, say) is quantised: no noise in it can be smaller than
    step / sqrt(12), the step being the smallest gap between values. In any other image a value hardly ever
    comes twice, and many zeros side by side are padding, which would pull level and noise down.
    """
    lowest, highest, good, side_by_side, pixels = np.inf, -np.inf, 0, 0, 0
    nth = EveryNth()
    for _, _, image, _, bad in strips():
        values = image[~bad]
        pixels += image.size
        if values.size:
            lowest, highest = min(lowest, values.min()), max(highest, values.max())
            good += values.size
            zeros = (image == 0) & ~bad
            side_by_side += np.count_nonzero(zeros[:, 1:] & zeros[:, :-1])
            nth.add(values[values != 0])
    if not good:
        raise InputError(
            "every pixel is bad (NaN, masked, or without a positive noise or weight); "
            "there is nothing to segment."
        )
    if lowest == highest:
        raise InputError(
            f"every pixel has the same value ({float(lowest)}); "
            "there is no noise to measure and nothing to segment."
        )
    sample = nth.values().astype(np.float64)
    distinct = np.unique(np.append(sample, 0.0))
    if distinct.size < DISTINCT * sample.size or sample.size < CELL:
        return float(np.diff(distinct).min() / np.sqrt(12)), False
    return 0.0, side_by_side > PADDED * pixels


def _one_cell(strips, zero_is_bad, rounding):
    """Level and noise of a small or sparse image, as if it were one cell."""
    nth = EveryNth()
    for _, _, image, _, bad in strips():
        nth.add(image[~(bad | (image == 0)) if zero_is_bad else ~bad])
    values = nth.values().astype(np.float64)
    level, sigma = (float(statistic[0]) for statistic in clipped(values[None, :], rounding))
    return level, max(sigma, rounding) or values.std()


def _median_of_cells(cells):
    flat = np.sort(cells.reshape(len(cells), -1), axis=1)
    middle = np.maximum(np.isfinite(flat).sum(axis=1) - 1, 0) // 2
    return flat[np.arange(len(flat)), middle]


def _compare_with_supplied(looked_at, sigma, sky_variance, shape):
    """Whether a supplied variance rises with the light of sources, and how it compares with the scatter.

    The slope (1 / gain) is the median of excess variance over light: Theil-Sen through the sky's own point.
    """
    bright, empty, good = EveryNth(), EveryNth(), EveryNth()
    for _, window, light, variance, bad, sky in looked_at():
        measured = join_mesh(sigma, shape, window)
        level = np.zeros(light.shape) if sky_variance is None else join_mesh(sky_variance, shape, window)
        columns = np.stack([light, variance, measured, level], axis=-1)
        bright.add(columns[~bad & (light > 5 * measured)])
        empty.add(columns[sky])
        good.add(columns[~bad])
    light, variance, _, level = bright.values(4).T
    slope = None
    if bright.count >= FEWEST_BRIGHT and empty.count:
        excess = variance - level
        slope = float(np.median(excess / light))
        explained = slope * light
        small = np.median(explained / level) < 0.02  # 1 % of sigma
        poor = np.abs(excess - explained).sum() > 0.5 * np.abs(excess).sum()
        slope = None if small or poor else slope
    light, variance, measured, level = (empty if empty.count else good).values(4).T
    follows_pixels = False
    if slope is not None:
        without = variance - level - slope * light
        follows_pixels = bool(np.median(np.abs(without)) < 0.9 * np.median(np.abs(variance - level)))
        if follows_pixels:
            variance = np.maximum(without + level, level / 2)
    return slope, follows_pixels, float(np.median(measured / np.sqrt(variance)))


class _Correlation:
    """Mean correlation of horizontally and of vertically adjacent sky pixels, gathered strip by strip.

    From differences: those of neighbours have twice the variance times (1 - correlation), those of pixels
    `INDEPENDENT` apart twice the variance. Faint wings of galaxies are common to both pixels and drop out,
    which in the product of two pixels they would not.
    """

    def __init__(self):
        self.total = {1: 0.0, INDEPENDENT: 0.0}
        self.pairs = {1: 0, INDEPENDENT: 0}
        self.above = None

    def add(self, light, sigma, sky):
        scaled = np.divide(
            light, sigma, out=np.zeros(light.shape, np.float32), where=sky, casting="same_kind"
        )
        quiet = sky & (np.abs(scaled) < CLIP)
        new = 0
        if self.above is not None:
            new = len(self.above[0])
            scaled, quiet = np.concatenate([self.above[0], scaled]), np.concatenate([self.above[1], quiet])
        for lag in self.total:
            left, right = np.s_[new:, :-lag], np.s_[new:, lag:]
            self._add_pairs(lag, scaled[left], scaled[right], quiet[left], quiet[right])
            start = max(new - lag, 0)  # of pairs one above the other, those whose lower pixel is new
            one, other = slice(start, max(len(scaled) - lag, start)), slice(start + lag, None)
            self._add_pairs(lag, scaled[one], scaled[other], quiet[one], quiet[other])
        self.above = scaled[-INDEPENDENT:], quiet[-INDEPENDENT:]

    def _add_pairs(self, lag, one, other, one_quiet, other_quiet):
        if not one.size:
            return
        both = one_quiet & other_quiet
        self.total[lag] += np.square(one - other, where=both, out=np.zeros(both.shape)).sum()
        self.pairs[lag] += np.count_nonzero(both)

    def value(self):
        near, far = (self.total[lag] / max(self.pairs[lag], 1) for lag in self.total)
        return float(1 - near / far) if far > 0 else 0.0

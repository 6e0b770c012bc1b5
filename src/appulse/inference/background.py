"""Background and noise on a mesh fixed to the pixel grid, and the image in units of its noise.

SEP would measure this well, but it joins its mesh with one global spline, so that a masked pixel changes the
whole field. Here a mesh cell depends on its own pixels only, the mesh is smoothed by a 3x3 median and joined
linearly: nothing reaches further than two cells. The tests hold the result against SEP's. What is known of
the whole image goes into warnings; no pixel's value follows from it, but for what is of its format: the step
of a quantised image, and how large a block of zeros must be that noise does not make.

An image is measured in strips of one row of cells (`measure_noise`) and scaled window by window
(`Noise.scale`), so that neither needs the whole image, and no number depends on the window.
"""

from __future__ import annotations

from dataclasses import dataclass, fields

import numpy as np
from scipy import ndimage

from appulse.files import InputError
from appulse.inference.correlation import PairSums
from appulse.inference.exposure import ArraySource, EveryNth, Exposure, Window, cropped, whole
from appulse.inference.mesh import (
    CELL,
    SMOOTHING,
    clipped,
    cut_cells,
    even_cells,
    filtered,
    flat_cells,
    join_cells,
    join_mesh,
    measure_cells,
    medians,
    mesh_shape,
    of_pixels,
)
from appulse.inference.padding import SIDES, padding, padding_side, zeros_outside
from appulse.inference.photon_noise import bright_pixels, follows_pixels, local_slopes, within_sky
from appulse.network.validity import INDEPENDENT

DISTINCT = 0.25  # distinct values per pixel; a quantised image has fewer
FINE = 1.5  # steps in the noise of an image whose sky has many values
# Measured scatter over supplied noise outside which a map disagrees with its image.
RATIO_RANGE = (0.8, 1.25)
# And outside which it is probably a map of another kind.
ANOTHER_KIND = (0.1, 10.0)
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
    empty : float
        Share of the mesh cells whose good pixels hold no sky: nearly all of one value, or only the noise of
        rounding with dither, as lossy compression makes of padding.
    """

    noise_ratio: float
    correlation: float
    empty: float

    @property
    def noise_disagrees(self) -> bool:
        """Whether the supplied noise is not what the pixels scatter by."""
        return not RATIO_RANGE[0] <= self.noise_ratio <= RATIO_RANGE[1]

    @property
    def warnings(self) -> list[str]:
        """What is odd about the noise, whatever the model; one sentence each."""
        found = []
        if self.noise_disagrees:
            words = f"the scatter is {self.noise_ratio:.3g} times the supplied noise: every threshold moves"
            if not ANOTHER_KIND[0] <= self.noise_ratio <= ANOTHER_KIND[1]:
                words += "; is the map a weight, a variance or an rms, and was it given as such?"
            found.append(words)
        if self.empty:
            share = max(round(100 * self.empty), 1)
            found.append(
                f"{share} % of the image hold nearly one value, or only the noise of lossy compression: "
                "padding that is not 0? its pixels are not flagged; give a --mask or --weight"
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
    correlated : (height, width) bool array
        Where neighbouring sky pixels know of each other, more or less than was taken.
    """

    scaled: np.ndarray
    sigma: np.ndarray
    background: np.ndarray
    noise: np.ndarray
    bad: np.ndarray
    correlated: np.ndarray


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
    padding_side : int, pixels
        A block of so many by so many exact zeros is pixels that no exposure reached; 0 where zeros are values
        like others.
    subtract_background : bool
        Whether `level` is taken off.
    correlations : (rows, columns) float64 array
        Correlation of neighbouring sky pixels around each mesh cell.
    slopes : (rows, columns) float64 array or None
        What a supplied variance gains per unit of light around each mesh cell, the sources' photon noise; 0
        where it does not include that. None where no map was supplied.
    follows_pixels : (rows, columns) bool array or None
        Whether that photon noise was taken from the noisy pixels themselves, in the empty sky too (Rubin).
    sky_variance : (rows, columns) float64 array or None
        Median supplied variance of the sky per mesh cell, filtered; None where no map was supplied, or there
        is no sky.
    sources : (height, bytes) uint8 array or None
        A bit per pixel: whether it is near anything that stands out. None where no slope asks for it.
    """

    shape: tuple[int, int]
    level: np.ndarray
    sigma: np.ndarray
    rounding: float
    padding_side: int
    subtract_background: bool
    correlations: np.ndarray
    slopes: np.ndarray | None
    follows_pixels: np.ndarray | None
    sky_variance: np.ndarray | None
    sources: np.ndarray | None

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
        for name in ("slopes", "follows_pixels", "sky_variance", "sources"):
            plain[name] = None if record[name].ndim == 0 and np.isnan(record[name]) else plain[name]
        return cls(**plain)

    def scale(
        self,
        exposure: Exposure,
        window: Window | None = None,
        correlations: tuple[float, float] = INDEPENDENT,
    ) -> NoiseScaled:
        """A window of the image in units of its noise.

        Parameters
        ----------
        exposure : Exposure
            What was measured.
        window : (slice, slice), optional
            By default the whole image.
        correlations : (float, float)
            Least and largest of neighbouring sky pixels; outside they are marked as `correlated`.

        Returns
        -------
        NoiseScaled
            The same numbers whatever the window.
        """
        window = window or whole(self.shape)
        image, variance, bad = exposure.read(window)
        bad = self._bad(exposure, window, image, bad)
        background = join_mesh(self.level, self.shape, window)
        if variance is None:
            sigma = noise = join_mesh(self.sigma, self.shape, window)
        else:
            noise = np.sqrt(variance)
            removed = self.slopes is not None and of_pixels(self.slopes, window).any()
            sigma = np.sqrt(self._sky_variance(exposure, window)) if removed else noise
        light = image - background if self.subtract_background else image
        if not self.subtract_background:
            background = np.zeros(image.shape, np.float32)
        scaled = np.full(image.shape, np.nan, np.float32)
        np.divide(light, sigma, out=scaled, where=~bad, casting="same_kind")
        sigma, noise = sigma.astype(np.float32, copy=False), noise.astype(np.float32, copy=False)
        measured = of_pixels(self.correlations, window)
        correlated = (measured < correlations[0]) | (measured > correlations[1])
        quality = self.noise_ratio, self.correlation, self.empty
        return NoiseScaled(*quality, scaled, sigma, background, noise, bad, correlated)

    def disagrees(self, window: Window) -> np.ndarray:
        """Where the supplied noise is not what the pixels scatter by.

        Parameters
        ----------
        window : (slice, slice)
            Of the image.

        Returns
        -------
        (height, width) bool array
        """
        if self.sky_variance is None:
            return np.full([side.stop - side.start for side in window], self.noise_disagrees)
        ratio = self.sigma / np.sqrt(self.sky_variance)
        return of_pixels((ratio < RATIO_RANGE[0]) | (ratio > RATIO_RANGE[1]), window)

    def bad(self, exposure: Exposure, window: Window) -> np.ndarray:
        """Bad pixels of a window, without the rest of `scale`.

        Parameters
        ----------
        exposure : Exposure
            What was measured.
        window : (slice, slice)
            Of the image.

        Returns
        -------
        (height, width) bool array
        """
        image, _, bad = exposure.read(window)
        return self._bad(exposure, window, image, bad)

    def _bad(self, exposure, window, image, bad):
        return bad | padding(exposure, window, image, self.padding_side) if self.padding_side else bad

    def _sky_variance(self, exposure, window):
        """Supplied variance without what rises with the light of sources."""
        outer = tuple(
            slice(max(side.start - _REACH, 0) // CELL * CELL, min(-(-(side.stop + _REACH) // CELL) * CELL, n))
            for side, n in zip(window, self.shape, strict=True)
        )
        image, variance, bad = exposure.read(outer)
        bad = self._bad(exposure, outer, image, bad)
        rows, columns = outer
        sources = self.sources[rows, columns.start // 8 : -(-columns.stop // 8)]
        sources = np.unpackbits(sources, axis=1, count=bad.shape[1]).astype(bool)
        light = (image - join_mesh(self.level, self.shape, outer)).astype(np.float64)
        level = join_mesh(self.sky_variance, self.shape, outer, np.float64)
        slope = of_pixels(self.slopes, outer)
        sky, sources = ~(bad | sources) & (slope > 0), sources & ~bad & (slope > 0)
        # The light's noise came in with it; what is left of the sources is flat and may be smoothed. Both
        # terms are, with the slope of the pixel they are for: slopes of neighbouring cells differ.
        coverage = np.maximum(ndimage.gaussian_filter((~bad).astype(np.float64), SMOOTHING), 1e-3)
        smooth_variance, smooth_light = (
            ndimage.gaussian_filter(np.where(bad, 0.0, values), SMOOTHING) / coverage
            for values in (variance, light)
        )
        left = smooth_variance - slope * smooth_light
        # Three times what the light's own noise leaves in it: less is no other depth than the sky's.
        doubt = 3 * slope * np.sqrt(smooth_variance) / (2 * np.sqrt(np.pi) * SMOOTHING)
        result = variance.copy()
        result[sources] = np.where(left > level + doubt, left, level)[sources]
        sky &= of_pixels(self.follows_pixels, outer)
        result[sky] = within_sky(variance[sky], level[sky], slope[sky] * light[sky])
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
    windows = [(slice(top, min(top + CELL, shape[0])), slice(0, shape[1])) for top in tops]
    done, side = 0, 0

    def strips():
        nonlocal done
        for row, window in enumerate(windows):
            image, variance, bad = exposure.read(window)
            if side:
                bad = bad | padding(exposure, window, image, side)
            yield row, window, image, variance, bad
            done += 1
            if progress:
                progress("background", min(done, total), total)  # once more, where all is one cell

    counts = []

    def counted():
        for row, window, image, variance, bad in strips():
            counts.append(zeros_outside(exposure, window, image, bad, SIDES[0]))
            yield row, window, image, variance, bad

    step = _step(counted)
    rounding = step / np.sqrt(12)
    side = padding_side(exposure, windows, counts, quantised=step > 0)
    own_level, own_sigma = np.empty(mesh_shape(shape)), np.empty(mesh_shape(shape))
    flat, even = np.zeros(own_level.shape, bool), np.zeros(own_level.shape, bool)
    # A bit per pixel: strips are looked at again, and measuring a cell costs far more than reading it.
    sources = []
    for row, _, image, _, bad in strips():
        cells = cut_cells(image, bad)
        own_level[row], own_sigma[row], found = measure_cells(cells, rounding)
        flat[row], even[row] = flat_cells(cells), even_cells(cells, own_level[row], own_sigma[row])
        sources.append(np.packbits(join_cells(found, bad.shape), axis=1))
    own_sigma = np.maximum(own_sigma, rounding)
    known = np.isfinite(own_level)
    # Where noise is no wider than a step, flat cells are what an honest sky looks like.
    others = own_sigma[known & ~flat]
    if step and not (others.size and np.median(others) > FINE * step):
        flat[:] = False
    empty = known & (flat | even & (own_sigma > 2 * FINE * step) | (own_sigma == 0))
    measured = known & ~empty
    if measured.any():
        own_level[~measured] = own_sigma[~measured] = np.nan
        level, sigma = filtered(own_level), filtered(own_sigma)
    else:
        empty[:] = False
        own_level[:], own_sigma[:] = _one_cell(strips, rounding)
        level, sigma = own_level, own_sigma

    def looked_at():
        for row, window, image, variance, bad in strips():
            found = np.unpackbits(sources[row], axis=1, count=shape[1]).astype(bool)
            yield row, window, image, variance, bad, ~(bad | found)

    pairs, own_variance = PairSums(level.shape), np.full(level.shape, np.nan)
    bright = []
    for row, _, image, variance, bad, sky in looked_at():
        cells = cut_cells(image, bad) - own_level[row][:, None, None]
        pairs.add(row, cut_cells(image, ~sky) - own_level[row][:, None, None], own_sigma[row])
        if variance is not None:
            own_variance[row] = medians(cut_cells(variance, ~sky))
            bright.append(bright_pixels(cells, cut_cells(variance, bad), own_sigma[row], own_variance[row]))
    slopes = follows = sky_variance = None
    ratio = 1.0
    if exposure.kind is not None:
        slopes, follows = local_slopes(bright), np.zeros(level.shape, bool)
        if np.isfinite(own_variance).any():
            sky_variance = filtered(own_variance)
        scatter, anywhere = EveryNth(), EveryNth()  # over what was supplied, in the sky and of all pixels
        for row, window, image, variance, bad, sky in looked_at():
            expected = join_mesh(sigma, shape, window)
            if slopes[row].any():
                cells = cut_cells(image, ~sky) - own_level[row][:, None, None]
                follows[row] = follows_pixels(
                    cells, cut_cells(variance, ~sky), own_variance[row], slopes[row]
                )
                light = image - join_mesh(level, shape, window)
                removed = of_pixels(slopes, window) * of_pixels(follows, window) * light
                known = join_mesh(sky_variance, shape, window, np.float64)
                variance = np.where(removed != 0, within_sky(variance, known, removed), variance)
            for sample, wanted in ((scatter, sky), (anywhere, ~bad)):
                sample.add(expected[wanted] / np.sqrt(variance[wanted]))
        ratio = float(np.median((scatter if scatter.count else anywhere).values()))
    return Noise(
        ratio,
        pairs.correlation(),
        float(empty.mean()),
        shape,
        level,
        sigma,
        rounding,
        side,
        subtract_background,
        pairs.local_correlations(),
        slopes,
        follows,
        sky_variance,
        np.concatenate(sources) if slopes is not None and slopes.any() else None,
    )


def _step(strips):
    """Gap between neighbouring values of a quantised image; 0 for any other.

    An image with few distinct values (8 bits, say) is quantised: no noise in it can be smaller than
    step / sqrt(12). In any other image a value hardly ever comes twice. The step is a property of the image's
    format and not of its pixels: a tenth of all gaps is at most as wide, in two digits, so that no patch
    moves it.
    """
    lowest, highest, good = np.inf, -np.inf, 0
    nth = EveryNth()
    for _, _, image, _, bad in strips():
        values = image[~bad]
        if values.size:
            lowest, highest = min(lowest, values.min()), max(highest, values.max())
            good += values.size
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
        step = np.quantile(np.diff(distinct), 0.1, method="lower")
        return float(f"{step:.2g}")
    return 0.0


def _one_cell(strips, rounding):
    """Level and noise of a small or sparse image, as if it were one cell."""
    nth = EveryNth()
    for _, _, image, _, bad in strips():
        nth.add(image[~bad])
    values = nth.values().astype(np.float64)
    level, sigma = (float(statistic[0]) for statistic in clipped(values[None, :], rounding))
    return level, max(sigma, rounding) or values.std()

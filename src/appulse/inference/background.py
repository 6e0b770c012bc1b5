"""Background and noise measured on a mesh fixed to the pixel grid.

SEP would measure this well, but it joins its mesh with one global spline, so that a masked pixel changes the
whole field. Here a mesh cell depends on its own pixels only, the mesh is smoothed by a 3x3 median and joined
linearly, and the level goes on straight to the image's borders: nothing reaches further than two cells, but
where there is no sky for as long. The tests hold the result against SEP's. What is known of the whole image
goes into warnings; no pixel's value follows from it, but for what is of its format: the step of a quantised
image, and how large a block of zeros must be that noise does not make.

An image is measured in strips of one row of cells, so that nothing needs the whole of it.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import ArrayLike

from appulse.files import InputError
from appulse.inference.cells import clipped, even_cells, flat_cells, measure_cells, medians, piled_up, too_few
from appulse.inference.correlation import PairSums
from appulse.inference.exposure import ArraySource, EveryNth, Exposure, Map
from appulse.inference.mesh import CELL, cut_cells, join_cells, join_mesh, mesh_shape, of_pixels
from appulse.inference.mesh_filter import filtered, filtered_level
from appulse.inference.noise import Noise, NoiseScaled
from appulse.inference.oddities import (
    of_clipping,
    of_one_value,
    of_padding,
    of_pedestal,
    of_rise,
    of_rounding,
    of_unevenness,
)
from appulse.inference.padding import SIDES, padding, padding_side, zeros_outside
from appulse.inference.photon_noise import bright_pixels, follows_pixels, local_slopes, within_sky
from appulse.progress import Progress
from appulse.windows import Window

DISTINCT = 0.25  # distinct values per pixel; a quantised image has fewer
NO_DATA = 1e8  # times the noise that a tenth of the pixels lie below: no depth varies as much
FINE = 1.5  # steps in the noise of an image whose sky has many values


def scale_to_noise(
    image: ArrayLike,
    *,
    rms: Map | None = None,
    variance: Map | None = None,
    weight: Map | None = None,
    mask: Map | None = None,
    subtract_background: bool = True,
) -> NoiseScaled:
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


def measure_noise(
    exposure: Exposure, *, subtract_background: bool = True, progress: Progress | None = None
) -> Noise:
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
    passes = 3 if exposure.kind is None else 4
    strips = _Strips(exposure, side=0, tell=_teller(progress, passes * mesh_shape(exposure.shape)[0]))
    step, zeros, largest = _image_format(strips)
    strips = strips.without_noise_above(largest)
    side = padding_side(strips.exposure, strips.windows, zeros, quantised=step > 0)
    strips = strips.without(side)
    mesh = _measure_mesh(strips, step)
    sky = _sky_statistics(strips, mesh)
    supplied = _Supplied() if exposure.kind is None else _compare_supplied(strips, mesh, sky)
    return Noise(
        noise_ratio=supplied.ratio,
        correlation=sky.pairs.correlation(),
        empty=float(mesh.empty.mean()),
        shape=exposure.shape,
        level=mesh.level,
        sigma=mesh.sigma,
        rounding=mesh.rounding,
        padding_side=side,
        largest_variance=largest,
        subtract_background=subtract_background,
        correlations=sky.pairs.local_correlations(),
        oddities=_oddities(mesh, step, exposure.kind is not None, subtract_background),
        slopes=supplied.slopes,
        follows_pixels=supplied.follows_pixels,
        sky_variance=supplied.sky_variance,
        sources=np.concatenate(mesh.sources) if supplied.holds_photon_noise else None,
    )


@dataclass(frozen=True)
class _Strip:
    """One row of mesh cells, its pixels as `Exposure.read` gives them, and how many are padding."""

    row: int
    window: Window
    image: np.ndarray
    variance: np.ndarray | None
    bad: np.ndarray
    padding: int


@dataclass(frozen=True)
class _Strips:
    """An image strip by strip: each time through it is one pass, told strip by strip.

    Blocks of zeros of a ``side`` are bad as well; of 0, none are.
    """

    exposure: Exposure
    side: int
    tell: Callable[[], None]

    @property
    def windows(self) -> list[Window]:
        height, width = self.exposure.shape
        return [(slice(top, min(top + CELL, height)), slice(0, width)) for top in range(0, height, CELL)]

    def __iter__(self) -> Iterator[_Strip]:
        for row, window in enumerate(self.windows):
            image, variance, bad = self.exposure.read(window)
            given = np.count_nonzero(bad)
            if self.side:
                bad = bad | padding(self.exposure, window, image, self.side)
            yield _Strip(row, window, image, variance, bad, int(np.count_nonzero(bad) - given))
            self.tell()

    def without_noise_above(self, largest_variance: float) -> _Strips:
        """The same where more noise means that there is no data."""
        return replace(self, exposure=replace(self.exposure, largest_variance=largest_variance))

    def without(self, side: int) -> _Strips:
        """The same without the padding in blocks of a side."""
        return replace(self, side=side)


def _teller(progress: Progress | None, total: int) -> Callable[[], None]:
    """A function that tells ``progress`` of one more strip."""
    done = itertools.count(1)

    def tell() -> None:
        if progress:
            progress("background", min(next(done), total), total)  # once more, where all is one cell

    return tell


def _image_format(strips: _Strips) -> tuple[float, list[tuple[int, int]], float]:
    """Step of an image's values (0 where they have none), counts for `padding_side`, and largest variance.

    In one pass, which also refuses an image of which there is nothing to measure.
    """
    lowest, highest = np.inf, -np.inf
    sample, supplied, zeros = EveryNth(), EveryNth(), []
    for strip in strips:
        values = strip.image[~strip.bad]
        if values.size:
            lowest, highest = min(lowest, values.min()), max(highest, values.max())
            sample.add(values[values != 0])
            if strip.variance is not None:
                supplied.add(strip.variance[~strip.bad])
        zeros.append(zeros_outside(strips.exposure, strip.window, strip.image, strip.bad, SIDES[0]))
    if lowest > highest:
        raise InputError(
            "every pixel is bad (NaN, masked, or without a positive noise or weight); "
            "there is nothing to segment."
        )
    if lowest == highest:
        raise InputError(
            f"every pixel has the same value ({float(lowest)}); "
            "there is no noise to measure and nothing to segment."
        )
    return _quantisation_step(sample.values().astype(np.float64)), zeros, _largest_variance(supplied.values())


def _largest_variance(sample: np.ndarray) -> float:
    """The variance beyond which there is no data; infinite without a map.

    Of the noise that a tenth is below, because most of a mosaic may be without data.
    """
    return float(NO_DATA**2 * np.quantile(sample, 0.1)) if sample.size else np.inf


def _quantisation_step(sample: np.ndarray) -> float:
    """Gap between neighbouring values of a quantised image; 0 for any other.

    An image with few distinct values (8 bits, say) is quantised: no noise in it can be smaller than
    step / sqrt(12). In any other image a value hardly ever comes twice. The step is a property of the image's
    format and not of its pixels: a tenth of all gaps is at most as wide, in two digits, so that no patch
    moves it.
    """
    distinct = np.unique(np.append(sample, 0.0))
    if distinct.size < DISTINCT * sample.size or sample.size < CELL:
        step = np.quantile(np.diff(distinct), 0.1, method="lower")
        return float(f"{step:.2g}")
    return 0.0


@dataclass(frozen=True)
class _Mesh:
    """Level and noise of mesh cells, and which of their pixels are sky.

    ``own_level`` and ``own_sigma`` are of each cell's own pixels, NaN where these hold no sky; ``level`` and
    ``sigma`` are filtered; ``empty`` cells hold none for all their good pixels, of which those ``outside``
    have too few. ``sources`` has a bit per pixel, strip by strip: strips are looked at again, and measuring a
    cell costs far more than reading it. A share of all pixels is ``padding``; at ``lowest`` the sky is
    clipped, if it is; where not ``has_noise``, none was found.
    """

    own_level: np.ndarray
    own_sigma: np.ndarray
    level: np.ndarray
    sigma: np.ndarray
    rounding: float
    empty: np.ndarray
    outside: np.ndarray
    sources: list[np.ndarray]
    padding: float
    lowest: float
    has_noise: bool

    def sky(self, strip: _Strip) -> np.ndarray:
        """Good pixels of a strip that are near no source."""
        sources = np.unpackbits(self.sources[strip.row], axis=1, count=strip.bad.shape[1]).astype(bool)
        return ~(strip.bad | sources)

    def light(self, strip: _Strip, bad: np.ndarray) -> np.ndarray:
        """Cells of a strip over their own level, NaN where ``bad``."""
        return cut_cells(strip.image, bad) - self.own_level[strip.row][:, None, None]


def _measure_mesh(strips: _Strips, step: float) -> _Mesh:
    """Level and noise of each mesh cell, in one pass; where no cell has any, of the whole in another."""
    rounding = step / np.sqrt(12)
    shape = mesh_shape(strips.exposure.shape)
    level, sigma = np.empty(shape), np.empty(shape)
    flat, even, outside = (np.zeros(shape, bool) for _ in range(3))
    sources, piles, padded = [], [], 0
    for strip in strips:
        cells, row = cut_cells(strip.image, strip.bad), strip.row
        level[row], sigma[row], found = measure_cells(cells, rounding)
        flat[row], even[row] = flat_cells(cells), even_cells(cells, level[row], sigma[row])
        outside[row] = too_few(cells)
        piles.append(piled_up(cells, step))
        padded += strip.padding
        sources.append(np.packbits(join_cells(found, strip.bad.shape), axis=1))
    sigma = np.maximum(sigma, rounding)
    known = np.isfinite(level)
    empty = _empty_cells(known, sigma, flat, even, step)
    measured = known & ~empty
    lowest = _clipped_at(np.concatenate(piles)[~outside.ravel()])
    has_noise = True
    if measured.any():
        level[~measured] = sigma[~measured] = np.nan
        smooth_level = filtered_level(level, outside | empty, strips.exposure.shape)
        smooth_sigma = filtered(sigma)
    else:
        level[:], sigma[:], has_noise = _one_cell(strips, rounding)
        smooth_level, smooth_sigma, empty = level, sigma, np.zeros(shape, bool)
    return _Mesh(
        own_level=level,
        own_sigma=sigma,
        level=smooth_level,
        sigma=smooth_sigma,
        rounding=rounding,
        empty=empty,
        outside=outside,
        sources=sources,
        padding=padded / np.prod(strips.exposure.shape),
        lowest=lowest,
        has_noise=has_noise,
    )


def _empty_cells(
    known: np.ndarray, sigma: np.ndarray, flat: np.ndarray, even: np.ndarray, step: float
) -> np.ndarray:
    """Which cells of known noise hold no sky: nearly all of one value, or only the noise of rounding."""
    # Where noise is no wider than a step, flat cells are what an honest sky looks like.
    others = sigma[known & ~flat]
    if step and not (others.size and np.median(others) > FINE * step):
        flat = np.zeros_like(flat)
    return known & (flat | even & (sigma > 2 * FINE * step) | (sigma == 0))


def _one_cell(strips: _Strips, rounding: float) -> tuple[float, float, bool]:
    """Level and noise of a small or sparse image, as if it were one cell, and whether it has any noise."""
    nth = EveryNth()
    for strip in strips:
        nth.add(strip.image[~strip.bad])
    values = nth.values().astype(np.float64)
    level, sigma = (float(statistic[0]) for statistic in clipped(values[None, :], rounding))
    sigma = max(sigma, rounding)
    return level, sigma or values.std(), sigma > 0


def _clipped_at(piles: np.ndarray) -> float:
    """The lowest value at which most of the cells' pixels pile up; NaN where they do not at one."""
    lowest = np.median(piles) if len(piles) else np.nan
    return float(lowest) if 2 * np.count_nonzero(piles == lowest) > len(piles) else np.nan


@dataclass(frozen=True)
class _Sky:
    """What the pixels of the sky say, and ``bright``, from `bright_pixels`, those that stand out of it.

    ``variance`` is the median supplied one of each cell's own sky, NaN where there is none. Without a map
    ``bright`` is empty.
    """

    pairs: PairSums
    variance: np.ndarray
    bright: list[np.ndarray]


def _sky_statistics(strips: _Strips, mesh: _Mesh) -> _Sky:
    """How sky pixels correlate, and what a supplied map says of them and of bright ones, in one pass."""
    pairs, variance, bright = PairSums(mesh.level.shape), np.full(mesh.level.shape, np.nan), []
    for strip in strips:
        row, no_sky = strip.row, ~mesh.sky(strip)
        pairs.add(row, mesh.light(strip, no_sky), mesh.own_sigma[row])
        if strip.variance is not None:
            variance[row] = medians(cut_cells(strip.variance, no_sky))
            light, supplied = mesh.light(strip, strip.bad), cut_cells(strip.variance, strip.bad)
            bright.append(bright_pixels(light, supplied, mesh.own_sigma[row], variance[row]))
    return _Sky(pairs, variance, bright)


@dataclass(frozen=True)
class _Supplied:
    """What the image says of a supplied noise map, as in `Noise`; the defaults are of none."""

    ratio: float = 1.0
    slopes: np.ndarray | None = None
    follows_pixels: np.ndarray | None = None
    sky_variance: np.ndarray | None = None

    @property
    def holds_photon_noise(self) -> bool:
        return self.slopes is not None and bool(self.slopes.any())


def _oddities(mesh: _Mesh, step: float, is_given: bool, is_subtracted: bool) -> tuple[str, ...]:
    """What else is odd, in words."""
    found = of_clipping(mesh.lowest, is_given=is_given)
    if not (found or mesh.has_noise or is_given):
        found += of_one_value()
    found += of_padding(mesh.padding) + of_unevenness(mesh.own_sigma)
    found += of_rounding(float(np.median(mesh.level)), float(np.median(mesh.sigma)), step)
    if is_subtracted:
        found += of_rise(np.where(mesh.outside, np.nan, mesh.level), mesh.sigma)
    else:
        found += of_pedestal(mesh.level, mesh.sigma)
    return tuple(found)


def _compare_supplied(strips: _Strips, mesh: _Mesh, sky: _Sky) -> _Supplied:
    """Photon noise in a supplied map, and the measured noise over the rest of it, in one pass."""
    shape = strips.exposure.shape
    slopes = local_slopes(sky.bright)
    follows = np.zeros(slopes.shape, bool)
    sky_variance = filtered(sky.variance) if np.isfinite(sky.variance).any() else None
    in_sky, anywhere = EveryNth(), EveryNth()  # measured over supplied noise
    for strip in strips:
        variance, row = strip.variance, strip.row
        assert variance is not None  # there is a map
        is_sky = mesh.sky(strip)
        if sky_variance is not None and slopes[row].any():
            light, supplied = mesh.light(strip, ~is_sky), cut_cells(variance, ~is_sky)
            follows[row] = follows_pixels(light, supplied, sky.variance[row], slopes[row])
            variance = _without_photon_noise(
                strip, variance, shape, mesh.level, slopes * follows, sky_variance
            )
        measured = join_mesh(mesh.sigma, shape, strip.window)
        for ratios, wanted in ((in_sky, is_sky), (anywhere, ~strip.bad)):
            ratios.add(measured[wanted] / np.sqrt(variance[wanted]))
    ratio = float(np.median((in_sky if in_sky.count else anywhere).values()))
    return _Supplied(ratio, slopes, follows, sky_variance)


def _without_photon_noise(
    strip: _Strip,
    variance: np.ndarray,
    shape: tuple[int, int],
    level: np.ndarray,
    slopes: np.ndarray,
    sky_variance: np.ndarray,
) -> np.ndarray:
    """Supplied variance of a strip, without what rises with the noise of its pixels."""
    light = strip.image - join_mesh(level, shape, strip.window, onwards=True)
    removed = of_pixels(slopes, strip.window) * light
    around = join_mesh(sky_variance, shape, strip.window, np.float64)
    return np.where(removed != 0, within_sky(variance, around, removed), variance)

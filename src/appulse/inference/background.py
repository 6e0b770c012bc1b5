"""Background and noise measured on a mesh fixed to the pixel grid.

SEP would measure this well, but it joins its mesh with one global spline, so that a masked pixel changes the
whole field. Here a mesh cell depends on its own pixels only, the mesh is smoothed by a 3x3 median and joined
linearly: nothing reaches further than two cells. The tests hold the result against SEP's. What is known of
the whole image goes into warnings; no pixel's value follows from it, but for what is of its format: the step
of a quantised image, and how large a block of zeros must be that noise does not make.

An image is measured in strips of one row of cells, so that nothing needs the whole of it.
"""

from __future__ import annotations

import numpy as np

from appulse.files import InputError
from appulse.inference.correlation import PairSums
from appulse.inference.exposure import ArraySource, EveryNth, Exposure
from appulse.inference.mesh import (
    CELL,
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
from appulse.inference.noise import Noise
from appulse.inference.padding import SIDES, padding, padding_side, zeros_outside
from appulse.inference.photon_noise import bright_pixels, follows_pixels, local_slopes, within_sky

DISTINCT = 0.25  # distinct values per pixel; a quantised image has fewer
FINE = 1.5  # steps in the noise of an image whose sky has many values


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

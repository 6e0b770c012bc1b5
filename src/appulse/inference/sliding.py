"""The sliding window: overlapping stamps, blended realisation by realisation, without a grid in the maps.

Averaging independent draws where stamps overlap would shrink the variance there. So the same realisation has,
in neighbouring stamps, the same field of thresholds and nearly the same latent, a smooth field over the sky;
its class probabilities are blended, and only then become classes.
"""

from __future__ import annotations

import functools
from collections.abc import Callable

import numba
import numpy as np

from appulse.inference import random_sky
from appulse.inference.kernels import draw_row
from appulse.inference.realisations import Realisations
from appulse.inference.sampler import Sampler
from appulse.inference.two_step import FieldMaps
from appulse.windows import Window, cropped, shape_of

# Standard deviation, in strides, of the Gaussian that makes latents smooth: a stamp wide. Stamps that share
# pixels then correlate by 0.94 and more along an axis.
SMOOTHING = 2.0


def hat(size: int) -> np.ndarray:
    """Share of a stamp in each pixel along one axis; with the stamp half a width further on it makes 1.

    Flat at the stamp's sides, where the network lacks half of the surroundings.

    Parameters
    ----------
    size : int, pixels
        Even.

    Returns
    -------
    (size,) float32 array
        Exactly complementary: multiples of 2^-20.
    """
    place = (np.arange(size // 2) + 0.5) / (size // 2)
    rising = np.round(place**2 * (3 - 2 * place) * 2**20) / 2**20
    return np.concatenate([rising, 1 - rising]).astype(np.float32)


@functools.lru_cache(maxsize=2)
def _latents(seed: int, samples: int, dimensions: int, stride: int) -> np.ndarray:
    nodes = max(random_sky.PERIOD // stride, 8)
    return random_sky.smooth_latents(seed, samples, dimensions, nodes, SMOOTHING)


def sliding_pass(
    scaled: np.ndarray, window: Window, core: Window, sampler: Sampler, progress: Callable | None = None
) -> FieldMaps:
    """Segment a block of a field with overlapping stamps, half a stamp apart.

    Parameters
    ----------
    scaled : (height, width) float32 array, units of the noise
        NaN where bad; the window.
    window : (slice, slice)
        Of the image: the block with half a stamp around it, as far as the image goes.
    core : (slice, slice)
        Of the image: the block, which begins on the grid of stamps.
    sampler : Sampler
        Model, seed and realisations.
    progress : callable, optional
        Called without arguments after each stamp.

    Returns
    -------
    FieldMaps
        Of the block.
    """
    size, stride = sampler.size, sampler.size // 2
    height, width = shape_of(core)
    realisations = Realisations(sampler.samples, (height, width))
    maps = FieldMaps(
        np.zeros((height, width), np.float32),
        np.zeros((height, width), np.float32),
        realisations,
        np.zeros((height, width), bool),
    )
    shares = hat(size)
    latents = _latents(sampler.seed, sampler.latents, sampler.network.config.latent_dimensions, stride)
    columns = range(core[1].start - stride, core[1].stop, stride)
    rows = range(core[0].start - stride, core[0].stop, stride)
    origins = [(y, x) for y in rows for x in columns]
    draws = [
        latents[:, :, (y // stride) % latents.shape[2], (x // stride) % latents.shape[3]]
        for y, x in map(sampler.on_sky, origins)
    ]
    stamps = sampler.blenders(scaled, origins, (window[0].start, window[1].start), draws)
    # Two strips, each half a stamp high; a row of stamps completes the upper one and begins the lower.
    blended = np.zeros((2, sampler.latents, size, width), np.float32)
    sums = np.zeros((2, size, width), np.float32)
    for top in rows:
        for x in columns:
            next(stamps)(shares, (0, x - core[1].start), blended, sums)
            if progress:
                progress()
        if top >= core[0].start:
            finished = slice(top, min(top + stride, core[0].stop)), core[1]
            _decide(
                maps, cropped(finished, core), blended, sums, sampler, sampler.on_sky((top, core[1].start))
            )
        for strips in (blended, sums):
            strips[..., :stride, :] = strips[..., stride:, :]
            strips[..., stride:, :] = 0
    return maps


def _decide(
    maps: FieldMaps,
    here: Window,
    blended: np.ndarray,
    sums: np.ndarray,
    sampler: Sampler,
    origin: tuple[int, int],
) -> None:
    """Classes of the finished strip."""
    n_rows = here[0].stop - here[0].start
    classes = np.empty((sampler.samples, n_rows, blended.shape[3]), np.uint8)
    copula = sampler.mode == "copula"
    _threshold(blended[:, :, :n_rows], sampler.uniform, origin[0], origin[1], copula, classes)
    maps.p_galaxy[here], maps.p_overlap[here] = sums[:, :n_rows] / sampler.latents
    maps.realisations.put(here, classes)


@numba.njit(cache=True, error_model="numpy", nogil=True)
def _threshold(
    blended: np.ndarray, uniform: np.ndarray, y0: int, x0: int, copula: bool, classes: np.ndarray
) -> None:
    n_samples, height, width = classes.shape
    for s in range(n_samples):
        latent = min(s, blended.shape[1] - 1)
        for y in range(height):
            row, galaxy, overlap = classes[s, y], blended[0, latent, y], blended[1, latent, y]
            if copula:
                draw_row(uniform[s, (y0 + y) % uniform.shape[1]], x0, galaxy, overlap, row)
            else:  # the most probable class; of equals the lowest
                for x in range(width):
                    p_galaxy, p_overlap = galaxy[x], overlap[x]
                    p_one = p_galaxy - p_overlap
                    largest = max(np.float32(1.0) - p_galaxy, p_one, p_overlap)
                    if np.float32(1.0) - p_galaxy == largest:
                        row[x] = 0
                    else:
                        row[x] = 1 if p_one == largest else 2

"""From stored stamps to training batches: depth, orientation and noise, drawn afresh every time.

A batch depends on seed and number alone, so a run that was killed goes on with the stamps it would have seen.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

import numba
import numpy as np

from appulse.files import InputError
from appulse.sky.noise import correlation_kernel, kernel_reach
from appulse.stamps.config import StampConfig
from appulse.stamps.store import StampStore
from appulse.streams import OfStamps, stamp_stream

# Threads that draw batches, and how many they are ahead of the one asked for.
_THREADS = 2
_AHEAD = 4

# Every float16 as float32: Numba reads no half precision on the CPU.
_FLOAT16 = np.arange(1 << 16, dtype=np.uint16).view(np.float16).astype(np.float32)


class StampBatch(NamedTuple):
    """A batch of stamps.

    Parameters
    ----------
    images : (batch, size, size) float32 array, units of the noise
        Noisy stamps.
    ternary : (batch, size, size) uint8 array
        Their truth.
    """

    images: np.ndarray
    ternary: np.ndarray


@dataclass(frozen=True)
class StampViews:
    """Everything random about the stamps of a batch but the noise of their pixels.

    Parameters
    ----------
    stamps : (n,) int64 array
        Numbers in the store.
    turns : (n,) int64 array
        Orientation, 0 to 7: transposed with 1, upside down with 2, mirrored with 4, in this order.
    brightness : (n,) float32 array
        Noise of the field over noise of the stamp.
    background : (n,) float32 array, units of the noise
        Constant under the stamp.
    noise_error : (n,) float32 array
        Factor by which the noise estimate, which the stamp is divided by, is too small.
    blank : (n, 4) int64 array, pixels
        First and end row, first and end column blanked to empty sky.
    smoothing : (n, taps) float32 array or None
        Kernel of the noise along either axis, of unit square sum; None leaves pixels independent.
    photon_noise : (n,) float32 array or None
        Variance of the noise that a unit of light in the store adds to the background's 1; None where no
        field has a gain. A shallower stamp is a shorter exposure of the same sky: sources and background lose
        their electrons alike, so that this does not depend on its depth.
    """

    stamps: np.ndarray
    turns: np.ndarray
    brightness: np.ndarray
    background: np.ndarray
    noise_error: np.ndarray
    blank: np.ndarray
    smoothing: np.ndarray | None
    photon_noise: np.ndarray | None


class StampSource:
    """Batches of training stamps, drawn on the CPU.

    Parameters
    ----------
    store : StampStore
        Noise-free stamps.
    config : StampConfig
        How to draw.
    seed : int
        Of every batch.

    Raises
    ------
    InputError
        The store was cut with another size or other shares, or from fields less deep than asked.
    """

    def __init__(self, store: StampStore, config: StampConfig, seed: int = 0):
        refuse_unfit(store, config)
        self.store, self.config, self.seed = store, config, seed

    def batch(self, number: int, size: int) -> StampBatch:
        """Batch ``number``; the same whenever and wherever it is drawn.

        Every stamp of the store is seen once before any is seen again.

        Parameters
        ----------
        number : int
            Counts from 0.
        size : int
            Stamps in the batch.

        Returns
        -------
        StampBatch
        """
        views = draw_views(self.store, self.config, self.seed, number, size)
        rng = stamp_stream(self.seed, OfStamps.BATCH, number, 1)
        noise = rng.standard_normal(noise_shape(views, self.config.size), dtype=np.float32)
        return show(self.store, views, noise, self.config.threshold)

    def batches(self, first: int, end: int, size: int) -> Iterator[StampBatch]:
        """Batches in their order, drawn ahead in threads while the caller works.

        Parameters
        ----------
        first, end : int
            First number, and the one after the last.
        size : int
            Stamps in a batch.

        Yields
        ------
        StampBatch
        """
        with ThreadPoolExecutor(_THREADS) as pool:
            ahead: deque[Future[StampBatch]] = deque()
            for number in range(first, end + _AHEAD):
                if number < end:
                    ahead.append(pool.submit(self.batch, number, size))
                if number >= first + _AHEAD:
                    yield ahead.popleft().result()


def refuse_unfit(store: StampStore, config: StampConfig) -> None:
    """Raise where a store does not hold what a configuration asks for.

    Parameters
    ----------
    store : StampStore
        Noise-free stamps.
    config : StampConfig
        How to draw.

    Raises
    ------
    InputError
        The store was cut with another size or other shares, or from fields less deep than asked.
    """
    if store.size != config.size:
        raise InputError(f"{store.path}: stamps of {store.size} pixels; {config.size} asked for.")
    for name, share in store.shares.items():
        if share != getattr(config, name):
            raise InputError(
                f"{store.path}: stamps cut with {name} {share}; {getattr(config, name)} asked for. Give the "
                "directory of the fields, and they are cut anew."
            )
    config.refuse_shallow(float(store.noise.min()))


def draw_views(store: StampStore, config: StampConfig, seed: int, number: int, size: int) -> StampViews:
    """Choose the stamps of a batch, and how each is seen.

    Parameters
    ----------
    store : StampStore
        Noise-free stamps.
    config : StampConfig
        How to draw.
    seed, number, size : int
        Of the run, of the batch, and of stamps in it.

    Returns
    -------
    StampViews
    """
    # The order of the draws, top to bottom, is part of the format: a run that goes on under another would see
    # other stamps than it would have seen.
    rng = stamp_stream(seed, OfStamps.BATCH, number, 0)
    stamps = _in_order(len(store), seed, number * size, size)
    fields = store.field[stamps]
    field_noise = store.noise[fields]
    depth = field_noise
    if config.depth_range:
        shallowest, deepest = config.depth_range
        depth = deepest - (deepest - shallowest) * rng.random(size) ** config.depth_power
    elif config.dimming_range:
        least, most = config.dimming_range
        depth = field_noise - least - (most - least) * rng.random(size) ** config.depth_power
    background = config.background_scatter * rng.standard_normal(size)
    if config.background_range:
        background += rng.uniform(*config.background_range, size)
    lengths, longest = store.correlation[fields], store.correlation.max()
    if config.noise_correlation:
        lengths, longest = rng.uniform(*config.noise_correlation, size), config.noise_correlation[1]
    turns = rng.integers(8, size=size) if config.flips else np.zeros(size, np.int64)
    noise_error = np.exp(config.noise_scatter * rng.standard_normal(size))
    blank = _rectangles(config, rng, size)

    reach = kernel_reach(longest)
    kernels = [correlation_kernel(length, reach) for length in lengths]
    return StampViews(
        stamps=stamps,
        turns=turns,
        brightness=(10.0 ** (0.4 * (depth - field_noise))).astype(np.float32),
        background=background.astype(np.float32),
        noise_error=noise_error.astype(np.float32),
        blank=blank,
        smoothing=np.array(kernels, np.float32) if longest else None,
        photon_noise=(1.0 / store.gain[fields]).astype(np.float32) if np.isfinite(store.gain).any() else None,
    )


def _in_order(count: int, seed: int, start: int, size: int) -> np.ndarray:
    epoch, place = np.divmod(np.arange(start, start + size), count)
    parts = [_order(count, seed, int(e))[place[epoch == e]] for e in np.unique(epoch)]
    return np.concatenate(parts)


@lru_cache(maxsize=4)
def _order(count: int, seed: int, epoch: int) -> np.ndarray:
    return stamp_stream(seed, OfStamps.ORDER, epoch).permutation(count)


def _rectangles(config: StampConfig, rng: np.random.Generator, n: int) -> np.ndarray:
    size = config.size
    y, x = rng.integers(0, size + 1, (2, n, 2))
    # Half of them reach a side of the stamp, as the border of an image does.
    reaching = rng.random(n) < 0.5
    y[reaching] = 0, size
    x[reaching, 1] = size * rng.integers(2, size=n)[reaching]
    y.sort(axis=1)
    x.sort(axis=1)
    upright = rng.random(n)[:, None] < 0.5
    rectangles = np.where(upright, np.hstack([y, x]), np.hstack([x, y]))
    rectangles[rng.random(n) >= config.blank_share] = 0
    return rectangles


def noise_shape(views: StampViews, size: int) -> tuple[int, int, int]:
    """Shape of the white noise that `show` needs; what is smoothed reaches past the stamp.

    Parameters
    ----------
    views : StampViews
        Of a batch.
    size : int, pixels
        Width of a stamp.
    """
    side = size if views.smoothing is None else size + views.smoothing.shape[1] - 1
    return len(views.stamps), side, side


def show(store: StampStore, views: StampViews, noise: np.ndarray, threshold: float) -> StampBatch:
    """Images and truth of a batch, given its noise.

    Parameters
    ----------
    store : StampStore
        Noise-free stamps.
    views : StampViews
        What was drawn for the batch.
    noise : `noise_shape` float32 array
        White, of unit variance; overwritten where it need not be smoothed.
    threshold : float, units of the noise
        ``k`` of the truth definition.

    Returns
    -------
    StampBatch
    """
    images = noise if views.smoothing is None else _smooth(noise, views.smoothing)
    ternary = np.zeros(images.shape, np.uint8)
    if views.photon_noise is not None:
        # The variance is 1 and what the light adds, pixel by pixel as an image is noise and light; nothing
        # lies above an infinite threshold, so that the truth is still untouched.
        variance = np.ones(images.shape, np.float32)
        unscaled = np.ones_like(views.noise_error)
        _add_light(variance, ternary, store, views, views.photon_noise, unscaled, np.inf)
        images *= np.sqrt(variance)
    _level(images, views.background, views.noise_error)
    _add_light(images, ternary, store, views, views.brightness, views.noise_error, threshold)
    return StampBatch(images, ternary)


def _add_light(
    images: np.ndarray,
    ternary: np.ndarray,
    store: StampStore,
    views: StampViews,
    brightness: np.ndarray,
    noise_error: np.ndarray,
    threshold: float,
) -> None:
    for layer in store.layers:
        _add_layer(
            images,
            ternary,
            layer.runs,
            layer.runs_start,
            layer.values.view(np.uint16),
            layer.values_start,
            views.stamps,
            views.turns,
            brightness,
            noise_error,
            views.blank,
            np.float32(threshold if layer.counts else np.inf),
            _FLOAT16,
        )


@numba.njit(cache=True, nogil=True)
def _level(images: np.ndarray, background: np.ndarray, noise_error: np.ndarray) -> None:
    for b in range(images.shape[0]):
        for y in range(images.shape[1]):
            for x in range(images.shape[2]):
                images[b, y, x] = (images[b, y, x] + background[b]) * noise_error[b]


@numba.njit(cache=True, nogil=True)
def _add_layer(
    images: np.ndarray,
    ternary: np.ndarray,
    runs: np.ndarray,
    runs_start: np.ndarray,
    values: np.ndarray,
    values_start: np.ndarray,
    stamps: np.ndarray,
    turns: np.ndarray,
    brightness: np.ndarray,
    noise_error: np.ndarray,
    blank: np.ndarray,
    threshold: np.float32,
    float16: np.ndarray,
) -> None:
    size = images.shape[1]
    for b in range(len(stamps)):
        place = values_start[stamps[b]]
        for run in range(runs_start[stamps[b]], runs_start[stamps[b] + 1]):
            first = int(runs[run, 0])
            for pixel in range(first, first + int(runs[run, 1])):
                light = float16[values[place]] * brightness[b]
                place += 1
                y, x = pixel // size, pixel % size
                if turns[b] & 1:
                    y, x = x, y
                if turns[b] & 2:
                    y = size - 1 - y
                if turns[b] & 4:
                    x = size - 1 - x
                if blank[b, 0] <= y < blank[b, 1] and blank[b, 2] <= x < blank[b, 3]:
                    continue
                images[b, y, x] += light * noise_error[b]
                if light > threshold:
                    ternary[b, y, x] += 1


@numba.njit(cache=True, nogil=True)
def _smooth(noise: np.ndarray, kernels: np.ndarray) -> np.ndarray:
    n, wide, _ = noise.shape
    taps = kernels.shape[1]
    size = wide - taps + 1
    rows = np.empty((wide, size), np.float32)
    smooth = np.zeros((n, size, size), np.float32)
    for b in range(n):
        rows[:] = 0
        for k in range(taps):
            weight = kernels[b, k]
            for y in range(wide):
                for x in range(size):
                    rows[y, x] += weight * noise[b, y, x + k]
        for k in range(taps):
            weight = kernels[b, k]
            for y in range(size):
                for x in range(size):
                    smooth[b, y, x] += weight * rows[y + k, x]
    return smooth

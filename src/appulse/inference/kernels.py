"""Realisations of one stamp from its encoded features, on the CPU.

Per pixel and realisation the combiner's remaining layers are computed, and then the class. A row of features
stays in cache and the realisations are streamed over it, so fifty of them cost little more than the network
and memory does not grow with them. Combiners of one hidden layer are served; `twins` serves any.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Literal

import numba
import numpy as np
import torch
from scipy import special

from appulse.network.calibration import IDENTITY, Calibration, calibrated_logit

if TYPE_CHECKING:
    from appulse.network.punet import Combiner

Mode = Literal["copula", "latent"]  # how a realisation becomes classes

# The kernels read their functions from tables, interpolated linearly: P(class >= 1) of the score
# log(e^one + e^two), P(class 2 | >= 1) of two - one, both calibrated, and log(1 + exp(-|two - one|)). Without
# a branch in it the loop over pixels becomes vector instructions. With this step the error is below 1e-5 for
# the steepest curves; knots of the calibration curves are points of the grid, which ends where these do.
_STEPS = 256
# CURVE_END, written here: compiled functions hold it, and are kept until this very file changes.
REACH = 40
_GRID = np.linspace(-REACH, REACH, 2 * REACH * _STEPS + 1)
_SOFTPLUS = np.append(np.log1p(np.exp(-np.abs(_GRID))), 0.0).astype(np.float32)


@functools.lru_cache(maxsize=4)
def _table(curve: tuple[float, ...]) -> np.ndarray:
    """Calibrated probabilities of the grid's logits; one value more, for the interpolation at its end."""
    probability = special.expit(calibrated_logit(curve, _GRID))
    return np.append(probability, probability[-1]).astype(np.float32)


@numba.njit(inline="always")
def _place(logit: np.float32) -> np.float32:
    steps = np.float32(_STEPS)
    end = np.float32(2 * REACH * _STEPS)
    return min(max((logit + np.float32(REACH)) * steps, np.float32(0.0)), end)


@numba.njit(inline="always")
def _read(table: np.ndarray, index: np.int32, share: np.float32) -> np.float32:
    return table[index] + share * (table[index + 1] - table[index])


@numba.njit(inline="always")
def draw_row(
    ring: np.ndarray, start: int, p_galaxy: np.ndarray, p_overlap: np.ndarray, classes: np.ndarray
) -> None:
    """Classes of a row of pixels in one realisation of the copula.

    Parameters
    ----------
    ring : (period,) float32 array
        Row of the uniform field, of which copies lie side by side.
    start : int
        Where the row of pixels begins in it; any.
    p_galaxy, p_overlap : (width,) float32 array
        P(class >= 1) and P(class 2).
    classes : (width,) uint8 array
        Filled.
    """
    period, done = len(ring), 0
    at = start % period
    while done < len(classes):
        # Slices, for the compiler cannot know that a sum of two places is not negative; then it takes one
        # pixel at a time.
        n = min(period - at, len(classes) - done)
        drawn, filled = ring[at : at + n], classes[done : done + n]
        galaxy, overlap = p_galaxy[done : done + n], p_overlap[done : done + n]
        for x in range(n):
            filled[x] = np.uint8(drawn[x] < galaxy[x]) + np.uint8(drawn[x] < overlap[x])
        done, at = done + n, 0


@numba.njit(inline="always")
def _row_of(joined: np.ndarray, y: int, features: np.ndarray) -> None:
    """Features of a row, channel by channel: the network leaves them pixel by pixel."""
    for x in range(features.shape[1]):
        for c in range(features.shape[0]):
            features[c, x] = joined[c, y, x]


@numba.njit(inline="always")
def _scores(
    features: np.ndarray,
    biases: np.ndarray,
    weights: np.ndarray,
    offsets: np.ndarray,
    s: int,
    one: np.ndarray,
    two: np.ndarray,
) -> None:
    """Scores of classes 1 and 2 over class 0, of a row in one realisation."""
    n_channels, width = features.shape
    for x in range(width):
        one[x] = offsets[0]
        two[x] = offsets[1]
    for c in range(n_channels):
        bias = biases[s, c]
        w_one = weights[0, c]
        w_two = weights[1, c]
        for x in range(width):
            hidden = max(features[c, x] + bias, np.float32(0.0))
            one[x] += hidden * w_one
            two[x] += hidden * w_two


@numba.njit(inline="always")
def _places(
    one: np.ndarray,
    two: np.ndarray,
    place: np.ndarray,
    share: np.ndarray,
    at: np.ndarray,
    along: np.ndarray,
) -> None:
    """Where a row of scores lies in the tables: of two - one, and of log(e^one + e^two).

    Reading a table is no vector instruction here, and in one loop with it nothing else would be: so the
    steps have loops of their own.
    """
    for x in range(len(one)):
        steps = _place(two[x] - one[x])
        place[x] = np.int32(steps)
        share[x] = steps - np.float32(place[x])
        along[x] = max(one[x], two[x])
    for x in range(len(one)):
        along[x] += _read(_SOFTPLUS, place[x], share[x])
    for x in range(len(one)):
        steps = _place(along[x])
        at[x] = np.int32(steps)
        along[x] = steps - np.float32(at[x])


@numba.njit(inline="always")
def _probabilities(
    galaxy: np.ndarray,
    overlap: np.ndarray,
    place: np.ndarray,
    share: np.ndarray,
    at: np.ndarray,
    along: np.ndarray,
    p_galaxy: np.ndarray,
    p_overlap: np.ndarray,
) -> None:
    """Calibrated P(class >= 1) and P(class 2) of a row, from its `_places`."""
    for x in range(len(p_galaxy)):
        p_galaxy[x] = _read(galaxy, at[x], along[x])
    for x in range(len(p_galaxy)):
        p_overlap[x] = p_galaxy[x] * _read(overlap, place[x], share[x])


@numba.njit(parallel=True, cache=True, error_model="numpy")
def _sample(
    joined: np.ndarray,
    biases: np.ndarray,
    weights: np.ndarray,
    offsets: np.ndarray,
    galaxy: np.ndarray,
    overlap: np.ndarray,
    uniform: np.ndarray,
    y0: int,
    x0: int,
    copula: bool,
    classes: np.ndarray,
    means: np.ndarray,
) -> None:
    """Fill ``classes`` (samples, height, width) and ``means`` (2, height, width); see `sample_fused`."""
    n_channels, height, width = joined.shape
    for y in numba.prange(height):
        features = np.empty((n_channels, width), np.float32)
        _row_of(joined, y, features)
        one, two = np.empty(width, np.float32), np.empty(width, np.float32)
        place, share = np.empty(width, np.int32), np.empty(width, np.float32)
        at, along = np.empty(width, np.int32), np.empty(width, np.float32)
        p_galaxy, p_overlap = np.empty(width, np.float32), np.empty(width, np.float32)
        sum_galaxy, sum_overlap = np.zeros(width, np.float32), np.zeros(width, np.float32)
        row = (y0 + y) % uniform.shape[1]
        for s in range(classes.shape[0]):
            if s < biases.shape[0]:  # else the latent is the one before
                _scores(features, biases, weights, offsets, s, one, two)
                _places(one, two, place, share, at, along)
                _probabilities(galaxy, overlap, place, share, at, along, p_galaxy, p_overlap)
                for x in range(width):
                    sum_galaxy[x] += p_galaxy[x]
                for x in range(width):
                    sum_overlap[x] += p_overlap[x]
            drawn_classes = classes[s, y]
            if copula:
                draw_row(uniform[s, row], x0, p_galaxy, p_overlap, drawn_classes)
            else:
                for x in range(width):
                    above = max(one[x], two[x]) > 0.0
                    drawn_classes[x] = np.uint8(above) * (np.uint8(1) + np.uint8(two[x] > one[x]))
        for x in range(width):
            means[0, y, x] = sum_galaxy[x] / np.float32(biases.shape[0])
            means[1, y, x] = sum_overlap[x] / np.float32(biases.shape[0])


@numba.njit(parallel=True, cache=True, error_model="numpy")
def _blend(
    joined: np.ndarray,
    biases: np.ndarray,
    weights: np.ndarray,
    offsets: np.ndarray,
    tables: tuple[np.ndarray, ...],
    same: bool,
    shares: np.ndarray,
    y0: int,
    x0: int,
    blended: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Add a stamp's share to ``blended`` (2, latents, height, width) and ``sums`` (2, height, width).

    ``tables``: of P(class >= 1) and P(class 2 | >= 1), calibrated; of the same as they are blended. ``same``:
    whether these are those.
    """
    n_channels, height, width = joined.shape
    first, last = max(-x0, 0), min(width, blended.shape[3] - x0)
    for y in numba.prange(height):
        row = y0 + y
        if row < 0 or row >= blended.shape[2]:
            continue
        features = np.empty((n_channels, width), np.float32)
        _row_of(joined, y, features)
        one, two = np.empty(width, np.float32), np.empty(width, np.float32)
        place, share = np.empty(width, np.int32), np.empty(width, np.float32)
        at, along = np.empty(width, np.int32), np.empty(width, np.float32)
        p_galaxy, p_overlap = np.empty(width, np.float32), np.empty(width, np.float32)
        weight = shares[y] * shares
        sums_galaxy, sums_overlap = sums[0, row], sums[1, row]
        for s in range(biases.shape[0]):
            _scores(features, biases, weights, offsets, s, one, two)
            _places(one, two, place, share, at, along)
            _probabilities(tables[0], tables[1], place, share, at, along, p_galaxy, p_overlap)
            for x in range(first, last):
                sums_galaxy[x0 + x] += weight[x] * p_galaxy[x]
            for x in range(first, last):
                sums_overlap[x0 + x] += weight[x] * p_overlap[x]
            if not same:
                _probabilities(tables[2], tables[3], place, share, at, along, p_galaxy, p_overlap)
            blended_galaxy, blended_overlap = blended[0, s, row], blended[1, s, row]
            for x in range(first, last):
                blended_galaxy[x0 + x] += weight[x] * p_galaxy[x]
            for x in range(first, last):
                blended_overlap[x0 + x] += weight[x] * p_overlap[x]


@numba.njit(cache=True)
def pack_classes(classes: np.ndarray) -> np.ndarray:
    """Two bits per pixel and realisation; several times faster than ``np.packbits`` along the first axis.

    Parameters
    ----------
    classes : (samples, height, width) uint8 array
        Realisations.

    Returns
    -------
    (2, bytes, height, width) uint8 array
        Class >= 1, and class 2; bit k of the bytes (most significant first) is realisation k.
    """
    n_samples, height, width = classes.shape
    packed = np.zeros((2, (n_samples + 7) // 8, height, width), np.uint8)
    for s in range(n_samples):
        byte, bit = s >> 3, np.uint8(128 >> (s & 7))
        for y in range(height):
            for x in range(width):
                packed[0, byte, y, x] |= bit if classes[s, y, x] > 0 else np.uint8(0)
                packed[1, byte, y, x] |= bit if classes[s, y, x] > 1 else np.uint8(0)
    return packed


def _match_threads() -> None:
    """Let numba use as many threads as torch does, whose number stays as it is.

    Numba's first parallel loop would take all CPUs, and the OpenMP library that the two share would then give
    as many to torch, whatever OMP_NUM_THREADS says.
    """
    threads = torch.get_num_threads()
    numba.set_num_threads(min(threads, numba.config.NUMBA_NUM_THREADS))
    torch.set_num_threads(threads)


def sample_fused(
    joined_chw: np.ndarray,
    latent_biases: np.ndarray,
    combiner: Combiner,
    calibration: Calibration,
    uniform: np.ndarray,
    origin: tuple[int, int],
    mode: Mode,
) -> tuple[np.ndarray, np.ndarray]:
    """Realisations of one stamp on the CPU.

    Parameters
    ----------
    joined_chw : (width, height, width) float32 array
        The combiner's first layer applied to the features; quickest where its last axis in memory is the
        first, as in the network.
    latent_biases : (samples or 1, width) float32 array
        Its latent part, per realisation or for all.
    combiner : Combiner
        With one hidden layer.
    calibration : Calibration
        Of the probabilities.
    uniform : (samples, period, period) float32 array
        Phi(g) of the copula's fields, from 0 to 1.
    origin : (y0, x0)
        Of the stamp on the global grid.
    mode : {"copula", "latent"}
        How a realisation becomes classes.

    Returns
    -------
    classes : (samples, height, width) uint8 array
        Realisations.
    means : (2, height, width) float32 array
        Calibrated P(class >= 1) and P(class 2), averaged over the latents.
    """
    classes = np.empty((len(uniform), *joined_chw.shape[1:]), np.uint8)
    means = np.empty((2, *joined_chw.shape[1:]), np.float32)
    _match_threads()
    _sample(
        joined_chw,
        latent_biases,
        *_last_layer(combiner),
        _table(calibration.galaxy),
        _table(calibration.overlap),
        uniform,
        int(origin[0]),
        int(origin[1]),
        mode == "copula",
        classes,
        means,
    )
    return classes, means


def blend_fused(
    joined_chw: np.ndarray,
    latent_biases: np.ndarray,
    combiner: Combiner,
    calibration: Calibration,
    mode: Mode,
    shares: np.ndarray,
    corner: tuple[int, int],
    blended: np.ndarray,
    sums: np.ndarray,
) -> None:
    """Add the class probabilities of one stamp, per realisation, to those of a part of the sky; on the CPU.

    Parameters
    ----------
    joined_chw, latent_biases, combiner, calibration
        As `sample_fused` takes them.
    mode : {"copula", "latent"}
        Calibrated probabilities per realisation, or the network's own.
    shares : (size,) float32 array
        Of the stamp along either axis.
    corner : (y, x)
        Of the stamp in that part; may be negative.
    blended : (2, latents, height, width) float32 array
        P(class >= 1) and P(class 2) for each latent; added to.
    sums : (2, height, width) float32 array
        Calibrated ones, summed over the latents; added to.
    """
    curves = calibration.galaxy, calibration.overlap
    _match_threads()
    _blend(
        joined_chw,
        latent_biases,
        *_last_layer(combiner),
        tuple(_table(curve) for curve in (*curves, *((IDENTITY, IDENTITY) if mode == "latent" else curves))),
        mode != "latent",
        shares,
        int(corner[0]),
        int(corner[1]),
        blended,
        sums,
    )


def _last_layer(combiner: Combiner) -> tuple[np.ndarray, np.ndarray]:
    """Weights and offsets of the scores of classes 1 and 2 over class 0."""
    last = combiner.rest[0]
    weight = last.weight.detach().float().reshape(3, -1).numpy()
    bias = last.bias.detach().float().numpy()
    return np.ascontiguousarray(weight[1:] - weight[0]), bias[1:] - bias[0]

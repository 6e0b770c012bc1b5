"""Peaks of an object's light, smoothed or sharpened, and how deep the saddles between them are."""

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from scipy import ndimage
from skimage.segmentation import watershed

# Binomial kernels along one axis; their standard deviations are 1 and 2 pixels.
_NARROW, _WIDE = (np.array([math.comb(order, k) for k in range(order + 1)]) / 2.0**order for order in (4, 16))
# Pixels that the wider of them reaches to either side.
REACH = len(_WIDE) // 2
# White unit noise after `smooth`, and after `sharpen`.
SMOOTHED_NOISE = float(np.sum(_NARROW**2))
_DIFFERENCE = np.pad(np.outer(_NARROW, _NARROW), REACH - len(_NARROW) // 2) - np.outer(_WIDE, _WIDE)
SHARPENED_NOISE = float(np.sqrt(np.sum(_DIFFERENCE**2)))
# Of the pixels around one; with less it has no value.
_LEAST_WEIGHT = 0.05
_COMPILE = {"cache": True, "nogil": True}


class Peaks(NamedTuple):
    """Local maxima of an image inside a mask, highest first.

    Attributes
    ----------
    places : (n_peaks, 2) float array
        ``y, x``.
    height : (n_peaks,) float array
    dip : (n_peaks,) float array
        Height minus saddle; equals the height for the highest peak of a connected mask.
    inside : (n_peaks,) bool array
        False where a pixel outside the mask beside the peak is higher: only the flank of something else.
    """

    places: np.ndarray
    height: np.ndarray
    dip: np.ndarray
    inside: np.ndarray


def smooth(image: np.ndarray) -> np.ndarray:
    """Binomial 5x5 smoothing (standard deviation 1 pixel); non-finite pixels and those outside count 0.

    Parameters
    ----------
    image : (height, width) float array

    Returns
    -------
    (height, width) float64 array
        White unit noise comes out with standard deviation `SMOOTHED_NOISE`.
    """
    return _convolved(np.where(np.isfinite(image), image, 0.0), _NARROW)


def sharpen(image: np.ndarray) -> np.ndarray:
    """Smoothed with 1 pixel less smoothed with 2: what stands out of its surroundings, as companions do.

    Parameters
    ----------
    image : (height, width) float array
        Non-finite pixels and those outside have no weight: next to a hole nothing stands out. It should reach
        `REACH` pixels past what is looked at, as far as there are any.

    Returns
    -------
    (height, width) float64 array
        White unit noise comes out with standard deviation `SHARPENED_NOISE`, a little more beside holes.
    """
    good = np.isfinite(image)
    filled, weight = np.where(good, image, 0.0), good.astype(np.float64)
    narrow, wide = (
        _convolved(filled, kernel) / np.maximum(_convolved(weight, kernel), _LEAST_WEIGHT)
        for kernel in (_NARROW, _WIDE)
    )
    return narrow - wide


def _convolved(image: np.ndarray, kernel: np.ndarray) -> np.ndarray:
    rows = ndimage.correlate1d(np.asarray(image, np.float64), kernel, axis=1, mode="constant")
    return ndimage.correlate1d(rows, kernel, axis=0, mode="constant")


def drainage(image: np.ndarray, peaks: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """To which peak each pixel drains: the valleys of the light, smoothed a little, divide an object.

    Parameters
    ----------
    image : (height, width) float array
        Non-finite pixels count 0.
    peaks : (n_peaks, 2) float array
        ``y, x`` inside the mask.
    mask : (height, width) bool array

    Returns
    -------
    (height, width) int32 array
        Number of the peak, counted from 1; 0 outside the mask, and where the mask holds no peak.
    """
    markers = np.zeros(mask.shape, dtype=np.int32)
    for number, (y, x) in enumerate(peaks, start=1):
        markers[int(y), int(x)] = number
    light = ndimage.gaussian_filter(np.where(np.isfinite(image), image, 0.0), 1.0)
    return watershed(-light, markers, connectivity=2, mask=mask)


@njit(**_COMPILE)
def _root(parent: np.ndarray, i: int) -> int:
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(**_COMPILE)
def find_peaks(image: np.ndarray, mask: np.ndarray) -> Peaks:
    """Local maxima of an image inside ``mask``, highest first.

    The mask is flooded from its brightest pixel down; where two lakes meet, the lower of the two peaks gets
    that level as its saddle (topological persistence).

    Parameters
    ----------
    image : (height, width) float64 array
        Finite: smoothed or sharpened.
    mask : (height, width) bool array

    Returns
    -------
    Peaks
    """
    h, w = image.shape
    flat = np.flatnonzero(mask.ravel())
    values = np.empty(flat.size)
    for n in range(flat.size):
        values[n] = -image[flat[n] // w, flat[n] % w]
    order = flat[np.argsort(values, kind="mergesort")]
    parent = np.full(h * w, -1, dtype=np.int64)
    saddle = np.zeros(h * w)
    is_peak = np.zeros(h * w, dtype=np.bool_)
    for pixel in order:
        i, j = pixel // w, pixel % w
        level = image[i, j]
        parent[pixel] = pixel
        is_peak[pixel] = True
        for di in range(-1, 2):
            for dj in range(-1, 2):
                ni, nj = i + di, j + dj
                if ni < 0 or nj < 0 or ni >= h or nj >= w:
                    continue
                other = ni * w + nj
                if other == pixel or parent[other] < 0:
                    continue
                a = _root(parent, other)
                b = _root(parent, pixel)
                if a == b:
                    continue
                # a root is the peak of its lake
                if image[a // w, a % w] < image[b // w, b % w]:
                    a, b = b, a
                parent[b] = a
                if b == pixel:
                    is_peak[b] = False
                saddle[b] = level
    count = 0
    for pixel in order:
        if is_peak[pixel]:
            count += 1
    places = np.empty((count, 2))
    heights, dips = np.empty(count), np.empty(count)
    inside = np.empty(count, dtype=np.bool_)
    n = 0
    for pixel in order:
        if is_peak[pixel]:
            row, column = pixel // w, pixel % w
            around = image[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            places[n, 0], places[n, 1] = row, column
            heights[n] = image[row, column]
            dips[n] = heights[n] - saddle[pixel]
            inside[n] = around.max() <= heights[n]
            n += 1
    return Peaks(places, heights, dips, inside)

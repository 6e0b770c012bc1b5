"""Peaks of a smoothed image inside an object, and how deep the saddles between them are."""

import numpy as np
from numba import njit

# White unit noise after the 5x5 binomial kernel below: sum of squares of (1, 4, 6, 4, 1) / 16.
SMOOTHED_NOISE = 70.0 / 256.0
_COMPILE = {"cache": True, "nogil": True}


@njit(**_COMPILE)
def smooth(image):
    """Binomial 5x5 smoothing (standard deviation 1 pixel); non-finite pixels and those outside count 0.

    Parameters
    ----------
    image : (height, width) float64 array

    Returns
    -------
    (height, width) float64 array
        White unit noise comes out with standard deviation `SMOOTHED_NOISE`.
    """
    h, w = image.shape
    kernel = np.array([1.0, 4.0, 6.0, 4.0, 1.0]) / 16.0
    rows = np.zeros((h, w))
    smoothed = np.zeros((h, w))
    for i in range(h):
        for j in range(w):
            value = image[i, j]
            if np.isfinite(value):
                for d in range(-2, 3):
                    if 0 <= j + d < w:
                        rows[i, j + d] += kernel[d + 2] * value
    for i in range(h):
        for d in range(-2, 3):
            if 0 <= i + d < h:
                for j in range(w):
                    smoothed[i + d, j] += kernel[d + 2] * rows[i, j]
    return smoothed


@njit(**_COMPILE)
def _root(parent, i):
    while parent[i] != i:
        parent[i] = parent[parent[i]]
        i = parent[i]
    return i


@njit(**_COMPILE)
def find_peaks(image, mask):
    """Local maxima of the smoothed image inside ``mask``, highest first.

    The mask is flooded from its brightest pixel down; where two lakes meet, the lower of the two peaks gets
    that level as its saddle (topological persistence).

    Parameters
    ----------
    image : (height, width) float array
    mask : (height, width) bool array

    Returns
    -------
    (n_peaks, 5) float array
        ``y, x, height, dip, inside`` of the smoothed image; ``dip`` is height minus saddle, and equals the
        height for the highest peak of a connected mask. ``inside`` is 0 where a pixel outside the mask beside
        the peak is higher, so that the peak is only the flank of something else.
    """
    h, w = image.shape
    smoothed = smooth(image)
    flat = np.flatnonzero(mask.ravel())
    values = np.empty(flat.size)
    for n in range(flat.size):
        values[n] = -smoothed[flat[n] // w, flat[n] % w]
    order = flat[np.argsort(values, kind="mergesort")]
    parent = np.full(h * w, -1, dtype=np.int64)
    saddle = np.zeros(h * w)
    is_peak = np.zeros(h * w, dtype=np.bool_)
    for pixel in order:
        i, j = pixel // w, pixel % w
        level = smoothed[i, j]
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
                if smoothed[a // w, a % w] < smoothed[b // w, b % w]:
                    a, b = b, a
                parent[b] = a
                if b == pixel:
                    is_peak[b] = False
                saddle[b] = level
    count = 0
    for pixel in order:
        if is_peak[pixel]:
            count += 1
    peaks = np.empty((count, 5))
    n = 0
    for pixel in order:
        if is_peak[pixel]:
            height = smoothed[pixel // w, pixel % w]
            peaks[n, 0] = pixel // w
            peaks[n, 1] = pixel % w
            peaks[n, 2] = height
            peaks[n, 3] = height - saddle[pixel]
            row, column = pixel // w, pixel % w
            around = smoothed[max(row - 1, 0) : row + 2, max(column - 1, 0) : column + 2]
            peaks[n, 4] = 1.0 if around.max() <= height else 0.0
            n += 1
    return peaks

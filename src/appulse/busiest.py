"""The part of a field with most to see: what a picture of a large field shows."""

from __future__ import annotations

import numpy as np

from appulse.windows import Window, window_sums

# Cells in which a field's business is counted; the parts in which maps are written are multiples of it.
CELL = 64
# Larger fields are shown by a part of this size, so that a galaxy stays a few pixels wide.
LARGEST = 640


def busyness(ternary: np.ndarray) -> np.ndarray:
    """How much there is to see in each cell of a class map: overlaps count twenty times as much as galaxies.

    Parameters
    ----------
    ternary : (height, width) uint8 array
        Begins at a cell's first pixel.

    Returns
    -------
    (rows, columns) int64 array
    """
    weight = np.where(ternary == 2, 20, ternary).astype(np.int64)
    for axis in (0, 1):
        weight = np.add.reduceat(weight, np.arange(0, weight.shape[axis], CELL), axis=axis)
    return weight


def busiest_window(cells: np.ndarray, shape: tuple[int, int]) -> Window:
    """The window with most to see; the whole field where it is small.

    Parameters
    ----------
    cells : (rows, columns) int64 array
        `busyness` of the field.
    shape : (height, width), pixels
        Of the field.

    Returns
    -------
    (slice, slice)
        Its width is `LARGEST` or the field's.
    """
    height, width = (min(side, LARGEST) for side in shape)
    # Windows begin with a cell; one that spans the field takes the incomplete last cell in.
    n_rows, n_columns = -(-height // CELL), -(-width // CELL)
    tops = np.arange(0, (shape[0] - height) // CELL + 1)
    lefts = np.arange(0, (shape[1] - width) // CELL + 1)
    content = window_sums(cells, tops, lefts, (n_rows, n_columns))
    row, column = np.unravel_index(np.argmax(content), content.shape)
    top, left = int(tops[row]) * CELL, int(lefts[column]) * CELL
    return slice(top, top + height), slice(left, left + width)

"""A mesh fixed to the pixel grid: an image cut into cells, and back from their values to pixels."""

from __future__ import annotations

import functools

import numpy as np
from numpy.typing import DTypeLike

from appulse.windows import Window

CELL = 64  # pixels; well above the galaxies of surveys, well below flat-field and sky gradients


def mesh_shape(shape: tuple[int, int]) -> tuple[int, int]:
    """Rows and columns of cells that cover an image of a (height, width)."""
    height, width = shape
    return -(-height // CELL), -(-width // CELL)


def cut_cells(values: np.ndarray, bad: np.ndarray) -> np.ndarray:
    """Cells of a strip of rows that begins at a cell's first row.

    Parameters
    ----------
    values : (height, width) array
        At most CELL rows.
    bad : (height, width) bool array

    Returns
    -------
    (columns, CELL, CELL) float64 array
        NaN where bad or outside the image.
    """
    height, width = values.shape
    columns = -(-width // CELL)
    strip = np.full((CELL, columns * CELL), np.nan)
    strip[:height, :width] = np.where(bad, np.nan, values)
    return strip.reshape(CELL, columns, CELL).swapaxes(0, 1)


def join_cells(cells: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """The inverse of `cut_cells`: a strip of a (height, width)."""
    return cells.swapaxes(0, 1).reshape(CELL, -1)[: shape[0], : shape[1]]


def of_pixels(mesh: np.ndarray, window: Window) -> np.ndarray:
    """Value of each pixel's own cell.

    Parameters
    ----------
    mesh : (rows, columns) array
        One value per cell.
    window : (slice, slice)
        Of the image.

    Returns
    -------
    (height, width) array
    """
    rows, columns = (np.arange(side.start, side.stop) // CELL for side in window)
    return mesh[rows[:, None], columns]


def join_mesh(
    mesh: np.ndarray,
    shape: tuple[int, int],
    window: Window | None = None,
    dtype: DTypeLike = np.float32,
    *,
    onwards: bool = False,
) -> np.ndarray:
    """Mesh values, which belong to the cells' centres, interpolated linearly to every pixel.

    Parameters
    ----------
    mesh : (rows, columns) float array
        One value per cell.
    shape : (height, width), pixels
        Of the image.
    window : (slice, slice), optional
        Of the image; by default the whole.
    dtype : dtype
        Of the result: a variance may be too small for single precision where a flux is not.
    onwards : bool
        Whether values go on straight from the outermost centres to the image's borders, as a level does; a
        noise keeps the outermost value, so that it stays positive.

    Returns
    -------
    (height, width) array
        Of the window; the same numbers whatever the window.
    """
    rows, columns = window or (slice(0, shape[0]), slice(0, shape[1]))
    centres_y, centres_x = map(centres_of, shape)
    x = np.arange(columns.start, columns.stop)

    @functools.cache
    def across(row: int) -> np.ndarray:
        if onwards:
            return np.interp(x, *_to_the_borders(centres_x, mesh[row], shape[1]))
        return np.interp(x, centres_x, mesh[row])

    joined = np.empty((rows.stop - rows.start, len(x)), dtype)
    for y in range(rows.start, rows.stop):
        above = min(max(int(np.searchsorted(centres_y, y)), 1), len(mesh) - 1)
        below = max(above - 1, 0)
        share = (y - centres_y[below]) / (centres_y[above] - centres_y[below]) if above > below else 0.0
        if not onwards:
            share = min(max(share, 0.0), 1.0)
        joined[y - rows.start] = across(below) * (1 - share) + across(above) * share
    return joined


def centres_of(length: int) -> np.ndarray:
    """Centres of the cells along an axis of an image, in pixels."""
    edges = np.append(np.arange(0, length, CELL), length)
    return (edges[:-1] + edges[1:] - 1) / 2


def _to_the_borders(centres: np.ndarray, values: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    """Places and values of a row of cells, and those of the image's borders on the same straight lines."""
    if len(centres) == 1:
        return centres, values
    places = np.concatenate([[-0.5], centres, [length - 0.5]])
    (first, second), (last_but_one, last) = values[:2], values[-2:]
    ends = (
        first - (second - first) * (centres[0] - places[0]) / (centres[1] - centres[0]),
        last + (last - last_but_one) * (places[-1] - centres[-1]) / (centres[-1] - centres[-2]),
    )
    return places, np.concatenate([ends[:1], values, ends[1:]])

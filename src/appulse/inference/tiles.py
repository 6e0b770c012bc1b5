"""Where stamps lie on an image: pure geometry."""

from __future__ import annotations

import numpy as np

from appulse.windows import Window, shape_of


def grid_origins(window: Window, size: int, edge: int = 0) -> list[tuple[int, int]]:
    """Origins of the stamps of a fixed grid that are needed for a window of an image.

    Stamps overlap by twice the edge: without their edges they lie side by side, beginning with the image.
    They may reach past the window and the image.

    Parameters
    ----------
    window : (slice, slice)
        Of the image.
    size, edge : int, pixels
        Width of a stamp, and of its edges.

    Returns
    -------
    list of (y0, x0)
        Multiples of ``size - 2 * edge``, less the edge; in raster order.
    """
    step = size - 2 * edge
    rows, columns = (
        range(side.start // step * step - edge, side.stop - edge, step) if side.stop > side.start else ()
        for side in window
    )
    return [(y, x) for y in rows for x in columns]


def centred_origin(box: Window, size: int) -> tuple[int, int]:
    """Origin of the stamp centred on a bounding box; it may reach past the image.

    Parameters
    ----------
    box : (slice, slice)
        Rows and columns of an object.
    size : int, pixels
        Width of the stamp.

    Returns
    -------
    y0, x0 : int
    """
    rows, columns = box
    return (rows.start + rows.stop) // 2 - size // 2, (columns.start + columns.stop) // 2 - size // 2


def fits_stamp(box: Window, size: int, margin: int) -> bool:
    """Whether a stamp centred on a bounding box holds it with a margin on every side.

    Parameters
    ----------
    box : (slice, slice)
        Rows and columns of an object.
    size, margin : int, pixels
        Width of the stamp, and of the margin.
    """
    return max(shape_of(box)) <= widest(size, margin)


def widest(size: int, margin: int) -> int:
    """Width of the widest object that a stamp holds with a margin on every side.

    Parameters
    ----------
    size, margin : int, pixels
        Width of the stamp, and of the margin.
    """
    return size - 2 * margin


def overlap(origin: tuple[int, int], size: int, shape: tuple[int, int]) -> tuple[Window, Window]:
    """The part of a stamp that lies on an image.

    Parameters
    ----------
    origin : (y0, x0)
        Of the stamp; may be negative.
    size : int, pixels
        Width of the stamp.
    shape : (height, width), pixels
        Of the image.

    Returns
    -------
    of_image, of_stamp : (slice, slice)
        The same pixels in either.
    """
    of_image, of_stamp = [], []
    for start, length in zip(origin, shape, strict=True):
        low = min(max(start, 0), length)
        high = max(min(start + size, length), low)
        of_image.append(slice(low, high))
        of_stamp.append(slice(low - start, high - start))
    return (of_image[0], of_image[1]), (of_stamp[0], of_stamp[1])


def wrapped(origin: tuple[int, int], shape: tuple[int, int], period: int) -> tuple[np.ndarray, np.ndarray]:
    """Indices of a window into an array that repeats over the sky.

    Parameters
    ----------
    origin : (y0, x0)
        Of the window; may be negative.
    shape : (height, width), pixels
        Of the window.
    period : int, pixels
        Width of the repeating array.

    Returns
    -------
    (height, 1) and (1, width) int arrays
        To index its last two axes with.
    """
    rows = (origin[0] + np.arange(shape[0])) % period
    columns = (origin[1] + np.arange(shape[1])) % period
    return rows[:, None], columns[None, :]

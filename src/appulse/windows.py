"""Windows of an image, two slices without steps: grown, cropped, shared, summed over."""

from __future__ import annotations

import numpy as np

Window = tuple[slice, slice]


def whole(shape: tuple[int, int]) -> Window:
    """The window that is the image.

    Parameters
    ----------
    shape : (height, width), pixels
        Of the image.
    """
    return slice(0, shape[0]), slice(0, shape[1])


def shape_of(window: Window) -> tuple[int, int]:
    """Height and width of a window.

    Parameters
    ----------
    window : (slice, slice)
        Of the image.
    """
    rows, columns = window
    return rows.stop - rows.start, columns.stop - columns.start


def grown(window: Window, margin: int, shape: tuple[int, int]) -> Window:
    """A window with a margin on every side, as far as the image goes.

    Parameters
    ----------
    window : (slice, slice)
        Of the image.
    margin : int, pixels
        To add.
    shape : (height, width), pixels
        Of the image.
    """
    rows, columns = (
        slice(max(side.start - margin, 0), min(side.stop + margin, length))
        for side, length in zip(window, shape, strict=True)
    )
    return rows, columns


def cropped(window: Window, outer: Window) -> Window:
    """A window as seen from a larger one that holds it.

    Parameters
    ----------
    window, outer : (slice, slice)
        Of the image.
    """
    rows, columns = (
        slice(side.start - out.start, side.stop - out.start) for side, out in zip(window, outer, strict=True)
    )
    return rows, columns


def cells_met(window: Window, cell: tuple[int, int]) -> Window:
    """Cells of a grid that a window meets, as a window of the grid.

    Parameters
    ----------
    window : (slice, slice)
        Of the image.
    cell : (height, width), pixels
        Of a cell; the first one lies in the image's corner.
    """
    rows, columns = (
        slice(side.start // length, -(-side.stop // length))
        for side, length in zip(window, cell, strict=True)
    )
    return rows, columns


def at_border(window: Window, shape: tuple[int, int]) -> bool:
    """Whether a window reaches the first or last row or column.

    Parameters
    ----------
    window : (slice, slice)
        Of the image: the box of an object, say.
    shape : (height, width), pixels
        Of the image.
    """
    return any(side.start == 0 or side.stop == length for side, length in zip(window, shape, strict=True))


def common(one: Window, other: Window) -> Window | None:
    """What two windows share; None where they do not meet.

    Parameters
    ----------
    one, other : (slice, slice)
        Of the image.
    """
    rows, columns = (
        slice(max(a.start, b.start), min(a.stop, b.stop)) for a, b in zip(one, other, strict=True)
    )
    return (rows, columns) if rows.start < rows.stop and columns.start < columns.stop else None


def window_sums(
    values: np.ndarray, tops: np.ndarray, lefts: np.ndarray, shape: tuple[int, int]
) -> np.ndarray:
    """Sums over windows of one shape, from an integral image.

    Parameters
    ----------
    values : (height, width) bool or int array
    tops : (rows,) int array
    lefts : (columns,) int array
        First pixels of the windows.
    shape : (height, width), pixels
        Of each.

    Returns
    -------
    (rows, columns) int64 array
    """
    total = np.pad(values.astype(np.int64).cumsum(axis=0).cumsum(axis=1), ((1, 0), (1, 0)))
    top, left = tops[:, None], lefts[None, :]
    bottom, right = top + shape[0], left + shape[1]
    return total[bottom, right] - total[top, right] - total[bottom, left] + total[top, left]

"""The fixed grid of stamps of one field, for validation."""

from __future__ import annotations

import numpy as np

from appulse.sky.field import Field
from appulse.stamps.config import StampConfig
from appulse.stamps.drawing import StampBatch


def grid_stamps(field: Field, config: StampConfig) -> StampBatch:
    """All stamps of the fixed grid that fit a field, with its own noise, unaugmented.

    Parameters
    ----------
    field : Field
        What to cut.
    config : StampConfig
        Gives size and threshold.

    Returns
    -------
    StampBatch
    """
    images = cut_grid(field.image, config.size) / np.float32(field.sigma)
    return StampBatch(images, cut_grid(field.ternary(config.threshold), config.size))


def cut_grid(image: np.ndarray, size: int) -> np.ndarray:
    """Cut the whole stamps of the fixed grid out of an image.

    Parameters
    ----------
    image : (height, width) array
        What is left over on its far sides is dropped.
    size : int, pixels
        Width of a stamp.

    Returns
    -------
    (n, size, size) array
        In raster order.
    """
    rows, columns = (side // size for side in image.shape)
    grid = image[: rows * size, : columns * size].reshape(rows, size, columns, size)
    return grid.transpose(0, 2, 1, 3).reshape(-1, size, size)


def join_grid(stamps: np.ndarray, rows: int) -> np.ndarray:
    """Lay the stamps of a grid side by side again, as `cut_grid` found them.

    Parameters
    ----------
    stamps : (n, size, size) array
        In raster order.
    rows : int
        Of the grid.

    Returns
    -------
    (height, width) array
        Whole stamps only.
    """
    size = stamps.shape[-1]
    grid = stamps.reshape(rows, -1, size, size)
    return grid.transpose(0, 2, 1, 3).reshape(rows * size, -1)

"""Correlation of neighbouring sky pixels, cell by cell."""

import numpy as np
from scipy import ndimage

from appulse.inference.cells import CLIP

FAR_LAG = 6  # pixels; further than drizzling or resampling correlates noise


class PairSums:
    """Squared differences of horizontally and vertically adjacent sky pixels, gathered row by row of cells.

    Differences of neighbours have twice the variance times (1 - correlation), those of pixels `FAR_LAG`
    apart twice the variance. Faint wings of galaxies are common to both pixels and drop out, which in the
    product of two pixels they would not.

    Parameters
    ----------
    shape : (rows, columns)
        Of the mesh.
    """

    def __init__(self, shape: tuple[int, int]):
        # Axes: near and far, sum and number, row, column.
        self.sums = np.zeros((2, 2, *shape))

    def add(self, row: int, light: np.ndarray, sigma: np.ndarray) -> None:
        """Take in a row of cells.

        Parameters
        ----------
        row : int
            Of the mesh.
        light : (columns, CELL, CELL) float64 array
            Over the cell's own level; NaN where there is no sky.
        sigma : (columns,) float64 array
            The cell's own.
        """
        with np.errstate(invalid="ignore", divide="ignore"):
            scaled = light / sigma[:, None, None]
            scaled[~(np.abs(scaled) < CLIP)] = np.nan
        for place, lag in enumerate((1, FAR_LAG)):
            for one, other in (
                (scaled[:, :, :-lag], scaled[:, :, lag:]),
                (scaled[:, :-lag], scaled[:, lag:]),
            ):
                squares = np.square(one - other)
                self.sums[place, 0, row] += np.nansum(squares, axis=(1, 2))
                self.sums[place, 1, row] += np.isfinite(squares).sum(axis=(1, 2))

    def correlation(self) -> float:
        """Of the whole image, horizontal and vertical neighbours together."""
        return float(_correlation(self.sums.sum(axis=(2, 3))))

    def local_correlations(self) -> np.ndarray:
        """Of the 3 x 3 cells around each: (rows, columns) float64 array."""
        # Not `uniform_filter`, whose running sums carry rounding errors all the way along a row.
        return _correlation(ndimage.correlate(self.sums, np.ones((1, 1, 3, 3)), mode="constant"))


def _correlation(sums: np.ndarray) -> np.ndarray:
    near, far = (total / np.maximum(pairs, 1e-9) for total, pairs in sums)
    return np.where(far > 0, 1 - near / np.where(far > 0, far, 1), 0.0)

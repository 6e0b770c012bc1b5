"""The realisations of a field, in a few bits per pixel."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from appulse.inference.kernels import pack_classes
from appulse.windows import Window


class Realisations:
    """The realisations of a field, two bits each per pixel: class 1 or more, and class 2.

    Parameters
    ----------
    samples : int
        Realisations.
    shape : (height, width), pixels
        Of the field.
    """

    def __init__(self, samples: int, shape: tuple[int, int]):
        self.samples, self.shape = samples, shape
        # Axes: class bit, byte, y, x; bit k of the bytes (most significant first) is realisation k.
        self.planes = np.zeros((2, -(-samples // 8), *shape), np.uint8)

    def put(self, window: Window, classes: np.ndarray) -> None:
        """Store realisations of a window.

        Parameters
        ----------
        window : (slice, slice)
            Of the field.
        classes : (samples, height, width) uint8 array
            Its realisations.
        """
        self.planes[:, :, *window] = pack_classes(classes)

    def get(self, window: Window) -> np.ndarray:
        """Realisations of a window.

        Parameters
        ----------
        window : (slice, slice)
            Of the field.

        Returns
        -------
        (samples, height, width) uint8 array
        """
        galaxy, double = (
            np.unpackbits(self.planes[bit][:, *window], axis=0, count=self.samples) for bit in (0, 1)
        )
        return galaxy + double

    def eights(self, window: Window) -> Iterator[np.ndarray]:
        """Realisations of a window, a few at a time: as many as a byte holds.

        Parameters
        ----------
        window : (slice, slice)
            Of the field.

        Yields
        ------
        (8 or fewer, height, width) uint8 array
        """
        for byte in range(self.planes.shape[1]):
            count = min(8, self.samples - 8 * byte)
            galaxy, double = (np.unpackbits(plane[byte, *window][None], axis=0) for plane in self.planes)
            yield (galaxy + double)[:count]

    def mean_and_std(self) -> tuple[np.ndarray, np.ndarray]:
        """The paper's maps: mean class over the realisations and its standard deviation (ddof 0).

        Exact, and independent of the order of the realisations: both follow from how many have class 1 or
        more, and how many have class 2.

        Returns
        -------
        mean, std : (height, width) float32 array
        """
        one_or_more, two = (_count_bits(plane) for plane in self.planes)
        total = one_or_more + two
        squares = one_or_more + 3 * two
        mean = total / self.samples
        # (sum c^2 - (sum c)^2 / n) / n, in integers as far as they go: exactly 0 where all agree.
        variance = (squares * self.samples - total**2) / self.samples**2
        return mean.astype(np.float32), np.sqrt(variance).astype(np.float32)


def _count_bits(plane: np.ndarray) -> np.ndarray:
    return np.bitwise_count(plane).sum(axis=0, dtype=np.int32)

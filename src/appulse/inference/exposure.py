"""An image with its noise map and mask, read window by window."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol, TypeAlias, runtime_checkable

import numpy as np
from numpy.typing import ArrayLike

from appulse.files import InputError
from appulse.windows import Window

# Values enough for a median, or to tell a quantised image.
SAMPLE = 1_000_000


@runtime_checkable
class Readable(Protocol):
    """Pixels that are read window by window: of an array, or lazily of a file."""

    def window(self, rows: slice, columns: slice) -> np.ndarray:
        """Pixels of a window, NaN where there are none."""


class Source(Readable, Protocol):
    """Where the pixels of an image come from."""

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""


# A map of an image as callers may have it.
Map: TypeAlias = Readable | np.ndarray | float


class ArraySource:
    """An array in memory as a `Source`.

    Parameters
    ----------
    data : (height, width) array
        Pixels; of a masked array the masked ones become NaN.
    """

    def __init__(self, data: ArrayLike):
        if np.ma.isMaskedArray(data):
            data = np.ma.filled(data.astype(np.result_type(data.dtype, np.float32)), np.nan)
        self.data = np.asarray(data)
        self.shape: tuple[int, int] = self.data.shape

    def window(self, rows: slice, columns: slice) -> np.ndarray:
        """Pixels of a window, not copied."""
        return self.data[rows, columns]


@dataclass(frozen=True)
class Exposure:
    """An image and what is known of its pixels.

    Parameters
    ----------
    image : Source
        Pixels in any unit.
    kind : {"rms", "variance", "weight"} or None
        What `noise` is.
    noise : Readable, float or None
        Noise, its square, or its inverse square, in the image's units.
    mask : Readable or None
        Non-zero or NaN is bad.
    largest_variance : float
        More than that means that there is no data, which many write as a noise of 1e30.
    """

    image: Source
    kind: str | None = None
    noise: Readable | float | None = None
    mask: Readable | None = None
    largest_variance: float = np.inf

    @classmethod
    def of(
        cls,
        image: Source,
        *,
        rms: Map | None = None,
        variance: Map | None = None,
        weight: Map | None = None,
        mask: Map | None = None,
    ) -> Exposure:
        """From what a caller may have: sources, arrays or numbers, most of them absent.

        Parameters
        ----------
        image : Source
            Pixels.
        rms, variance, weight : Readable, array, float or None
            At most one.
        mask : Readable, array, float or None
            Non-zero or NaN is bad.

        Raises
        ------
        InputError
            Maps of another shape, or more than one noise map.
        """
        given = {"rms": rms, "variance": variance, "weight": weight}
        given = {name: values for name, values in given.items() if values is not None}
        if len(given) > 1:
            raise InputError(f"both {' and '.join(given)} were given; appulse needs one of them.")
        kind, noise = next(iter(given.items()), (None, None))
        return cls(image, kind, _as_noise(kind, noise, image.shape), _as_source("mask", mask, image.shape))

    @property
    def shape(self) -> tuple[int, int]:
        """Height and width."""
        return self.image.shape

    def read(self, window: Window) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """Pixels of a window.

        Parameters
        ----------
        window : (slice, slice)
            Of the image.

        Returns
        -------
        image : (height, width) array
        variance : (height, width) float64 array or None
            NaN where there is no positive noise, or more than the largest.
        bad : (height, width) bool array
            Not finite, masked, or without a positive noise up to the largest.
        """
        image = self.image.window(*window)
        bad = ~np.isfinite(image)
        if self.mask is not None:
            bad |= self.mask.window(*window) != 0
        if self.kind is None or self.noise is None:
            return image, None, bad
        noise = self.noise if isinstance(self.noise, float) else self.noise.window(*window)
        noise = np.broadcast_to(noise, image.shape).astype(np.float64)
        noise = np.where(noise > 0, noise, np.nan)
        with np.errstate(over="ignore", under="ignore"):
            variance = {"rms": np.square, "variance": np.positive, "weight": np.reciprocal}[self.kind](noise)
        variance[variance > self.largest_variance] = np.nan
        bad |= ~(np.isfinite(variance) & (variance > 0))
        return image, variance, bad


def _as_noise(name: str | None, values: Map | None, shape: tuple[int, int]) -> Readable | float | None:
    if values is None or isinstance(values, Readable) or np.ndim(values) > 0:
        return _as_source(name, values, shape)
    return float(values)


def _as_source(name: str | None, values: Map | None, shape: tuple[int, int]) -> Readable | None:
    if values is None or isinstance(values, Readable):
        return values
    source = ArraySource(values if np.ndim(values) > 0 else np.broadcast_to(values, shape))
    if source.shape != shape:
        raise InputError(f"the {name} map has shape {source.shape}, the image {shape}; they must agree.")
    return source


class EveryNth:
    """Evenly spaced ones of a stream of values, at most `SAMPLE` of them; the same however it is divided."""

    def __init__(self) -> None:
        self.step, self.count = 1, 0
        self.kept: list[np.ndarray] = []

    def add(self, values: np.ndarray) -> None:
        """Take in further values.

        Parameters
        ----------
        values : (n,) array
            In the order of the stream.
        """
        self.kept.append(values[-self.count % self.step :: self.step])
        self.count += len(values)
        while -(-self.count // self.step) > SAMPLE:
            self.kept = [np.concatenate(self.kept)[::2]]
            self.step *= 2

    def values(self) -> np.ndarray:
        """What was kept."""
        return np.concatenate(self.kept) if self.kept else np.empty(0)

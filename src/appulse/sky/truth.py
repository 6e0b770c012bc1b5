"""Layered truth: what a field holds, noise-free, so that any depth and threshold gives its ternary map."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from astropy.table import Table
from numba import njit

from appulse.sky.rendering import SourceImage
from appulse.windows import Window


def ternary_map(first: np.ndarray, second: np.ndarray, threshold: float) -> np.ndarray:
    """Count, per pixel, the galaxies brighter than ``threshold``: 0, 1, or 2 for two and more.

    Parameters
    ----------
    first, second : (height, width) float array, units of the noise
        Surface brightness of the brightest and second-brightest galaxy in each pixel, noise-free.
    threshold : float, units of the noise
        ``k`` of the truth definition; the paper takes the noise level, ``k = 1`` (section 3).

    Returns
    -------
    (height, width) uint8 array
        0 background, 1 one galaxy, 2 overlap.
    """
    return (first > threshold).astype(np.uint8) + (second > threshold)


@dataclass
class Layers:
    """The layers of a field while galaxies are added to it, one by one and always in the same order.

    Parameters
    ----------
    first, second : (height, width) float32 array
        Flux of the brightest and second-brightest galaxy in each pixel.
    id1, id2 : (height, width) int32 array
        Their identities; 0 for none.
    deeper : list of (y, x, id, flux) arrays
        Third and later galaxies, sparse.
    """

    first: np.ndarray
    second: np.ndarray
    id1: np.ndarray
    id2: np.ndarray
    deeper: list[tuple[np.ndarray, ...]]

    @classmethod
    def empty(cls, shape: tuple[int, int]) -> Layers:
        """Layers of an empty sky.

        Parameters
        ----------
        shape : (height, width)
            Of the field.
        """
        first, second = (np.zeros(shape, np.float32) for _ in range(2))
        id1, id2 = (np.zeros(shape, np.int32) for _ in range(2))
        return cls(first, second, id1, id2, [])

    def add(self, source: SourceImage, identity: int) -> bool:
        """Add one galaxy.

        Parameters
        ----------
        source : SourceImage
            Its noise-free image.
        identity : int
            Its number, from 1.

        Returns
        -------
        bool
            Whether any of it falls on the field.
        """
        window, image = clip_to(source, self.first.shape)
        if image.size == 0 or not image.any():
            return False
        layers = (a[window] for a in (self.first, self.second, self.id1, self.id2))
        y, x, pushed, flux = _enter(*layers, image, identity)
        if y.size:
            self.deeper.append((y + window[0].start, x + window[1].start, pushed, flux))
        return True

    def sparse(self) -> dict[str, np.ndarray]:
        """Third and later galaxies as columns ``y``, ``x``, ``id`` (int32) and ``flux`` (float32)."""
        columns = zip(*self.deeper, strict=True) if self.deeper else [[np.zeros(0)]] * 4
        types = {"y": np.int32, "x": np.int32, "id": np.int32, "flux": np.float32}
        return {
            name: np.concatenate(parts).astype(kind)
            for (name, kind), parts in zip(types.items(), columns, strict=True)
        }


@njit(cache=True, nogil=True)
def _enter(
    first: np.ndarray,
    second: np.ndarray,
    id1: np.ndarray,
    id2: np.ndarray,
    image: np.ndarray,
    identity: int,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:  # pragma: no cover
    # The galaxy enters at its rank; what it pushes past the second place is returned.
    height, width = image.shape
    y, x, pushed = (
        np.empty(image.size, np.int32),
        np.empty(image.size, np.int32),
        np.empty(image.size, np.int32),
    )
    flux = np.empty(image.size, np.float32)
    n = 0
    for i in range(height):
        for j in range(width):
            light, galaxy = image[i, j], identity
            if light <= 0:
                continue
            if light > first[i, j]:
                light, first[i, j] = first[i, j], light
                galaxy, id1[i, j] = id1[i, j], galaxy
            if light > second[i, j]:
                light, second[i, j] = second[i, j], light
                galaxy, id2[i, j] = id2[i, j], galaxy
            if light > 0:
                y[n], x[n], pushed[n], flux[n] = i, j, galaxy, light
                n += 1
    return y[:n].copy(), x[:n].copy(), pushed[:n].copy(), flux[:n].copy()


def add_light(light: np.ndarray, source: SourceImage) -> None:
    """Add a source without a label to an image, in place.

    Parameters
    ----------
    light : (height, width) float32 array
        Changed.
    source : SourceImage
        Noise-free image of the source.
    """
    window, image = clip_to(source, light.shape)
    light[window] += image


def clip_to(source: SourceImage, shape: tuple[int, int]) -> tuple[Window, np.ndarray]:
    """The part of a source that lies on a field.

    Parameters
    ----------
    source : SourceImage
        A galaxy's image.
    shape : (height, width)
        Of the field.

    Returns
    -------
    window : (slice, slice)
        Where in the field; empty where they do not meet.
    image : (h, w) float32 array
        View of its image.
    """
    height, width = source.image.shape
    y_low, x_low = max(source.y0, 0), max(source.x0, 0)
    y_high = max(min(source.y0 + height, shape[0]), y_low)
    x_high = max(min(source.x0 + width, shape[1]), x_low)
    inside = source.image[y_low - source.y0 : y_high - source.y0, x_low - source.x0 : x_high - source.x0]
    return (slice(y_low, y_high), slice(x_low, x_high)), inside


def summed_light(
    first: np.ndarray,
    second: np.ndarray,
    deeper: Mapping[str, np.ndarray] | Table,
    other: np.ndarray | None = None,
) -> np.ndarray:
    """Light of all sources, from the layers that hold it.

    Parameters
    ----------
    first, second : (height, width) float32 array
        Brightest and second-brightest galaxy of each pixel.
    deeper : mapping with ``y``, ``x``, ``flux``
        Third and later galaxies.
    other : (height, width) float32 array, optional
        Light of sources without a label.

    Returns
    -------
    (height, width) float32 array
    """
    light = first + second
    np.add.at(light, (np.asarray(deeper["y"]), np.asarray(deeper["x"])), np.asarray(deeper["flux"]))
    if other is not None:
        light += other
    return light


def shared_light(source: SourceImage, light: np.ndarray) -> tuple[float, float]:
    """The two sums of a galaxy's blendedness, ``1 - sum g_i^2 / sum (g_i sum_j g_j)``, over part of a field.

    Parameters
    ----------
    source : SourceImage
        Noise-free image of the galaxy.
    light : (height, width) float32 array
        Light of all sources.

    Returns
    -------
    own, shared : float
        Sums over the pixels that both cover; those of several parts of a field add up.
    """
    window, image = clip_to(source, light.shape)
    image = image.astype(np.float64)
    # Not a dot product: BLAS sums in an order that depends on its threads.
    return float(np.sum(image * image)), float(np.sum(image * light[window]))


def blendedness(own: np.ndarray, shared: np.ndarray) -> np.ndarray:
    """How much of each galaxy's light lies under its neighbours.

    Parameters
    ----------
    own, shared : (n,) float array
        The sums of `shared_light`.

    Returns
    -------
    (n,) float64 array
        0 for a lone galaxy, towards 1 for one that is lost under a brighter one (BTK's definition); 0 where
        a galaxy has no light on the field.
    """
    own, shared = np.asarray(own, np.float64), np.asarray(shared, np.float64)
    return np.where(shared > 0, 1.0 - own / np.where(shared > 0, shared, 1.0), 0.0)

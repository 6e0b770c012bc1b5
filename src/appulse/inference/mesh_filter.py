"""The mesh without its outliers, and continued to where nothing is known."""

import functools
import itertools
from collections.abc import Iterator

import numpy as np
from scipy import ndimage

from appulse.inference.mesh import centres_of


def filtered(mesh: np.ndarray) -> np.ndarray:
    """Take out the outliers of a mesh by 3x3 medians, NaN ignored.

    Where all nine cells are NaN, deep inside what has no sky, the nearest cell of the result that is not.
    """
    padded = np.pad(mesh, 1, mode="edge")
    return _filled(_median(np.lib.stride_tricks.sliding_window_view(padded, (3, 3))))


def filtered_level(mesh: np.ndarray, outside: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Take out the outliers of a mesh by 3x3 medians, and give a plane back as it is.

    Where some of the nine cells are not known, beside the image's borders too, the median of the others would
    lie up to a cell further inside. There it is one among what planes tell: neighbours on opposite sides, and
    those on two sides with the one between. The first cells outside what was exposed go on straight, since
    pixels as far as its border are interpolated towards them.

    Parameters
    ----------
    mesh : (rows, columns) float array
        NaN where not known.
    outside : (rows, columns) bool array
        Cells with too few good pixels. Those that hold too little sky for sources are bridged, not continued:
        the wings of a galaxy would rise into it.
    shape : (height, width), pixels
        Of the image.

    Returns
    -------
    (rows, columns) float array
    """
    around = np.lib.stride_tricks.sliding_window_view(np.pad(mesh, 1, constant_values=np.nan), (3, 3))
    opposite = np.where(np.isnan(around[..., ::-1, ::-1]), np.nan, around)
    told = [*np.moveaxis(opposite.reshape(*mesh.shape, 9), -1, 0), *_corners(mesh, mesh), _median(around)]
    whole = np.isfinite(around).all(axis=(-2, -1))
    smooth = _filled(np.where(whole, told[-1], _median(np.stack(told, axis=-1)[..., None])))
    beside = _mean(*(_continued(mesh, axis, shape[axis]) for axis in (0, 1)))
    return np.where(outside, _known(beside, _mean(*_corners(mesh, beside)), smooth), smooth)


def _continued(mesh: np.ndarray, axis: int, length: int) -> np.ndarray:
    """What two known cells on one side of each tell of it along an axis; the median with those beside it.

    NaN where no two are, and between known ones.
    """
    along = np.pad(np.moveaxis(mesh, axis, 0), [(2, 2), (1, 1)], constant_values=np.nan)
    centres = np.pad(centres_of(length), 2, constant_values=np.nan)[:, None]
    one_sided = np.full((len(along) - 4, along.shape[1]), np.nan)
    sides = [(slice(1, -3), slice(0, -4)), (slice(3, -1), slice(4, None))]
    for (near, far), (opposite, _) in (sides, sides[::-1]):
        steps = (centres[2:-2] - centres[near]) / (centres[near] - centres[far])
        told = along[near] + (along[near] - along[far]) * steps
        one_sided = np.where(np.isnan(along[opposite]), _known(one_sided, told), one_sided)
    own = one_sided[:, 1:-1]
    three = np.stack([_known(one_sided[:, :-2], own), own, _known(one_sided[:, 2:], own)], axis=-1)
    result = np.where(np.isnan(own), np.nan, _median(three[..., None]))
    return np.moveaxis(result, 0, axis)


def _filled(mesh: np.ndarray) -> np.ndarray:
    nearest = ndimage.distance_transform_edt(np.isnan(mesh), return_distances=False, return_indices=True)
    return mesh[tuple(nearest)]


def _corners(mesh: np.ndarray, beside: np.ndarray) -> Iterator[np.ndarray]:
    """What the planes of two cells beside each, on two sides, and the one between tell of it: four arrays."""
    rows, columns = mesh.shape
    mesh, beside = (np.pad(values, 1, constant_values=np.nan) for values in (mesh, beside))
    for y, x in itertools.product((0, 2), (0, 2)):
        down, across = slice(y, y + rows), slice(x, x + columns)
        yield beside[down, 1:-1] + beside[1:-1, across] - mesh[down, across]


def _known(*values: np.ndarray) -> np.ndarray:
    """The first of several arrays that is not NaN, element by element."""
    return functools.reduce(lambda first, other: np.where(np.isnan(first), other, first), values)


def _mean(*values: np.ndarray) -> np.ndarray:
    """The mean of arrays, NaN ignored; NaN where all are."""
    count = np.isfinite(values).sum(axis=0)
    return np.where(count > 0, np.nansum(values, axis=0) / np.maximum(count, 1), np.nan)


def _median(around: np.ndarray) -> np.ndarray:
    """Of the last two axes, NaN ignored; NaN where all are."""
    values = around.reshape(*around.shape[:-2], -1)
    result = np.full(values.shape[:-1], np.nan)
    known = np.isfinite(values).any(axis=-1)
    result[known] = np.nanmedian(values[known], axis=-1)
    return result

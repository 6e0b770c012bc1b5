"""True objects and galaxies: the components of a true class map, and what each of them holds."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from appulse.objects.components import MIN_OVERLAP, distinct_pairs, label_connected
from appulse.windows import Window, shape_of

# Smaller true objects are ignored: neither missed nor, if matched, false.
MIN_TRUE_AREA = 10


class Kind(IntEnum):
    """What an object is, or is claimed to be. The values index tables of counts."""

    NONE = 0  #: no object: the background, a missed object (as a prediction), a false one (as a truth)
    ISOLATED = 1  #: one galaxy
    TOUCHING = 2  #: several galaxies that share fewer than ``MIN_OVERLAP`` pixels
    BLENDED = 3  #: several galaxies that share at least ``MIN_OVERLAP`` pixels


@dataclass(frozen=True)
class TrueObjects:
    """The objects of one true ternary map. Per-object arrays have n + 1 entries; 0 is the background.

    Parameters
    ----------
    labels : (height, width) int32 array
        8-connected components of ``ternary > 0``.
    kind : (n + 1,) int8 array
        :class:`Kind` of each object.
    area : (n + 1,) int array, pixels
    n_galaxies : (n + 1,) int array
    ignored : (n + 1,) bool array
        Under ``MIN_TRUE_AREA`` pixels, or cut by the image border.
    only_targets : bool
        Whether the objects that are not ignored were chosen: a prediction that meets none of them is then
        neither right nor false.
    """

    labels: np.ndarray
    kind: np.ndarray
    area: np.ndarray
    n_galaxies: np.ndarray
    ignored: np.ndarray
    only_targets: bool = False


def object_kinds(n_galaxies: np.ndarray, blended: np.ndarray) -> np.ndarray:
    """Classify objects by their number of galaxies and whether these overlap.

    Parameters
    ----------
    n_galaxies : (n,) int array
    blended : (n,) bool array

    Returns
    -------
    (n,) int8 array
        Of :class:`Kind`, never ``NONE``.
    """
    several = np.where(n_galaxies > 1, Kind.TOUCHING, Kind.ISOLATED)
    return np.where(blended, Kind.BLENDED, several).astype(np.int8)


def true_objects(ternary: np.ndarray, id1: np.ndarray, id2: np.ndarray) -> TrueObjects:
    """Find the true objects, and what each of them is.

    A galaxy belongs to an object if it is the brightest (``id1``) in one of its pixels, or the second
    brightest (``id2``) in one of its pixels of class 2.

    Parameters
    ----------
    ternary : (height, width) integer array
        True class map: 0 background, 1 one galaxy, 2 overlap.
    id1, id2 : (height, width) integer arrays
        Galaxies with the brightest and second-brightest surface brightness in each pixel; 0 none.

    Returns
    -------
    TrueObjects

    Raises
    ------
    ValueError
        If the shapes differ.
    """
    ternary, id1, id2 = np.asarray(ternary), np.asarray(id1), np.asarray(id2)
    if not ternary.shape == id1.shape == id2.shape:
        raise ValueError(
            f"true_objects: ternary {ternary.shape}, id1 {id1.shape}, id2 {id2.shape}; expected equal shapes."
        )
    labels, _ = label_connected(ternary > 0)
    area = np.bincount(labels.ravel())
    area[0] = 0
    n_overlap = np.bincount(labels[ternary == 2], minlength=len(area))
    n_galaxies = _count_galaxies(ternary, id1, id2, labels, len(area))
    kind = object_kinds(n_galaxies, n_overlap >= MIN_OVERLAP)
    kind[0] = Kind.NONE
    ignored = (area < MIN_TRUE_AREA) | touches_border(labels, len(area))
    ignored[0] = False
    return TrueObjects(labels, kind, area, n_galaxies, ignored)


def _count_galaxies(
    ternary: np.ndarray, id1: np.ndarray, id2: np.ndarray, labels: np.ndarray, n_labels: int
) -> np.ndarray:
    pixels, galaxies = galaxy_pixels(ternary, id1, id2)
    pairs, _ = distinct_pairs(labels.ravel()[pixels], galaxies)
    return np.bincount(pairs[:, 0], minlength=n_labels)


def touches_border(labels: np.ndarray, n_labels: int) -> np.ndarray:
    """Which labels have a pixel in the outermost row or column.

    Parameters
    ----------
    labels : (height, width) int array
    n_labels : int
        Length of the answer: the highest label plus 1.

    Returns
    -------
    (n_labels,) bool array
    """
    touching = np.zeros(n_labels, dtype=bool)
    for edge in (labels[0], labels[-1], labels[:, 0], labels[:, -1]):
        touching[edge] = True
    touching[0] = False
    return touching


def galaxy_pixels(ternary: np.ndarray, id1: np.ndarray, id2: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """List every pixel of every true galaxy.

    Parameters
    ----------
    ternary, id1, id2 : (height, width) integer arrays
        As for :func:`true_objects`.

    Returns
    -------
    pixels, galaxies : (n,) int arrays
        Flat index of the pixel, and id of the galaxy. A pixel of class 2 appears twice.
    """
    first = np.flatnonzero(ternary >= 1)
    second = np.flatnonzero(ternary == 2)
    pixels = np.concatenate([first, second])
    galaxies = np.concatenate([id1.ravel()[first], id2.ravel()[second]]).astype(np.int64)
    return pixels[galaxies > 0], galaxies[galaxies > 0]


def true_galaxy_masks(
    ternary: np.ndarray, id1: np.ndarray, id2: np.ndarray
) -> tuple[np.ndarray, list[tuple[Window, np.ndarray]]]:
    """Masks of the true galaxies, exact where at most two overlap.

    Parameters
    ----------
    ternary, id1, id2 : (height, width) integer arrays
        As for :func:`true_objects`.

    Returns
    -------
    ids : (n,) int array
        Galaxies with at least one pixel, ascending.
    masks : list of (slices, mask)
        Bounding box (a pair of slices: y, x) and the boolean mask within it.
    """
    ternary, id1, id2 = np.asarray(ternary), np.asarray(id1), np.asarray(id2)
    pixels, galaxies = galaxy_pixels(ternary, id1, id2)
    order = np.argsort(galaxies, kind="stable")
    ids, starts = np.unique(galaxies[order], return_index=True)
    masks = []
    for pixels_of_one in np.split(pixels[order], starts[1:]) if len(ids) else []:
        y, x = np.unravel_index(pixels_of_one, ternary.shape)
        box = slice(int(y.min()), int(y.max()) + 1), slice(int(x.min()), int(x.max()) + 1)
        mask = np.zeros(shape_of(box), dtype=bool)
        mask[y - box[0].start, x - box[1].start] = True
        masks.append((box, mask))
    return ids, masks

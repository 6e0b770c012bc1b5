"""What a detector claims: objects, how many galaxies each holds, and whether they overlap."""

from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from appulse.objects.components import label_connected

# "Blended" needs this many pixels of class 2; fewer are noise on the truth's own threshold.
MIN_OVERLAP = 4


class Kind(IntEnum):
    """What an object is, or is claimed to be. The values index :attr:`ObjectCounts.table`."""

    NONE = 0  #: no object: the background, a missed object (as a prediction), a false one (as a truth)
    ISOLATED = 1  #: one galaxy
    TOUCHING = 2  #: several galaxies that share fewer than ``MIN_OVERLAP`` pixels
    BLENDED = 3  #: several galaxies that share at least ``MIN_OVERLAP`` pixels


@dataclass(frozen=True)
class Detection:
    """The objects that a detector finds in one image.

    Parameters
    ----------
    objects : (height, width) int32 array
        Labels of the 8-connected objects, 1 to n without gaps, 0 background. A blend is *one* object.
    n_galaxies : (n + 1,) int array
        Galaxies claimed in each object; index 0 is the background.
    blended : (n + 1,) bool array
        Whether overlapping galaxies are claimed.
    """

    objects: np.ndarray
    n_galaxies: np.ndarray
    blended: np.ndarray

    @property
    def kinds(self):
        """(n + 1,) int8 array of :class:`Kind`: index 0 is ``NONE``."""
        kinds = object_kinds(self.n_galaxies, self.blended)
        kinds[0] = Kind.NONE
        return kinds


def object_kinds(n_galaxies, blended):
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


def label_components(foreground):
    """Label the 8-connected components of a mask.

    Parameters
    ----------
    foreground : (height, width) bool array

    Returns
    -------
    (height, width) int32 array
        1 to n in the order of their first pixels, 0 background.
    """
    return label_connected(np.asarray(foreground, dtype=bool))[0]


def detection_from_ternary(ternary, *, min_area=5, min_overlap=MIN_OVERLAP):
    """Read a ternary map as a detector's claim, by the rules that also make the truth.

    Parameters
    ----------
    ternary : (height, width) integer array
        0 background, 1 one galaxy, 2 overlap.
    min_area : int, pixels
        Smaller objects are dropped.
    min_overlap : int, pixels
        An object with at least this many pixels of class 2 is blended.

    Returns
    -------
    Detection
        ``n_galaxies`` is 2 for a blend and 1 otherwise: a ternary map alone says no more.
        Replace it where :func:`appulse.objects.separation.separate` has counted the galaxies.
    """
    ternary = np.asarray(ternary)
    labels = label_components(ternary > 0)
    keep = np.bincount(labels.ravel()) >= min_area
    keep[0] = False
    renumber = (np.cumsum(keep) * keep).astype(np.int32)
    objects = renumber[labels]
    n_overlap = np.bincount(objects[ternary == 2], minlength=np.count_nonzero(keep) + 1)
    blended = n_overlap >= min_overlap
    blended[0] = False
    n_galaxies = np.where(blended, 2, 1)
    n_galaxies[0] = 0
    return Detection(objects, n_galaxies, blended)

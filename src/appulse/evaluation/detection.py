"""What a detector claims: objects, how many galaxies each holds, and whether they overlap."""

from dataclasses import dataclass

import numpy as np

from appulse.sky.true_objects import MIN_OVERLAP, Kind, label_components, object_kinds


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
    masks : tuple of (slices, mask), optional
        The galaxies, which may overlap: bounding box (a pair of slices: y, x) and boolean mask within it. None
        where the detector tells no galaxies apart.
    """

    objects: np.ndarray
    n_galaxies: np.ndarray
    blended: np.ndarray
    masks: tuple[tuple[tuple[slice, slice], np.ndarray], ...] | None = None

    @property
    def kinds(self):
        """(n + 1,) int8 array of :class:`Kind`: index 0 is ``NONE``."""
        kinds = object_kinds(self.n_galaxies, self.blended)
        kinds[0] = Kind.NONE
        return kinds


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

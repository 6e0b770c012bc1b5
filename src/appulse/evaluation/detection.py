"""What a detector claims: objects, how many galaxies each holds, and whether they overlap."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

import numpy as np

from appulse.network.calibration import MIN_AREA
from appulse.objects.components import MIN_OVERLAP, distinct_pairs, label_objects
from appulse.objects.pairs import overlapping
from appulse.sky.true_objects import Kind, object_kinds
from appulse.windows import Window

if TYPE_CHECKING:  # training scores maps without it
    from appulse.result import Result


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
        The galaxies, which may overlap: bounding box (a pair of slices: y, x) and boolean mask within it.
        None where the detector tells no galaxies apart.
    """

    objects: np.ndarray
    n_galaxies: np.ndarray
    blended: np.ndarray
    masks: tuple[tuple[Window, np.ndarray], ...] | None = None

    @property
    def kinds(self) -> np.ndarray:
        """(n + 1,) int8 array of :class:`Kind`: index 0 is ``NONE``."""
        kinds = object_kinds(self.n_galaxies, self.blended)
        kinds[0] = Kind.NONE
        return kinds


def detection_from_ternary(ternary: np.ndarray, *, min_area: int = MIN_AREA) -> Detection:
    """Read a ternary map as a detector's claim, by the rules that also make the truth.

    Parameters
    ----------
    ternary : (height, width) integer array
        0 background, 1 one galaxy, 2 overlap.
    min_area : int, pixels
        Smaller objects are dropped.

    Returns
    -------
    Detection
        ``n_galaxies`` is 2 for a blend and 1 otherwise: a ternary map alone says no more.
        Replace it where :func:`appulse.objects.separation.separate` has counted the galaxies.
    """
    ternary = np.asarray(ternary)
    objects, boxes = label_objects(ternary, min_area)
    n_overlap = np.bincount(objects[ternary == 2], minlength=len(boxes) + 1)
    blended = n_overlap >= MIN_OVERLAP
    blended[0] = False
    n_galaxies = np.where(blended, 2, 1)
    n_galaxies[0] = 0
    return Detection(objects, n_galaxies, blended)


def detection_from_result(result: Result, *, min_area: int = MIN_AREA) -> Detection:
    """What the catalogue of a segmented image claims.

    An object is a blend if its class map says so, or if two of its galaxies overlap by `PAIRS`: thin overlaps
    show in the light on the border of two galaxies before any one pixel of them is likely to be of class 2.

    Parameters
    ----------
    result : Result
        Of `appulse.segment`.
    min_area : int, pixels
        As for :func:`detection_from_ternary`.

    Returns
    -------
    Detection
        ``n_galaxies`` counts the catalogue's galaxies.
    """
    drawn = detection_from_ternary(result.ternary, min_area=min_area)
    inside = (drawn.objects > 0) & (result.segm > 0)
    members, _ = distinct_pairs(drawn.objects[inside], result.segm[inside])
    n_galaxies = np.bincount(members[:, 0], minlength=len(drawn.n_galaxies))
    object_of = np.zeros(int(result.segm.max(initial=0)) + 1, dtype=np.int64)
    object_of[members[:, 1]] = members[:, 0]
    pairs = result.pairs[overlapping(result.pairs["overlap_area"], result.pairs["border_area"])]
    blended = drawn.blended.copy()
    blended[object_of[np.asarray(pairs["label_a"], dtype=np.int64)]] = True
    blended[0] = False
    return replace(drawn, n_galaxies=np.maximum(n_galaxies, drawn.n_galaxies), blended=blended)

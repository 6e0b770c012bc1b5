"""Faint bridges: where a class map joins two galaxies that the light keeps apart."""

from __future__ import annotations

import itertools

import numpy as np
from numba import njit
from scipy import ndimage

from appulse.objects.components import MIN_OVERLAP, label_connected, label_objects
from appulse.objects.pairs import BRIGHT_BORDER
from appulse.objects.peaks import smooth
from appulse.objects.separation import MARGIN, divide_at_peaks
from appulse.windows import grown

# An overlap that is likelier than not, whatever the operating point: objects depend on `t_galaxy` alone.
LIKELY_OVERLAP = 0.5
# The dividing line runs no further beside an overlap than this, pixels: what is deeper inside a galaxy is
# shared with something inside it.
OVERLAP_REACH = 5.0
_AROUND = int(OVERLAP_REACH) + 1
_EIGHT = np.ones((3, 3), bool)


def faint_bridges(union: np.ndarray, image: np.ndarray, p_overlap: np.ndarray | None = None) -> np.ndarray:
    """Pixels that join galaxies of one object although neither of them is above the noise there.

    On the line that divides two galaxies each gives half of the light. Where all of that line lies below
    twice the noise, neither galaxy reaches the noise on it, and by the definition of the truth (paper,
    section 3) background keeps them apart. Not so where they share an overlap, `MIN_OVERLAP` connected pixels
    and more that are more likely class 2 than not: one that meets both, or lies in one with the other the
    nearest of the rest and no further than `OVERLAP_REACH`. The dividing line then runs beside it.

    Parameters
    ----------
    union : (height, width) bool array
        Pixels of the object.
    image : (height, width) float array, units of the background noise
        Should reach some pixels past the object.
    p_overlap : (height, width) float array, optional
        Probability that a pixel holds two galaxies or more.

    Returns
    -------
    (height, width) bool array
        The border of the galaxy that has fewer pixels on it; without these the two are not connected.
    """
    galaxies = divide_at_peaks(union, image)
    bridges = np.zeros(union.shape, bool)
    if len(galaxies) < 2:
        return bridges
    smoothed = smooth(image)
    grown = [ndimage.binary_dilation(galaxy, _EIGHT) for galaxy in galaxies]
    cuts = {}
    for a, b in itertools.combinations(range(len(galaxies)), 2):
        borders = galaxies[a] & grown[b], galaxies[b] & grown[a]
        if borders[0].any() and _saddle(*borders, smoothed) < BRIGHT_BORDER:
            cuts[a, b] = min(borders, key=np.count_nonzero)
    if cuts and p_overlap is not None:
        for pair in _pairs_with_overlap(galaxies, union & (p_overlap > LIKELY_OVERLAP)):
            cuts.pop(pair, None)
    for cut in cuts.values():
        bridges |= cut
    return bridges


def _pairs_with_overlap(galaxies: np.ndarray, overlap: np.ndarray) -> set[tuple[int, int]]:
    """Pairs (a, b), a < b, that share an overlap: the galaxies that it meets, or else the two nearest."""
    labels, count = label_connected(overlap)
    sizes = np.bincount(labels.ravel(), minlength=count + 1)
    pairs: set[tuple[int, int]] = set()
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if sizes[label] < MIN_OVERLAP:
            continue
        around = grown(box, _AROUND, labels.shape)
        away = ndimage.distance_transform_edt(labels[around] != label)
        distances = np.array([away[galaxy[around]].min(initial=np.inf) for galaxy in galaxies])
        nearest_other = min(np.sort(distances)[1], OVERLAP_REACH)
        sharing = np.flatnonzero(distances <= max(np.sqrt(2), nearest_other))
        pairs.update(itertools.combinations(sharing.tolist(), 2))
    return pairs


@njit(cache=True)
def _saddle(one: np.ndarray, other: np.ndarray, smoothed: np.ndarray) -> float:
    """Highest level at which a step from ``one`` to ``other`` can be made, over all 8-connected steps."""
    highest = -np.inf
    height, width = one.shape
    for y in range(height):
        for x in range(width):
            if one[y, x]:
                for i in range(max(y - 1, 0), min(y + 2, height)):
                    for j in range(max(x - 1, 0), min(x + 2, width)):
                        if other[i, j]:
                            highest = max(highest, min(smoothed[y, x], smoothed[i, j]))
    return highest


def bridges_of_field(
    foreground: np.ndarray, image: np.ndarray, min_area: int, p_overlap: np.ndarray | None = None
) -> np.ndarray:
    """Faint bridges of every object of a field.

    Parameters
    ----------
    foreground : (height, width) bool array
        Where the class map has a galaxy.
    image : (height, width) float array, units of the background noise
        NaN where bad.
    min_area : int, pixels
        Smaller objects are left alone.
    p_overlap : (height, width) float array, optional
        Probability that a pixel holds two galaxies or more; NaN where bad.

    Returns
    -------
    (height, width) bool array
    """
    labels, boxes = label_objects(foreground, min_area)
    found = np.zeros(labels.shape, bool)
    for label, box in enumerate(boxes, start=1):
        window = grown(box, MARGIN, labels.shape)
        shared = None if p_overlap is None else p_overlap[window]
        found[window] |= faint_bridges(labels[window] == label, image[window], shared)
    return found

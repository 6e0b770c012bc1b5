"""Which galaxies of an object overlap: by the pixels they share, or by the light on their border."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from appulse.objects.components import MIN_OVERLAP
from appulse.objects.peaks import smooth

# On the line that divides two galaxies each gives half of the light. Where that light exceeds twice the
# noise, both lie above the noise: a pixel of class 2 by the definition of the truth (paper, section 3).
BRIGHT_BORDER = 2.0
_EIGHT = np.ones((3, 3), bool)


@dataclass(frozen=True)
class Pair:
    """Two galaxies of one object that meet.

    Parameters
    ----------
    first, second : int
        Which galaxies, by their place among the masks.
    overlap_area : int, pixels
        Shared pixels.
    border_area : int, pixels
        Pixels along their border, on the side that has fewer, whose smoothed light exceeds `BRIGHT_BORDER`.
    """

    first: int
    second: int
    overlap_area: int
    border_area: int

    @property
    def is_blend(self) -> bool:
        """Whether the two overlap, by `overlapping`."""
        return bool(overlapping(self.overlap_area, self.border_area))


def overlapping(overlap_area: int | np.ndarray, border_area: int | np.ndarray) -> bool | np.ndarray:
    """Whether two galaxies overlap, from the pixels they share and their bright border.

    Parameters
    ----------
    overlap_area, border_area : int or (n,) int array, pixels
        As in `Pair` and in the table PAIRS.

    Returns
    -------
    bool or (n,) bool array
        At least `MIN_OVERLAP` pixels by either measure.
    """
    return np.maximum(overlap_area, border_area) >= MIN_OVERLAP


def meeting_pairs(masks: np.ndarray, image: np.ndarray) -> list[Pair]:
    """List the galaxies of one object that overlap or share a bright border.

    Parameters
    ----------
    masks : (n_galaxies, height, width) bool array
        Galaxies of one object.
    image : (height, width) float array, units of the background noise

    Returns
    -------
    list of Pair
        Those with an overlap or a bright border, in the order of the masks.
    """
    if len(masks) < 2:
        return []
    bright = smooth(image) > BRIGHT_BORDER
    grown = [ndimage.binary_dilation(mask, _EIGHT) for mask in masks]
    pairs = []
    for a, b in itertools.combinations(range(len(masks)), 2):
        only_a, only_b = masks[a] & ~masks[b], masks[b] & ~masks[a]
        overlap = int(np.count_nonzero(masks[a] & masks[b]))
        border = min(
            int(np.count_nonzero(only_a & grown[b] & bright)),
            int(np.count_nonzero(only_b & grown[a] & bright)),
        )
        if overlap or border:
            pairs.append(Pair(a, b, overlap, border))
    return pairs

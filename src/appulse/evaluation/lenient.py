"""The lenient scoring rule of the paper's public precursor, for comparison with its numbers only."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from appulse.evaluation.detection import Detection
from appulse.evaluation.intervals import Interval, wilson
from appulse.evaluation.matching import excluded_predictions, match_objects
from appulse.sky.true_objects import Kind, TrueObjects


@dataclass(frozen=True)
class LenientBlends:
    """Predicted blends, and those of them that the lenient rule calls right. Fields pool by ``+``."""

    n_right: int
    n_predicted: int

    def __add__(self, other: LenientBlends) -> LenientBlends:
        return LenientBlends(self.n_right + other.n_right, self.n_predicted + other.n_predicted)

    def purity(self) -> Interval:
        """Lenient purity of blends, with its Wilson interval; never to be quoted without the strict one."""
        return wilson(self.n_right, self.n_predicted)


def lenient_blends(truth: TrueObjects, detection: Detection, galaxies_xy: np.ndarray) -> LenientBlends:
    """Count predicted blends by the precursor's rule: right also with two catalogue galaxies in the box.

    A predicted blend is right if it is matched to a true blend, or if the bounding box of its pixels holds
    the positions of at least two catalogue galaxies, overlapping or not, bright enough to see or not (the
    notebook of ``Hbretonniere/blendinator``). The precursor's IoU, whose union never subtracts the
    intersection, is not copied.

    Parameters
    ----------
    truth : TrueObjects
    detection : Detection
    galaxies_xy : (n, 2) float array, pixels
        Positions of every galaxy in the catalogue, 0-based.

    Returns
    -------
    LenientBlends
        Predicted blends tied to ignored true objects are left out, as in the strict scores.
    """
    match = match_objects(truth.labels, detection.objects)
    counted = detection.blended & ~excluded_predictions(truth, detection.objects, match)
    counted[0] = False
    right = counted & (truth.kind[match.true] == Kind.BLENDED)
    boxes = ndimage.find_objects(detection.objects)
    # Galaxies in order of y, so that each box looks only at its own rows.
    galaxies_xy = np.reshape(galaxies_xy, (-1, 2))
    x, y = galaxies_xy[np.argsort(galaxies_xy[:, 1], kind="stable")].T
    for label in np.flatnonzero(counted & ~right):
        rows, columns = boxes[label - 1]
        # A pixel reaches half a pixel to either side of its centre.
        first, last = np.searchsorted(y, [rows.start - 0.5, rows.stop - 0.5])
        inside = (x[first:last] >= columns.start - 0.5) & (x[first:last] < columns.stop - 0.5)
        right[label] = np.count_nonzero(inside) >= 2
    return LenientBlends(int(np.count_nonzero(right)), int(np.count_nonzero(counted)))

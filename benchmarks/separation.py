"""Objects of several galaxies, taken apart: how many of the galaxies come back (docs/decisions/0015).

The class maps are the true ones, so that only the separation is judged; the light is the observed one.

usage: python benchmarks/separation.py FIELD.fits [FIELD.fits ...]
"""

import sys
import time

import numpy as np
from scipy import ndimage

from appulse.evaluation.galaxies import match_galaxies
from appulse.objects.separation import MARGIN, separate
from appulse.sky.stored_field import read_field
from appulse.sky.true_objects import true_galaxy_masks, true_objects

# A fainter galaxy leaves less than what a detector could be asked for.
LEAST_AREA = 5


def blends(field):
    """Class map, light and true galaxies of every object with two galaxies and more, but for the border's."""
    ternary = field.ternary()
    truth = true_objects(ternary, field.id1, field.id2)
    galaxies = {}
    for box, mask in true_galaxy_masks(ternary, field.id1, field.id2)[1]:
        galaxies.setdefault(int(np.bincount(truth.labels[box][mask]).argmax()), []).append((box, mask))
    boxes = ndimage.find_objects(truth.labels)
    for label, members in galaxies.items():
        if len(members) < 2 or truth.ignored[label]:
            continue
        window = tuple(slice(max(side.start - MARGIN, 0), side.stop + MARGIN) for side in boxes[label - 1])
        classes = np.where(truth.labels[window] == label, ternary[window], 0)
        inside = [(_shifted(box, window), mask) for box, mask in members]
        yield classes, field.image[window] / field.sigma, inside


def _shifted(box, window):
    return tuple(
        slice(side.start - outer.start, side.stop - outer.start)
        for side, outer in zip(box, window, strict=True)
    )


def main(paths):
    columns = ("objects", "galaxies", "found", "claimed", "wrong", "IoU", "ms/object")
    print(f"{'field':24}" + "".join(f"{name:>10}" for name in columns))
    for path in paths:
        objects, galaxies, found, claimed, right, iou, seconds = 0, 0, 0, 0, 0, 0.0, 0.0
        for classes, light, members in blends(read_field(path)):
            started = time.perf_counter()
            masks = separate(classes, light).masks
            seconds += time.perf_counter() - started
            whole = tuple(slice(0, length) for length in classes.shape)
            match = match_galaxies(members, [(whole, mask) for mask in masks])
            counted = [k for k, (_, mask) in enumerate(members) if mask.sum() >= LEAST_AREA]
            objects += 1
            galaxies += len(counted)
            found += len(np.intersect1d(match.true, counted))
            claimed += len(masks)
            right += len(match.predicted)
            iou += match.score.sum()
        name = path.rsplit("/", 1)[-1]
        counts = "".join(f"{count:10}" for count in (objects, galaxies, found, claimed, claimed - right))
        print(
            f"{name:24}{counts}{iou / max(right, 1):10.3f}{1e3 * seconds / max(objects, 1):10.1f}", flush=True
        )


if __name__ == "__main__":
    main(sys.argv[1:])

"""The galaxies of a reference, followed into a realisation of the same object.

A realisation moves outlines; it does not ask anew how many galaxies there are. Starting from the reference's
own ellipses, one fit replaces the search of `appulse.objects.separation`, which costs a hundred times more.
A galaxy enclosed by one other needs no fit: it is what of class 2 lies there.
"""

import numpy as np
from scipy.ndimage import binary_dilation, distance_transform_edt

from appulse.objects.components import MIN_OVERLAP, iou, label_connected
from appulse.objects.ellipses import assign, ellipses_of, refine
from appulse.objects.separation import Separation, separate
from appulse.objects.thresholds import ROUNDS

# A galaxy whose masks overlap less is not the reference's: our choice.
MIN_IOU = 0.3
# A class-2 region is a nested galaxy's if this share of the smaller of the two lies in the other.
NESTED_OVERLAP = 0.5


def follow(ternary: np.ndarray, reference: Separation, image: np.ndarray) -> np.ndarray:
    """Masks of the reference's galaxies in one realisation.

    Parameters
    ----------
    ternary : (height, width) uint8 array
        The realisation, other objects' pixels 0.
    reference : Separation
        The object's galaxies.
    image : (height, width) float array, units of the background noise
        Consulted only where a lone galaxy seems to have a companion.

    Returns
    -------
    (n, height, width) bool array
        Galaxies found: in the reference's order, empty where absent; for a lone galaxy with a companion in
        this realisation, the galaxies of the full search.
    """
    union = ternary > 0
    overlaps = np.count_nonzero(ternary == 2) >= MIN_OVERLAP
    if len(reference.masks) == 1 and not overlaps:  # most objects, in most realisations
        return union[None]
    regions, n_regions = label_connected(ternary == 2)
    area = np.bincount(regions.ravel(), minlength=n_regions + 1)
    area[0] = 0
    if len(reference.masks) == 1:
        return _follow_lone(ternary, union, regions, area, image)
    if not overlaps and not (reference.masks.sum(axis=0) > 1).any():
        return _follow_borders(union, reference.masks)
    masks = np.zeros(reference.masks.shape, dtype=bool)
    followed = np.flatnonzero(~reference.nested).tolist()
    of_nested = np.zeros(n_regions + 1, dtype=bool)
    for galaxy in np.flatnonzero(reference.nested).tolist():
        mask = reference.masks[galaxy]
        inside = np.bincount(regions[mask], minlength=n_regions + 1)
        own = (inside >= NESTED_OVERLAP * np.minimum(area, np.count_nonzero(mask))) & (area > 0)
        if own.any() and not _is_enclosed(reference.masks, galaxy, own[regions]):
            followed.append(galaxy)
            continue
        masks[galaxy] = own[regions]
        of_nested |= own
    # What enclosed galaxies share with their host is no overlap of the others with each other.
    classes = np.where(of_nested[regions] & (regions > 0), 1, ternary).astype(np.uint8)
    while followed:
        masks[followed] = _follow_ellipses(classes, union, reference.masks[followed])
        kept = [iou(masks[galaxy], reference.masks[galaxy]) for galaxy in followed]
        worst = int(np.argmin(kept))
        if kept[worst] >= MIN_IOU or len(followed) == 1:
            break
        # It is not there: its pixels are the others'.
        masks[followed.pop(worst)] = False
    return masks


def _follow_borders(union: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Galaxies that touch and do not overlap keep their border; a pixel that is new is the nearest one's."""
    owners = np.where(masks.any(axis=0), masks.argmax(axis=0), -1)
    nearest = distance_transform_edt(owners < 0, return_distances=False, return_indices=True)
    return (owners[tuple(nearest)] == np.arange(len(masks))[:, None, None]) & union


def _is_enclosed(masks: np.ndarray, galaxy: int, region: np.ndarray) -> bool:
    """Whether a region of class 2 is one galaxy's: it lies in one other, and no two others meet there."""
    mask = masks[galaxy]
    covered = masks.sum(axis=0)
    sticks_out = (mask & (covered == 1)).any()
    met_by_others = region & ~mask & (covered - mask >= 2) | region & mask & (covered > 2)
    return bool(not sticks_out and np.count_nonzero(met_by_others) < MIN_OVERLAP)


def _follow_ellipses(classes: np.ndarray, union: np.ndarray, reference_masks: np.ndarray) -> np.ndarray:
    if len(reference_masks) == 1:
        return union[None]
    reference_union = reference_masks.any(axis=0)
    start = ellipses_of(
        np.ascontiguousarray(reference_masks[:, reference_union]),
        *(axis.astype(np.float64) for axis in np.nonzero(reference_union)),
    )
    ys, xs = (axis.astype(np.float64) for axis in np.nonzero(union))
    members = assign(ys, xs, classes[union], refine(ys, xs, classes[union], start, ROUNDS))
    masks = np.zeros((len(members), *union.shape), dtype=bool)
    masks[:, union] = members
    return masks


def _follow_lone(
    ternary: np.ndarray, union: np.ndarray, regions: np.ndarray, area: np.ndarray, image: np.ndarray
) -> np.ndarray:
    large = area >= MIN_OVERLAP
    if not large.any():
        return union[None]
    # Cusps touch the background, up to a ragged pixel; what lies deeper is nested and leaves the host whole.
    near = binary_dilation(~union, np.ones((3, 3)), border_value=1)
    if large[np.unique(regions[near])].any():
        return separate(ternary, image).masks
    return np.concatenate([union[None], [regions == region for region in np.flatnonzero(large)]])

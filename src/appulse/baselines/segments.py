"""From a segmentation map, one segment per galaxy, to objects: lone galaxies, touching ones and blends."""

import numpy as np
from scipy import ndimage

from appulse.evaluation.detection import Detection
from appulse.sky.true_objects import MIN_OVERLAP, label_components


def detection_from_segments(segments, *, min_border=MIN_OVERLAP):
    """Read a segmentation map, in which segments cannot overlap, as objects and blends.

    Segments that are neighbours (8-connected) form one object. It is a blend if two of its segments share at
    least ``min_border`` border pixels: this many pixels of each have a neighbour in the other.

    Parameters
    ----------
    segments : (height, width) int array
        One label per galaxy, 0 background.
    min_border : int, pixels

    Returns
    -------
    Detection
        ``n_galaxies`` is the number of segments in an object; ``masks`` are the segments.
    """
    segments = np.asarray(segments)
    objects = label_components(segments > 0)
    n_objects = int(objects.max(initial=0))
    inside = np.flatnonzero(segments)
    # A segment may be in several pieces, and so in several objects.
    members, _ = distinct_pairs(objects.ravel()[inside], segments.ravel()[inside])
    n_galaxies = np.bincount(members[:, 0], minlength=n_objects + 1)

    # One row per pixel of one segment that has a neighbour in another.
    segment, other, pixel = border_pixels(segments).T
    sides, first_row = distinct_pairs(segment, other)
    n_border = np.diff(np.append(first_row, len(pixel)))  # rows are sorted
    # Every pair comes as (a, b) and as (b, a); the side with fewer pixels decides.
    to_opposite = np.lexsort((sides[:, 0], sides[:, 1]))
    shared = np.minimum(n_border, n_border[to_opposite])
    blended = np.zeros(n_objects + 1, dtype=bool)
    blended[objects.ravel()[pixel[first_row[shared >= min_border]]]] = True
    boxes = ndimage.find_objects(segments)
    masks = tuple((box, segments[box] == k) for k, box in enumerate(boxes, start=1) if box is not None)
    return Detection(objects, n_galaxies, blended, masks)


def border_pixels(segments):
    """List the pixels of each segment that are 8-neighbours of another segment.

    Parameters
    ----------
    segments : (height, width) int array

    Returns
    -------
    (n, 3) int64 array
        Rows (segment, other segment, flat index of the pixel in ``segment``), each once, sorted.
    """
    height, width = segments.shape
    index = np.arange(segments.size).reshape(segments.shape)
    rows = [np.empty((0, 3), dtype=np.int64)]
    # One of each two opposite neighbours; both directions are recorded.
    for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1)):
        here = slice(0, height - dy), slice(max(0, -dx), width - max(0, dx))
        there = slice(dy, height), slice(max(0, dx), width - max(0, -dx))
        a, b = segments[here], segments[there]
        border = (a != b) & (a > 0) & (b > 0)
        a, b, a_index, b_index = a[border], b[border], index[here][border], index[there][border]
        rows.append(np.column_stack([a, b, a_index]))
        rows.append(np.column_stack([b, a, b_index]))
    found = np.concatenate(rows).astype(np.int64)
    found = found[np.lexsort(found.T[::-1])]
    repeated = np.zeros(len(found), bool)
    repeated[1:] = (found[1:] == found[:-1]).all(axis=1)
    return found[~repeated]


def distinct_pairs(first, second):
    """Distinct pairs of two columns; many times quicker than `numpy.unique` over rows.

    Parameters
    ----------
    first, second : (n,) int arrays
        None negative.

    Returns
    -------
    pairs : (m, 2) int64 array
        Sorted.
    places : (m,) int array
        Row in which each pair occurs first.
    """
    base = int(second.max(initial=0)) + 1
    codes, places = np.unique(first.astype(np.int64) * base + second, return_index=True)
    return np.column_stack([codes // base, codes % base]), places

"""Objects: the 8-connected components of ``ternary > 0``."""

import numpy as np
from scipy import ndimage

EIGHT_CONNECTED = np.ones((3, 3), dtype=bool)


def label_objects(ternary, min_area=1):
    """Label the 8-connected components of ``ternary > 0``.

    Parameters
    ----------
    ternary : (height, width) integer array
        0 background, 1 one galaxy, 2 overlap.
    min_area : int, pixels
        Components with fewer pixels become background.

    Returns
    -------
    labels : (height, width) int32 array
        0 background; objects count from 1 in raster order of their first pixel.
    slices : list of (slice, slice)
        Bounding box of object ``i`` at ``slices[i - 1]``.
    """
    labels, count = ndimage.label(np.asarray(ternary) > 0, structure=EIGHT_CONNECTED)
    flat = labels.ravel()
    area = np.bincount(flat, minlength=count + 1)
    # SciPy's order of labels is not part of its contract, so the first pixel of each is looked up.
    first_pixel = np.full(count + 1, flat.size)
    np.minimum.at(first_pixel, flat, np.arange(flat.size)) if count else None
    kept = [i for i in np.argsort(first_pixel[1:], kind="stable") + 1 if area[i] >= min_area]
    new_label = np.zeros(count + 1, dtype=np.int32)
    new_label[kept] = np.arange(1, len(kept) + 1)
    labels = new_label[labels]
    return labels, ndimage.find_objects(labels)


def central_component(ternary, y, x, reference_mask=None):
    """Mask of the object that a stamp is centred on.

    Parameters
    ----------
    ternary : (height, width) integer array
    y, x : float, pixels
        The stamp's centre, 0-based.
    reference_mask : (height, width) bool array, optional
        The object as first detected. The component sharing most pixels with it is the central one; where none
        does, the component at or nearest to the centre is taken.

    Returns
    -------
    (height, width) bool array
        Empty (all False) if the map holds no object.
    """
    labels, count = ndimage.label(np.asarray(ternary) > 0, structure=EIGHT_CONNECTED)
    if count == 0:
        return np.zeros(labels.shape, dtype=bool)
    if reference_mask is not None:
        shared = np.bincount(labels[np.asarray(reference_mask, dtype=bool)], minlength=count + 1)
        if shared[1:].max() > 0:
            return labels == 1 + np.argmax(shared[1:])
    rows, columns = np.nonzero(labels)
    nearest = np.argmin((rows - y) ** 2 + (columns - x) ** 2)
    return labels == labels[rows[nearest], columns[nearest]]

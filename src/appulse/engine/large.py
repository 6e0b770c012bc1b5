"""Objects too large to be taken apart: measured as one galaxy, from parts that are read one after the other.

A satellite trail, a ghost or the halo of a bright star may be an object whose bounding box is the whole
image. What `appulse.engine.describe` does takes some hundred bytes for each pixel of the box; here memory is
that of a part, whatever the object.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
from scipy import ndimage

from appulse.engine.describe import Described, Region
from appulse.objects.catalog import MEASURED
from appulse.objects.flags import ObjectFlag
from appulse.objects.measurement import aperture_factor
from appulse.windows import Window, at_border, cropped, grown, shape_of

# Pixels of the bounding box above which an object is not taken apart.
LARGEST_BOX = 2048**2
# Side of the parts, pixels; they begin at the corner of the box, so that no sum depends on the blocks.
PART = 1024


def is_large(box: Window) -> bool:
    """Whether an object is not taken apart.

    Parameters
    ----------
    box : (slice, slice)
        Its bounding box.
    """
    height, width = shape_of(box)
    return height * width > LARGEST_BOX


def describe_whole(
    read: Callable[[Window], Region], number: int, box: Window, image_shape: tuple[int, int], samples: int
) -> Described:
    """An object as one galaxy: area, flux and centroid, without spreads, sizes and shapes.

    Parameters
    ----------
    read : callable
        Gives all that is known of a window.
    number : int
        Of the object.
    box : (slice, slice)
        Its bounding box in the image.
    image_shape : (height, width), pixels
        Of the image.
    samples : int
        Realisations.

    Returns
    -------
    Described
        Without masks: the galaxy is the object. Flagged as larger than a stamp and as not measured.
    """
    flags = ObjectFlag.LARGER_THAN_STAMP | ObjectFlag.MEASUREMENT_FAILED
    if at_border(box, image_shape):
        flags |= ObjectFlag.BORDER
    area, flux, noise_squared, factor = 0, 0.0, 0.0, 1.0
    weight, weight_y, weight_x = 0.0, 0.0, 0.0
    found = np.zeros(samples, np.int64)
    for part in _parts(box):
        region = read(grown(part, 1, image_shape))  # with the edge, where a bad pixel counts
        here, scaled = cropped(part, region.window), region.scaled
        own = region.labels == number
        if (scaled.bad & ndimage.binary_dilation(own)).any():
            flags |= ObjectFlag.BAD_PIXEL
        y, x = (axis + side.start for axis, side in zip(np.nonzero(own[here]), part, strict=True))
        if not len(y):
            continue
        where = y - region.window[0].start, x - region.window[1].start
        light = scaled.scaled[where].astype(np.float64) * scaled.sigma[where]
        if scaled.correlated[where].any():
            flags |= ObjectFlag.OUTSIDE_MODEL_RANGE
        area += len(y)
        flux += float(np.sum(light))
        noise_squared += float(np.sum(scaled.noise[where].astype(np.float64) ** 2))
        factor = aperture_factor(scaled.correlation, scaled.noise_ratio)
        light = np.maximum(light, 0)
        weight += float(light.sum())
        weight_y += float(light @ y)
        weight_x += float(light @ x)
        detected = np.unpackbits(region.detections[0][:, *where], axis=0, count=samples)
        found += np.count_nonzero(detected, axis=1)
    rows, columns = box
    if weight > 0:
        centre = weight_y / weight, weight_x / weight
    else:  # a table of galaxies has no use for one without a place
        centre = (rows.start + rows.stop - 1) / 2, (columns.start + columns.stop - 1) / 2
    row = {
        "x_centroid": centre[1],
        "y_centroid": centre[0],
        "bbox_xmin": columns.start,
        "bbox_xmax": columns.stop - 1,
        "bbox_ymin": rows.start,
        "bbox_ymax": rows.stop - 1,
        "flux_noise": factor * float(np.sqrt(noise_squared)),
        "p_detect": float(np.mean(2 * found >= area)),
        "p_blend": 0.0,
        "overlap_area": 0,
        "n_realisations": 0,
        "flags": int(flags),
    }
    known = {"area": float(area), "flux": flux}
    for quantity in MEASURED:
        row[quantity] = known.get(quantity, np.nan)
        row |= {f"{quantity}_{spread}": np.nan for spread in ("std", "p16", "p84")}
    return Described(number, box, None, None, [row], [])


def _parts(box: Window) -> Iterator[Window]:
    rows, columns = box
    for top in range(rows.start, rows.stop, PART):
        for left in range(columns.start, columns.stop, PART):
            yield slice(top, min(top + PART, rows.stop)), slice(left, min(left + PART, columns.stop))

"""One row per true galaxy and one per true object: what it is, and what became of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from astropy.table import Table
from scipy import ndimage

from appulse.evaluation.detection import Detection
from appulse.evaluation.galaxies import match_centroids, match_galaxies
from appulse.evaluation.intervals import Interval, wilson
from appulse.evaluation.matching import ObjectMatch, match_objects
from appulse.objects.components import distinct_pairs
from appulse.result import Result
from appulse.sky.true_objects import MIN_TRUE_AREA, Kind, TrueObjects, galaxy_pixels, true_galaxy_masks
from appulse.windows import Window, at_border, shape_of

# Any overlap at all: the galaxies' IoU is wanted for bad matches too.
_ANY_IOU = 1e-6
# Columns about the model's spread inside a galaxy.
_SPREADS = ("variance", "galaxy_variance", "std_border", "std_core")
KIND_NAMES = tuple(kind.name.lower() for kind in Kind)
Masks = tuple[tuple[Window, np.ndarray], ...]


class TrueSky(Protocol):
    """What is true of an image: a `Field`, or stamps side by side."""

    @property
    def image(self) -> np.ndarray:
        """(height, width) float array."""

    @property
    def id1(self) -> np.ndarray:
        """Galaxy that is brightest in each pixel, (height, width) int array; 0 none."""

    @property
    def id2(self) -> np.ndarray:
        """Galaxy that is second-brightest in each pixel, (height, width) int array; 0 none."""

    def ternary(self) -> np.ndarray:
        """True class map, (height, width) uint8 array."""

    def galaxies(self, identities: np.ndarray) -> Table:
        """Rows of the catalogue.

        Parameters
        ----------
        identities : (n,) int array
            Of ``id1`` and ``id2``.
        """


@dataclass(frozen=True)
class TrueGalaxies:
    """The galaxies of a true field.

    Parameters
    ----------
    ids : (n,) int array
        In the field's catalogue.
    masks : tuple of (slices, mask)
        Bounding box and mask of each.
    objects : (n,) int array
        Label of the true object that holds most of its pixels.
    counted : (n,) bool array
        At least 10 pixels, none of them at the border.
    """

    ids: np.ndarray
    masks: Masks
    objects: np.ndarray
    counted: np.ndarray

    @classmethod
    def of(cls, field: TrueSky, truth: TrueObjects) -> TrueGalaxies:
        """Find them.

        Parameters
        ----------
        field : TrueSky
        truth : TrueObjects
            Of that field.
        """
        ids, masks = true_galaxy_masks(field.ternary(), field.id1, field.id2)
        objects = np.array([np.bincount(truth.labels[box][mask]).argmax() for box, mask in masks], np.int64)
        shape = field.image.shape
        counted = [mask.sum() >= MIN_TRUE_AREA and not at_border(box, shape) for box, mask in masks]
        return cls(np.asarray(ids, np.int64), tuple(masks), objects, np.array(counted, bool))


def result_masks(result: Result) -> Masks:
    """The galaxies of a result, as `Detection.masks` holds them: boxes without margin.

    Parameters
    ----------
    result : Result

    Returns
    -------
    tuple of (slices, mask)
    """
    masks = []
    for cutout in result.cutouts:
        (rows, columns), mask = cutout.window, cutout.mask
        y, x = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        inner = slice(y[0], y[-1] + 1), slice(x[0], x[-1] + 1)
        box = (
            slice(rows.start + inner[0].start, rows.start + inner[0].stop),
            slice(columns.start + inner[1].start, columns.start + inner[1].stop),
        )
        masks.append((box, mask[inner]))
    return tuple(masks)


def masks_of(detection: Detection) -> Masks:
    """The galaxies of a detection.

    Parameters
    ----------
    detection : Detection

    Returns
    -------
    tuple of (slices, mask)

    Raises
    ------
    ValueError
        The detector tells no galaxies apart.
    """
    if detection.masks is None:
        raise ValueError("this detection has no masks of galaxies; none can be matched.")
    return detection.masks


def galaxy_table(
    field: TrueSky,
    truth: TrueObjects,
    galaxies: TrueGalaxies,
    detections: Mapping[str, Detection],
    std: np.ndarray,
    p_galaxy: np.ndarray,
) -> Table:
    """What became of every true galaxy.

    Parameters
    ----------
    field : TrueSky
    truth : TrueObjects
    galaxies : TrueGalaxies
        Of that field.
    detections : mapping of str to Detection
        By detector, with masks; the model first.
    std : (height, width) float array
        Standard deviation of the class over the model's realisations.
    p_galaxy : (height, width) float array
        The model's P_GALAXY.

    Returns
    -------
    astropy.table.Table
        ``id``, ``x``, ``y``, ``magnitude``, ``area``, ``object`` (label of the true one that it is in) and
        its ``kind``, ``blendedness``;
        ``separation`` (pixels) to the nearest galaxy of the same object, ``separation_over_size`` (by the
        mean of the two half-light radii) and ``flux_ratio`` (fainter over brighter), NaN where alone;
        ``iou_NAME`` with the galaxy that detector NAME has there (one to one), 0 where it has none;
        of the mask that the model found (IoU 0.5 and more), else NaN: ``variance``, mean of ``std ** 2``;
        ``galaxy_variance``, mean of P_GALAXY (1 - P_GALAXY), the variance between galaxy and sky alone;
        ``std_border`` and ``std_core``, mean of ``std`` over the pixels that have and have not an 8-neighbour
        outside it. Only `counted` galaxies.
    """
    catalog = field.galaxies(galaxies.ids)
    kept = galaxies.counted & ~truth.ignored[galaxies.objects]
    table = Table({"id": galaxies.ids})
    for name in ("x", "y", "magnitude", "blendedness"):
        table[name] = np.asarray(catalog[name], float)
    table["area"] = [int(mask.sum()) for _, mask in galaxies.masks]
    table["object"] = galaxies.objects
    table["kind"] = np.array(KIND_NAMES)[truth.kind[galaxies.objects]]
    neighbours = _nearest(table, np.asarray(catalog["isophotal_half_light_radius"]), galaxies.objects)
    for name, values in neighbours.items():
        table[name] = values
    table["flux_ratio"] = 10 ** (-0.4 * np.abs(table["magnitude"] - table["neighbour_magnitude"]))
    table.remove_column("neighbour_magnitude")
    for number, (name, detection) in enumerate(detections.items()):
        iou = np.zeros(len(table))
        masks = masks_of(detection)
        match = match_galaxies(galaxies.masks, masks, iou_min=_ANY_IOU)
        iou[match.true] = match.score
        table[f"iou_{name}"] = iou
        if number == 0:
            good = match.score >= 0.5
            for column in _SPREADS:
                table[column] = np.nan
            for i, j in zip(match.true[good], match.predicted[good], strict=True):
                for column, value in _spreads(std, p_galaxy, *masks[j]).items():
                    table[column][i] = value
    return table[kept]


def objects_of(galaxies: Table) -> np.ndarray:
    """Which true object each galaxy of several fields, or of a test set, is in.

    The galaxies of one object are found or missed together: it is objects that intervals resample.

    Parameters
    ----------
    galaxies : Table
        Of `Evidence`: with ``field`` and ``object``, or with ``stamp``.

    Returns
    -------
    (n,) int array
        The same number for galaxies of the same object, and for no others.
    """
    if "stamp" in galaxies.colnames:
        return np.asarray(galaxies["stamp"])
    _, field = np.unique(galaxies["field"], return_inverse=True)
    labels = np.asarray(galaxies["object"])
    return field * (labels.max(initial=0) + 1) + labels


def _spreads(std: np.ndarray, p_galaxy: np.ndarray, box: Window, mask: np.ndarray) -> dict[str, float]:
    inside, p = std[box].astype(np.float64), p_galaxy[box][mask].astype(np.float64)
    core = ndimage.binary_erosion(np.pad(mask, 1), np.ones((3, 3)))[1:-1, 1:-1]
    values = inside[mask] ** 2, p * (1.0 - p), inside[mask & ~core], inside[core]
    return {
        name: float(np.nanmean(value)) if np.isfinite(value).any() else np.nan
        for name, value in zip(_SPREADS, values, strict=True)
    }


def _nearest(table: Table, radius: np.ndarray, objects: np.ndarray) -> dict[str, np.ndarray]:
    """Distance to the nearest galaxy of the same object, the same over their size, and its magnitude."""
    separation, over_size, magnitude = np.full((3, len(table)), np.nan)
    x, y = np.asarray(table["x"]), np.asarray(table["y"])
    order = np.argsort(objects, kind="stable")
    for members in np.split(order, np.flatnonzero(np.diff(objects[order])) + 1) if len(order) else []:
        if len(members) < 2:
            continue
        distance = np.hypot(x[members, None] - x[members], y[members, None] - y[members])
        np.fill_diagonal(distance, np.inf)
        other = members[distance.argmin(axis=1)]
        separation[members] = distance.min(axis=1)
        over_size[members] = separation[members] / (0.5 * (radius[members] + radius[other]))
        magnitude[members] = table["magnitude"][other]
    return {"separation": separation, "separation_over_size": over_size, "neighbour_magnitude": magnitude}


def object_table(
    field: TrueSky,
    truth: TrueObjects,
    galaxies: TrueGalaxies,
    detections: Mapping[str, Detection],
    std: np.ndarray,
) -> Table:
    """What became of every true object.

    Parameters
    ----------
    field : TrueSky
    truth : TrueObjects
    galaxies : TrueGalaxies
        Of that field.
    detections : mapping of str to Detection
        By detector; the model first.
    std : (height, width) float array
        Standard deviation of the class over the model's realisations.

    Returns
    -------
    astropy.table.Table
        One row per object that is not ignored: ``label``, ``x``, ``y`` (middle of its box),
        ``width`` (of the box, pixels), ``kind``, ``n_galaxies``, ``area``, ``magnitude`` of its brightest
        galaxy and its largest ``blendedness``; of its two brightest galaxies ``separation``,
        ``separation_over_size`` and ``flux_ratio``; for each detector ``outcome_NAME`` (isolated, touching,
        blended or missed) and ``iou_NAME`` (best); ``variance``: mean of ``std ** 2`` over the object that
        the model found.
    """
    labels = np.flatnonzero(~truth.ignored & (truth.kind > 0))
    boxes = ndimage.find_objects(truth.labels)
    middle = np.array(
        [[0.5 * (side.start + side.stop - 1) for side in boxes[k - 1]] for k in labels]
    ).reshape(-1, 2)
    table = Table({"label": labels, "x": middle[:, 1], "y": middle[:, 0]})
    table["width"] = [max(shape_of(boxes[k - 1])) for k in labels]
    table["kind"] = np.array(KIND_NAMES)[truth.kind[labels]]
    table["n_galaxies"], table["area"] = truth.n_galaxies[labels], truth.area[labels]
    for name, values in _members(field, truth, labels).items():
        table[name] = values
    for number, (name, detection) in enumerate(detections.items()):
        match = match_objects(truth.labels, detection.objects)
        predicted = match.predicted[labels]
        table[f"outcome_{name}"] = np.array(("missed", *KIND_NAMES[1:]))[detection.kinds[predicted]]
        table[f"iou_{name}"] = match.iou[labels]
        if number == 0:
            table["variance"] = _mean_variance(std, detection.objects, match)[predicted]
    return table


def _members(field: TrueSky, truth: TrueObjects, labels: np.ndarray) -> dict[str, np.ndarray]:
    """Numbers that follow from an object's galaxies."""
    names = ("magnitude", "blendedness", "separation", "separation_over_size", "flux_ratio")
    columns = {name: np.full(len(labels), np.nan) for name in names}
    pixels, owners = galaxy_pixels(field.ternary(), field.id1, field.id2)
    pairs, _ = distinct_pairs(truth.labels.ravel()[pixels], owners)
    starts = np.searchsorted(pairs[:, 0], labels)
    stops = np.searchsorted(pairs[:, 0], labels, side="right")
    for row, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        members = field.galaxies(pairs[start:stop, 1])
        magnitude = np.asarray(members["magnitude"])
        order = np.argsort(magnitude, kind="stable")
        columns["magnitude"][row] = magnitude[order[0]]
        columns["blendedness"][row] = np.max(members["blendedness"])
        if stop - start < 2:
            continue
        first, second = order[:2]
        columns["flux_ratio"][row] = 10 ** (-0.4 * (magnitude[second] - magnitude[first]))
        dx, dy = (members[axis][first] - members[axis][second] for axis in ("x", "y"))
        radius = np.asarray(members["isophotal_half_light_radius"])
        columns["separation"][row] = np.hypot(dx, dy)
        columns["separation_over_size"][row] = np.hypot(dx, dy) / (0.5 * (radius[first] + radius[second]))
    return columns


def _mean_variance(std: np.ndarray, objects: np.ndarray, match: ObjectMatch) -> np.ndarray:
    inside = objects > 0
    variance = np.nan_to_num(std[inside].astype(np.float64) ** 2)
    total = np.bincount(objects[inside], weights=variance, minlength=len(match.predicted_area))
    mean = total / np.maximum(match.predicted_area, 1)
    mean[0] = np.nan
    return mean


@dataclass(frozen=True)
class GalaxyCounts:
    """Galaxies matched one to one; counts, so that fields add up.

    Parameters
    ----------
    true, found, matched : int
        True galaxies of 10 pixels and more, galaxies that a detector found, and pairs of the two. Galaxies at
        the image border are in none of them, nor are found ones that match a true one that does not count.
    """

    true: int
    found: int
    matched: int

    def __add__(self, other: GalaxyCounts) -> GalaxyCounts:
        return GalaxyCounts(self.true + other.true, self.found + other.found, self.matched + other.matched)

    def completeness(self) -> Interval:
        """Share of the true galaxies that were found; Wilson's interval."""
        return wilson(self.matched, self.true)

    def purity(self) -> Interval:
        """Share of the found galaxies that are true ones; Wilson's interval."""
        return wilson(self.matched, self.found)


def count_galaxies(
    galaxies: TrueGalaxies, masks: Masks, shape: tuple[int, int], *, radius: float | None = None
) -> GalaxyCounts:
    """Count the true galaxies of a field, those that a detector found, and those in both.

    Parameters
    ----------
    galaxies : TrueGalaxies
    masks : tuple of (slices, mask)
        What the detector found.
    shape : (height, width)
        Of the field.
    radius : float, pixels, optional
        Match by the distance of the masks' centres (5 in the BlendingToolKit, 1 in BLISS) instead of by the
        masks' IoU (0.5 and more).

    Returns
    -------
    GalaxyCounts
    """
    if radius is None:
        match = match_galaxies(galaxies.masks, masks)
    else:
        match = match_centroids(_centres(galaxies.masks), _centres(masks), radius)
    inside = np.array([not at_border(box, shape) for box, _ in masks], bool)
    good = galaxies.counted[match.true] & inside[match.predicted]
    ignored = np.zeros(len(masks), bool)
    ignored[match.predicted[~good]] = True
    found = int(np.count_nonzero(inside & ~ignored))
    return GalaxyCounts(int(galaxies.counted.sum()), found, int(good.sum()))


def _centres(masks: Masks) -> np.ndarray:
    return np.array([_centre(box, mask) for box, mask in masks]).reshape(-1, 2)


def _centre(box: Window, mask: np.ndarray) -> tuple[float, float]:
    y, x = np.nonzero(mask)
    return float(x.mean()) + box[1].start, float(y.mean()) + box[0].start

"""The two passes over a field (paper, appendix B): detect on the grid, then one stamp per object."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from appulse.inference.realisations import Realisations, SampledStamp, Sampler
from appulse.inference.tiles import centred_origin, fits_stamp, grid_origins, overlap
from appulse.network.calibration import OperatingPoint
from appulse.objects.components import central_component, label_connected, label_objects

# Empty sky wanted on every side of an object in its centred stamp; a larger object keeps its first pass.
MARGIN = 8

Progress = Callable[[str, int, int], None]


@dataclass
class FieldMaps:
    """What the passes over a field leave.

    Parameters
    ----------
    p_galaxy, p_overlap : (height, width) float32 array
        Calibrated probabilities.
    realisations : Realisations
        Of every pixel.
    detections : (bytes, height, width) uint8 array
        Packed over realisations, as `Realisations.planes`: class >= 1 in the *first* pass.
    centred : (height, width) bool array
        Pixels whose values come from an object's own stamp.
    """

    p_galaxy: np.ndarray
    p_overlap: np.ndarray
    realisations: Realisations
    detections: np.ndarray
    centred: np.ndarray

    def ternary(self, point: OperatingPoint) -> np.ndarray:
        """Class map at an operating point.

        Parameters
        ----------
        point : OperatingPoint
            Thresholds.

        Returns
        -------
        (height, width) uint8 array
        """
        return class_map(self.p_galaxy, self.p_overlap, point)


def class_map(p_galaxy: np.ndarray, p_overlap: np.ndarray, point: OperatingPoint) -> np.ndarray:
    """``(P_GALAXY > t1) + (P_GALAXY > t1 and P_OVERLAP > t2)``.

    Parameters
    ----------
    p_galaxy, p_overlap : (height, width) float array
        Probabilities of class >= 1 and of class 2.
    point : OperatingPoint
        Thresholds t1 and t2.

    Returns
    -------
    (height, width) uint8 array
    """
    galaxy = p_galaxy > point.t_galaxy
    return galaxy.astype(np.uint8) + (galaxy & (p_overlap > point.t_overlap))


def first_pass(scaled: np.ndarray, sampler: Sampler, progress: Progress | None = None) -> FieldMaps:
    """Segment a field on the fixed grid of stamps.

    Parameters
    ----------
    scaled : (height, width) float32 array, units of the noise
        NaN where bad.
    sampler : Sampler
        Model, seed and realisations.
    progress : callable, optional
        Called with the name of the pass, stamps done and their total.

    Returns
    -------
    FieldMaps
    """
    shape = scaled.shape
    p_galaxy, p_overlap = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    realisations = Realisations(sampler.samples, shape)
    origins = grid_origins(shape, sampler.size)
    for done, stamp in enumerate(sampler.draw(scaled, origins), start=1):
        of_image, of_stamp = overlap(stamp.origin, sampler.size, shape)
        p_galaxy[of_image] = stamp.p_galaxy[of_stamp]
        p_overlap[of_image] = stamp.p_overlap[of_stamp]
        realisations.put(of_image, stamp.classes[:, *of_stamp])
        if progress:
            progress("first pass", done, len(origins))
    detections = realisations.planes[0].copy()
    return FieldMaps(p_galaxy, p_overlap, realisations, detections, np.zeros(shape, bool))


def second_pass(
    scaled: np.ndarray,
    maps: FieldMaps,
    sampler: Sampler,
    point: OperatingPoint,
    progress: Progress | None = None,
) -> None:
    """Draw every detected object again in a stamp centred on it, and rebuild the field from these, in place.

    A pixel claimed twice goes to the object whose centre is nearer. Outside the objects the maps of the first
    pass remain, so that nothing becomes falsely certain.

    Parameters
    ----------
    scaled : (height, width) float32 array, units of the noise
        NaN where bad.
    maps : FieldMaps
        Of the first pass.
    sampler : Sampler
        The first pass's.
    point : OperatingPoint
        What counts as an object.
    progress : callable, optional
        Called with the name of the pass, objects done and their total.
    """
    labels, boxes = label_objects(maps.ternary(point), point.min_area)
    numbered = [
        (label, box) for label, box in enumerate(boxes, start=1) if fits_stamp(box, sampler.size, MARGIN)
    ]
    origins = [centred_origin(box, sampler.size) for _, box in numbered]
    nearest = np.full(scaled.shape, np.inf, np.float32)
    # What does not fit a stamp keeps its first pass: no neighbour's stamp may have it.
    fitting = np.zeros(len(boxes) + 1, bool)
    fitting[[0, *(label for label, _ in numbered)]] = True
    nearest[~fitting[labels]] = -np.inf
    for done, ((label, _), stamp) in enumerate(
        zip(numbered, sampler.draw(scaled, origins), strict=True), start=1
    ):
        _keep_central(maps, labels, label, stamp, point, nearest)
        if progress:
            progress("second pass", done, len(origins))


def _keep_central(
    maps: FieldMaps,
    labels: np.ndarray,
    label: int,
    stamp: SampledStamp,
    point: OperatingPoint,
    nearest: np.ndarray,
) -> None:
    size = stamp.p_galaxy.shape[0]
    of_image, of_stamp = overlap(stamp.origin, size, labels.shape)
    detected = np.zeros((size, size), bool)
    detected[of_stamp] = labels[of_image] == label
    classes = class_map(stamp.p_galaxy, stamp.p_overlap, point)
    object_mask = detected | central_component(classes, size // 2, size // 2, detected)
    # The object's whole ensemble: every pixel that any realisation joins to it.
    support = (stamp.classes > 0).any(axis=0) | object_mask
    pieces, _ = label_connected(support)
    claimed = np.isin(pieces, np.unique(pieces[object_mask]))[of_stamp]

    rows, columns = (np.arange(side.start, side.stop, dtype=np.float32) - size // 2 for side in of_stamp)
    distance = rows[:, None] ** 2 + columns[None, :] ** 2
    # Nearer centre wins. Its own detected pixels are never left to a neighbour's stamp that misses them.
    distance = np.where(detected[of_stamp], -1.0 / (1.0 + distance), distance)
    won = claimed & (distance < nearest[of_image])
    nearest[of_image][won] = distance[won]
    maps.p_galaxy[of_image][won] = stamp.p_galaxy[of_stamp][won]
    maps.p_overlap[of_image][won] = stamp.p_overlap[of_stamp][won]
    maps.realisations.put(of_image, stamp.classes[:, *of_stamp], where=won)
    maps.centred[of_image] |= won

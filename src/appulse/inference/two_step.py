"""The two passes over a field (paper, appendix B): detect on the grid, then one stamp per object."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from appulse.inference.kernels import pack_classes
from appulse.inference.realisations import Realisations
from appulse.inference.sampler import SampledStamp, Sampler
from appulse.inference.tiles import centred_origin, fits_stamp, grid_origins, overlap
from appulse.network.calibration import OperatingPoint
from appulse.objects.components import central_component, label_connected, label_objects
from appulse.progress import Progress
from appulse.windows import Window, common, cropped, shape_of

# Empty sky wanted on every side of an object in its centred stamp; a larger object keeps its first pass.
MARGIN = 8
# Outermost pixels of a stamp that the first pass leaves to the stamps beside it, which see all around them.
# On the sky of `paper` the mean P_GALAXY of empty sky is 7 times too high in the last pixel, 1.7 times in the
# one before.
EDGE = 8


@dataclass
class FieldMaps:
    """What the passes over a field leave.

    Parameters
    ----------
    p_galaxy, p_overlap : (height, width) float32 array
        Calibrated probabilities.
    realisations : Realisations
        Of every pixel.
    centred : (height, width) bool array
        Pixels whose values come from an object's own stamp.
    """

    p_galaxy: np.ndarray
    p_overlap: np.ndarray
    realisations: Realisations
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


def first_pass(
    scaled: np.ndarray,
    sampler: Sampler,
    progress: Progress | None = None,
    corner: tuple[int, int] = (0, 0),
    core: Window | None = None,
) -> FieldMaps:
    """Segment a field, or a window of it, on the fixed grid of stamps, which overlap by their edges.

    Parameters
    ----------
    scaled : (height, width) float32 array, units of the noise
        NaN where bad; the image, or a window of it that holds all of the stamps that the image does.
    sampler : Sampler
        Model, seed and realisations.
    progress : callable, optional
        Called with the name of the pass, stamps done and their total.
    corner : (y0, x0)
        Of the window in the image.
    core : (slice, slice), optional
        What to segment, in the image; by default the whole of the window.

    Returns
    -------
    FieldMaps
        Of the core.
    """
    core = core or _window_at(corner, scaled.shape)
    shape = shape_of(core)
    p_galaxy, p_overlap = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    realisations = Realisations(sampler.samples, shape)
    origins = grid_origins(core, sampler.size, EDGE)
    for done, stamp in enumerate(sampler.draw(scaled, origins, corner), start=1):
        whole = _window_at(stamp.origin, (sampler.size, sampler.size))
        rows, columns = (slice(side.start + EDGE, side.stop - EDGE) for side in whole)
        kept = common((rows, columns), core)
        assert kept is not None  # every stamp of the grid meets the core
        of_core, of_stamp = cropped(kept, core), cropped(kept, whole)
        p_galaxy[of_core] = stamp.p_galaxy[of_stamp]
        p_overlap[of_core] = stamp.p_overlap[of_stamp]
        realisations.put(of_core, np.ascontiguousarray(stamp.classes[:, *of_stamp]))
        if progress:
            progress("first pass", done, len(origins))
    return FieldMaps(p_galaxy, p_overlap, realisations, np.zeros(shape, bool))


@dataclass(frozen=True)
class Claim:
    """What an object's own stamp says of the pixels in which any realisation may hold it.

    Parameters
    ----------
    number : int
        Of the object; between equally near centres the lower number has the pixel.
    window : (slice, slice)
        Of the image.
    distance : (height, width) float32 array
        Squared distance from the object's centre; negative in its own detected pixels, which are never left
        to a neighbour's stamp that misses them; infinite where nothing is claimed.
    p_galaxy, p_overlap : (height, width) float32 array
        Calibrated probabilities.
    planes : (2, bytes, height, width) uint8 array
        As `Realisations.planes`.
    """

    number: int
    window: Window
    distance: np.ndarray
    p_galaxy: np.ndarray
    p_overlap: np.ndarray
    planes: np.ndarray


def draw_claims(
    scaled: np.ndarray,
    labels: np.ndarray,
    objects: Sequence[tuple[int, Window]],
    sampler: Sampler,
    point: OperatingPoint,
    corner: tuple[int, int] = (0, 0),
) -> Iterator[Claim]:
    """Draw objects again, each in a stamp centred on it.

    Parameters
    ----------
    scaled : (height, width) float32 array, units of the noise
        NaN where bad; the image, or a window of it that holds all of the stamps that the image does.
    labels : (height, width) int array
        Of the objects detected there.
    objects : sequence of (int, (slice, slice))
        Label of each object and its bounding box in the image.
    sampler : Sampler
        The first pass's.
    point : OperatingPoint
        What counts as an object.
    corner : (y0, x0)
        Of the window in the image.

    Yields
    ------
    Claim
    """
    origins = [centred_origin(box, sampler.size) for _, box in objects]
    for (label, _), stamp in zip(objects, sampler.draw(scaled, origins, corner), strict=True):
        yield _claim(labels, label, stamp, point, corner)


def _claim(
    labels: np.ndarray, label: int, stamp: SampledStamp, point: OperatingPoint, corner: tuple[int, int]
) -> Claim:
    size = stamp.p_galaxy.shape[0]
    of_window, of_stamp = _overlap(stamp, corner, labels.shape)
    detected = np.zeros((size, size), bool)
    detected[of_stamp] = labels[of_window] == label
    classes = class_map(stamp.p_galaxy, stamp.p_overlap, point)
    object_mask = detected | central_component(classes, size // 2, size // 2, detected)
    # The object's whole ensemble: every pixel that any realisation joins to it.
    support = (stamp.classes > 0).any(axis=0) | object_mask
    pieces, _ = label_connected(support)
    claimed = np.isin(pieces, np.unique(pieces[object_mask]))

    inside = np.zeros((size, size), bool)
    inside[of_stamp] = True
    (box,) = ndimage.find_objects((claimed & inside).astype(np.int8))
    rows, columns = (np.arange(side.start, side.stop, dtype=np.float32) - size // 2 for side in box)
    distance = rows[:, None] ** 2 + columns[None, :] ** 2
    distance = np.where(detected[box], -1.0 / (1.0 + distance), distance)
    return Claim(
        label,
        (
            slice(box[0].start + stamp.origin[0], box[0].stop + stamp.origin[0]),
            slice(box[1].start + stamp.origin[1], box[1].stop + stamp.origin[1]),
        ),
        np.where(claimed[box], distance, np.inf).astype(np.float32),
        stamp.p_galaxy[box],
        stamp.p_overlap[box],
        pack_classes(np.ascontiguousarray(stamp.classes[:, *box])),
    )


def settle(
    maps: FieldMaps, claims: Iterable[Claim], locked: np.ndarray, corner: tuple[int, int] = (0, 0)
) -> None:
    """Rebuild a field, or a window of it, as the union of its objects, in place.

    A pixel claimed twice goes to the object whose centre is nearer. Where nothing is claimed the maps of the
    first pass remain, so that nothing becomes falsely certain.

    Parameters
    ----------
    maps : FieldMaps
        Of the window in the first pass.
    claims : iterable of Claim
        All that reach the window, by ascending number.
    locked : (height, width) bool array
        Pixels that keep their first pass.
    corner : (y0, x0)
        Of the window in the image.
    """
    nearest = np.where(locked, -np.inf, np.inf).astype(np.float32)
    extent = _window_at(corner, locked.shape)
    for claim in claims:
        shared = common(claim.window, extent)
        if shared is None:
            continue
        here, part = cropped(shared, extent), cropped(shared, claim.window)
        won = claim.distance[part] < nearest[here]
        nearest[here][won] = claim.distance[part][won]
        maps.p_galaxy[here][won] = claim.p_galaxy[part][won]
        maps.p_overlap[here][won] = claim.p_overlap[part][won]
        np.copyto(maps.realisations.planes[:, :, *here], claim.planes[:, :, *part], where=won)
        maps.centred[here] |= won


def second_pass(
    scaled: np.ndarray,
    maps: FieldMaps,
    sampler: Sampler,
    point: OperatingPoint,
    progress: Progress | None = None,
) -> None:
    """Draw every detected object of a field again, and rebuild the field from these, in place.

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
    # What does not fit a stamp keeps its first pass: no neighbour's stamp may have it.
    fitting = np.array([True, *(fits_stamp(box, sampler.size, MARGIN) for box in boxes)])
    objects = [(label, box) for label, box in enumerate(boxes, start=1) if fitting[label]]

    def claims() -> Iterator[Claim]:
        drawn = draw_claims(scaled, labels, objects, sampler, point)
        for done, claim in enumerate(drawn, start=1):
            yield claim
            if progress:
                progress("second pass", done, len(objects))

    settle(maps, claims(), ~fitting[labels])


def draw_maps(
    scaled: np.ndarray, sampler: Sampler, *, method: str = "two-step", progress: Progress | None = None
) -> FieldMaps:
    """Maps of a whole image, at the thresholds ``balanced`` of the sampler's model.

    Parameters
    ----------
    scaled : (height, width) float32 array, units of the noise
        NaN where bad.
    sampler : Sampler
        Draws the realisations.
    method : {"two-step", "grid"}
        Both passes, or the first alone.
    progress : callable, optional
        Called with the name of the pass, steps done and their total.

    Returns
    -------
    FieldMaps
    """
    maps = first_pass(scaled, sampler, progress)
    if method == "two-step":
        second_pass(scaled, maps, sampler, sampler.model.operating_point("balanced"), progress)
    return maps


def _window_at(corner: tuple[int, int], shape: tuple[int, int]) -> Window:
    (y, x), (height, width) = corner, shape
    return slice(y, y + height), slice(x, x + width)


def _overlap(stamp: SampledStamp, corner: tuple[int, int], shape: tuple[int, int]) -> tuple[Window, Window]:
    in_window = stamp.origin[0] - corner[0], stamp.origin[1] - corner[1]
    return overlap(in_window, stamp.p_galaxy.shape[0], shape)

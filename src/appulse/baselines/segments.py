"""From a segmentation map, one segment per galaxy, to objects: lone galaxies, touching ones and blends.

And what the detectors that draw such a map as SExtractor does have in common.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
from scipy import ndimage

from appulse.evaluation.detection import Detection
from appulse.objects.components import MIN_OVERLAP, distinct_pairs, label_connected
from appulse.objects.pairs import BRIGHT_BORDER
from appulse.objects.peaks import smooth

# Light that the pixels of a border must have, once smoothed, in units of the noise: any, or what the model's
# own galaxies must have (`appulse.objects.pairs`). Each detector is tuned with either.
BORDER_LIGHTS = (0.0, BRIGHT_BORDER)

# Deblending contrasts along which a curve is drawn; at 1 nothing is deblended.
CONTRASTS = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3)


@dataclass(frozen=True)
class SegmentDetector(ABC):
    """A detector that thresholds an image and parts what it finds by a tree, as SExtractor does.

    Parameters
    ----------
    threshold : float, units of the noise
        A pixel is detected above this, after smoothing.
    min_area : int, pixels
        Smallest detection.
    deblend_nthresh : int
        Levels of the deblending tree.
    deblend_contrast : float
        Share of the light that a branch needs to be a galaxy of its own; 1 switches deblending off.
    border_light : float, units of the noise
        As `detection_from_segments` takes it.
    """

    threshold: float = 1.2
    min_area: int = 8
    deblend_nthresh: int = 32
    deblend_contrast: float = 0.005
    border_light: float = 0.0

    @property
    @abstractmethod
    def name(self) -> str:
        """Name in tables."""

    @property
    @abstractmethod
    def program(self) -> str:
        """What does the work, with its version."""

    @property
    def setting(self) -> float:
        """Where it stands among its `variants`: the deblending contrast."""
        return self.deblend_contrast

    @abstractmethod
    def segments(self, image: np.ndarray) -> np.ndarray:
        """Segmentation map of one image.

        Parameters
        ----------
        image : (height, width) float array, units of the noise
            NaN where bad; those pixels are in no segment.

        Returns
        -------
        (height, width) int32 array
        """

    def detect(self, image: np.ndarray) -> Detection:
        """Find objects; a blend has two segments that share at least 4 border pixels bright enough.

        Parameters
        ----------
        image : (height, width) float array, units of the noise
            NaN where bad.

        Returns
        -------
        Detection
        """
        return detection_from_segments(self.segments(image), image, border_light=self.border_light)

    def variants(self) -> dict[float, Self]:
        """The same settings at other deblending contrasts.

        Returns
        -------
        dict of float to SegmentDetector
            By contrast.
        """
        return {
            contrast: replace(self, deblend_contrast=contrast)
            for contrast in sorted({*CONTRASTS, self.deblend_contrast})
        }

    def drawn(self, rng: np.random.Generator) -> Self:
        """Parameters drawn around the usual ones, log-uniform where only the ratio matters.

        Parameters
        ----------
        rng : numpy.random.Generator

        Returns
        -------
        SegmentDetector
        """
        return replace(
            self,
            threshold=float(rng.uniform(0.7, 2.5)),
            min_area=int(rng.integers(3, 16)),
            deblend_nthresh=int(rng.choice([16, 32, 64])),
            deblend_contrast=float(10 ** rng.uniform(-5, -1)),
            border_light=float(rng.choice(BORDER_LIGHTS)),
        )


def detection_from_segments(
    segments: np.ndarray, image: np.ndarray | None = None, *, border_light: float = 0.0
) -> Detection:
    """Read a segmentation map, in which segments cannot overlap, as objects and blends.

    Segments that are neighbours (8-connected) form one object. It is a blend if two of its segments share at
    least `MIN_OVERLAP` border pixels: this many pixels of each have a neighbour in the other, and enough
    light. Of a segment in several objects only the part in one of them counts (`without_fragments`).

    Parameters
    ----------
    segments : (height, width) int array
        One label per galaxy, 0 background.
    image : (height, width) float array, units of the noise
        Needed for ``border_light``.
    border_light : float, units of the noise
        Only border pixels count whose smoothed light exceeds it; 0 counts all.

    Returns
    -------
    Detection
        ``n_galaxies`` is the number of segments in an object; ``masks`` are the segments.

    Raises
    ------
    ValueError
        ``border_light`` without an image.
    """
    segments = without_fragments(np.asarray(segments))
    objects, n_objects = label_connected(segments > 0)
    inside = np.flatnonzero(segments)
    members, _ = distinct_pairs(objects.ravel()[inside], segments.ravel()[inside])
    n_galaxies = np.bincount(members[:, 0], minlength=n_objects + 1)

    # One row per pixel of one segment that has a neighbour in another.
    border = border_pixels(segments)
    if border_light:
        if image is None:
            raise ValueError("detection_from_segments: the light of borders needs the image.")
        border = border[smooth(image).ravel()[border[:, 2]] > border_light]
    segment, other, pixel = border.T
    sides, first_row = distinct_pairs(segment, other)
    n_border = np.diff(np.append(first_row, len(pixel)))  # rows are sorted
    # Every pair comes as (a, b) and as (b, a); the side with fewer pixels decides.
    opposite = _places(sides, sides[:, ::-1])
    shared = np.where(opposite < 0, 0, np.minimum(n_border, n_border[opposite]))
    blended = np.zeros(n_objects + 1, dtype=bool)
    blended[objects.ravel()[pixel[first_row[shared >= MIN_OVERLAP]]]] = True
    boxes = ndimage.find_objects(segments)
    masks = tuple((box, segments[box] == k) for k, box in enumerate(boxes, start=1) if box is not None)
    return Detection(objects, n_galaxies, blended, masks)


def _places(pairs: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Row of each wanted pair among sorted distinct ones; -1 where it is not there."""
    if not len(pairs):
        return np.empty(0, np.int64)
    base = int(pairs.max()) + 1
    codes, sought = (each[:, 0] * base + each[:, 1] for each in (pairs, wanted))
    places = np.minimum(np.searchsorted(codes, sought), len(codes) - 1)
    return np.where(codes[places] == sought, places, -1)


def without_fragments(segments: np.ndarray) -> np.ndarray:
    """Leave each segment in one object: the one that holds most of it.

    SExtractor's cleaning gives false detections in a galaxy's wings to the galaxy: one source for it, in
    several pieces, that must not count as several.

    Parameters
    ----------
    segments : (height, width) int array
        One label per galaxy, 0 background.

    Returns
    -------
    (height, width) int array
        The same array where no segment is in two objects.
    """
    flat, objects = segments.ravel(), label_connected(segments > 0)[0].ravel()
    inside = np.flatnonzero(flat)
    parts, _ = distinct_pairs(flat[inside], objects[inside])
    if len(np.unique(parts[:, 0])) == len(parts):
        return segments
    base = int(parts[:, 1].max()) + 1
    codes, part_of, n_pixels = np.unique(
        flat[inside].astype(np.int64) * base + objects[inside], return_inverse=True, return_counts=True
    )
    largest_first = np.lexsort((-n_pixels, codes // base))
    _, first = np.unique(codes[largest_first] // base, return_index=True)
    kept = np.zeros(len(codes), bool)
    kept[largest_first[first]] = True
    whole = flat.copy()
    whole[inside[~kept[part_of]]] = 0
    return whole.reshape(segments.shape)


def border_pixels(segments: np.ndarray) -> np.ndarray:
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

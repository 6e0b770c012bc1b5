"""What a field holds, counted strip by strip, so that a field larger than memory is counted exactly."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from appulse.objects.components import MIN_OVERLAP, distinct_pairs, label_connected
from appulse.sky.true_objects import Kind, galaxy_pixels, object_kinds

# Side of the stamps of the fixed grid, pixels (paper, section 3).
STAMP = 128
_KINDS = (Kind.ISOLATED, Kind.TOUCHING, Kind.BLENDED)


@dataclass(frozen=True)
class OpenObjects:
    """Objects of a strip that may go on in the next one. Arrays are lists, so that JSON keeps them.

    Parameters
    ----------
    n_overlap : list of int
        Pixels of class 2 in each.
    galaxies : list of list of int
        Identities of the galaxies in each.
    first_row, last_row : (list of int, list of int)
        Columns of the lit pixels in the strip's first and last row, and the object (from 0) of each.
    """

    n_overlap: list[int]
    galaxies: list[list[int]]
    first_row: tuple[list[int], list[int]]
    last_row: tuple[list[int], list[int]]


@dataclass(frozen=True)
class StripCounts:
    """What one strip of full width holds.

    Parameters
    ----------
    y0 : int
        Row of the field at which the strip begins.
    shape : (height, width)
        Of the strip.
    pixels : list of int
        Of class 0, 1 and 2.
    stamps, empty_stamps : int
        Stamps of the grid that fit, and those without a galaxy pixel.
    stamp_sums, stamp_squares : list of int
        Over the stamps: sum, and sum of squares, of the pixels of class 0, 1 and 2 in each.
    objects : list of int
        Isolated, touching and blended objects that lie inside the strip.
    open_objects : OpenObjects
        Those that reach its first or last row.
    galaxies, blended_galaxies : list of int
        Identities of the galaxies with a pixel above the threshold, and with a pixel of class 2.
    """

    y0: int
    shape: tuple[int, int]
    pixels: list[int]
    stamps: int
    empty_stamps: int
    stamp_sums: list[int]
    stamp_squares: list[int]
    objects: list[int]
    open_objects: OpenObjects
    galaxies: list[int]
    blended_galaxies: list[int]

    def to_json(self) -> dict[str, Any]:
        """Plain lists and numbers, for `appulse.files.write_json`."""
        return asdict(self)

    @classmethod
    def from_json(cls, content: dict[str, Any]) -> StripCounts:
        """What `to_json` gave, after any trip through JSON.

        Parameters
        ----------
        content : dict
            Of `to_json`.
        """
        rows = {name: tuple(content["open_objects"][name]) for name in ("first_row", "last_row")}
        opened = OpenObjects(**{**content["open_objects"], **rows})
        return cls(**{**content, "shape": tuple(content["shape"]), "open_objects": opened})


@dataclass(frozen=True)
class SkyCounts:
    """What whole fields hold.

    Parameters
    ----------
    fields : int
        How many.
    pixels : tuple of int
        Of class 0, 1 and 2.
    stamps, empty_stamps : int
        128-pixel stamps of the grid, and those without a galaxy pixel.
    stamp_sums, stamp_squares : tuple of int
        Over the stamps: sum, and sum of squares, of the pixels of class 0, 1 and 2 in each.
    isolated, touching, blended : int
        Objects of each `Kind`, small ones and those cut by the border included.
    galaxies, blended_galaxies : int
        Galaxies with a pixel above the threshold, and with a pixel of class 2. One that is third or fainter
        in all its pixels is in neither.
    """

    fields: int
    pixels: tuple[int, ...]
    stamps: int
    empty_stamps: int
    stamp_sums: tuple[int, ...]
    stamp_squares: tuple[int, ...]
    isolated: int
    touching: int
    blended: int
    galaxies: int
    blended_galaxies: int

    @property
    def objects(self) -> int:
        """Number of objects."""
        return self.isolated + self.touching + self.blended

    @classmethod
    def total(cls, counts: Sequence[SkyCounts]) -> SkyCounts:
        """Add fields up.

        Parameters
        ----------
        counts : sequence of SkyCounts
            At least one.
        """
        sums: dict[str, Any] = {}
        for name in cls.__dataclass_fields__:
            values = np.sum([getattr(count, name) for count in counts], axis=0, dtype=np.int64).tolist()
            sums[name] = tuple(values) if isinstance(values, list) else values
        return cls(**sums)

    def class_errors(self) -> np.ndarray:
        """Standard error of the share of each class, from its scatter between stamps.

        Returns
        -------
        (3,) float array
            NaN with fewer than two stamps. Galaxies cut by a stamp's border tie neighbours together a little;
            at 128 pixels that is lost in the error of the error.
        """
        if self.stamps < 2:
            return np.full(3, np.nan)
        sums, squares = np.array(self.stamp_sums, float), np.array(self.stamp_squares, float)
        variance = (squares - sums**2 / self.stamps) / (self.stamps - 1)
        return np.sqrt(np.maximum(variance, 0.0) / self.stamps) / STAMP**2


def count_strip(ternary: np.ndarray, id1: np.ndarray, id2: np.ndarray, y0: int) -> StripCounts:
    """Count one strip of a field.

    Parameters
    ----------
    ternary : (height, width) uint8 array
        True class map of the strip: 0 background, 1 one galaxy, 2 overlap.
    id1, id2 : (height, width) integer arrays
        Galaxies with the brightest and second-brightest surface brightness in each pixel; 0 none.
    y0 : int
        Row of the field at which the strip begins: a multiple of 128, so that no stamp is cut in two.

    Returns
    -------
    StripCounts

    Raises
    ------
    ValueError
        If the shapes differ, or ``y0`` is not a multiple of 128.
    """
    if not ternary.shape == id1.shape == id2.shape:
        raise ValueError(
            f"count_strip: ternary {ternary.shape}, id1 {id1.shape}, id2 {id2.shape}; expected equal shapes."
        )
    if y0 % STAMP:
        raise ValueError(f"count_strip: the strip begins at row {y0}; it must be a multiple of {STAMP}.")
    shape = ternary.shape
    labels, n = label_connected(ternary > 0)
    pixels, identities = galaxy_pixels(ternary, id1, id2)
    members, _ = distinct_pairs(labels.ravel()[pixels], identities)
    overlap = np.flatnonzero(ternary == 2)
    n_overlap = np.bincount(labels.ravel()[overlap], minlength=n + 1)
    n_galaxies = np.bincount(members[:, 0], minlength=n + 1)

    is_open = np.zeros(n + 1, dtype=bool)
    is_open[labels[0]] = is_open[labels[-1]] = True
    is_open[0] = False
    closed = ~is_open
    closed[0] = False
    number = np.cumsum(is_open) - 1
    shared = np.concatenate([id1.ravel()[overlap], id2.ravel()[overlap]])
    in_classes = _in_stamps(ternary)
    n_classes = [int(np.count_nonzero(ternary == c)) for c in (0, 1, 2)]
    return StripCounts(
        y0=int(y0),
        shape=(int(shape[0]), int(shape[1])),
        pixels=n_classes,
        stamps=len(in_classes),
        empty_stamps=int(np.count_nonzero(in_classes[:, 0] == STAMP**2)),
        stamp_sums=in_classes.sum(axis=0).tolist(),
        stamp_squares=(in_classes**2).sum(axis=0).tolist(),
        objects=_of_each_kind(n_galaxies[closed], n_overlap[closed]),
        open_objects=OpenObjects(
            n_overlap=n_overlap[is_open].tolist(),
            galaxies=_grouped(members[:, 0], members[:, 1], np.flatnonzero(is_open)),
            first_row=_lit(labels[0], number),
            last_row=_lit(labels[-1], number),
        ),
        galaxies=np.unique(identities).tolist(),
        blended_galaxies=np.unique(shared[shared > 0]).tolist(),
    )


def merge(strips: Sequence[StripCounts]) -> SkyCounts:
    """Put the strips of one field together; objects that cross a seam are joined.

    Parameters
    ----------
    strips : sequence of StripCounts
        All of the field, from its first row to its last.

    Returns
    -------
    SkyCounts
        The same numbers as the whole field counted at once.

    Raises
    ------
    ValueError
        If the strips do not follow one another.
    """
    y = 0
    for strip in strips:
        if strip.y0 != y or strip.shape[1] != strips[0].shape[1]:
            raise ValueError(
                f"merge: a strip of width {strip.shape[1]} begins at row {strip.y0}; expected row {y} and "
                f"width {strips[0].shape[1]}. Give all strips of one field in order."
            )
        y += strip.shape[0]

    start = np.cumsum(np.array([0, *(len(strip.open_objects.n_overlap) for strip in strips)]))
    ends = [
        _across(above.open_objects.last_row, below.open_objects.first_row, above.shape[1]) + start[[i, i + 1]]
        for i, (above, below) in enumerate(itertools.pairwise(strips))
    ]
    n = int(start[-1])
    objects = np.array([strip.objects for strip in strips]).sum(axis=0)
    if n:
        edges = np.concatenate([np.zeros((0, 2), np.int64), *ends])
        graph = coo_array((np.ones(len(edges), np.int8), (edges[:, 0], edges[:, 1])), shape=(n, n))
        n_joined, joined = connected_components(graph, directed=False)
        pieces = [part for strip in strips for part in strip.open_objects.galaxies]
        owner = np.repeat(joined, [len(part) for part in pieces])
        members, _ = distinct_pairs(owner, np.array([i for part in pieces for i in part], dtype=np.int64))
        overlap = [number for strip in strips for number in strip.open_objects.n_overlap]
        objects = objects + _of_each_kind(
            np.bincount(members[:, 0], minlength=n_joined),
            np.bincount(joined, weights=overlap, minlength=n_joined),
        )
    sums = {
        name: tuple(np.array([getattr(strip, name) for strip in strips]).sum(axis=0).tolist())
        for name in ("pixels", "stamp_sums", "stamp_squares")
    }
    return SkyCounts(
        fields=1,
        **sums,
        stamps=sum(strip.stamps for strip in strips),
        empty_stamps=sum(strip.empty_stamps for strip in strips),
        isolated=int(objects[0]),
        touching=int(objects[1]),
        blended=int(objects[2]),
        galaxies=len(set().union(*(strip.galaxies for strip in strips))),
        blended_galaxies=len(set().union(*(strip.blended_galaxies for strip in strips))),
    )


def _grouped(owners: np.ndarray, identities: np.ndarray, wanted: np.ndarray) -> list[list[int]]:
    low, high = np.searchsorted(owners, wanted), np.searchsorted(owners, wanted, side="right")
    return [identities[a:b].tolist() for a, b in zip(low, high, strict=True)]


def _of_each_kind(n_galaxies: np.ndarray, n_overlap: np.ndarray) -> list[int]:
    kinds = object_kinds(n_galaxies, n_overlap >= MIN_OVERLAP)
    return [int(np.count_nonzero(kinds == kind)) for kind in _KINDS]


def _in_stamps(ternary: np.ndarray) -> np.ndarray:
    # (stamps, 3): pixels of each class in every stamp that fits.
    rows, columns = (side // STAMP for side in ternary.shape)
    grid = ternary[: rows * STAMP, : columns * STAMP].reshape(rows, STAMP, columns, STAMP)
    one, two = (np.count_nonzero(grid == c, axis=(1, 3)).ravel() for c in (1, 2))
    return np.stack([STAMP**2 - one - two, one, two], axis=1).astype(np.int64)


def _lit(row: np.ndarray, number: np.ndarray) -> tuple[list[int], list[int]]:
    columns = np.flatnonzero(row)
    return columns.tolist(), number[row[columns]].tolist()


def _across(last_row: tuple, first_row: tuple, width: int) -> np.ndarray:
    # (n, 2): objects above and below a seam that have 8-connected pixels. A border of -1 on either side.
    above = np.full(width + 2, -1, dtype=np.int64)
    above[np.array(last_row[0], dtype=np.int64) + 1] = last_row[1]
    columns, below = (np.array(part, dtype=np.int64) for part in first_row)
    pairs = [np.stack([above[columns + shift], below], axis=1) for shift in (0, 1, 2)]
    touching = np.concatenate(pairs)
    return distinct_pairs(*touching[touching[:, 0] >= 0].T)[0]

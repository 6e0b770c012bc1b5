"""Proposals: what the geometry of a ternary map says its galaxies might be.

Every proposal is a set of ellipses (`appulse.objects.ellipses`), as rough as it likes, for
`Problem.best` to settle.
"""

from typing import NamedTuple

import numpy as np
from scipy import ndimage

from appulse.objects.components import MIN_OVERLAP, label_connected
from appulse.objects.ellipses import MAX_MISFIT, assign, ellipses_of, level, misfit, refine
from appulse.objects.peaks import drainage
from appulse.objects.thresholds import (
    BEAM,
    LEAST_CROSSING,
    MAX_GALAXIES,
    MAX_HALVED,
    MAX_HOSTS,
    MAX_REGIONS,
    MAX_UNCOVERED,
    NEAR_PEAK,
    POLISH_ROUNDS,
    ROUNDS,
    SAME_MISFIT,
)

# Background around the box, pixels: ellipses that stick out of the box must pay for it.
_MARGIN = 3


class Solution(NamedTuple):
    """Galaxies that an object may consist of, and what of its map they leave unexplained.

    Attributes
    ----------
    misfit : float, pixels squared
        By `appulse.objects.ellipses.misfit`.
    ellipses : (n_galaxies, 5) float array
    """

    misfit: float
    ellipses: np.ndarray

    @property
    def n_galaxies(self) -> int:
        """How many galaxies."""
        return len(self.ellipses)

    def without_one(self) -> list[np.ndarray]:
        """Proposals that leave one of the galaxies out, each in turn."""
        return [np.delete(self.ellipses, j, axis=0) for j in range(self.n_galaxies)]


class Problem:
    """One object, laid out for the fits: its pixels, its light, and the galaxies its classes suggest."""

    def __init__(self, classes: np.ndarray, blended: bool, light: np.ndarray | None = None) -> None:
        self.classes = classes
        self.blended = blended
        self.light = light
        self.union = classes > 0
        ys, xs = np.nonzero(self.union)
        self.ys, self.xs = ys.astype(np.float64), xs.astype(np.float64)
        self.flat_classes = classes[self.union] if blended else np.ones(ys.size, dtype=np.uint8)
        self.padded = np.pad(classes if blended else self.union.astype(np.uint8), _MARGIN)
        self.overlaps, self.n_overlaps = label_connected(classes == 2)
        filled = np.pad(self.union, 1).astype(np.int8)
        self.outline = np.abs(np.diff(filled, axis=0)).sum() + np.abs(np.diff(filled, axis=1)).sum()

    def best(self, proposals: list[np.ndarray]) -> list[Solution]:
        """Settle every proposal on self-consistent ellipses: the best few, as `distinct` leaves them."""
        roughly = distinct([self._settle(ellipses, ROUNDS) for ellipses in proposals])
        return distinct([self._settle(rough.ellipses, POLISH_ROUNDS) for rough in roughly])

    def _settle(self, ellipses: np.ndarray, rounds: int) -> Solution:
        pixels = self.ys, self.xs, self.flat_classes
        of_all = self._solution(refine(*pixels, ellipses, rounds))
        if of_all.misfit > SAME_MISFIT:
            # Some pixels may be another galaxy's, that is not there yet.
            of_near = self._solution(refine(*pixels, ellipses, rounds, MAX_MISFIT))
            if of_near.misfit < of_all.misfit - SAME_MISFIT:
                return of_near
        return of_all

    def _solution(self, ellipses: np.ndarray) -> Solution:
        shifted = ellipses.copy()
        shifted[:, :2] += _MARGIN
        return Solution(misfit(self.padded, shifted), ellipses)

    def from_members(self, members: np.ndarray) -> np.ndarray:
        """From the second moments of each galaxy's pixels."""
        return ellipses_of(np.ascontiguousarray(members), self.ys, self.xs)

    def from_points(self, points: np.ndarray) -> np.ndarray:
        """Equal circles around the points (y, x), together as large as the object."""
        q = np.pi * len(points) / self.ys.size
        return np.array([(x, y, q, 0.0, q) for y, x in points])

    def from_basins(self, points: np.ndarray, light: np.ndarray) -> np.ndarray:
        """What of the object drains to each of the points (y, x) in the light."""
        # A peak on a thin arm may lie between the pixels that are left of a large object.
        nearest = [np.argmin(np.hypot(self.ys - y, self.xs - x)) for y, x in points]
        inside = np.column_stack([self.ys[nearest], self.xs[nearest]])
        basins = drainage(light, inside, self.union)[self.union]
        return self.from_members(basins == np.arange(1, len(points) + 1)[:, None])

    def nested_at(self, points: np.ndarray, host: int) -> np.ndarray:
        """All of the object for one of the points (y, x); for the others, as far as class 2 reaches there."""
        y, x = np.delete(points, host, axis=0).T
        distances = np.hypot(self.ys - y[:, None], self.xs - x[:, None])
        nearest = distances.argmin(axis=0)
        regions = self.overlaps[self.union]
        members = np.ones((len(points), self.ys.size), dtype=bool)
        for j, away in enumerate(distances):
            own = np.unique(regions[away <= NEAR_PEAK])
            shared = (nearest == j) & np.isin(regions, own[own > 0])
            # Too large a start shrinks to the galaxy; one without what lies outside the host would stay so.
            members[j + 1] = (nearest == j) & (away <= away[shared].max(initial=NEAR_PEAK))
        return self.from_members(members)

    def two_sides(self, y: float, x: float, normal_y: float, normal_x: float) -> np.ndarray:
        """Cut by the line through (y, x): each side with all class-2 pixels is one galaxy."""
        side = (self.ys - y) * normal_y + (self.xs - x) * normal_x > 0
        overlap = self.flat_classes == 2
        return self.from_members(np.stack([side | overlap, ~side | overlap]))


def distinct(solutions: list[Solution]) -> list[Solution]:
    """The best solutions that differ, least misfit first, at most `BEAM`."""
    solutions = sorted(solutions, key=lambda solution: solution.misfit)
    chosen = solutions[:1]
    for candidate in solutions[1:]:
        if len(chosen) < BEAM and candidate.misfit > chosen[-1].misfit + SAME_MISFIT:
            chosen.append(candidate)
    return chosen


def pairs(problem: Problem) -> list[np.ndarray]:
    """Proposals of two galaxies: cuts by a line, class-2 regions inside the whole, pieces."""
    everything = np.ones(problem.ys.size, dtype=bool)
    proposals = []
    core = problem.flat_classes == 2 if problem.blended else everything
    cy, cx = problem.ys[core].mean(), problem.xs[core].mean()
    axis_y, axis_x = _major_axis(problem.ys[core], problem.xs[core])
    # The lens is longest from cusp to cusp, but for a small galaxy half inside a large one it is not.
    proposals.append(problem.two_sides(cy, cx, axis_x, -axis_y))
    proposals.append(problem.two_sides(cy, cx, axis_y, axis_x))
    if problem.blended:
        chord = _cusp_chord(problem.classes)
        if chord is not None:
            (y1, x1), (y2, x2) = chord
            proposals.append(problem.two_sides((y1 + y2) / 2, (x1 + x2) / 2, x2 - x1, y1 - y2))
        for region in _regions(problem)[:MAX_REGIONS]:
            proposals.append(problem.from_members(np.stack([everything, region])))
        proposals.append(_crossing(problem, cy, cx))
        pieces = _pieces(problem)
        if len(pieces) >= 2:
            proposals.append(problem.from_members(np.stack(pieces[:2])))
    return proposals


def at_points(problem: Problem, points: np.ndarray) -> list[np.ndarray]:
    """Proposals with a galaxy at each point (y, x): side by side, parted at valleys, or all others in one."""
    if len(points) < 2:
        return []
    proposals = [problem.from_points(points)]
    proposals += [problem.nested_at(points, host) for host in range(min(len(points), MAX_HOSTS))]
    if problem.light is not None:
        proposals.append(problem.from_basins(points, problem.light))
    return proposals


def one_more(problem: Problem, ellipses: np.ndarray) -> list[np.ndarray]:
    """Proposals with one more: halves of one, a region not covered, a class-2 region, a piece."""
    members = assign(problem.ys, problem.xs, problem.flat_classes, ellipses)
    proposals = []
    for j, own in enumerate(members if len(members) < MAX_HALVED else ()):
        if own.sum() < 2 * MIN_OVERLAP:
            continue
        others = np.delete(members, j, axis=0)
        cy, cx = problem.ys[own].mean(), problem.xs[own].mean()
        axis_y, axis_x = _major_axis(problem.ys[own], problem.xs[own])
        for normal_y, normal_x in ((axis_y, axis_x), (axis_x, -axis_y)):
            side = (problem.ys - cy) * normal_y + (problem.xs - cx) * normal_x > 0
            proposals.append(problem.from_members(np.vstack([others, [own & side, own & ~side]])))
    for region in _uncovered(problem, ellipses):
        proposals.append(problem.from_members(np.vstack([members, [region]])))
    if problem.blended:
        regions = _regions(problem)
        for region in regions[:MAX_REGIONS]:
            proposals.append(problem.from_members(np.vstack([members, [region]])))
        if len(regions) >= len(ellipses):
            everything = np.ones((1, problem.ys.size), dtype=bool)
            proposals.append(problem.from_members(np.vstack([everything, regions[: len(ellipses)]])))
        pieces = _pieces(problem)
        if len(pieces) > len(ellipses):
            proposals.append(problem.from_members(np.stack(pieces[: len(ellipses) + 1])))
    return proposals


def _major_axis(ys: np.ndarray, xs: np.ndarray) -> tuple[float, float]:
    """Unit vector (y, x) along which the pixels extend furthest."""
    dy, dx = ys - ys.mean(), xs - xs.mean()
    angle = 0.5 * np.arctan2(2 * (dx * dy).sum(), (dx * dx).sum() - (dy * dy).sum())
    return np.sin(angle), np.cos(angle)


def _cusp_chord(classes: np.ndarray) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Ends of the lens: the class-2 pixels next to the background that lie furthest apart, or None."""
    near = ndimage.binary_dilation(classes == 0, np.ones((3, 3)), border_value=1)
    ys, xs = np.nonzero(near & (classes == 2))
    if ys.size < 2:
        return None
    axis_y, axis_x = _major_axis(ys, xs)
    along = ys * axis_y + xs * axis_x
    a, b = np.argmin(along), np.argmax(along)
    return (ys[a], xs[a]), (ys[b], xs[b])


def _regions(problem: Problem) -> list[np.ndarray]:
    """Class-2 regions of at least `MIN_OVERLAP` pixels, largest first, as pixel masks."""
    return _largest(problem.overlaps[problem.union], problem.n_overlaps, MAX_GALAXIES - 1)


def _uncovered(problem: Problem, ellipses: np.ndarray) -> list[np.ndarray]:
    """Connected pixels that fewer ellipses cover than the map asks for, largest region first."""
    covered = np.zeros(problem.ys.size, dtype=int)
    for ellipse in ellipses:
        covered += level(ellipse, problem.xs, problem.ys) <= 1
    missing = np.zeros(problem.union.shape, dtype=bool)
    missing[problem.union] = covered < problem.flat_classes
    labels, count = label_connected(missing, False)
    return _largest(labels[problem.union], count, MAX_UNCOVERED)


def _pieces(problem: Problem) -> list[np.ndarray]:
    """Class-1 pieces with the class-2 regions they touch, largest first, as (n_pixels,) masks."""
    labels, count = label_connected(problem.classes == 1, False)
    pieces = []
    for piece in _largest(labels[problem.union], count, MAX_GALAXIES):
        mask = np.zeros(problem.union.shape, dtype=bool)
        mask[problem.union] = piece
        touched = np.unique(problem.overlaps[ndimage.binary_dilation(mask)])
        pieces.append(piece | np.isin(problem.overlaps[problem.union], touched[touched > 0]))
    return pieces


def _largest(flat_labels: np.ndarray, count: int, keep: int) -> list[np.ndarray]:
    area = np.bincount(flat_labels, minlength=count + 1)[1:]
    order = np.argsort(-area, kind="stable")[:keep]
    return [flat_labels == i + 1 for i in order if area[i] >= MIN_OVERLAP]


def _crossing(problem: Problem, cy: float, cx: float) -> np.ndarray:
    """Two long galaxies crossing at (cy, cx): to the furthest pixel, and the furthest off that line."""
    dy, dx = problem.ys - cy, problem.xs - cx
    distance = np.hypot(dy, dx)
    furthest = np.argmax(distance)
    angle = np.arctan2(dy, dx)
    off_line = np.abs(np.sin(angle - angle[furthest]))
    second = np.argmax(distance * (off_line > LEAST_CROSSING))
    toward_first = np.abs(np.cos(angle - angle[furthest])) > np.abs(np.cos(angle - angle[second]))
    overlap = problem.flat_classes == 2
    return problem.from_members(np.stack([toward_first | overlap, ~toward_first | overlap]))

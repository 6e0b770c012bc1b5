"""From one object's ternary map to its galaxies.

Connectivity alone cannot do it: the crescents of two overlapping ellipses meet at the cusps of their lens, so
class 1 is a single piece in 52 % to 78 % of blends. Three sources decide together:

- *geometry of class 2*: the chord through the cusps (where class 2 touches the background) divides the
  object, a class-2 region enclosed by class 1 is a nested galaxy, several regions several galaxies;
- *pieces of class 1* that the lens cuts off from each other;
- *peaks* of the smoothed image and of P_GALAXY.

Each proposes galaxies; `appulse.objects.ellipses` settles every proposal on the nearest set of ellipses, and
the one that explains the map with the least misplaced boundary wins. A further galaxy must pay for itself.
"""

from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from appulse.objects.components import EIGHT_CONNECTED
from appulse.objects.ellipses import assign, ellipses_of, misfit, refine
from appulse.objects.peaks import SMOOTHED_NOISE, find_peaks

# Fewer class-2 pixels than this in all are speckles, not an overlap; the field's scores use the same limit.
MIN_OVERLAP = 4
MAX_GALAXIES = 6
# Rounds of `refine` for every proposal, and for the `BEAM` best of them.
ROUNDS = 12
POLISH_ROUNDS = 60
BEAM = 3
RECONSIDER = 2
# A further galaxy must remove this share of the misfit, and this much of it per pixel of the object's outline
# (pixelisation alone leaves 0.01 to 0.03). Chosen on random ellipses, benchmarked in tests/property.
MIN_GAIN = 0.5
MIN_GAIN_PER_OUTLINE = 0.05
# Without an overlap, two galaxies are claimed on stronger evidence only.
MIN_GAIN_TOUCHING = 0.6
MIN_GAIN_PER_OUTLINE_TOUCHING = 0.15
# A peak proves a galaxy of its own if its saddle is this deep, in units of the smoothed noise and of its
# height. The relative limit keeps spiral arms and photon noise, which grow with the height, out.
PEAK_SIGNIFICANCE = 5.0
PEAK_DIP = 0.15
PEAK_HINT_SIGNIFICANCE = 3.0
# P_GALAXY has no noise of its own; dips below this are the network's ripples.
PROBABILITY_DIP = 0.1
NESTED_SHARE = 0.9
# Above this misfit per pixel of outline a search that finds nothing better looks one galaxy further.
GROSS_MISFIT = 0.3


@dataclass(frozen=True)
class Separation:
    """Galaxies of one object.

    Attributes
    ----------
    masks : (n_galaxies, height, width) bool array
        Their union is ``ternary > 0``; they overlap where the ternary map is 2.
    nested : (n_galaxies,) bool array
        At least 90 % of the galaxy lies inside one other, larger galaxy.
    """

    masks: np.ndarray
    nested: np.ndarray


def separate(ternary, image=None, *, p_galaxy=None):
    """Separate one object into galaxies whose masks share the pixels of class 2.

    Parameters
    ----------
    ternary : (height, width) integer array
        Cutout of one object: 0 background and pixels of other objects, 1 one galaxy, 2 two or more. Should it
        hold several 8-connected components, each is separated by itself.
    image : (height, width) float array, units of the background noise, optional
        Its peaks propose galaxies, and prove them where the saddle between two is deep.
    p_galaxy : (height, width) float array, optional
        Probability that a pixel holds a galaxy; its peaks propose galaxies.

    Returns
    -------
    Separation
        No galaxy for an empty map, else at least one, sorted by area, largest first. Class-1 pixels belong to
        exactly one galaxy and class-2 pixels to at least two, with one exception: an object with fewer than 4
        pixels of class 2 counts as having no overlap, and may come out as a single galaxy.

    Raises
    ------
    ValueError
        If ``ternary`` is not 2-D, or ``image`` or ``p_galaxy`` has another shape.
    """
    ternary = np.asarray(ternary)
    if ternary.ndim != 2:
        raise ValueError(f"separate needs a 2-D ternary map; got {ternary.ndim} axes {ternary.shape}.")
    for name, array in (("image", image), ("p_galaxy", p_galaxy)):
        if array is not None and np.shape(array) != ternary.shape:
            raise ValueError(f"{name} has shape {np.shape(array)}, the ternary map {ternary.shape}.")
    rows = np.flatnonzero(ternary.any(axis=1))
    if rows.size == 0:
        return Separation(np.zeros((0, *ternary.shape), dtype=bool), np.zeros(0, dtype=bool))
    columns = np.flatnonzero(ternary.any(axis=0))
    box = np.s_[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    classes = np.minimum(ternary[box], 2).astype(np.uint8)
    seen = None if image is None else np.asarray(image, dtype=np.float64)[box]
    probability = None if p_galaxy is None else np.asarray(p_galaxy, dtype=np.float64)[box]
    labels, count = ndimage.label(classes, structure=EIGHT_CONNECTED)
    if count == 1:
        members = _separate_box(classes, seen, probability)
    else:
        parts = [np.where(labels == i + 1, classes, 0) for i in range(count)]
        members = np.concatenate([_separate_box(part, seen, probability) for part in parts])
        members = members[np.argsort(-members.sum(axis=(1, 2)), kind="stable")]
    masks = np.zeros((len(members), *ternary.shape), dtype=bool)
    masks[:, box[0], box[1]] = members
    return Separation(masks, nested_galaxies(masks))


def nested_galaxies(masks):
    """Which galaxies lie at least 90 % inside one other, larger one.

    Parameters
    ----------
    masks : (n_galaxies, height, width) bool array

    Returns
    -------
    (n_galaxies,) bool array
    """
    if len(masks) < 2:
        return np.zeros(len(masks), dtype=bool)
    flat = masks.reshape(len(masks), -1).astype(np.float32)
    shared = flat @ flat.T
    area = np.diag(shared)
    inside = (shared >= NESTED_SHARE * area[:, None]) & (area[None, :] > area[:, None])
    return inside.any(axis=1)


def _separate_box(classes, image, probability):
    """Masks (n, height, width) of an object that fills its box, largest first."""
    blended = np.count_nonzero(classes == 2) >= MIN_OVERLAP
    union = classes > 0
    proven, hints = _image_seeds(image, probability, union)
    if not blended and image is not None and len(hints) < 2:
        return union[None]
    problem = _Problem(classes, blended)
    best = _choose(problem, proven, hints, has_image=image is not None)
    if best is None:
        return union[None]
    members = assign(problem.ys, problem.xs, classes[union], best)
    members = members[members.any(axis=1)]
    masks = np.zeros((len(members), *classes.shape), dtype=bool)
    masks[:, union] = members
    return masks[np.argsort(-members.sum(axis=1), kind="stable")]


class _Problem:
    """One object, laid out for the fits: its pixels, a padded map, and the galaxies its classes suggest."""

    def __init__(self, classes, blended):
        self.classes = classes
        self.blended = blended
        self.union = classes > 0
        ys, xs = np.nonzero(self.union)
        self.ys, self.xs = ys.astype(np.float64), xs.astype(np.float64)
        self.flat_classes = classes[self.union] if blended else np.ones(ys.size, dtype=np.uint8)
        # Ellipses that stick out of the box must pay for it.
        self.padded = np.pad(classes if blended else self.union.astype(np.uint8), 3)
        filled = np.pad(self.union, 1).astype(np.int8)
        self.outline = np.abs(np.diff(filled, axis=0)).sum() + np.abs(np.diff(filled, axis=1)).sum()

    def best(self, proposals):
        """Settle every proposal on self-consistent ellipses: the best few, as (misfit, ellipses)."""
        roughly = _distinct([self._settle(ellipses, ROUNDS) for ellipses in proposals])
        return _distinct([self._settle(ellipses, POLISH_ROUNDS) for _, ellipses in roughly])

    def _settle(self, ellipses, rounds):
        ellipses = refine(self.ys, self.xs, self.flat_classes, ellipses, rounds)
        shifted = ellipses.copy()
        shifted[:, :2] += 3
        return misfit(self.padded, shifted), ellipses

    def from_members(self, members):
        return ellipses_of(np.ascontiguousarray(members), self.ys, self.xs)

    def from_points(self, points):
        """Equal circles around the points (y, x), together as large as the object."""
        level = np.pi * len(points) / self.ys.size
        return np.array([(x, y, level, 0.0, level) for y, x in points])

    def two_sides(self, y, x, normal_y, normal_x):
        """Cut by the line through (y, x): each side with all class-2 pixels is one galaxy."""
        side = (self.ys - y) * normal_y + (self.xs - x) * normal_x > 0
        overlap = self.flat_classes == 2
        return self.from_members(np.stack([side | overlap, ~side | overlap]))


def _image_seeds(image, probability, union):
    """Peaks as (y, x): those that prove a galaxy each, and all that may hint at one, highest first."""
    proven, hints = [], []
    if image is not None:
        peaks = find_peaks(image, union)
        significance = peaks[:, 3] / SMOOTHED_NOISE
        proof = (significance > PEAK_SIGNIFICANCE) & (peaks[:, 3] > PEAK_DIP * peaks[:, 2])
        proven = peaks[proof][:MAX_GALAXIES, :2]
        hints = peaks[significance > PEAK_HINT_SIGNIFICANCE][:MAX_GALAXIES, :2]
    if probability is not None:
        peaks = find_peaks(probability, union)
        distinct = peaks[peaks[:, 3] > PROBABILITY_DIP][:MAX_GALAXIES, :2]
        if len(distinct) > len(hints):
            hints = distinct
    return proven, hints


def _choose(problem, proven, hints, *, has_image):
    """Ellipses of the smallest set of galaxies that explains the map; None for a lone galaxy."""
    if problem.blended:
        gain, gain_per_outline = MIN_GAIN, MIN_GAIN_PER_OUTLINE
        current = problem.best(_pairs(problem, hints))
    else:
        gain, gain_per_outline = MIN_GAIN_TOUCHING, MIN_GAIN_PER_OUTLINE_TOUCHING
        current = problem.best([problem.from_members(np.ones((1, problem.ys.size), dtype=bool))])
    least = gain_per_outline * problem.outline
    gross = GROSS_MISFIT * problem.outline
    chosen = current[0]
    while len(current[0][1]) < MAX_GALAXIES:
        count = len(current[0][1]) + 1
        demanded = len(proven) >= count
        if not demanded and (chosen[0] < least or (has_image and not problem.blended)):
            break
        following = _extend(problem, current, hints)
        if chosen[0] > gross and following[0][0] > least and count > 2:
            current, following = _reconsider(problem, current, following, hints)
            if len(chosen[1]) == count - 1 and current[0][0] < chosen[0]:
                chosen = current[0]
        added = count - len(chosen[1])
        # A set two larger must have gained twice over.
        bar = min((1 - gain) ** added * chosen[0], chosen[0] - added * least)
        if demanded or following[0][0] < bar:
            chosen = following[0]
        elif added > 1 or chosen[0] < gross:
            break
        current = following
    if len(chosen[1]) > max(2, len(proven)):
        chosen = _prune(problem, chosen, max(least, chosen[0] / (1 - gain)), max(2, len(proven)))
    return None if len(chosen[1]) == 1 else chosen[1]


def _prune(problem, chosen, bar, fewest):
    """Leave galaxies out again while the others, settled anew, explain the map as well."""
    while len(chosen[1]) > fewest:
        fewer = problem.best([np.delete(chosen[1], j, axis=0) for j in range(len(chosen[1]))])[0]
        if fewer[0] > bar:
            break
        chosen = fewer
    return chosen


def _extend(problem, current, hints):
    """Best solutions with one galaxy more."""
    count = len(current[0][1]) + 1
    proposals = [e for _, ellipses in current for e in _one_more(problem, ellipses)]
    if len(hints) >= count:
        proposals.append(problem.from_points(hints[:count]))
    if count == 2:
        proposals += _pairs(problem, hints)
    return problem.best(proposals)


def _reconsider(problem, current, following, hints):
    """Leave out each galaxy of the larger sets and add one again: a way out of a wrong start."""
    for _ in range(RECONSIDER):
        before = following[0][0]
        fewer = [np.delete(e, j, axis=0) for _, e in following for j in range(len(e))]
        base = problem.best(fewer)
        current = _distinct(current + base)
        following = _distinct(following + _extend(problem, base, hints))
        if following[0][0] > 0.7 * before:
            break
    return current, following


def _distinct(solutions):
    """The best solutions that differ, least misfit first, at most `BEAM`."""
    solutions = sorted(solutions, key=lambda s: s[0])
    chosen = solutions[:1]
    for candidate in solutions[1:]:
        if len(chosen) < BEAM and candidate[0] > chosen[-1][0] + 0.5:
            chosen.append(candidate)
    return chosen


def _pairs(problem, hints):
    """Proposals of two galaxies."""
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
        for region in _regions(problem):
            proposals.append(problem.from_members(np.stack([everything, region])))
        proposals.append(_crossing(problem, cy, cx))
        pieces = _pieces(problem)
        if len(pieces) >= 2:
            proposals.append(problem.from_members(np.stack(pieces[:2])))
    if len(hints) >= 2:
        proposals.append(problem.from_points(hints[:2]))
    return proposals


def _one_more(problem, ellipses):
    """Proposals with one more: halves of one, a region not covered, a class-2 region, a piece."""
    members = assign(problem.ys, problem.xs, problem.flat_classes, ellipses)
    proposals = []
    for j, own in enumerate(members):
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
        for region in _regions(problem):
            proposals.append(problem.from_members(np.vstack([members, [region]])))
        pieces = _pieces(problem)
        if len(pieces) > len(ellipses):
            proposals.append(problem.from_members(np.stack(pieces[: len(ellipses) + 1])))
    return proposals


def _major_axis(ys, xs):
    """Unit vector (y, x) along which the pixels extend furthest."""
    dy, dx = ys - ys.mean(), xs - xs.mean()
    angle = 0.5 * np.arctan2(2 * (dx * dy).sum(), (dx * dx).sum() - (dy * dy).sum())
    return np.sin(angle), np.cos(angle)


def _cusp_chord(classes):
    """Ends of the lens: the class-2 pixels next to the background that lie furthest apart, or None."""
    background = np.pad(classes, 1) == 0
    near = ndimage.binary_dilation(background, structure=EIGHT_CONNECTED)[1:-1, 1:-1]
    ys, xs = np.nonzero(near & (classes == 2))
    if ys.size < 2:
        return None
    axis_y, axis_x = _major_axis(ys, xs)
    along = ys * axis_y + xs * axis_x
    a, b = np.argmin(along), np.argmax(along)
    return (ys[a], xs[a]), (ys[b], xs[b])


def _regions(problem):
    """Class-2 regions of at least `MIN_OVERLAP` pixels, largest first, as pixel masks; at most three."""
    labels, count = ndimage.label(problem.classes == 2, structure=EIGHT_CONNECTED)
    return _largest(labels[problem.union], count, 3)


def _uncovered(problem, ellipses):
    """Connected pixels that fewer ellipses cover than the map asks for, largest region first; at most two."""
    covered = np.zeros(problem.ys.size, dtype=int)
    for x, y, qxx, qxy, qyy in ellipses:
        dy, dx = problem.ys - y, problem.xs - x
        covered += qxx * dx * dx + 2 * qxy * dx * dy + qyy * dy * dy <= 1
    missing = np.zeros(problem.union.shape, dtype=bool)
    missing[problem.union] = covered < problem.flat_classes
    labels, count = ndimage.label(missing)
    return _largest(labels[problem.union], count, 2)


def _pieces(problem):
    """Class-1 pieces with the class-2 regions they touch, largest first, as (n_pixels,) masks."""
    labels, count = ndimage.label(problem.classes == 1)
    regions = ndimage.label(problem.classes == 2, structure=EIGHT_CONNECTED)[0]
    pieces = []
    for piece in _largest(labels[problem.union], count, MAX_GALAXIES):
        mask = np.zeros(problem.union.shape, dtype=bool)
        mask[problem.union] = piece
        touched = np.unique(regions[ndimage.binary_dilation(mask)])
        pieces.append(piece | np.isin(regions[problem.union], touched[touched > 0]))
    return pieces


def _largest(flat_labels, count, keep):
    area = np.bincount(flat_labels, minlength=count + 1)[1:]
    order = np.argsort(-area, kind="stable")[:keep]
    return [flat_labels == i + 1 for i in order if area[i] >= MIN_OVERLAP]


def _crossing(problem, cy, cx):
    """Two long galaxies crossing at (cy, cx): to the furthest pixel, and the furthest off that line."""
    dy, dx = problem.ys - cy, problem.xs - cx
    distance = np.hypot(dy, dx)
    furthest = np.argmax(distance)
    angle = np.arctan2(dy, dx)
    off_line = np.abs(np.sin(angle - angle[furthest]))
    second = np.argmax(distance * (off_line > 0.5))
    toward_first = np.abs(np.cos(angle - angle[furthest])) > np.abs(np.cos(angle - angle[second]))
    overlap = problem.flat_classes == 2
    return problem.from_members(np.stack([toward_first | overlap, ~toward_first | overlap]))

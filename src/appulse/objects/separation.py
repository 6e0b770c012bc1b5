"""From one object's ternary map to its galaxies.

Connectivity alone cannot do it: the crescents of two overlapping ellipses meet at the cusps of their lens, so
class 1 is a single piece in 52 % to 78 % of blends. Three sources decide together:

- *geometry of class 2*: the chord through the cusps (where class 2 touches the background) divides the
  object, a class-2 region enclosed by class 1 is a nested galaxy, several regions several galaxies;
- *pieces of class 1* that the lens cuts off from each other;
- *peaks* of the image, smoothed and sharpened, and of P_GALAXY.

Each proposes galaxies; `appulse.objects.ellipses` settles every proposal on the nearest set of ellipses, and
the one that explains the map with the least misplaced boundary wins. A further galaxy must pay for itself.
"""

from dataclasses import dataclass

import numpy as np

from appulse.objects.components import MIN_OVERLAP, label_connected
from appulse.objects.ellipses import assign
from appulse.objects.peaks import (
    REACH,
    SHARPENED_NOISE,
    SMOOTHED_NOISE,
    Peaks,
    drainage,
    find_peaks,
    sharpen,
    smooth,
)
from appulse.objects.proposals import Problem, Solution, at_points, distinct, one_more, pairs
from appulse.objects.thresholds import (
    CORE_CONTRAST,
    CORE_SIGNIFICANCE,
    CORE_SIZE,
    GROSS_MISFIT,
    MAX_FITTED_PIXELS,
    MAX_GALAXIES,
    MIN_GAIN,
    MIN_GAIN_PER_OUTLINE,
    MIN_GAIN_PER_OUTLINE_TOUCHING,
    MIN_GAIN_TOUCHING,
    NESTED_SHARE,
    PEAK_DIP,
    PEAK_HINT_SIGNIFICANCE,
    PEAK_SIGNIFICANCE,
    PEAKLESS_GAIN,
    PROBABILITY_DIP,
    RECONSIDER,
    WORTHWHILE_ROUND,
)

# Pixels of the image around the object that tell a peak inside from the flank of a neighbour outside.
MARGIN = REACH


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


def separate(
    ternary: np.ndarray, image: np.ndarray | None = None, *, p_galaxy: np.ndarray | None = None
) -> Separation:
    """Separate one object into galaxies whose masks share the pixels of class 2.

    Parameters
    ----------
    ternary : (height, width) integer array
        Cutout of one object: 0 background and pixels of other objects, 1 one galaxy, 2 two or more. Should it
        hold several 8-connected components, each is separated by itself.
    image : (height, width) float array, units of the background noise, optional
        Its peaks propose galaxies, and prove them where the saddle between two is deep; of three and more in
        an object with overlaps, two may still come out as one.
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
    box = tuple(slice(max(n[0] - MARGIN, 0), n[-1] + 1 + MARGIN) for n in (rows, columns))
    classes = np.ascontiguousarray(np.minimum(ternary[box], 2), dtype=np.uint8)
    seen = None if image is None else np.ascontiguousarray(np.asarray(image)[box], dtype=np.float64)
    probability = None if p_galaxy is None else np.ascontiguousarray(np.asarray(p_galaxy)[box], np.float64)
    labels, count = label_connected(classes > 0)
    if count == 1:
        members = _separate_box(classes, seen, probability)
    else:
        parts = [np.where(labels == i + 1, classes, 0) for i in range(count)]
        members = np.concatenate([_separate_box(part, seen, probability) for part in parts])
        members = members[np.argsort(-members.sum(axis=(1, 2)), kind="stable")]
    masks = np.zeros((len(members), *ternary.shape), dtype=bool)
    masks[:, box[0], box[1]] = members
    return Separation(masks, nested_galaxies(masks))


def divide_at_peaks(union: np.ndarray, image: np.ndarray) -> np.ndarray:
    """Divide an object at the valleys between the peaks that prove a galaxy each.

    Parameters
    ----------
    union : (height, width) bool array
        Pixels of the object.
    image : (height, width) float array, units of the background noise
        Should reach some pixels past the object: a flank of something outside is no peak.

    Returns
    -------
    (n_galaxies, height, width) bool array
        Without shared pixels; the whole object where there are not two such peaks.
    """
    image = np.ascontiguousarray(image, dtype=np.float64)
    proven, _ = _image_seeds(image, None, union)
    if len(proven) < 2:
        return union[None]
    return _divide_at_saddles(image, proven, union, union.astype(np.uint8))


def nested_galaxies(masks: np.ndarray) -> np.ndarray:
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
    return np.any(inside, axis=1)


def _separate_box(
    classes: np.ndarray, image: np.ndarray | None, probability: np.ndarray | None
) -> np.ndarray:
    """Masks (n, height, width) of an object that fills its box, largest first."""
    blended = bool(np.count_nonzero(classes == 2) >= MIN_OVERLAP)
    union = classes > 0
    proven, hints = _image_seeds(image, probability, union)
    if image is not None and not blended:
        if len(hints) < 2:
            return union[None]
        if len(proven) > 1:
            return _divide_at_saddles(image, proven, union, classes)
    stride = int(np.ceil(np.sqrt(np.count_nonzero(union) / MAX_FITTED_PIXELS)))
    coarse = np.ascontiguousarray(classes[::stride, ::stride])
    if blended and np.count_nonzero(coarse == 2) < MIN_OVERLAP:
        if image is not None and len(proven) > 1:
            return _divide_at_saddles(image, proven, union, classes)
        stride, coarse = 1, classes
    light = None if image is None else smooth(image)[::stride, ::stride]
    problem, seeds = Problem(coarse, blended, light), proven / stride
    demanded = problem.best(at_points(problem, seeds))
    ellipses = _choose(problem, demanded, seeds, hints / stride)
    parted = _peaks_parted(ellipses, seeds)
    if image is not None and 1 < len(proven) > parted:
        # An overlap drawn too small looks nested, and peaks with a deep saddle between them say otherwise.
        if _peaks_parted(demanded[0].ellipses, seeds) == len(proven):
            ellipses = demanded[0].ellipses
        elif parted < 2:
            return _divide_at_saddles(image, proven, union, classes)
    if len(ellipses) == 1:
        return union[None]
    # From the rows and columns fitted to all of them.
    ellipses = ellipses * np.array([stride, stride, *3 * [stride**-2.0]])
    ys, xs = (axis.astype(np.float64) for axis in np.nonzero(union))
    members = assign(ys, xs, classes[union], ellipses)
    members = members[members.any(axis=1)]
    masks = np.zeros((len(members), *classes.shape), dtype=bool)
    masks[:, union] = members
    return masks[np.argsort(-members.sum(axis=1), kind="stable")]


def _peaks_parted(ellipses: np.ndarray, peaks: np.ndarray) -> int:
    """How many galaxies own a peak (y, x)."""
    ys, xs = np.ascontiguousarray(peaks[:, 0]), np.ascontiguousarray(peaks[:, 1])
    owners = assign(ys, xs, np.ones(len(peaks), dtype=np.uint8), ellipses).argmax(axis=0)
    return len(np.unique(owners))


def _divide_at_saddles(
    image: np.ndarray, peaks: np.ndarray, union: np.ndarray, classes: np.ndarray
) -> np.ndarray:
    """Galaxies with a peak each: the valleys divide them, and overlaps belong to the next peak as well."""
    basins = drainage(image, peaks, union)
    masks = np.stack([basins == number for number in range(1, len(peaks) + 1)])
    y, x = np.nonzero((classes == 2) & union)
    if np.count_nonzero(classes == 2) >= MIN_OVERLAP:
        distance = np.hypot(y[None] - peaks[:, :1], x[None] - peaks[:, 1:2])
        distance[basins[y, x] - 1, np.arange(len(y))] = np.inf
        masks[distance.argmin(axis=0), y, x] = True
    masks = masks[masks.any(axis=(1, 2))]
    return masks[np.argsort(-masks.sum(axis=(1, 2)), kind="stable")]


def _image_seeds(
    image: np.ndarray | None, probability: np.ndarray | None, union: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Peaks as (y, x): those that prove a galaxy each, and all that may hint at one, brightest first."""
    proven = hints = np.zeros((0, 2))
    if image is not None:
        light, sharp = smooth(image), sharpen(image)
        peaks, cores = (_own_peaks(map_, union) for map_ in (light, sharp))
        significance = peaks.dip / SMOOTHED_NOISE
        clear = (significance > PEAK_SIGNIFICANCE) & (peaks.dip > PEAK_DIP * peaks.height)
        contrast = cores.height / np.maximum(_at(light, cores.places), SMOOTHED_NOISE)
        # Around a bright core the sharpened image is negative: there noise has deep saddles, but no height.
        least = np.minimum(cores.height, cores.dip)
        outstanding = (least > CORE_SIGNIFICANCE * SHARPENED_NOISE) & (contrast > CORE_CONTRAST)
        proven = _with_others(cores.places[outstanding], peaks.places[clear])
        proven = proven[np.argsort(-_at(light, proven), kind="stable")][:MAX_GALAXIES]
        hints = _with_others(proven, peaks.places[significance > PEAK_HINT_SIGNIFICANCE])[:MAX_GALAXIES]
    if probability is not None:
        peaks = find_peaks(smooth(probability), union)
        deep = peaks.places[peaks.dip > PROBABILITY_DIP][:MAX_GALAXIES]
        if len(deep) > len(hints):
            hints = deep
    return proven, hints


def _own_peaks(image: np.ndarray, union: np.ndarray) -> Peaks:
    """Peaks of the object itself, not the flank of something outside."""
    peaks = find_peaks(image, union)
    return Peaks(*(values[peaks.inside] for values in peaks))


def _at(image: np.ndarray, places: np.ndarray) -> np.ndarray:
    y, x = places.astype(int).T
    return image[y, x]


def _with_others(peaks: np.ndarray, others: np.ndarray) -> np.ndarray:
    """Peaks, and those of the others that are not near one of them."""
    distances = np.hypot(*(others[:, None] - peaks[None]).transpose(2, 0, 1))
    return np.concatenate([peaks, others[(distances > CORE_SIZE).all(axis=1)]])


def _choose(problem: Problem, demanded: list[Solution], proven: np.ndarray, hints: np.ndarray) -> np.ndarray:
    """Ellipses of the smallest set of galaxies that explains the map.

    `demanded` are the best sets with a galaxy at each proven peak, none where there are not two.
    """
    if problem.blended:
        gain, least = MIN_GAIN, MIN_GAIN_PER_OUTLINE * problem.outline
        # What the peaks demand is enough if it explains the map, and saves a long search.
        if len(proven) > 2 and demanded[0].misfit < least:
            return demanded[0].ellipses
        first = problem.best([*pairs(problem), *at_points(problem, hints[:2])])
    else:
        gain, least = MIN_GAIN_TOUCHING, MIN_GAIN_PER_OUTLINE_TOUCHING * problem.outline
        first = problem.best([problem.from_members(np.ones((1, problem.ys.size), dtype=bool))])
    chosen = _grow(problem, first, proven, hints, gain, least)
    return _prune(problem, chosen, max(least, chosen.misfit / (1 - gain)), max(2, len(proven))).ellipses


def _grow(
    problem: Problem, best: list[Solution], proven: np.ndarray, hints: np.ndarray, gain: float, least: float
) -> Solution:
    """Add galaxies to the best sets, one at a time, as long as one pays or a peak demands it."""
    has_image = problem.light is not None
    gross = GROSS_MISFIT * problem.outline
    chosen = best[0]
    while best[0].n_galaxies < MAX_GALAXIES:
        count = best[0].n_galaxies + 1
        is_demanded = len(proven) >= count
        if not is_demanded and (chosen.misfit < least or (has_image and not problem.blended)):
            break
        larger = _extend(problem, best, hints)
        if not larger:
            break
        if chosen.misfit > gross and larger[0].misfit > least and count > 2:
            best, larger = _reconsider(problem, best, larger, hints)
            if chosen.n_galaxies == count - 1 and best[0].misfit < chosen.misfit:
                chosen = best[0]
        share = gain if not has_image or len(hints) >= count else PEAKLESS_GAIN
        if is_demanded or _pays(larger[0], chosen, share, least):
            chosen = larger[0]
        elif count > chosen.n_galaxies + 1 or chosen.misfit < gross:
            break
        best = larger
    return chosen


def _pays(larger: Solution, chosen: Solution, share: float, least: float) -> bool:
    """Whether a set gains enough on a smaller one: one that is two larger must have gained twice over."""
    added = larger.n_galaxies - chosen.n_galaxies
    return larger.misfit < min((1 - share) ** added * chosen.misfit, chosen.misfit - added * least)


def _prune(problem: Problem, chosen: Solution, bar: float, fewest: int) -> Solution:
    """Leave galaxies out again while the others, settled anew, explain the map as well."""
    while chosen.n_galaxies > fewest:
        fewer = problem.best(chosen.without_one())[0]
        if fewer.misfit > bar:
            break
        chosen = fewer
    return chosen


def _extend(problem: Problem, best: list[Solution], hints: np.ndarray) -> list[Solution]:
    """Best solutions with one galaxy more."""
    count = best[0].n_galaxies + 1
    proposals = [more for solution in best for more in one_more(problem, solution.ellipses)]
    if len(hints) >= count:
        proposals += at_points(problem, hints[:count])
    if count == 2:
        proposals += pairs(problem)
    return problem.best(proposals)


def _reconsider(
    problem: Problem, best: list[Solution], larger: list[Solution], hints: np.ndarray
) -> tuple[list[Solution], list[Solution]]:
    """Leave out each galaxy of the larger sets and add one again: a way out of a wrong start."""
    for _ in range(RECONSIDER):
        before = larger[0].misfit
        fewer = problem.best([others for solution in larger for others in solution.without_one()])
        best = distinct(best + fewer)
        larger = distinct(larger + _extend(problem, fewer, hints))
        if larger[0].misfit > WORTHWHILE_ROUND * before:
            break
    return best, larger

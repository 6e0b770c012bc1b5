"""Operating points: the thresholds on the probabilities, chosen on calibration fields."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from appulse.evaluation.matching import excluded_predictions, match_objects
from appulse.evaluation.scores import ObjectCounts, tally
from appulse.files import InputError
from appulse.network.calibration import MIN_AREA, OperatingPoint
from appulse.objects.bridges import bridges_of_field
from appulse.objects.components import MIN_OVERLAP, label_connected
from appulse.objects.pairs import meeting_pairs
from appulse.objects.separation import MARGIN, divide_at_peaks
from appulse.sky.true_objects import Kind, TrueObjects, object_kinds
from appulse.windows import grown

# 8 x 12 = 96 trials; other detectors are tuned with as many.
T_GALAXY = (0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
T_OVERLAP = (0.05, 0.1, 0.15, 0.2, 0.25, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
N_TRIALS = len(T_GALAXY) * len(T_OVERLAP)

COMPLETE_MIN_PURITY = 0.7
# The paper's purity of blends, rounded down; on its half-and-half set, so harder to reach here.
PURE_MIN_PURITY = 0.93
# And this share of the false blends, among all it claims, that ``balanced`` has.
PURE_IMPURITY = 0.5
# The share of blends that ``pure`` may give up, of those that the most complete of points as pure recognises,
# to be surer than its sky asks for: galaxies of a simulated sky are smooth.
PURE_SACRIFICE = 0.1
ISOLATED_TOLERANCE = 0.01
# Balanced scores this close are equal: with 200 blends their own error is twice as large.
BALANCED_TOLERANCE = 0.01
_KINDS = (Kind.ISOLATED, Kind.BLENDED)

# Thresholds on P_GALAXY and on P_OVERLAP, and what comes of each pair of them.
_Pair = tuple[float, float]
Grid = dict[_Pair, ObjectCounts]


@dataclass(frozen=True)
class CalibrationField:
    """Probability maps of one field, and its truth.

    Parameters
    ----------
    p_galaxy, p_overlap : (height, width) float arrays
        Probabilities of class 1 or 2, and of class 2. NaN (bad pixels) is background.
    truth : TrueObjects
    image : (height, width) float array, units of the background noise
        NaN where bad. Its peaks join and part galaxies (`appulse.objects.pairs` and ``bridges``).
    survey : str
        Fields of one survey count together, surveys alike.
    """

    p_galaxy: np.ndarray
    p_overlap: np.ndarray
    truth: TrueObjects
    image: np.ndarray
    survey: str = ""


def balanced_score(counts: ObjectCounts) -> float:
    """Sum of the strict F scores of isolated and of blended objects, 0 to 2: what ``balanced`` maximises.

    Detectors other than the network are tuned on the same sum.

    Parameters
    ----------
    counts : ObjectCounts

    Returns
    -------
    float
    """
    return counts.f_score(Kind.ISOLATED) + counts.f_score(Kind.BLENDED)


def count_on_grid(
    fields: Sequence[CalibrationField],
    t_galaxy: Sequence[float] = T_GALAXY,
    t_overlap: Sequence[float] = T_OVERLAP,
) -> Grid:
    """Score every pair of thresholds, with the counts of all fields pooled.

    Parameters
    ----------
    fields : sequence of CalibrationField
    t_galaxy, t_overlap : sequences of float
        Thresholds: TERNARY = (P_GALAXY > t_galaxy) + (P_GALAXY > t_galaxy and P_OVERLAP > t_overlap).

    Returns
    -------
    dict of (float, float) to ObjectCounts
        Keyed by (t_galaxy, t_overlap), in the order of the grid.
    """
    grid = {(t1, t2): ObjectCounts.empty() for t1 in t_galaxy for t2 in t_overlap}
    for field in fields:
        for t1 in t_galaxy:
            for t2, counts in count_at(field, t1, t_overlap).items():
                grid[t1, t2] += counts
    return grid


def count_at(
    field: CalibrationField, t_galaxy: float, t_overlap: Sequence[float], min_area: int = MIN_AREA
) -> dict[float, ObjectCounts]:
    """Counts for every overlap threshold: objects and their match depend on ``t_galaxy`` alone.

    Parameters
    ----------
    field : CalibrationField
    t_galaxy : float
    t_overlap : sequence of float
    min_area : int, pixels
        As for :func:`detection_from_ternary`.

    Returns
    -------
    dict of float to ObjectCounts
        By ``t_overlap``.
    """
    foreground = field.p_galaxy > t_galaxy
    bridges = bridges_of_field(foreground, field.image, min_area, field.p_overlap)
    objects = label_connected(foreground & ~bridges)[0]
    match = match_objects(field.truth.labels, objects)
    excluded = excluded_predictions(field.truth, objects, match)
    n_objects = len(match.predicted_area)
    n_galaxies, by_light = _galaxies_by_light(objects, field.image)

    levels = np.sort(t_overlap)
    inside = np.flatnonzero(objects)
    p_overlap = np.nan_to_num(np.asarray(field.p_overlap).ravel()[inside], nan=-np.inf)
    # Thresholds passed by each pixel, in the map's own precision, as `>` compares.
    n_passed = np.searchsorted(levels.astype(p_overlap.dtype), p_overlap, side="left")
    codes = objects.ravel()[inside] * (len(levels) + 1) + n_passed
    pixels = np.bincount(codes, minlength=n_objects * (len(levels) + 1)).reshape(n_objects, -1)

    counts = {}
    for t2 in t_overlap:
        n_overlap = pixels[:, np.searchsorted(levels, t2) + 1 :].sum(axis=1)
        kinds = object_kinds(n_galaxies, (n_overlap >= MIN_OVERLAP) | by_light)
        kinds[match.predicted_area < min_area] = Kind.NONE
        kinds[0] = Kind.NONE
        counts[t2] = tally(field.truth, match, kinds, excluded)
    return counts


def _galaxies_by_light(objects: np.ndarray, image: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """How many peaks prove a galaxy in each object, and whether two have a bright border between them.

    Index 0 is the background.
    """
    n_galaxies = np.ones(objects.max(initial=0) + 1, dtype=np.int64)
    blends = np.zeros(len(n_galaxies), dtype=bool)
    for label, box in enumerate(ndimage.find_objects(objects), start=1):
        window = grown(box, MARGIN, objects.shape)
        galaxies = divide_at_peaks(objects[window] == label, image[window])
        n_galaxies[label] = len(galaxies)
        blends[label] = any(pair.is_blend for pair in meeting_pairs(galaxies, image[window]))
    return n_galaxies, blends


def choose_operating_points(
    fields: Sequence[CalibrationField],
    t_galaxy: Sequence[float] = T_GALAXY,
    t_overlap: Sequence[float] = T_OVERLAP,
) -> dict[str, OperatingPoint]:
    """Choose the thresholds for three tastes on calibration fields, never on test fields.

    - ``balanced``: the largest :func:`balanced_score`, and among those within `BALANCED_TOLERANCE` of it the
      thresholds nearest to 0.5. Objects are found over a wide range of thresholds; it is at 0.5 that a pixel
      has its likelier class, and that areas are right. The score is the mean over surveys, so that a crowded
      one does not decide for all with its many blends.
    - ``complete``: the largest completeness of blends among points whose purity of blends is at least 0.7 and
      whose completeness and purity of isolated objects lie at most 0.01 below those of ``balanced``; of
      equals, the threshold nearest to 0.5. Without any such point it is ``balanced``.
    - ``pure``: the largest threshold among points whose purity of blends is at least 0.93, with at most half
      the impurity of ``balanced``, whose isolated objects lie as near to its, and which recognise nine tenths
      of the blends that the most complete of them recognises. So are irregular galaxies doubted, which no
      calibration field has. Without a point as pure, of those as near in isolated objects the one with the
      largest lower bound of purity (Wilson, 95 %): one lucky prediction does not win.

    The threshold on P_GALAXY is the same for all three: they outline the same galaxies, and differ in which
    of them they say to overlap.

    Parameters
    ----------
    fields : sequence of CalibrationField
        Pooled.
    t_galaxy, t_overlap : sequences of float
        The grid.

    Returns
    -------
    dict of str to OperatingPoint
        Keys balanced, complete, pure.

    Raises
    ------
    InputError
        Without true isolated or true blended objects: nothing can be chosen.
    """
    surveys = sorted({field.survey for field in fields})
    grids = [
        count_on_grid([field for field in fields if field.survey == survey], t_galaxy, t_overlap)
        for survey in surveys
    ]
    grid = {point: sum((each[point] for each in grids), ObjectCounts.empty()) for point in grids[0]}
    some = next(iter(grid.values()))
    for kind in _KINDS:
        if not some.n_true(kind):
            raise InputError(
                f"choose_operating_points: no true {kind.name.lower()} object in {len(fields)} field(s); "
                "give more or larger calibration fields."
            )
    # A survey without blends, or with nothing but blends, says nothing of the balance.
    telling = [each for each in grids if all(map(next(iter(each.values())).n_true, _KINDS))]
    chosen = {"balanced": _balanced(telling or [grid])}
    outlined = {point: counts for point, counts in grid.items() if point[0] == chosen["balanced"][0]}
    chosen["complete"] = _complete(outlined, chosen["balanced"])
    chosen["pure"] = _pure(outlined, chosen["balanced"])
    return {name: OperatingPoint(t_galaxy=t1, t_overlap=t2) for name, (t1, t2) in chosen.items()}


def _balanced(grids: Sequence[Grid]) -> _Pair:
    scores = {point: np.mean([balanced_score(grid[point]) for grid in grids]) for point in grids[0]}
    best = max(scores.values())
    equal = [point for point, score in scores.items() if score >= best - BALANCED_TOLERANCE]
    return min(equal, key=lambda point: (_from_half(point), -scores[point]))


def _from_half(point: _Pair) -> float:
    return round(abs(point[0] - 0.5) + abs(point[1] - 0.5), 6)


def _complete(grid: Grid, balanced: _Pair) -> _Pair:
    allowed = _as_good_alone(grid, balanced, COMPLETE_MIN_PURITY)
    return max(allowed, key=lambda point: (_recognised(grid, point), -_from_half(point)), default=balanced)


def _pure(grid: Grid, balanced: _Pair) -> _Pair:
    impurity = 1.0 - grid[balanced].purity(Kind.BLENDED).value
    allowed = _as_good_alone(grid, balanced, max(PURE_MIN_PURITY, 1.0 - PURE_IMPURITY * impurity))
    if allowed:
        fewest = (1.0 - PURE_SACRIFICE) * max(_recognised(grid, point) for point in allowed)
        # All share the threshold on P_GALAXY: the largest point is the one surest of overlaps.
        return max(point for point in allowed if _recognised(grid, point) >= fewest)
    # As pure as can be: with few blends a purity of one means little, and its lower bound says so.
    return max(
        _as_good_alone(grid, balanced),
        key=lambda point: (grid[point].purity(Kind.BLENDED).low, balanced_score(grid[point])),
    )


def _as_good_alone(grid: Grid, balanced: _Pair, purity: float = 0.0) -> list[_Pair]:
    """Points with at least that purity of blends, and isolated objects as good as those of ``balanced``."""
    reference = grid[balanced]
    lowest_completeness = reference.completeness(Kind.ISOLATED).value - ISOLATED_TOLERANCE
    lowest_purity = reference.purity(Kind.ISOLATED).value - ISOLATED_TOLERANCE
    return [
        point
        for point, counts in grid.items()
        if counts.purity(Kind.BLENDED).value >= purity
        and counts.completeness(Kind.ISOLATED).value >= lowest_completeness
        and counts.purity(Kind.ISOLATED).value >= lowest_purity
    ]


def _recognised(grid: Grid, point: _Pair) -> float:
    return grid[point].completeness(Kind.BLENDED).value

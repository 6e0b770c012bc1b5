"""Other detectors at their best: parameters chosen as the model's thresholds are, with as many trials."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from appulse.baselines.kept import Tuning
from appulse.baselines.segments import BORDER_LIGHTS, SegmentDetector
from appulse.baselines.sep import SepDetector
from appulse.baselines.sextractor import DetectorUnavailable, SextractorDetector, find_program
from appulse.evaluation.fields import read_fields
from appulse.evaluation.matching import excluded_predictions, match_objects
from appulse.evaluation.operating import BALANCED_TOLERANCE, N_TRIALS, balanced_score
from appulse.evaluation.scores import ObjectCounts, tally
from appulse.inference.background import scale_to_noise
from appulse.progress import Progress
from appulse.sky.field import Field
from appulse.sky.stored_field import field_paths, open_field
from appulse.sky.true_objects import TrueObjects, true_objects
from appulse.tasks import gathered

# A corner tells what takes noise for objects, without the time that such a detector takes on a field
# (SEP's cleaning compares every object with all others: 1.4 s for 1024 x 1024 pixels, 36 s for 2048 x 2048).
_CORNER, _MOST_OBJECTS, _FEW = 1024, 5, 20
# Settings are tried on as many pixels as one field of 4096 x 4096 has; more take longer and choose the same.
_TUNING_PIXELS = 4096**2


def tune(
    detector: SegmentDetector,
    images: Sequence[np.ndarray],
    truths: Sequence[TrueObjects],
    *,
    n_trials: int = N_TRIALS,
    seed: int = 0,
    progress: Progress | None = None,
) -> SegmentDetector:
    """Choose a detector's parameters as our thresholds are chosen: same fields, objective and trials.

    Random search, the first trial being the detector as given, and then one parameter after the other around
    the best of it: the light of borders, the contrast, the threshold. What finds five times as many objects
    in a corner as there are scores 0. The result is hardly worse than the detector as given on these fields.
    A trial of SEP takes about two seconds per field of 4096 x 4096 pixels.

    Parameters
    ----------
    detector : SegmentDetector
        Where the search begins.
    images : sequence of (height, width) float arrays, units of the noise
        Noisy images of the calibration fields.
    truths : sequence of TrueObjects
        Of the same fields; counts are pooled.
    n_trials : int
        Of the random search: 96 by default, as many as
        :func:`appulse.evaluation.choose_operating_points` makes.
    seed : int
        Of the search.
    progress : callable, optional
        Called with the name of the stage, trials done and their total.

    Returns
    -------
    SegmentDetector
        Of those whose :func:`appulse.evaluation.balanced_score` lies within ``BALANCED_TOLERANCE`` of the
        largest, the one with the best areas (largest mean IoU of the true objects): among equals, the
        model's thresholds are chosen for right areas, too.
    """
    rng = np.random.default_rng(seed)
    found: dict[SegmentDetector, tuple[float, float]] = {}  # score and areas of each trial
    total = n_trials + sum(len(refine(detector)) for refine in _REFINEMENTS)

    def try_all(trials: Sequence[SegmentDetector]) -> None:
        for trial in trials:
            if trial not in found:
                found[trial] = _scored(trial, images, truths)
            if progress:
                progress(f"tuning {detector.name}", min(len(found), total), total)

    try_all([detector, *(detector.drawn(rng) for _ in range(n_trials - 1))])
    for refine in _REFINEMENTS:
        try_all(refine(_best(found)))
    if progress:
        progress(f"tuning {detector.name}", total, total)
    return _best(found)


def _best(found: dict[SegmentDetector, tuple[float, float]]) -> SegmentDetector:
    """Of the trials that are as good as the best by score, the one with the best areas."""
    highest = max(score for score, _ in found.values())
    equal = {trial: area for trial, (score, area) in found.items() if score >= highest - BALANCED_TOLERANCE}
    return max(equal, key=equal.__getitem__)


# What is tried around the best of the random search, which draws its values far apart.
_REFINEMENTS: tuple[Callable[[SegmentDetector], Sequence[SegmentDetector]], ...] = (
    lambda best: [replace(best, border_light=light) for light in BORDER_LIGHTS],
    lambda best: list(best.variants().values()),
    lambda best: [replace(best, threshold=factor * best.threshold) for factor in (0.7, 0.85, 1.0, 1.15, 1.4)],
)


def _scored(
    detector: SegmentDetector, images: Sequence[np.ndarray], truths: Sequence[TrueObjects]
) -> tuple[float, float]:
    """Balanced score, and mean IoU of the true objects."""
    if _takes_noise(detector, images[0], truths[0]):
        return 0.0, 0.0
    counts, overlaps = ObjectCounts.empty(), []
    for image, truth in zip(images, truths, strict=True):
        detection = detector.detect(image)
        match = match_objects(truth.labels, detection.objects)
        excluded = excluded_predictions(truth, detection.objects, match)
        counts += tally(truth, match, detection.kinds, excluded)
        overlaps.append(match.iou[1:][~truth.ignored[1:]])
    return balanced_score(counts), float(np.concatenate(overlaps).mean())


def _takes_noise(detector: SegmentDetector, image: np.ndarray, truth: TrueObjects) -> bool:
    """Whether most of what a detector finds in a corner is nothing: its score cannot be the best."""
    corner = slice(_CORNER), slice(_CORNER)
    if min(image.shape) <= _CORNER:
        return False
    found = detector.detect(np.ascontiguousarray(image[corner])).objects.max(initial=0)
    return found > _MOST_OBJECTS * len(np.unique(truth.labels[corner])) + _FEW


def installed_detectors() -> tuple[list[SegmentDetector], list[str]]:
    """Every detector that can run here, with its usual parameters.

    Returns
    -------
    detectors : list of Detector
    notes : list of str
        One line for each that is not installed.
    """
    detectors: list[SegmentDetector] = [SepDetector()]
    notes: list[str] = []
    try:
        find_program()
        detectors.append(SextractorDetector())
    except DetectorUnavailable as reason:
        notes.append(str(reason))
    return detectors, notes


def tuned_detectors(
    validation: str | Path | None,
    *,
    n_trials: int = N_TRIALS,
    side: int | None = None,
    fields: int | None = None,
    elsewhere: str | Path | None = None,
    workers: int = 1,
    progress: Progress | None = None,
) -> tuple[list[SegmentDetector], list[str]]:
    """Every installed detector, tuned on calibration fields.

    What comes of it is kept beside the fields (``tuned-*.json``), and taken from there where the fields,
    these settings, the detector's program and this package's code are the same.

    Parameters
    ----------
    validation : str or Path, optional
        Directory of fields. Without one, the detectors keep their usual parameters, and a note says so.
    n_trials : int
        Parameter sets tried for each.
    side : int, pixels, optional
        Width of the part of each field that is used; by default so wide that all parts together are one field
        of 4096 x 4096 pixels.
    fields : int, optional
        How many of them; by default all.
    elsewhere : str or Path, optional
        Directory for tuned detectors where that of the fields cannot be written to.
    workers : int
        Processes, of which each detector takes one; the result does not depend on them.
    progress : callable, optional
        Called with the name of a stage, steps done and their total.

    Returns
    -------
    detectors : list of Detector
    notes : list of str
        How they were tuned, and which are not installed.
    """
    detectors, notes = installed_detectors()
    names = " and ".join(detector.name for detector in detectors)
    if validation is None:
        return detectors, [f"{names}: default parameters, not tuned (give --validation).", *notes]
    paths = field_paths(validation)[:fields]
    if side is None:
        side = int(np.sqrt(_TUNING_PIXELS / len(paths)))
    homes = [Path(home) for home in (validation, elsewhere) if home is not None]
    tuning = Tuning.of(paths, side, n_trials, homes)
    before = {detector.name: tuning.find(detector) for detector in detectors}
    tuned = {name: detector for name, detector in before.items() if detector is not None}
    missing = [detector for detector in detectors if detector.name not in tuned]
    if missing:
        # One field at a time: only its image and its objects stay.
        images, truths = zip(*map(_prepare, read_fields(paths, side)), strict=True)
        search = functools.partial(tune, images=images, truths=truths, n_trials=n_trials)
        found = gathered(search, missing, "detectors", workers, progress)
        for detector, best in zip(missing, found, strict=True):
            tuning.keep(detector, best)
            tuned[detector.name] = best
    best_of = f"the best of {n_trials} parameter sets, refined one by one,"
    how = f"{best_of} on {_pixels(paths, side) / 1e6:.1f} Mpixel of validation fields"
    in_order = [tuned[detector.name] for detector in detectors]
    told = [f"{each.name}: {how} ({_settings(each)})." for each in in_order]
    return in_order, [*told, *notes]


def _pixels(paths: Sequence[Path], side: int) -> int:
    number = 0
    for path in paths:
        with open_field(path) as field:
            height, width = field.shape
        number += min(height, side) * min(width, side)
    return number


def _settings(detector: SegmentDetector) -> str:
    values = dict(vars(detector))
    values["border_light"] = values.pop("border_light")  # the last one: ours, not the program's
    shown = {name: f"{value:.3g}" if isinstance(value, float) else value for name, value in values.items()}
    return ", ".join(f"{name} {value}" for name, value in shown.items())


def _prepare(field: Field) -> tuple[np.ndarray, TrueObjects]:
    truth = true_objects(field.ternary(), field.id1, field.id2)
    return scale_to_noise(field.image).scaled, truth

"""What one field says about a model and the detectors beside it: counts and tables, no maps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TypeVar

import numpy as np
from astropy.table import Table

from appulse.evaluation.claimed import claimed_galaxies
from appulse.evaluation.detection import Detection, detection_from_result
from appulse.evaluation.detector import Detector
from appulse.evaluation.ensembles import energy_columns, rank_table
from appulse.evaluation.lenient import LenientBlends, lenient_blends
from appulse.evaluation.measured import matched_galaxies, stack
from appulse.evaluation.operating import CalibrationField, count_at
from appulse.evaluation.pixels import HardTally, PixelTally
from appulse.evaluation.scores import ObjectCounts, count_objects
from appulse.evaluation.snapshots import (
    GALLERY,
    Snapshot,
    figure5_region,
    uncertain_blends,
    worst_failures,
)
from appulse.evaluation.truth_tables import (
    GalaxyCounts,
    TrueGalaxies,
    count_galaxies,
    galaxy_table,
    masks_of,
    object_table,
    result_masks,
)
from appulse.network.calibration import OperatingPoint
from appulse.result import Result
from appulse.sky.field import Field
from appulse.sky.stored_field import field_name
from appulse.sky.true_objects import TrueObjects, true_objects

# Thresholds on P_OVERLAP along which completeness and purity are traded.
THRESHOLDS = tuple(np.round(np.arange(0.05, 0.96, 0.05), 2).tolist())
# How galaxies are matched: by their masks' IoU, or by distance in pixels.
GALAXY_MATCHES = {"masks": None, "centres within 5 pixels": 5.0, "centres within 1 pixel": 1.0}
EVENTS = {"galaxy": 1, "overlap": 2}
_STRIP = 256

_Part = TypeVar("_Part", dict, Table, tuple)


@dataclass(frozen=True)
class Evidence:
    """Counts and tables of one field or a part of a test set, or of several: they pool by ``+``.

    Parameters
    ----------
    counts : dict of str to ObjectCounts
        Strict object counts by detector; the model first.
    galaxies, objects : Table
        One row per true galaxy, and per true object (`galaxy_table`, `object_table`).
    curves : dict of (str, float) to ObjectCounts
        Counts by detector and its threshold (the model's on P_OVERLAP, a contrast elsewhere).
    lenient : dict of str to LenientBlends
        By detector.
    galaxy_counts : dict of (str, str) to GalaxyCounts
        By detector and way of matching (`GALAXY_MATCHES`).
    measured, ranks : Table
        Matched galaxies beside their truth (`matched_galaxies`), and the truth's rank (`rank_table`).
    claimed : Table
        Galaxies of the catalogue, and what is true of them (`claimed_galaxies`).
    pixels : dict of str to PixelTally
        ``P_GALAXY``, ``P_OVERLAP``, ``frequency_galaxy``, ``frequency_overlap``.
    hard : dict of (str, str) to HardTally
        Class maps of the other detectors, by name and event (galaxy, overlap).
    failures, uncertain : tuple of Snapshot
        Galleries.
    regions : tuple of Snapshot
        What Figure 5 shows: the part of the first field with most overlap.
    """

    counts: dict[str, ObjectCounts]
    galaxies: Table
    objects: Table
    curves: dict[tuple[str, float], ObjectCounts]
    # What chosen objects in stamps of their own do not tell.
    lenient: dict[str, LenientBlends] = field(default_factory=dict)
    galaxy_counts: dict[tuple[str, str], GalaxyCounts] = field(default_factory=dict)
    measured: Table = field(default_factory=Table)
    ranks: Table = field(default_factory=Table)
    claimed: Table = field(default_factory=Table)
    pixels: dict[str, PixelTally] = field(default_factory=dict)
    hard: dict[tuple[str, str], HardTally] = field(default_factory=dict)
    failures: tuple[Snapshot, ...] = ()
    uncertain: tuple[Snapshot, ...] = ()
    regions: tuple[Snapshot, ...] = ()

    def __add__(self, other: Evidence) -> Evidence:
        pairs = {each.name: (getattr(self, each.name), getattr(other, each.name)) for each in fields(self)}
        pooled = {name: _pooled(*pair) for name, pair in pairs.items()}
        return Evidence(**pooled | {"regions": self.regions})


def _pooled(first: _Part, second: _Part) -> _Part:
    if isinstance(first, dict):
        return {key: first[key] + second[key] for key in first}
    if isinstance(first, Table):
        filled = [table for table in (first, second) if len(table)]
        return stack(filled) if filled else first
    return tuple(sorted((*first, *second), key=lambda shot: shot.order)[:GALLERY])


def gather(
    field: Field,
    result: Result,
    point: OperatingPoint,
    detectors: Sequence[Detector] = (),
    *,
    name: str,
    details: bool = True,
) -> Evidence:
    """Compare a result, and what other detectors make of the same image, with the truth.

    Parameters
    ----------
    field : Field
        The truth.
    result : Result
        Of the field's image as an array.
    point : OperatingPoint
        The thresholds that the result was made with.
    detectors : sequence of Detector
        Others, given the image that the model saw.
    name : str
        Of the model.
    details : bool
        Whether also to draw curves, ranks, energies and galleries, which take longer than the counts.

    Returns
    -------
    Evidence
    """
    ternary = field.ternary()
    truth = true_objects(ternary, field.id1, field.id2)
    galaxies = TrueGalaxies.of(field, truth)
    detections = {name: claim(result, point)} | {each.name: each.detect(result.image) for each in detectors}
    positions = np.column_stack([field.catalog["x"], field.catalog["y"]])
    tables = {
        "objects": object_table(field, truth, galaxies, detections, result.std),
        "galaxies": galaxy_table(field, truth, galaxies, detections, result.std, result.p_galaxy),
        "claimed": claimed_galaxies(field, galaxies, result),
    }
    for table in tables.values():
        origin = field_name(field.seed, field.index).removesuffix(".fits")
        table.add_column(np.full(len(table), origin), name="field", index=0)
    objects = tables["objects"]
    measured = matched_galaxies(field, result)
    curves: dict[tuple[str, float], ObjectCounts] = {}
    if details:
        for column, values in energy_columns(truth, ternary, result, objects["label"]).items():
            objects[column] = values
        curves = threshold_curves(truth, result, point, detectors, name)
    return Evidence(
        counts={each: count_objects(truth, found) for each, found in detections.items()},
        lenient={each: lenient_blends(truth, found, positions) for each, found in detections.items()},
        galaxy_counts={
            (each, match): count_galaxies(galaxies, masks_of(found), ternary.shape, radius=radius)
            for each, found in detections.items()
            for match, radius in GALAXY_MATCHES.items()
        },
        **tables,
        measured=measured,
        ranks=rank_table(field, result, measured) if details else Table(),
        pixels=_pixel_tallies(ternary, result),
        hard=_hard_tallies(ternary, {each: found for each, found in detections.items() if each != name}),
        curves=curves,
        failures=tuple(worst_failures(field, result, objects, name)) if details else (),
        uncertain=tuple(uncertain_blends(field, result)) if details else (),
        regions=(figure5_region(field, result),) if details else (),
    )


def claim(result: Result, point: OperatingPoint) -> Detection:
    """What a result claims, with the masks of its galaxies.

    Parameters
    ----------
    result : Result
    point : OperatingPoint
        The thresholds that it was made with.

    Returns
    -------
    Detection
    """
    claimed = detection_from_result(result, min_area=point.min_area)
    return replace(claimed, masks=result_masks(result))


def _pixel_tallies(ternary: np.ndarray, result: Result) -> dict[str, PixelTally]:
    tallies = {}
    for event, level in EVENTS.items():
        truth = ternary >= level
        tallies[f"P_{event.upper()}"] = PixelTally.of(getattr(result, f"p_{event}"), truth)
        tallies[f"frequency_{event}"] = PixelTally.of(frequency(result, level), truth)
    return tallies


def frequency(result: Result, level: int) -> np.ndarray:
    """Share of the realisations in which a pixel has at least a class.

    Parameters
    ----------
    result : Result
    level : {1, 2}

    Returns
    -------
    (height, width) float32 array
        NaN where the pixel is bad.
    """
    height, width = result.ternary.shape
    share = np.empty((height, width), np.float32)
    for top in range(0, height, _STRIP):
        strip = slice(top, min(top + _STRIP, height)), slice(0, width)
        share[strip] = (result.realisation_store.get(strip) >= level).mean(axis=0)
    share[np.isnan(result.p_galaxy)] = np.nan
    return share


def _hard_tallies(
    ternary: np.ndarray, detections: Mapping[str, Detection]
) -> dict[tuple[str, str], HardTally]:
    # Segments do not overlap: such a detector claims no pixel for two galaxies.
    return {
        (each, "galaxy"): HardTally.of(found.objects > 0, ternary >= 1) for each, found in detections.items()
    } | {(each, "overlap"): HardTally.of(np.zeros(ternary.shape, bool), ternary == 2) for each in detections}


def threshold_curves(
    truth: TrueObjects, result: Result, point: OperatingPoint, detectors: Sequence[Detector], name: str
) -> dict[tuple[str, float], ObjectCounts]:
    """Counts along the model's threshold on P_OVERLAP, and along each other detector's own.

    Parameters
    ----------
    truth : TrueObjects
    result : Result
    point : OperatingPoint
        The thresholds that it was made with.
    detectors : sequence of Detector
        Others.
    name : str
        Of the model.

    Returns
    -------
    dict of (str, float) to ObjectCounts
        As in `Evidence`.
    """
    maps = CalibrationField(result.p_galaxy, result.p_overlap, truth, result.image)
    levels = sorted({*THRESHOLDS, float(point.t_overlap)})
    ours = count_at(maps, point.t_galaxy, levels, point.min_area)
    curves = {(name, float(level)): counts for level, counts in ours.items()}
    for detector in detectors:
        for value, variant in detector.variants().items():
            curves[detector.name, value] = count_objects(truth, variant.detect(result.image))
    return curves

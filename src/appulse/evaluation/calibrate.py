"""Calibration of a model on fields it has not seen: probabilities, thresholds, realisations, error bars."""

from __future__ import annotations

import dataclasses
import functools
import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from astropy.table import Table

from appulse.evaluation.error_bars import ONE_SIGMA, fit_error_bars
from appulse.evaluation.fields import read_fields, refuse_biased
from appulse.evaluation.interval_coverage import LEVEL_68, covered
from appulse.evaluation.measured import matched_galaxies, stack
from appulse.evaluation.operating import CalibrationField, choose_operating_points
from appulse.evaluation.pixel_scores import expected_calibration_error
from appulse.evaluation.probabilities import Draws, fit_latent_scale, with_curves
from appulse.files import InputError, UsageError, atomic_write
from appulse.inference.background import scale_to_noise
from appulse.network.calibration import Calibration, ErrorBars
from appulse.network.weights import (
    CALIBRATED_ON,
    SELECTED_ON,
    TRAINED_ON,
    Model,
    load_model,
    save_model,
    seen_seeds,
)
from appulse.objects.catalog import MEASURED
from appulse.progress import Progress
from appulse.segmentation import segment
from appulse.sky.field import Field
from appulse.sky.stored_field import field_info, field_paths, seeds_of
from appulse.sky.true_objects import MIN_TRUE_AREA, Kind, true_objects
from appulse.tasks import gathered
from appulse.words import counted

# Correlation lengths of the copula that are tried, pixels.
LENGTHS = (1.0, 1.5, 2.0, 3.0, 4.0, 6.0)
# Lone galaxies of the part of a field on which these and the latent's scale are tried, and of how many parts
# for the length.
_TRIED_GALAXIES, _LENGTH_GALAXIES = 250, 500
# And of the part that the error bars are fitted to: thousands of galaxies in each bin of signal-to-noise
# would take long and change little.
_FITTED_GALAXIES = 1500
# With fewer, a coverage is known to worse than 0.05.
_FEWEST_GALAXIES = 90
_SAMPLES = 50


def calibrate_file(
    model: str | Path | Model,
    fields: str | Path,
    path: str | Path,
    *,
    half: bool = False,
    workers: int = 1,
    progress: Progress | None = None,
) -> str:
    """Calibrate a model and write it, and beside it ``calibration.txt``, what was fitted.

    Parameters
    ----------
    model : str, Path or Model
        A bundled model, a weight file, or a model in memory; its own calibration is put aside.
    fields : str or Path
        Directory of calibration fields (seeds 2000s).
    path : str or Path
        Weight file to write; its folder's name becomes the model's.
    half : bool
        Round the weights to half precision before, and keep them so.
    workers : int
        Processes that share the fields.
    progress : callable, optional
        Called with the name of a stage, steps done and their total.

    Returns
    -------
    str
        What was fitted, for people.

    Raises
    ------
    InputError
        No fields, or too few galaxies in them.
    UsageError
        As `calibration_paths`.
    """
    model = model if isinstance(model, Model) else load_model(model)
    path = Path(path).resolve()
    if half:
        model = model.halved()
    loaded = list(read_fields(calibration_paths(fields, model.training)))
    calibration, report = calibrate(model, loaded, workers=workers, progress=progress)
    training = model.training | {
        CALIBRATED_ON: sorted({field.seed for field in loaded}),
        "calibration_survey": _surveys(loaded),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    calibrated = model.calibrated(calibration)
    save_model(dataclasses.replace(calibrated, name=path.parent.name, training=training), path)
    report_path = path.with_name("calibration.txt")
    atomic_write(report_path, lambda temporary: temporary.write_text(report + "\n"))
    return report


def calibration_paths(directory: str | Path, training: dict) -> list[Path]:
    """The fields of a directory, refused before anything is fitted where they are unfit.

    Parameters
    ----------
    directory : str or Path
        Of simulated fields.
    training : dict
        History of the model: `Model.training`, or what it will be.

    Returns
    -------
    list of Path

    Raises
    ------
    InputError
        There are none.
    UsageError
        The model was trained or selected on one of their seeds, or pairs were injected into one.
    """
    paths = field_paths(directory)
    shared = sorted(seeds_of(paths) & seen_seeds(training, TRAINED_ON, SELECTED_ON))
    if shared:
        raise UsageError(
            f"{directory}: the model is trained or selected on seed {', '.join(map(str, shared))}, too; "
            "calibrate it on fields of seeds of their own (2000s)."
        )
    for path in paths:
        refuse_biased(field_info(path).survey, path)
    return paths


def _surveys(fields: Sequence[Field]) -> str:
    return " and ".join(sorted(_by_survey(fields)))


def _by_survey(fields: Sequence[Field]) -> dict[str, list[Field]]:
    grouped: dict[str, list[Field]] = {}
    for field in fields:
        grouped.setdefault(field.survey.name, []).append(field)
    return grouped


def calibrate(
    model: Model, fields: Sequence[Field], *, workers: int = 1, progress: Progress | None = None
) -> tuple[Calibration, str]:
    """Fit everything in `Calibration`.

    In this order, each with what came before: how far the latent is drawn; the curves of the two logits; the
    thresholds; the correlation length of the copula, for which the intervals of area need the least
    widening; shifts of the intervals and factors on the spreads. The first, the thresholds
    ``balanced`` and the length give every survey the same say, the curves and error bars every pixel and
    galaxy, the other thresholds every object.

    Parameters
    ----------
    model : Model
        Trained.
    fields : sequence of Field
        Unseen ones, at the depth that matters most.
    workers : int
        Processes that share the fields; results do not depend on it.
    progress : callable, optional
        Called with the name of a stage, steps done and their total.

    Returns
    -------
    calibration : Calibration
    report : str
        For people.
    """
    seen = sum(int(np.count_nonzero(field.catalog["isophotal_area"] >= MIN_TRUE_AREA)) for field in fields)
    _enough(seen, "are in the calibration fields")  # not after minutes
    lines = [f"calibrated on {counted(len(fields), 'field')} of {_surveys(fields)}:"]
    by_survey = _by_survey(fields)
    parts = [_corner(each[0], _TRIED_GALAXIES)[0] for each in by_survey.values()]
    scale = fit_latent_scale(model, parts, workers=workers, progress=progress)
    lines.append(f"  latent drawn with {scale:g} times the prior's spread")
    look = functools.partial(_draws, model=model, scale=scale)
    drawn = list(gathered(look, fields, "maps of fields", workers, progress))
    calibration = with_curves(Calibration(latent_scale=scale), drawn)
    maps = [_maps(field, draws, calibration) for field, draws in zip(fields, drawn, strict=True)]
    calibration = dataclasses.replace(calibration, operating_points=choose_operating_points(maps))
    plain = model.calibrated(calibration)
    points = calibration.operating_points
    lines += [f"  {name}: t_galaxy {p.t_galaxy}, t_overlap {p.t_overlap}" for name, p in points.items()]
    lines += _calibration_errors(maps, fields)

    length = fit_length(plain, fields, workers=workers, progress=progress)
    calibration = dataclasses.replace(calibration, correlation_length=length)
    lines.append(f"  correlation length {length} pixels")

    matched = functools.partial(_matched, model=plain.calibrated(calibration))
    parts = [_corner(field, _FITTED_GALAXIES)[0] for field in fields]
    table = stack(list(gathered(matched, parts, "galaxies of fields", workers, progress)))
    calibration = with_error_bars(calibration, table)
    blended = np.count_nonzero(table["blended"])
    lines.append(f"  {len(table)} galaxies found, {blended} of them in blends")
    if not calibration.blend_error_bars:
        lines.append(
            "  WARNING: galaxies in blends have the error bars of all, which are too small for them; their "
            f"own want {_FEWEST_GALAXIES} of them, and as many others. Give more or larger fields."
        )
    for quantity in MEASURED:
        before = covered(table, quantity, calibration, LEVEL_68)
        bars = _in_words(calibration.error_bars[quantity])
        shared = calibration.blend_error_bars.get(quantity)
        blends = f"; in blends {_in_words(shared)}" if shared else ""
        lines.append(f"  {quantity}: {bars} by S/N{blends}; 68 % interval covered {before} without them")
    return calibration, "\n".join(lines)


def _in_words(bars: ErrorBars) -> str:
    factors, shifts = (", ".join(f"{each:.2f}" for each in values) for values in (bars.factors, bars.shifts))
    return f"factors {factors}, shifts {shifts}"


def _corner(field: Field, wanted: int) -> tuple[Field, float]:
    # A square where so many lone galaxies may be expected, or all there is; and how many may.
    truth = true_objects(field.ternary(), field.id1, field.id2)
    lone = int(np.count_nonzero((truth.kind == Kind.ISOLATED) & ~truth.ignored))
    area = wanted * field.image.size / max(lone, 1)
    side = min(math.ceil(math.sqrt(area)), *field.image.shape)
    return field.cut((slice(side), slice(side))), lone * side**2 / field.image.size


def _draws(field: Field, model: Model, scale: float, progress: Progress | None) -> Draws:
    return Draws.of(model, field, latent_scale=scale, progress=progress)


def _maps(field: Field, draws: Draws, calibration: Calibration) -> CalibrationField:
    p_galaxy, p_overlap = draws.maps(calibration)
    truth = true_objects(field.ternary(), field.id1, field.id2)
    return CalibrationField(p_galaxy, p_overlap, truth, scale_to_noise(field.image).scaled, field.survey.name)


def _calibration_errors(maps: Sequence[CalibrationField], fields: Sequence[Field]) -> list[str]:
    lines = []
    for name, attribute, level in (("P_GALAXY", "p_galaxy", 1), ("P_OVERLAP", "p_overlap", 2)):
        probability = np.concatenate([getattr(each, attribute).ravel() for each in maps])
        truth = np.concatenate([field.ternary().ravel() >= level for field in fields])
        error = expected_calibration_error(probability, truth)
        lines.append(
            f"  expected calibration error of {name} over uncertain pixels, on these fields: {error:.4f}"
        )
    return lines


def fit_length(
    model: Model, fields: Sequence[Field], *, workers: int = 1, progress: Progress | None = None
) -> float:
    """Correlation length for which the 68 % intervals of area, not moved yet, need the least widening.

    Parameters
    ----------
    model : Model
        With probabilities and thresholds calibrated.
    fields : sequence of Field
        Unseen ones.
    workers : int
        Processes.
    progress : callable, optional
        Called with the name of a stage, steps done and their total.

    Returns
    -------
    float, pixels
        One of `LENGTHS`.
    """
    by_survey = _by_survey(fields)
    corners = {name: _corners(each, _LENGTH_GALAXIES / len(by_survey)) for name, each in by_survey.items()}
    trials = [(length, name, corner) for length in LENGTHS for name in corners for corner in corners[name]]
    trial = functools.partial(_with_length, model=model)
    tables = gathered(trial, trials, "correlation lengths", workers, progress)
    found: dict[tuple[float, str], list[Table]] = {}
    for (length, name, _), table in zip(trials, tables, strict=True):
        found.setdefault((length, name), []).append(table[table["alone"]])
    _enough(sum(len(table) for name in corners for table in found[LENGTHS[0], name]))
    misses = {
        length: np.nanmean([_miss(stack(found[length, name])) for name in corners]) for length in LENGTHS
    }
    return min(misses, key=misses.__getitem__)


def _corners(fields: Sequence[Field], wanted: float) -> list[Field]:
    """Parts of fields with as many lone galaxies together as are wanted, where there are as many."""
    corners: list[Field] = []
    expected = 0.0
    for field in fields:
        if expected < 0.9 * wanted:
            corner, galaxies = _corner(field, min(math.ceil(wanted), _TRIED_GALAXIES))
            corners.append(corner)
            expected += galaxies
    return corners


def _miss(table: Table) -> float:
    """How far the intervals of area are from what they should cover."""
    return abs(covered(table, "area", Calibration(), LEVEL_68).value - ONE_SIGMA)


def _with_length(trial: tuple[float, str, Field], model: Model, progress: Progress | None) -> Table:
    length, _, field = trial
    calibration = dataclasses.replace(model.calibration, correlation_length=length)
    return _matched(field, model.calibrated(calibration), progress)


def _enough(galaxies: int, which: str = "of the calibration fields were found") -> None:
    if galaxies < _FEWEST_GALAXIES:
        raise InputError(
            f"only {galaxies} galaxies {which}; at least {_FEWEST_GALAXIES} are needed to fit error bars. "
            "Give more or larger fields."
        )


def _matched(field: Field, model: Model, progress: Progress | None) -> Table:
    result = segment(field.image, model=model, samples=_SAMPLES, seed=field.seed, progress=progress)
    return matched_galaxies(field, result)


def with_error_bars(calibration: Calibration, table: Table) -> Calibration:
    """Calibration with the shifts, factors and quantiles that make the intervals of a table cover the truth.

    Parameters
    ----------
    calibration : Calibration
        Everything else.
    table : Table
        From `matched_galaxies`, its spreads uncalibrated.

    Returns
    -------
    Calibration
        Galaxies in blends have error bars of their own where there are enough of them.

    Raises
    ------
    InputError
        Too few galaxies.
    """
    _enough(len(table))
    shared = table[table["blended"]]
    others, blends = table, {}
    if _FEWEST_GALAXIES <= len(shared) <= len(table) - _FEWEST_GALAXIES:
        others = table[~table["blended"]]
        blends = {quantity: fit_error_bars(shared, quantity) for quantity in MEASURED}
    error_bars = {quantity: fit_error_bars(others, quantity) for quantity in MEASURED}
    return dataclasses.replace(calibration, error_bars=error_bars, blend_error_bars=blends)

"""Calibration of a model on fields it has not seen: probabilities, thresholds, realisations, error bars."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from scipy import optimize, special

from appulse.evaluation.measured import coverage_68, matched_galaxies, stack
from appulse.evaluation.operating import CalibrationField, choose_operating_points
from appulse.evaluation.pixel_scores import expected_calibration_error
from appulse.files import InputError, UsageError, atomic_write
from appulse.inference.background import scale_to_noise
from appulse.inference.realisations import Sampler
from appulse.inference.two_step import first_pass, second_pass
from appulse.network.calibration import Calibration, OperatingPoint
from appulse.network.weights import Model, load_model, save_model
from appulse.objects.catalog import MEASURED
from appulse.segmentation import segment
from appulse.sky.field import Field, field_paths, read_field
from appulse.sky.true_objects import true_objects

# Correlation lengths of the copula that are tried, pixels.
LENGTHS = (1.0, 1.5, 2.0, 3.0, 4.0)
# Width of the part of each field on which they are tried: enough galaxies, and a sixth of the time.
_LENGTH_SIDE = 1280
_LEVEL = 0.683
# Factors on the spreads are looked for here.
SCALE_RANGE = (0.1, 10.0)
# With fewer, a coverage is known to worse than 0.05.
_FEWEST_GALAXIES = 90
_START = OperatingPoint(0.5, 0.5)
_SAMPLES = 50
Progress = Callable[[str, int, int], None]


def calibrate_file(path: str | Path, fields: str | Path, *, progress: Progress | None = None) -> str:
    """Calibrate the model in a weight file and write it back.

    Parameters
    ----------
    path : str or Path
        Weight file.
    fields : str or Path
        Directory of calibration fields (seeds 2000s).
    progress : callable, optional
        Called with the name of a stage, steps done and their total.

    Returns
    -------
    str
        What was fitted, for people.
    """
    model = load_model(path)
    loaded = [read_field(each) for each in field_paths(fields)]
    seeds = {field.seed for field in loaded}
    if seeds & set(model.training.get("seeds", ())):
        raise UsageError(
            f"the model was trained on seeds {sorted(seeds)}; calibrate it on fields of other seeds (2000s)."
        )
    calibration, report = calibrate(model, loaded, progress=progress)
    training = model.training | {
        "calibration_seeds": sorted(seeds),
        "calibration_survey": loaded[0].survey.name,
    }
    save_model(dataclasses.replace(model.calibrated(calibration), training=training), path)
    report_path = Path(path).with_name("calibration.txt")
    atomic_write(report_path, lambda temporary: temporary.write_text(report + "\n"))
    return report


def calibrate(
    model: Model, fields: Sequence[Field], *, progress: Progress | None = None
) -> tuple[Calibration, str]:
    """Fit everything in `Calibration`.

    In this order, each with what came before: slopes and offsets of the two logits; thresholds; correlation
    length of the copula, for which the intervals of area need the least correction; factors on the spreads.

    Parameters
    ----------
    model : Model
        Trained.
    fields : sequence of Field
        Unseen ones, at the depth that matters most.
    progress : callable, optional
        Called with the name of a stage, steps done and their total.

    Returns
    -------
    calibration : Calibration
    report : str
        For people.
    """
    plain = model.calibrated(Calibration(operating_points={"balanced": _START}))
    lines = [f"calibrated on {len(fields)} fields of {fields[0].survey.name}:"]
    galaxy, overlap = fit_probabilities(plain, fields, progress)
    calibration = dataclasses.replace(plain.calibration, galaxy=galaxy, overlap=overlap)
    lines.append(f"  logit P(>=1): slope {galaxy[0]:.3f}, offset {galaxy[1]:+.3f}")
    lines.append(f"  logit P(2|>=1): slope {overlap[0]:.3f}, offset {overlap[1]:+.3f}")

    # Twice: objects of the second pass are those of the thresholds, which the first round only guesses.
    for _ in range(2):
        maps = [_two_step_maps(plain.calibrated(calibration), field, progress) for field in fields]
        points = choose_operating_points(maps)
        calibration = dataclasses.replace(calibration, operating_points=points)
    lines += [f"  {name}: t_galaxy {p.t_galaxy}, t_overlap {p.t_overlap}" for name, p in points.items()]
    lines += _calibration_errors(maps, fields)

    length = fit_length(plain.calibrated(calibration), fields, progress)
    calibration = dataclasses.replace(calibration, correlation_length=length)
    lines.append(f"  correlation length {length} pixels")

    table = stack([_matched(plain.calibrated(calibration), field, progress) for field in fields])
    scales = {quantity: fit_scale(table, quantity) for quantity in MEASURED}
    calibration = dataclasses.replace(calibration, scales=scales)
    for quantity, scale in scales.items():
        before = coverage_68(table, quantity)
        end = ", at the end of its range" if not 1.05 * SCALE_RANGE[0] < scale < 0.95 * SCALE_RANGE[1] else ""
        lines.append(f"  {quantity}: factor {scale:.2f}{end}; 68 % interval covered {before} without it")
    return calibration, "\n".join(lines)


def fit_probabilities(
    model: Model, fields: Sequence[Field], progress: Progress | None = None
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Slope and offset of the two logits that maximise the likelihood of the truth.

    Parameters
    ----------
    model : Model
        With the identity as calibration.
    fields : sequence of Field
        Unseen ones.
    progress : callable, optional
        Called with the name of a stage, steps done and their total.

    Returns
    -------
    galaxy, overlap : (slope, offset)
    """
    scores: dict[str, list[np.ndarray]] = {"galaxy": [], "is_galaxy": [], "overlap": [], "is_overlap": []}
    for field in fields:
        sampler = Sampler(model, samples=8, seed=field.seed)
        maps = first_pass(scale_to_noise(field.image).scaled, sampler, progress)
        truth = field.ternary()
        # The rest is background beyond doubt: it would only drown what can be learnt.
        uncertain = (maps.p_galaxy > 1e-3) & (maps.p_galaxy < 1 - 1e-4)
        scores["galaxy"].append(maps.p_galaxy[uncertain])
        scores["is_galaxy"].append(truth[uncertain] >= 1)
        inside = (truth >= 1) & (maps.p_overlap > 1e-4)
        scores["overlap"].append(np.clip(maps.p_overlap[inside] / maps.p_galaxy[inside], 1e-6, 1 - 1e-6))
        scores["is_overlap"].append(truth[inside] == 2)
    pooled = {name: np.concatenate(parts) for name, parts in scores.items()}
    return (
        _logistic(special.logit(pooled["galaxy"]), pooled["is_galaxy"]),
        _logistic(special.logit(pooled["overlap"]), pooled["is_overlap"]),
    )


def _logistic(score: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    score = score.astype(np.float64)

    def loss(parameters):
        slope, offset = parameters
        argument = slope * score + offset
        residual = special.expit(argument) - truth
        value = np.mean(np.logaddexp(0.0, argument) - truth * argument)
        return value, np.array([np.mean(residual * score), np.mean(residual)])

    fitted = optimize.minimize(loss, (1.0, 0.0), jac=True, bounds=((0.05, 20.0), (-20.0, 20.0)))
    return float(fitted.x[0]), float(fitted.x[1])


def _two_step_maps(model: Model, field: Field, progress: Progress | None) -> CalibrationField:
    sampler = Sampler(model, _SAMPLES, field.seed)
    scaled = scale_to_noise(field.image).scaled
    maps = first_pass(scaled, sampler, progress)
    second_pass(scaled, maps, sampler, model.calibration.operating_points["balanced"], progress)
    return CalibrationField(
        maps.p_galaxy, maps.p_overlap, true_objects(field.ternary(), field.id1, field.id2)
    )


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


def fit_length(model: Model, fields: Sequence[Field], progress: Progress | None = None) -> float:
    """Correlation length for which the 68 % intervals of area need the least correction.

    Parameters
    ----------
    model : Model
        With probabilities and thresholds calibrated.
    fields : sequence of Field
        Unseen ones.
    progress : callable, optional
        Called with the name of a stage, steps done and their total.

    Returns
    -------
    float, pixels
        One of `LENGTHS`.
    """
    corners = [field.cut((slice(_LENGTH_SIDE), slice(_LENGTH_SIDE))) for field in fields]
    misses = {}
    for length in LENGTHS:
        calibration = dataclasses.replace(model.calibration, correlation_length=length)
        table = stack([_matched(model.calibrated(calibration), field, progress) for field in corners])
        table = _enough(table[table["alone"]])
        misses[length] = abs(coverage_68(table, "area").value - _LEVEL)
    return min(misses, key=misses.__getitem__)


def _enough(table):
    if len(table) < _FEWEST_GALAXIES:
        raise InputError(
            f"only {len(table)} galaxies of the calibration fields were found; at least {_FEWEST_GALAXIES} "
            "are needed to fit error bars. Give more or larger fields."
        )
    return table


def _matched(model: Model, field: Field, progress: Progress | None):
    result = segment(field.image, model=model, samples=_SAMPLES, seed=field.seed, progress=progress)
    return matched_galaxies(field, result)


def fit_scale(table, quantity: str) -> float:
    """Factor on the spread for which 68.3 % of the truths lie in the interval.

    Parameters
    ----------
    table : Table
        From `matched_galaxies`, its spreads uncalibrated.
    quantity : str
        One of `appulse.objects.MEASURED`.

    Returns
    -------
    float
        In `SCALE_RANGE`; at its lower end the pixel noise alone covers the truth.
    """
    table = _enough(table)
    low, high = SCALE_RANGE
    for _ in range(40):
        middle = np.sqrt(low * high)
        if coverage_68(table, quantity, middle).value < _LEVEL:
            low = middle
        else:
            high = middle
    return round(float(np.sqrt(low * high)), 3)

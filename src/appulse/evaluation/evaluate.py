"""``appulse evaluate``: a model's scores on simulated fields."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.table import Table

from appulse.evaluation.detection import detection_from_result
from appulse.evaluation.intervals import Interval, wilson
from appulse.evaluation.measured import GalaxyCounts, count_galaxies, coverage_68, matched_galaxies, stack
from appulse.evaluation.pixel_scores import brier_score, expected_calibration_error, rank_correlation
from appulse.evaluation.scores import ObjectCounts, count_objects, format_table, table1
from appulse.files import InputError, UsageError, atomic_write, write_json
from appulse.inference.realisations import Sampler
from appulse.inference.two_step import first_pass, second_pass
from appulse.network.weights import Model, load_model
from appulse.objects.catalog import MEASURED
from appulse.objects.components import label_objects
from appulse.segmentation import choose_operating_point, segment
from appulse.sky.field import Field, field_paths, read_field
from appulse.sky.true_objects import Kind, true_objects

Progress = Callable[[str, int, int], None]
# Width of the field of pure noise, pixels, and its seed.
NOISE_SIDE, _NOISE_SEED = 4096, 9900


@dataclass(frozen=True)
class Scores:
    """Scores of one model, pooled over fields.

    Parameters
    ----------
    name : str
        Of the model.
    counts : ObjectCounts
        Strict object counts.
    galaxies : Table
        Matched galaxies beside their truth.
    galaxy_counts : GalaxyCounts
        How many galaxies there are, were found, and match.
    pixels : dict of str to float
        Brier score and expected calibration error of P_GALAXY and P_OVERLAP.
    clean_noise : Interval
        Share of pure-noise stamps in which nothing is found.
    """

    name: str
    counts: ObjectCounts
    galaxies: Table
    galaxy_counts: GalaxyCounts
    pixels: dict[str, float]
    clean_noise: Interval

    def area_rank_correlation(self, *, relative: bool = False) -> Interval:
        """Rank correlation of the spread of a galaxy's area with its error, with its bootstrap interval.

        Parameters
        ----------
        relative : bool
            Of spread over area and error over area: large galaxies have larger errors and spreads, which
            alone correlates the absolute ones.
        """
        unit = np.asarray(self.galaxies["area"]) if relative else 1.0
        error = np.abs(np.asarray(self.galaxies["area"] - self.galaxies["true_area"])) / unit
        spread = np.asarray(self.galaxies["area_std"]) / unit
        good = np.isfinite(spread) & np.isfinite(error)
        return rank_correlation(spread[good], error[good])

    def write(self, directory: str | Path) -> None:
        """Write ``table1.ecsv`` and ``scores.json``.

        Parameters
        ----------
        directory : str or Path
            Made where missing.
        """
        directory = Path(directory)
        atomic_write(
            directory / "table1.ecsv",
            lambda temporary: table1(self.counts).write(temporary, format="ascii.ecsv", overwrite=True),
        )
        write_json(directory / "scores.json", self.to_dict())

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        numbers: dict[str, object] = {"model": self.name, "confusion": self.counts.table.tolist()}
        for kind in (Kind.ISOLATED, Kind.BLENDED):
            for score in ("completeness", "purity"):
                numbers[f"{score}_{kind.name.lower()}"] = _plain(getattr(self.counts, score)(kind))
        numbers["half_and_half_purity"] = _plain(self.counts.half_and_half_purity())
        numbers["false_blend_rate"] = _plain(self.counts.false_blend_rate())
        numbers["unrecognised_blend_rate"] = _plain(self.counts.unrecognised_blend_rate())
        numbers["area_rank_correlation"] = _plain(self.area_rank_correlation())
        numbers["area_rank_correlation_relative"] = _plain(self.area_rank_correlation(relative=True))
        numbers["matched_galaxies"] = len(self.galaxies)
        numbers["galaxy_completeness"] = _plain(self.galaxy_counts.completeness())
        numbers["galaxy_purity"] = _plain(self.galaxy_counts.purity())
        numbers["coverage_68"] = {q: _plain(coverage_68(self.galaxies, q)) for q in MEASURED}
        numbers["clean_noise_stamps"] = _plain(self.clean_noise)
        return numbers | self.pixels

    def __str__(self) -> str:
        coverage = ", ".join(f"{q} {coverage_68(self.galaxies, q)}" for q in MEASURED)
        pixels = ", ".join(f"{name} {value:.4f}" for name, value in self.pixels.items())
        return "\n".join(
            [
                f"{self.name}:",
                format_table(self.counts),
                f"area, rank correlation of spread and error: {self.area_rank_correlation()} "
                f"({len(self.galaxies)} galaxies); relative to the area: "
                f"{self.area_rank_correlation(relative=True)}",
                f"galaxies (masks, IoU of 0.5 and more): completeness {self.galaxy_counts.completeness()}, "
                f"purity {self.galaxy_counts.purity()}",
                f"coverage of the 68 % intervals: {coverage}",
                f"pixels: {pixels}",
                f"pure-noise stamps without any detection: {self.clean_noise}",
            ]
        )


def evaluate_model(
    output: str | Path,
    fields: str | Path,
    model: str | Path | Model,
    *,
    method: str = "two-step",
    samples: int = 50,
    allow_training_seeds: bool = False,
    progress: Progress | None = None,
) -> Scores:
    """Score a model on every field of a directory and write ``table1.ecsv`` and ``scores.json``.

    Parameters
    ----------
    output : str or Path
        Directory for the scores.
    fields : str or Path
        Directory of simulated fields.
    model : str, Path or Model
        What to score.
    method : {"two-step", "grid"}
        As `appulse.segment` takes it.
    samples : int
        Realisations.
    allow_training_seeds : bool
        Whether fields that the model has seen may be scored.
    progress : callable, optional
        Called with the name of a stage, steps done and their total.

    Returns
    -------
    Scores

    Raises
    ------
    UsageError
        The model was trained on a field's seed.
    """
    model = model if isinstance(model, Model) else load_model(model)
    loaded = [read_field(path) for path in field_paths(fields)]
    if not allow_training_seeds:
        refuse_seen_fields(model, loaded)
    scores = score_fields(model, loaded, method=method, samples=samples, progress=progress)
    scores.write(output)
    return scores


def refuse_seen_fields(model: Model, fields: Sequence[Field]) -> None:
    """Raise where a model would be tested on what it was trained on.

    Parameters
    ----------
    model : Model
        Its header lists seeds and surveys.
    fields : sequence of Field
        To test on.

    Raises
    ------
    UsageError
        A field has a training or calibration seed of the model.
    """
    seen = set(model.training.get("seeds", ())) | set(model.training.get("calibration_seeds", ()))
    shared = sorted({field.seed for field in fields} & seen)
    if shared:
        raise UsageError(
            f"model {model.name!r} was trained or calibrated on seed {', '.join(map(str, shared))}: its "
            "scores there would be too good. Use test seeds (9000s), or --allow-training-seeds."
        )


def score_fields(
    model: Model,
    fields: Sequence[Field],
    *,
    method: str = "two-step",
    samples: int = 50,
    noise_side: int = NOISE_SIDE,
    progress: Progress | None = None,
) -> Scores:
    """Score a model on fields in memory.

    Parameters
    ----------
    model : Model
        What to score.
    fields : sequence of Field
        Unseen ones.
    method : {"two-step", "grid"}
        As `appulse.segment` takes it.
    samples : int
        Realisations.
    noise_side : int, pixels
        Width of the field of pure noise.
    progress : callable, optional
        Called with the name of a stage, steps done and their total.

    Returns
    -------
    Scores

    Raises
    ------
    InputError
        No fields.
    """
    if not fields:
        raise InputError("no fields to score.")
    point = choose_operating_point(model, "balanced")
    counts, galaxy_counts, tables, maps = ObjectCounts.empty(), GalaxyCounts(0, 0, 0), [], []
    for field in fields:
        result = segment(
            field.image, model=model, samples=samples, seed=field.seed, method=method, progress=progress
        )
        truth = true_objects(field.ternary(), field.id1, field.id2)
        detection = detection_from_result(result, min_area=point.min_area, min_overlap=point.min_overlap)
        counts += count_objects(truth, detection)
        tables.append(matched_galaxies(field, result))
        galaxy_counts += count_galaxies(field, result)
        maps.append((result.p_galaxy, result.p_overlap, field.ternary()))
    pixels = {}
    for number, (name, level) in enumerate((("galaxy", 1), ("overlap", 2))):
        probability = np.concatenate([each[number].ravel() for each in maps])
        truth = np.concatenate([each[2].ravel() >= level for each in maps])
        pixels[f"brier_{name}"] = float(brier_score(probability, truth))
        pixels[f"calibration_error_{name}"] = float(expected_calibration_error(probability, truth))
    clean = clean_noise_stamps(model, side=noise_side, samples=samples, progress=progress)
    return Scores(model.name, counts, stack(tables), galaxy_counts, pixels, clean)


def clean_noise_stamps(
    model: Model, *, side: int = NOISE_SIDE, samples: int = 50, progress: Progress | None = None
) -> Interval:
    """Share of pure-noise stamps in which nothing is found, at the model's own thresholds.

    Parameters
    ----------
    model : Model
        To test.
    side : int, pixels
        Width of the field of noise.
    samples : int
        Realisations.
    progress : callable, optional
        Called with the name of a stage, steps done and their total.

    Returns
    -------
    Interval
        Wilson's, 95 %.
    """
    point = choose_operating_point(model, "balanced")
    noise = np.random.default_rng(_NOISE_SEED).standard_normal((side, side), dtype=np.float32)
    sampler = Sampler(model, samples, _NOISE_SEED)
    maps = first_pass(noise, sampler, progress)
    second_pass(noise, maps, sampler, point, progress)
    labels, _ = label_objects(maps.ternary(point), point.min_area)
    rows = side // sampler.size
    stamps = labels[: rows * sampler.size, : rows * sampler.size]
    lit = stamps.reshape(rows, sampler.size, rows, sampler.size).any(axis=(1, 3))
    return wilson(int(np.count_nonzero(~lit)), lit.size)


def _plain(interval: Interval) -> list[float]:
    return [float(interval.value), float(interval.low), float(interval.high)]

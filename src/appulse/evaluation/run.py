"""``appulse evaluate``: the paper's table and figures for a model, with intervals, and one page to mail."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import operator
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from astropy.table import Table

from appulse.engine.settings import Method
from appulse.evaluation import chapters, figures
from appulse.evaluation.detector import Detector
from appulse.evaluation.fields import (
    read_fields,
    refuse_biased,
    refuse_tuned_seeds,
    unseen_paths,
)
from appulse.evaluation.jobs import FieldJob, StampJob
from appulse.evaluation.model_scores import Scores, write_table
from appulse.evaluation.modes import calibration_gain, mode_table
from appulse.evaluation.operating import CalibrationField, choose_operating_points
from appulse.evaluation.report import write_report
from appulse.evaluation.scoring import Scoring, pool
from appulse.evaluation.snapshots import Snapshot, figure1_stamps
from appulse.evaluation.tables import STAMPS, blend_tables, field_tables, stamp_tables
from appulse.evaluation.test_set import TestSet, unseen_test_set
from appulse.files import InputError, write_json
from appulse.inference.background import scale_to_noise
from appulse.inference.sampler import Sampler
from appulse.inference.two_step import draw_maps
from appulse.network.weights import Model, load_model
from appulse.pictures import save_figure
from appulse.progress import Progress
from appulse.sky.field import Field
from appulse.sky.oracle import ORACLE_FILE, survey_oracle
from appulse.sky.stored_field import field_info, field_paths, seeds_of
from appulse.sky.survey import Survey
from appulse.sky.true_objects import true_objects
from appulse.tasks import gathered


@dataclass(frozen=True)
class Effort:
    """How much sky and how many draws an evaluation takes.

    Parameters
    ----------
    side : int or None, pixels
        Corner of each field that is scored; None for all of it.
    fields : int or None
        How many of the fields, and of those for validation; None for all.
    part_side : int, pixels
        Corner on which the modes of realisations are compared and, where ``side`` is None, thresholds chosen
        on validation fields.
    scoring : Scoring
        How each field is scored, and how much pure noise.
    stamps : int or None
        How many stamps of a test set, evenly taken; None for all.
    """

    side: int | None
    fields: int | None
    part_side: int
    scoring: Scoring
    stamps: int | None = None

    def drawing(self, method: Method, samples: int | None) -> Effort:
        """The same, with realisations drawn otherwise.

        Parameters
        ----------
        method : {"two-step", "grid"}
            As `appulse.segment` takes it.
        samples : int or None
            Realisations; None for as many.
        """
        samples = self.scoring.samples if samples is None else samples
        return replace(self, scoring=replace(self.scoring, method=method, samples=samples))


FULL = Effort(None, None, 1280, Scoring())
QUICK = Effort(1024, 1, 512, Scoring(samples=16, noise_side=1024, noise_fields=1), stamps=200)


@dataclass(frozen=True)
class Findings:
    """Everything that the page shows.

    Parameters
    ----------
    scores : Scores
        Of all fields.
    tables : dict of str to Table
        By the name of their ECSV file.
    figure1 : list of Snapshot
        Stamps of the first field.
    thresholds : dict of str to float
        In use, by detector; the model's is on P_OVERLAP.
    best_threshold : float or None
        What the validation fields would choose for the model.
    """

    scores: Scores
    tables: dict[str, Table]
    figure1: list[Snapshot]
    thresholds: dict[str, float]
    best_threshold: float | None


def evaluate_model(
    output: str | Path,
    fields: str | Path,
    model: str | Path | Model,
    detectors: Sequence[Detector] = (),
    *,
    test_set: str | Path | None = None,
    validation: str | Path | None = None,
    notes: Sequence[str] = (),
    effort: Effort = FULL,
    allow_training_seeds: bool = False,
    workers: int = 1,
    command: str = "",
    progress: Progress | None = None,
) -> Scores:
    """Score a model beside other detectors and write tables, figures, ``scores.json`` and ``report.html``.

    A run that was stopped goes on after the last field, or part of the test set, that it finished
    (``parts/``, gone when all is done).

    Parameters
    ----------
    output : str or Path
        Directory for everything; made where missing.
    fields : str or Path
        Directory of simulated fields of test seeds.
    model : str, Path or Model
        What to score.
    detectors : sequence of Detector
        To stand beside it, tuned (`appulse.baselines.tuned_detectors`).
    test_set : str or Path, optional
        FITS file of `appulse.stamps.build_test_set`: as many isolated as blended objects, each in a centred
        stamp, as the paper tests on.
    validation : str or Path, optional
        Directory of simulated fields on which the trade-off's best threshold is looked for.
    notes : sequence of str
        About the detectors; shown on top of the page.
    effort : Effort
        `FULL` or `QUICK`, or one of your own.
    allow_training_seeds : bool
        Whether fields that the model has seen may be scored.
    workers : int
        Processes that take fields, a few GB of memory each, and parts of the test set; the result does not
        depend on them.
    command : str
        What the user typed.
    progress : callable, optional
        Called with the name of a stage, steps done and their total.

    Returns
    -------
    Scores

    Raises
    ------
    InputError
        No fields, or no such test set.
    UsageError
        The model has seen a field's seed, or validation fields have one of them.
    """
    model = model if isinstance(model, Model) else load_model(model)
    output, samples = Path(output), effort.scoring.samples
    if samples < 2:
        raise InputError(f"samples is {samples}; an evaluation needs at least 2 realisations.")
    paths, stamps = unseen_sky(
        model, fields, test_set, validation, effort=effort, allow_training_seeds=allow_training_seeds
    )
    best = None
    if validation is not None:
        best = _best_threshold(model, field_paths(validation)[: effort.fields], effort, progress)
    parts = output / "parts"
    scores, used = _gather(model, detectors, paths, stamps, effort, parts, workers, progress)
    first = next(read_fields(paths, effort.side))
    findings = Findings(
        scores,
        _tables(scores, Path(fields), first, stamps, effort, output, progress),
        figure1_stamps(first, scale_to_noise(first.image).scaled, Sampler(model, samples, first.seed)),
        {model.name: model.operating_point("balanced").t_overlap}
        | {each.name: each.setting for each in detectors},
        best,
    )
    facts = {"command": command} | _facts(model, paths, first.survey, stamps, effort)
    write_findings(output, findings, facts, [*_limits(effort), *notes])
    for path in used:
        path.unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not there, or another run's parts in it
        parts.rmdir()
    return scores


def unseen_sky(
    model: Model,
    fields: str | Path,
    test_set: str | Path | None,
    validation: str | Path | None,
    *,
    effort: Effort,
    allow_training_seeds: bool = False,
) -> tuple[list[Path], TestSet | None]:
    """What to test on; refused where the model has seen it, or others are tuned on it.

    Parameters
    ----------
    model, fields, test_set, validation, effort, allow_training_seeds
        As for `evaluate_model`.

    Returns
    -------
    paths : list of Path
        Of the fields.
    stamps : TestSet or None

    Raises
    ------
    InputError, UsageError
        As for `evaluate_model`.
    """
    paths = unseen_paths(fields, model, effort.fields, allow_training_seeds=allow_training_seeds)
    stamps = None
    if test_set is not None:
        stamps = unseen_test_set(
            test_set, model, stamps=effort.stamps, allow_training_seeds=allow_training_seeds
        )
    for path in paths:
        refuse_biased(field_info(path).survey, path)
    refuse_tuned_seeds(validation, [*seeds_of(paths), *(stamps.seeds if stamps else ())])
    return paths, stamps


def _best_threshold(
    model: Model, paths: Sequence[Path], effort: Effort, progress: Progress | None
) -> float | None:
    """Threshold on P_OVERLAP that is balanced on validation fields; None where they hold too few objects."""
    point, scoring = model.operating_point("balanced"), effort.scoring
    maps = []
    for field in read_fields(paths, effort.side or effort.part_side):
        scaled = scale_to_noise(field.image).scaled
        sampler = Sampler(model, scoring.samples, field.seed)
        drawn = draw_maps(scaled, sampler, method=scoring.method, progress=progress)
        truth = true_objects(field.ternary(), field.id1, field.id2)
        maps.append(CalibrationField(drawn.p_galaxy, drawn.p_overlap, truth, scaled))
    try:
        return choose_operating_points(maps, t_galaxy=(point.t_galaxy,))["balanced"].t_overlap
    except InputError:
        return None


def _gather(
    model: Model,
    detectors: Sequence[Detector],
    paths: Sequence[Path],
    stamps: TestSet | None,
    effort: Effort,
    parts: Path,
    workers: int,
    progress: Progress | None,
) -> tuple[Scores, list[Path]]:
    """Scores of fields, pure noise and test set; and where their parts are kept until all is done."""
    field_job = FieldJob(model, tuple(detectors), effort.scoring, parts, effort.side)
    evidences = gathered(field_job, paths, "fields", workers, progress)
    scores = pool(model, evidences, detectors, effort.scoring, progress=progress)
    used = [field_job.part(path) for path in paths]
    if stamps is not None:
        stamp_job, pieces = StampJob(model, tuple(detectors), effort.scoring, parts, stamps), stamps.parts()
        each = gathered(stamp_job, pieces, "parts of the test set", workers, progress)
        scores = replace(scores, stamps=functools.reduce(operator.add, each))
        used += [stamp_job.part(piece) for piece in pieces]
    return scores, used


def _tables(
    scores: Scores,
    fields: Path,
    first: Field,
    stamps: TestSet | None,
    effort: Effort,
    output: Path,
    progress: Progress | None,
) -> dict[str, Table]:
    """Every table of the page, beside what an ideal fit reaches."""
    oracle = _oracle(first.survey, fields, output, progress)
    part, samples = first.cut((slice(effort.part_side), slice(effort.part_side))), effort.scoring.samples
    tables = field_tables(scores, first.survey, oracle) | {
        "calibration": calibration_gain(scores.model, first, progress=progress),
        "modes": mode_table(scores.model, part, samples=samples, progress=progress),
    }
    if stamps is not None and scores.stamps is not None:
        if stamps.survey.digest() != first.survey.digest():
            oracle = _oracle(stamps.survey, stamps.path.parent, output, progress)
        tables |= stamp_tables(scores.stamps, scores.stamp_table, stamps.survey, oracle)
    return tables


def _oracle(survey: Survey, fields: Path, output: Path, progress: Progress | None) -> Table:
    """What an ideal fit reaches; kept beside the fields where they were simulated, else beside the report."""
    directory = fields if (fields / ORACLE_FILE).is_file() and os.access(fields, os.W_OK) else output
    return survey_oracle(survey, directory, progress=progress)


def write_findings(
    output: str | Path, findings: Findings, facts: Mapping[str, str], warnings: Sequence[str]
) -> Path:
    """Write every table, figure and the page that shows them.

    Parameters
    ----------
    output : str or Path
        Directory.
    findings : Findings
    facts : mapping of str to str
        How they were made.
    warnings : sequence of str
        What limits them.

    Returns
    -------
    Path
        ``report.html``, written last.
    """
    output = Path(output)
    tables, evidence = findings.tables, findings.scores.evidence
    for name, table in tables.items():
        write_table(table, output / f"{name}.ecsv")
    write_json(
        output / "scores.json", findings.scores.to_dict() | {"facts": dict(facts), "notes": list(warnings)}
    )
    drawn = {
        "figure1": figures.figure1(findings.figure1),
        "figure2": figures.figure2(tables["figure2"]),
        "figure3": figures.figure3(tables["figure3"]),
        "figure5": figures.figure5(evidence.regions[0]),
        "blends": figures.blends_figure(blend_tables(tables)),
        "tradeoff": figures.tradeoff_figure(tables["tradeoff"], findings.thresholds, findings.best_threshold),
        "reliability": figures.reliability_figure(tables["reliability"]),
        "coverage": figures.coverage_figure(tables["coverage"]),
        "ranks": figures.rank_figure(tables["ranks"]),
        "failures": figures.gallery(evidence.failures),
        "uncertain": figures.gallery(evidence.uncertain),
    }
    if findings.scores.stamps is not None:
        drawn |= {
            STAMPS + "figure2": figures.figure2(tables[STAMPS + "figure2"]),
            STAMPS + "blends": figures.blends_figure(blend_tables(tables, STAMPS)),
            STAMPS + "tradeoff": figures.tradeoff_figure(
                tables[STAMPS + "tradeoff"], findings.thresholds, findings.best_threshold
            ),
        }
    pictures = {
        name: save_figure(figure, output / f"{name}.png", figures.DPI) for name, figure in drawn.items()
    }
    return write_report(
        output / "report.html",
        title=f"How good is {findings.scores.name}?",
        headline=findings.scores.headline,
        warnings=warnings,
        sections=chapters.chapters(findings.scores, tables, pictures),
        facts=facts,
    )


def _limits(effort: Effort) -> list[str]:
    """What to say first of an evaluation of a part of the sky."""
    if effort.side is None:
        return []
    return [
        f"A quick run: {_area(effort)}one field, {effort.scoring.samples} realisations. The intervals are "
        "wide; do not quote it."
    ]


def _facts(
    model: Model, paths: Sequence[Path], survey: Survey, stamps: TestSet | None, effort: Effort
) -> dict[str, str]:
    """How it was done."""
    scoring = effort.scoring
    facts = {
        "model": f"{model.name}, SHA-256 {model.sha256}",
        "fields": _area(effort) + ", ".join(path.name for path in paths),
        "survey": _described(survey),
        "realisations": (
            f"{scoring.samples} for each object; method {scoring.method}; seeds are the fields' own"
        ),
        "truth": "pixels where a galaxy alone, without noise, is above 1 sigma of the background",
        "versions": _versions(),
    }
    if stamps is not None:
        facts["test set"] = (
            f"{len(stamps.places)} stamps of {stamps.path.name}; survey {_described(stamps.survey)}"
        )
    return facts


def _area(effort: Effort) -> str:
    return f"at most {effort.side} x {effort.side} pixels of " if effort.side else ""


def _described(survey: Survey) -> str:
    population = survey.population
    return (
        f"{survey.name}: noise {survey.noise:g} mag/arcsec2 per pixel of {survey.pixel_scale:g} arcsec, PSF "
        f"{survey.psf.fwhm:g} arcsec, {population.density:g} galaxies per arcmin2 from "
        f"{population.magnitude_bright:g} to {population.magnitude_faint:g} mag; digest "
        f"{survey.digest()[:16]}"
    )


def _versions() -> str:
    packages = ("appulse", "torch", "numpy", "scipy", "astropy", "galsim", "sep")
    found = [f"{name} {importlib.metadata.version(name)}" for name in packages]
    return ", ".join([f"Python {platform.python_version()}", *found])

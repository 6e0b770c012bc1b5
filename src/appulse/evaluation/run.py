"""``appulse evaluate``: the paper's table and figures for a model, with intervals, and one page to mail."""

from __future__ import annotations

import contextlib
import functools
import importlib.metadata
import multiprocessing
import os
import platform
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from astropy.table import Table

import appulse
from appulse.evaluation import binned, chapters, figures
from appulse.evaluation.detector import Detector
from appulse.evaluation.ensembles import RANKED
from appulse.evaluation.evaluate import (
    NOISE_SIDE,
    Progress,
    Scores,
    evidence_of,
    pool,
    write_table,
)
from appulse.evaluation.evidence import Evidence
from appulse.evaluation.fields import read_fields, unseen_paths
from appulse.evaluation.interval_coverage import coverage_table
from appulse.evaluation.modes import calibration_gain, mode_table
from appulse.evaluation.operating import CalibrationField, choose_operating_points
from appulse.evaluation.parts import load_evidence, save_evidence
from appulse.evaluation.report import write_report
from appulse.evaluation.snapshots import Snapshot, figure1_stamps
from appulse.files import InputError, write_json
from appulse.inference.background import scale_to_noise
from appulse.inference.realisations import Sampler
from appulse.inference.two_step import first_pass, second_pass
from appulse.network.weights import Model, load_model
from appulse.segmentation import choose_operating_point
from appulse.sky.field import Field, field_paths
from appulse.sky.oracle import ORACLE_FILE, survey_oracle
from appulse.sky.survey import Survey
from appulse.sky.true_objects import true_objects


@dataclass(frozen=True)
class Effort:
    """How much sky and how many draws an evaluation takes.

    Parameters
    ----------
    side : int or None, pixels
        Corner of each field that is scored; None for all of it.
    fields : int or None
        How many of the fields; None for all.
    samples : int
        Realisations.
    noise_side : int, pixels
        Width of the field of pure noise.
    part_side : int, pixels
        Corner on which the modes of realisations are compared, and thresholds chosen on validation fields.
    """

    side: int | None
    fields: int | None
    samples: int
    noise_side: int
    part_side: int


# The paper draws 50 realisations.
FULL = Effort(None, None, 50, NOISE_SIDE, 1280)
QUICK = Effort(1024, 1, 16, 1024, 512)


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
    validation: str | Path | None = None,
    notes: Sequence[str] = (),
    method: str = "two-step",
    samples: int | None = None,
    effort: Effort = FULL,
    allow_training_seeds: bool = False,
    workers: int = 1,
    command: str = "",
    progress: Progress | None = None,
) -> Scores:
    """Score a model beside other detectors and write tables, figures, ``scores.json`` and ``report.html``.

    A run that was stopped goes on after the last field that it finished (``parts/``, gone when all is done).

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
    validation : str or Path, optional
        Directory of simulated fields on which the trade-off's best threshold is looked for.
    notes : sequence of str
        About the detectors; shown on top of the page.
    method : {"two-step", "grid"}
        As `appulse.segment` takes it.
    samples : int, optional
        Realisations; by default those of the effort.
    effort : Effort
        `FULL` or `QUICK`.
    allow_training_seeds : bool
        Whether fields that the model has seen may be scored.
    workers : int
        Processes that take fields, a few GB of memory each; the result does not depend on them.
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
        No fields.
    UsageError
        The model was trained on a field's seed.
    """
    model = model if isinstance(model, Model) else load_model(model)
    samples = effort.samples if samples is None else samples
    if samples < 2:
        raise InputError(f"samples is {samples}; an evaluation needs at least 2 realisations.")
    paths = unseen_paths(fields, model, allow_training_seeds=allow_training_seeds)[: effort.fields]
    best = None
    if validation is not None:
        best = _best_threshold(
            model, field_paths(validation), effort.side or effort.part_side, samples, progress
        )
    parts = Path(output) / "parts"
    job = _Job(model, effort.side, tuple(detectors), method, samples, parts)
    evidences = _evidences(job, paths, workers, progress)
    scores = pool(
        model, evidences, detectors, samples=samples, noise_side=effort.noise_side, progress=progress
    )
    first = next(read_fields(paths, effort.side))
    oracle = _oracle(first.survey, Path(fields), Path(output), progress)
    findings = Findings(
        scores,
        _tables(scores, first, oracle, effort, samples, progress),
        figure1_stamps(first, scale_to_noise(first.image).scaled, Sampler(model, samples, first.seed)),
        {model.name: choose_operating_point(model, "balanced").t_overlap}
        | {each.name: each.setting for each in detectors},
        best,
    )
    area = f"the first {effort.side} x {effort.side} pixels of " if effort.side else ""
    facts = {
        "command": command,
        "model": f"{model.name}, SHA-256 {model.sha256}",
        "fields": area + ", ".join(path.name for path in paths),
        "survey": _described(first.survey),
        "realisations": f"{samples} for each object; method {method}; seed of each field as its name says",
        "truth": "pixels where a galaxy alone, without noise, is above 1 sigma of the background",
        "versions": _versions(),
    }
    if effort is not FULL:
        limit = (
            f"A quick run: {area}one field, {samples} realisations. The intervals are wide; do not quote it."
        )
        notes = [limit, *notes]
    write_findings(output, findings, facts, notes)
    for path in paths:
        (parts / f"{path.stem}.npz").unlink(missing_ok=True)
    with contextlib.suppress(OSError):  # not there, or another run's parts in it
        parts.rmdir()
    return scores


@dataclass(frozen=True)
class _Job:
    """What it takes to gather the evidence of a field, or to find it where a run before this one left it."""

    model: Model
    side: int | None
    detectors: Sequence[Detector]
    method: str
    samples: int
    parts: Path

    def __call__(self, path: Path, progress: Progress | None = None) -> Evidence:
        part = self.parts / f"{path.stem}.npz"
        identity = self.identity(path)
        evidence = load_evidence(part, identity)
        if evidence is None:
            field = next(read_fields([path], self.side))
            options = {"method": self.method, "samples": self.samples, "progress": progress}
            evidence = evidence_of(self.model, field, self.detectors, **options)
            save_evidence(evidence, part, identity)
        return evidence

    def identity(self, path: Path) -> dict:
        state = path.stat()
        return {
            "version": appulse.__version__,
            "model": [self.model.name, self.model.sha256],
            "field": [path.name, state.st_size, state.st_mtime_ns, self.side],
            "detectors": [repr(each) for each in self.detectors],
            "method": self.method,
            "samples": self.samples,
        }


def _evidences(
    job: _Job, paths: Sequence[Path], workers: int, progress: Progress | None
) -> Iterator[Evidence]:
    """Evidence of each field, in the order of the paths whoever gathers it."""
    workers = min(workers, len(paths))
    if workers <= 1:
        for path in paths:
            yield job(path, progress)
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread) as executor:
        for done, evidence in enumerate(executor.map(job, paths), start=1):
            if progress:
                progress("fields", done, len(paths))
            yield evidence


def _one_thread() -> None:
    # The processes share the cores among themselves.
    torch.set_num_threads(1)


def _best_threshold(
    model: Model, paths: Sequence[Path], side: int, samples: int, progress: Progress | None
) -> float | None:
    """Threshold on P_OVERLAP that is balanced on validation fields; None where they hold too few objects."""
    point = choose_operating_point(model, "balanced")
    maps = []
    for field in read_fields(paths, side):
        sampler = Sampler(model, samples, field.seed)
        scaled = scale_to_noise(field.image).scaled
        drawn = first_pass(scaled, sampler, progress)
        second_pass(scaled, drawn, sampler, point, progress)
        truth = true_objects(field.ternary(), field.id1, field.id2)
        maps.append(CalibrationField(drawn.p_galaxy, drawn.p_overlap, truth, scaled))
    try:
        return choose_operating_points(maps, t_galaxy=(point.t_galaxy,))["balanced"].t_overlap
    except InputError:
        return None


def _oracle(survey: Survey, fields: Path, output: Path, progress: Progress | None) -> Table:
    """What an ideal fit reaches; kept beside the fields where they were simulated, else beside the report."""
    directory = fields if (fields / ORACLE_FILE).is_file() and os.access(fields, os.W_OK) else output
    stage = functools.partial(progress, "limit of an ideal fit") if progress else None
    return survey_oracle(survey, directory, progress=stage)


def _tables(
    scores: Scores,
    first: Field,
    oracle: Table,
    effort: Effort,
    samples: int,
    progress: Progress | None,
) -> dict[str, Table]:
    evidence, model = scores.evidence, scores.model
    edges = binned.magnitude_edges(first.survey)
    part = first.cut((slice(effort.part_side), slice(effort.part_side)))
    tables = {
        "table1": scores.table1(),
        "comparison": scores.table,
        "verdicts": scores.verdicts,
        "figure2": binned.iou_by_magnitude(evidence, edges, oracle),
        "figure3": binned.variance_by_magnitude(evidence, edges),
        "figure5": binned.residuals_by_dispersion(evidence.regions[0]),
        "tradeoff": binned.tradeoff(evidence),
        "reliability": binned.reliability_curves(evidence),
        "pixels": binned.pixel_table(evidence),
        "calibration": calibration_gain(model, part, progress=progress),
        "modes": mode_table(model, part, samples=samples, progress=progress),
        "ensembles": binned.ensemble_table(evidence),
        "coverage": coverage_table(evidence.measured, model.calibration, edges),
        "ranks": binned.rank_histogram(evidence, RANKED),
        "objects": evidence.objects,
        "galaxies": evidence.galaxies,
    }
    for column in binned.BLEND_BINS:
        tables[f"blends_{column}"] = binned.blends_by(evidence, column)
    return tables


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
    blends = {column: tables[f"blends_{column}"] for column in binned.BLEND_BINS}
    drawn = {
        "figure1": figures.figure1(findings.figure1),
        "figure2": figures.figure2(tables["figure2"]),
        "figure3": figures.figure3(tables["figure3"]),
        "figure5": figures.figure5(evidence.regions[0]),
        "blends": figures.blends_figure(blends),
        "tradeoff": figures.tradeoff_figure(tables["tradeoff"], findings.thresholds, findings.best_threshold),
        "reliability": figures.reliability_figure(tables["reliability"]),
        "coverage": figures.coverage_figure(tables["coverage"]),
        "ranks": figures.rank_figure(tables["ranks"]),
        "failures": figures.gallery(evidence.failures),
        "uncertain": figures.gallery(evidence.uncertain),
    }
    pictures = {name: figures.save(figure, output / f"{name}.png") for name, figure in drawn.items()}
    return write_report(
        output / "report.html",
        title=f"How good is {findings.scores.name}?",
        headline=findings.scores.headline,
        warnings=warnings,
        sections=chapters.chapters(findings.scores, tables, pictures),
        facts=facts,
    )


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

"""Scoring: fields are segmented and compared with the truth, and pooled with what is found in pure noise."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from appulse.engine.settings import Method
from appulse.evaluation.detector import Detector
from appulse.evaluation.evidence import Evidence, gather
from appulse.evaluation.model_scores import Scores
from appulse.evaluation.pure_noise import NOISE_FIELDS, NOISE_SIDE, clean_stamps
from appulse.files import InputError
from appulse.network.weights import Model
from appulse.progress import Progress
from appulse.segmentation import segment
from appulse.sky.field import Field


@dataclass(frozen=True)
class Scoring:
    """How a model is scored.

    Parameters
    ----------
    method : {"two-step", "grid"}
        As `appulse.segment` takes it.
    samples : int
        Realisations; the paper draws 50.
    details : bool
        Whether to gather what only the report shows.
    noise_side, noise_fields : int
        Width, pixels, and number of the fields of pure noise.
    """

    method: Method = "two-step"
    samples: int = 50
    details: bool = True
    noise_side: int = NOISE_SIDE
    noise_fields: int = NOISE_FIELDS


def score_fields(
    model: Model,
    fields: Iterable[Field],
    detectors: Sequence[Detector] = (),
    scoring: Scoring = Scoring(),
    *,
    progress: Progress | None = None,
) -> Scores:
    """Score a model, and other detectors, on fields.

    Parameters
    ----------
    model : Model
        What to score.
    fields : iterable of Field
        Unseen ones; each is let go before the next is taken.
    detectors : sequence of Detector
        To stand beside it.
    scoring : Scoring
        How.
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
    evidences = (evidence_of(model, field, detectors, scoring, progress=progress) for field in fields)
    return pool(model, evidences, detectors, scoring, progress=progress)


def evidence_of(
    model: Model,
    field: Field,
    detectors: Sequence[Detector] = (),
    scoring: Scoring = Scoring(),
    *,
    progress: Progress | None = None,
) -> Evidence:
    """Segment a field and compare the result, and those of other detectors, with the truth.

    Parameters
    ----------
    model : Model
        What to score.
    field : Field
        An unseen one.
    detectors, scoring, progress
        As for `score_fields`.

    Returns
    -------
    Evidence
    """
    result = segment(
        field.image,
        model=model,
        samples=scoring.samples,
        seed=field.seed,
        method=scoring.method,
        progress=progress,
    )
    point = model.operating_point("balanced")
    if progress:
        progress("comparing with the truth", 0, 1)
    evidence = gather(field, result, point, detectors, name=model.name, details=scoring.details)
    if progress:
        progress("comparing with the truth", 1, 1)
    return evidence


def pool(
    model: Model,
    evidences: Iterable[Evidence],
    detectors: Sequence[Detector] = (),
    scoring: Scoring = Scoring(),
    *,
    progress: Progress | None = None,
) -> Scores:
    """Scores of all fields together, and of pure noise.

    Parameters
    ----------
    model : Model
        What to score.
    evidences : iterable of Evidence
        Of each field, from `evidence_of`; each is added up as it comes.
    detectors, scoring, progress
        As for `score_fields`.

    Returns
    -------
    Scores

    Raises
    ------
    InputError
        No fields.
    """
    evidence = None
    for one in evidences:
        evidence = one if evidence is None else evidence + one
    if evidence is None:
        raise InputError("no fields to score.")
    clean = clean_stamps(
        model,
        detectors,
        method=scoring.method,
        samples=scoring.samples,
        side=scoring.noise_side,
        fields=scoring.noise_fields,
        progress=progress,
    )
    return Scores(model, evidence, clean)

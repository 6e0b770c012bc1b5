"""Gathering the evidence of fields and of a test set: in parts that survive a stop."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from appulse.evaluation.detector import Detector
from appulse.evaluation.evidence import Evidence
from appulse.evaluation.fields import read_fields
from appulse.evaluation.parts import kept
from appulse.evaluation.scoring import Scoring, evidence_of
from appulse.evaluation.test_set import TestSet, stamp_evidence
from appulse.network.weights import Model
from appulse.progress import Progress
from appulse.stamps import read_test_set


@dataclass(frozen=True)
class FieldJob:
    """Gathers the evidence of a field, or finds it where a run before this one left it.

    Parameters
    ----------
    model : Model
        To score.
    detectors : sequence of Detector
    scoring : Scoring
    parts : Path
        Directory for evidence.
    side : int or None, pixels
        Corner of the field that is scored; None for all of it.
    """

    model: Model
    detectors: Sequence[Detector]
    scoring: Scoring
    parts: Path
    side: int | None

    def part(self, item: Path) -> Path:
        """Where the evidence of a field is kept.

        Parameters
        ----------
        item : Path
            Of the field.
        """
        return self.parts / f"{item.stem}.npz"

    def __call__(self, item: Path, progress: Progress | None = None) -> Evidence:
        """Gather or find it.

        Parameters
        ----------
        item : Path
            Of the field.
        progress : callable, optional
            Called with the name of a stage, steps done and their total.
        """

        def gather() -> Evidence:
            field = next(read_fields([item], self.side))
            return evidence_of(self.model, field, self.detectors, self.scoring, progress=progress)

        identity = {"field": [*_of_file(item), self.side]} | _of_scoring(self)
        return kept(self.part(item), identity, gather)


@dataclass(frozen=True)
class StampJob:
    """Gathers the evidence of a part of a test set, or finds it where a run before this one left it.

    Parameters
    ----------
    model : Model
        To score.
    detectors : sequence of Detector
    scoring : Scoring
    parts : Path
        Directory for evidence.
    test_set : TestSet
    """

    model: Model
    detectors: Sequence[Detector]
    scoring: Scoring
    parts: Path
    test_set: TestSet

    def part(self, item: tuple[int, ...]) -> Path:
        """Where the evidence of a part is kept.

        Parameters
        ----------
        item : tuple of int
            Places of its stamps.
        """
        return self.parts / f"stamps_{item[0]:06d}.npz"

    def __call__(self, item: tuple[int, ...], progress: Progress | None = None) -> Evidence:
        """Gather or find it; ``stamp`` counts in the whole set.

        Parameters
        ----------
        item : tuple of int
            Places of its stamps.
        progress : callable, optional
            Called with the name of a stage, steps done and their total.
        """

        def gather() -> Evidence:
            evidence = stamp_evidence(
                read_test_set(self.test_set.path, item),
                self.model,
                self.detectors,
                samples=self.scoring.samples,
                seed=self.test_set.seed,
                progress=progress,
            )
            for table in (evidence.objects, evidence.galaxies):
                table["stamp"] = np.asarray(item)[table["stamp"]]
            return evidence

        identity = {"stamps": [*_of_file(self.test_set.path), *item]} | _of_scoring(self)
        return kept(self.part(item), identity, gather)


def _of_file(path: Path) -> list:
    state = path.stat()
    return [path.name, state.st_size, state.st_mtime_ns]


def _of_scoring(job: FieldJob | StampJob) -> dict:
    return {
        "model": [job.model.name, job.model.digest],
        "detectors": [repr(each) for each in job.detectors],
        "scoring": dataclasses.asdict(job.scoring),
    }

"""Gathering the evidence of fields: in parts that survive a stop."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appulse.evaluation.detector import Detector
from appulse.evaluation.evaluate import evidence_of
from appulse.evaluation.evidence import Evidence
from appulse.evaluation.fields import read_fields
from appulse.evaluation.parts import load_evidence, save_evidence
from appulse.network.weights import Model
from appulse.progress import Progress


@dataclass(frozen=True)
class FieldJob:
    """Gathers the evidence of a field.

    Parameters
    ----------
    model : Model
        To score.
    side : int or None, pixels
        Corner of the field that is scored; None for all of it.
    detectors : sequence of Detector
    method : {"two-step", "grid"}
    samples : int
        Realisations.
    parts : Path
        Directory for evidence.
    """

    model: Model
    side: int | None
    detectors: Sequence[Detector]
    method: str
    samples: int
    parts: Path

    def part(self, item: Path) -> Path:
        """Where the evidence of a field is kept.

        Parameters
        ----------
        item : Path
            Of the field.
        """
        return self.parts / f"{item.stem}.npz"

    def __call__(self, item: Path, progress: Progress | None = None) -> Evidence:
        """Gather it, or find it where a run before this one left it.

        Parameters
        ----------
        item : Path
            Of the field.
        progress : callable, optional
            Called with the name of a stage, steps done and their total.
        """
        state = item.stat()
        identity = {
            "model": [self.model.name, self.model.digest],
            "field": [item.name, state.st_size, state.st_mtime_ns, self.side],
            "detectors": [repr(each) for each in self.detectors],
            "method": self.method,
            "samples": self.samples,
        }
        evidence = load_evidence(self.part(item), identity)
        if evidence is None:
            field = next(read_fields([item], self.side))
            options = {"method": self.method, "samples": self.samples, "progress": progress}
            evidence = evidence_of(self.model, field, self.detectors, **options)
            save_evidence(evidence, self.part(item), identity)
        return evidence

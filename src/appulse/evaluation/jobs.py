"""Gathering evidence: in parts that survive a stop, in one process or several."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol, TypeVar

from appulse.evaluation.detector import Detector
from appulse.evaluation.evaluate import Progress, evidence_of
from appulse.evaluation.evidence import Evidence
from appulse.evaluation.fields import read_fields
from appulse.evaluation.parts import load_evidence, save_evidence
from appulse.network.weights import Model
from appulse.sky.workers import run_tasks

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


class Job(Protocol):
    """Gathers the evidence of a part of what is to be scored."""

    def part(self, item: Any) -> Path:
        """Where the evidence of a part is kept.

        Parameters
        ----------
        item : object
            Which part.
        """

    def __call__(self, item: Any, progress: Progress | None = None) -> Evidence:
        """Gather it, or find it where a run before this one left it.

        Parameters
        ----------
        item : object
            Which part.
        progress : callable, optional
            Called with the name of a stage, steps done and their total.
        """


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
            "model": [self.model.name, self.model.sha256],
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


def gathered(
    job: Callable[..., _Result],
    items: Sequence[_Item],
    stage: str,
    workers: int = 1,
    progress: Progress | None = None,
) -> Iterator[_Result]:
    """What a job gives for each item, in their order whoever is first.

    Parameters
    ----------
    job : callable
        Takes an item and ``progress``; can be sent to another process.
    items : sequence
        Can be sent to another process.
    stage : str
        What the items are called.
    workers : int
        Processes.
    progress : callable, optional
        Called with the name of a stage, steps done and their total. What goes on inside a job is told only
        where one process does them all.

    Yields
    ------
    object
    """
    alone = workers <= 1 or len(items) <= 1
    numbered = functools.partial(_numbered, job=job, progress=progress if alone else None)
    early: dict[int, _Result] = {}
    due = 0
    for (number, _), result in run_tasks(numbered, list(enumerate(items)), workers=workers):
        early[number] = result
        if progress and len(items) > 1:
            progress(stage, due + len(early), len(items))
        while due in early:
            yield early.pop(due)
            due += 1


def _numbered(task, job, progress):
    return job(task[1], progress=progress)

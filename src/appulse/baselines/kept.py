"""Tuned detectors on disk: tuning takes minutes, and gives the same whatever model they stand beside."""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from appulse.baselines.segments import SegmentDetector
from appulse.evaluation.parts import code_digest
from appulse.files import write_json


@dataclass(frozen=True)
class Tuning:
    """What detectors are tuned on and how, and where what comes of it is kept.

    Parameters
    ----------
    fields : dict of str to str
        SHA-256 of the fields, by their names.
    side : int, pixels
        Corner of each that is used.
    n_trials : int
        Parameter sets tried for each detector.
    homes : sequence of Path
        Directories that may hold it. The first that can be written to takes what is new.
    """

    fields: dict[str, str]
    side: int
    n_trials: int
    homes: Sequence[Path]

    @classmethod
    def of(cls, paths: Sequence[Path], side: int, n_trials: int, homes: Sequence[Path]) -> Tuning:
        """On these fields.

        Parameters
        ----------
        paths : sequence of Path
            Of the fields.
        side, n_trials, homes
            As for `Tuning`.
        """
        return cls({path.name: _sha256(path) for path in paths}, side, n_trials, homes)

    def find(self, detector: SegmentDetector) -> SegmentDetector | None:
        """A detector as it was tuned before, with the same code and program.

        Parameters
        ----------
        detector : SegmentDetector
            Where the search begins.

        Returns
        -------
        SegmentDetector or None
            None where it has to be tuned.
        """
        for home in self.homes:
            try:
                content = json.loads((home / self._name(detector)).read_text())
                if content["identity"] == self._identity(detector):
                    return dataclasses.replace(detector, **content["parameters"])
            except (OSError, ValueError, LookupError, TypeError):  # not there, or damaged
                continue
        return None

    def keep(self, detector: SegmentDetector, tuned: SegmentDetector) -> None:
        """Write a tuned detector, for `find`; where nothing can be written it is tuned again another time.

        Parameters
        ----------
        detector : SegmentDetector
            Where the search began.
        tuned : SegmentDetector
            Where it ended.
        """
        home = next((home for home in self.homes if os.access(home, os.W_OK)), self.homes[-1])
        content = {"parameters": dataclasses.asdict(tuned), "identity": self._identity(detector)}
        with contextlib.suppress(OSError):
            write_json(home / self._name(detector), content)

    def _name(self, detector: SegmentDetector) -> str:
        return f"tuned-{detector.name.lower()}-{self.n_trials}-{len(self.fields)}x{self.side}.json"

    def _identity(self, detector: SegmentDetector) -> dict[str, object]:
        return {
            "program": detector.program,
            "start": repr(detector),
            "fields": self.fields,
            "side": self.side,
            "trials": self.n_trials,
            "code": code_digest(),
        }


def _sha256(path: Path) -> str:
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()

"""Scores of a model and of the detectors beside it: as tables, as files and in words."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from astropy.table import Table, hstack

from appulse.evaluation.comparison import (
    half_and_half,
    headline,
    paper_table1,
    score_table,
    stamp_score_table,
    verdicts,
)
from appulse.evaluation.evidence import Evidence
from appulse.evaluation.interval_coverage import LEVEL_68, LEVELS, covered
from appulse.evaluation.intervals import Interval, bounded
from appulse.evaluation.pixel_scores import rank_correlation
from appulse.evaluation.scores import ObjectCounts, format_table
from appulse.files import atomic_write, write_json
from appulse.network.weights import Model
from appulse.objects.catalog import MEASURED
from appulse.sky.true_objects import Kind


@dataclass(frozen=True)
class Scores:
    """Scores of one model and of the detectors beside it, pooled over fields.

    Parameters
    ----------
    model : Model
        What was scored.
    evidence : Evidence
        Of all fields.
    clean_noise : dict of str to Interval
        Share of pure-noise stamps in which nothing is found, by detector; the model first.
    stamps : Evidence or None
        Of the paper's test set.
    """

    model: Model
    evidence: Evidence
    clean_noise: dict[str, Interval]
    stamps: Evidence | None = None

    @property
    def name(self) -> str:
        """Of the model."""
        return self.model.name

    @property
    def counts(self) -> ObjectCounts:
        """Strict object counts of the model."""
        return self.evidence.counts[self.name]

    @cached_property
    def table(self) -> Table:
        """Every score of every detector (`score_table`)."""
        return score_table(self.evidence, self.clean_noise, self.stamps)

    @cached_property
    def stamp_table(self) -> Table:
        """Every score of every detector on the paper's test set (`stamp_score_table`); empty without one."""
        return Table() if self.stamps is None else stamp_score_table(self.stamps)

    @cached_property
    def verdicts(self) -> Table:
        """Who is better at what (`verdicts`)."""
        return verdicts(self.table)

    @property
    def headline(self) -> str:
        """Whether the model beats the detectors beside it, in one line."""
        of_stamps = None if self.stamps is None else verdicts(self.stamp_table)
        return headline(self.name, self.verdicts, of_stamps)

    def table1(self) -> Table:
        """The paper's Table 1, for every detector.

        Returns
        -------
        astropy.table.Table
            As `paper_table1`, and ``half_and_half_purity`` with its bounds (`half_and_half`), which the
            paper's purity is to be compared with.
        """
        table = paper_table1(self.evidence)
        rows = [
            bounded(
                "half_and_half_purity", half_and_half(self.evidence, self.stamps, name, Kind[kind.upper()])
            )
            for name, kind in table["detector", "kind"]
        ]
        return hstack([table, Table(rows=rows)], metadata_conflicts="silent")

    def area_rank_correlation(self, *, given_area: bool = False) -> Interval:
        """Rank correlation of the spread of a galaxy's area with its error, with its bootstrap interval.

        Parameters
        ----------
        given_area : bool
            Of galaxies of the same true area: large ones have larger errors and spreads, which alone
            correlates the two.
        """
        measured = self.evidence.measured
        error = np.abs(np.asarray(measured["area"] - measured["true_area"]))
        given = np.asarray(measured["true_area"]) if given_area else None
        return rank_correlation(measured["area_std"], error, given)

    def coverage(self, quantity: str, level: float = LEVEL_68) -> Interval:
        """Share of the truths inside the model's own intervals.

        Parameters
        ----------
        quantity : str
            One of `appulse.objects.MEASURED`.
        level : {0.68, 0.95}
            Which interval.
        """
        return covered(self.evidence.measured, quantity, self.model.calibration, level)

    def write(self, directory: str | Path) -> None:
        """Write ``table1.ecsv``, ``comparison.ecsv`` and ``scores.json``.

        Parameters
        ----------
        directory : str or Path
            Made where missing.
        """
        directory = Path(directory)
        write_table(self.table1(), directory / "table1.ecsv")
        write_table(self.table, directory / "comparison.ecsv")
        write_json(directory / "scores.json", self.to_dict())

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        numbers: dict[str, object] = {
            "model": self.name,
            "sha256": self.model.sha256,
            "headline": self.headline,
            "confusion": self.counts.table.tolist(),
        }
        numbers["detectors"] = _by_detector(self.table)
        if self.stamps is not None:
            numbers["test_set"] = {
                "confusion": {name: counts.table.tolist() for name, counts in self.stamps.counts.items()},
                "detectors": _by_detector(self.stamp_table),
            }
        numbers["area_rank_correlation"] = _plain(self.area_rank_correlation())
        numbers["area_rank_correlation_given_area"] = _plain(self.area_rank_correlation(given_area=True))
        numbers["matched_galaxies"] = len(self.evidence.measured)
        for level in LEVELS:
            numbers[f"coverage_{100 * level:.0f}"] = {q: _plain(self.coverage(q, level)) for q in MEASURED}
        numbers["calibration_error"] = {
            name: _plain(tally.calibration_error()) for name, tally in self.evidence.pixels.items()
        }
        numbers["calibration_noise"] = {
            name: tally.calibration_noise() for name, tally in self.evidence.pixels.items()
        }
        return numbers

    def __str__(self) -> str:
        shown = self.table[self.table["detector"] == self.name]
        lines = [self.headline, "", f"{self.name}:", format_table(self.counts)]
        lines += [f"{r['score']}: {Interval(r['value'], r['low'], r['high'])}" for r in shown]
        covers = ", ".join(f"{q} {self.coverage(q)}" for q in MEASURED)
        lines.append(f"coverage of the 68 % intervals ({len(self.evidence.measured)} galaxies): {covers}")
        lines.append(
            f"area, rank correlation of spread and error: {self.area_rank_correlation()}; "
            f"of galaxies of the same area: {self.area_rank_correlation(given_area=True)}"
        )
        for name, tally in self.evidence.pixels.items():
            lines.append(
                f"calibration error of {name} over uncertain pixels: {tally.calibration_error()}, "
                f"by noise alone {tally.calibration_noise():.3f}"
            )
        if self.stamps is not None:
            shown = self.stamp_table
            lines += ["", "the paper's test set:", format_table(self.stamps.counts[self.name])]
            lines += [
                f"{r['score']}: {Interval(r['value'], r['low'], r['high'])}"
                + (f", the paper {r['paper']:.3f}" if np.isfinite(r["paper"]) else "")
                for r in shown[shown["detector"] == self.name]
            ]
        return "\n".join(lines)


def write_table(table: Table, path: str | Path) -> Path:
    """Write a table as ECSV, whole or not at all.

    Parameters
    ----------
    table : Table
    path : str or Path

    Returns
    -------
    Path
    """
    atomic_write(path, lambda temporary: table.write(temporary, format="ascii.ecsv", overwrite=True))
    return Path(path)


def _by_detector(scores: Table) -> dict[str, dict]:
    detectors: dict[str, dict] = {}
    for row in scores:
        values = [float(row[column]) for column in ("value", "low", "high")]
        detectors.setdefault(row["detector"], {})[row["score"]] = values
    return detectors


def _plain(interval: Interval) -> list[float]:
    return [float(interval.value), float(interval.low), float(interval.high)]

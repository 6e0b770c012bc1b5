"""Every table of an evaluation, by the name of its ECSV file."""

from __future__ import annotations

import numpy as np
from astropy.table import Table, vstack

from appulse.evaluation import binned
from appulse.evaluation.claimed import probability_table
from appulse.evaluation.comparison import paper_table1, verdicts
from appulse.evaluation.ensembles import RANKED
from appulse.evaluation.evidence import Evidence
from appulse.evaluation.interval_coverage import coverage_table
from appulse.evaluation.model_scores import Scores
from appulse.evaluation.scores import ObjectCounts
from appulse.sky.survey import Survey

# What the tables of a test set are called, before the name that they share with those of fields.
STAMPS = "test_set_"


def field_tables(scores: Scores, survey: Survey, oracle: Table) -> dict[str, Table]:
    """What the fields tell.

    Parameters
    ----------
    scores : Scores
    survey : Survey
        Of the fields.
    oracle : Table
        Of that survey (`appulse.sky.oracle.survey_oracle`).

    Returns
    -------
    dict of str to Table
    """
    evidence = scores.evidence
    edges = binned.magnitude_edges(survey)
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
        "ensembles": binned.ensemble_table(evidence),
        "coverage": coverage_table(evidence.measured, scores.model.calibration, edges),
        "probabilities": probability_table(evidence.claimed),
        "ranks": binned.rank_histogram(evidence, RANKED),
        "objects": evidence.objects,
        "galaxies": evidence.galaxies,
        "claimed": evidence.claimed,
    }
    return tables | _blend_tables(evidence, "")


def stamp_tables(stamps: Evidence, compared: Table, survey: Survey, oracle: Table) -> dict[str, Table]:
    """What the paper's test set tells.

    Parameters
    ----------
    stamps : Evidence
        Of all its stamps.
    compared : Table
        Its scores (`stamp_score_table`).
    survey : Survey
        Of the test set.
    oracle : Table
        Of that survey.

    Returns
    -------
    dict of str to Table
        Their names begin with `STAMPS`.
    """
    tables = {
        "table1": paper_table1(stamps),
        "confusion": confusion_table(stamps.counts),
        "comparison": compared,
        "verdicts": verdicts(compared),
        "figure2": binned.iou_by_magnitude(stamps, binned.magnitude_edges(survey), oracle),
        "tradeoff": binned.tradeoff(stamps),
        "objects": stamps.objects,
        "galaxies": stamps.galaxies,
    }
    return {STAMPS + name: table for name, table in tables.items()} | _blend_tables(stamps, STAMPS)


def _blend_tables(evidence: Evidence, prefix: str) -> dict[str, Table]:
    return {f"{prefix}blends_{column}": binned.blends_by(evidence, column) for column in binned.BLEND_BINS}


def blend_tables(tables: dict[str, Table], prefix: str = "") -> dict[str, Table]:
    """The tables that the figure of blends shows, by what blends are binned by.

    Parameters
    ----------
    tables : dict of str to Table
    prefix : str
        `STAMPS` for those of the test set.
    """
    return {column: tables[f"{prefix}blends_{column}"] for column in binned.BLEND_BINS}


def confusion_table(counts: dict[str, ObjectCounts]) -> Table:
    """What every detector takes every kind of object for.

    Parameters
    ----------
    counts : dict of str to ObjectCounts
        By detector.

    Returns
    -------
    astropy.table.Table
        ``detector``, ``true object``, ``missed``, ``isolated``, ``touching``, ``blended``; kinds that do not
        occur are left out.
    """
    names = ("true object", "missed", "isolated", "touching", "blended")
    tables = []
    for detector, each in counts.items():
        rows = [
            (kind, *map(int, each.table[number]))
            for kind, number in (("isolated", 1), ("touching", 2), ("blended", 3), ("no object", 0))
            if number == 0 or each.table[number].any()
        ]
        table = Table(rows=rows, names=names)
        table.add_column(np.full(len(rows), detector), name="detector", index=0)
        tables.append(table)
    return vstack(tables)

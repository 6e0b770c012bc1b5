"""Scores in bins of magnitude, separation, flux ratio and blendedness: the data behind the figures."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from astropy.table import Table, vstack

from appulse.evaluation.evidence import Evidence
from appulse.evaluation.intervals import Interval, bootstrap_mean, bounded, wilson
from appulse.evaluation.pixel_scores import mean_in_bins
from appulse.evaluation.snapshots import Snapshot
from appulse.evaluation.truth_tables import objects_of
from appulse.sky.survey import Survey
from appulse.sky.true_objects import Kind

KINDS = ("isolated", "blended")
# Of Figure 3: the paper's, and its part that knows of no overlaps; columns of the galaxies' table.
VARIANCES = {"class": "variance", "galaxy or sky": "galaxy_variance"}
# What galaxies in blends are binned by: column of both truth tables, and edges.
BLEND_BINS = {
    "separation_over_size": (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0, 10.0),
    "flux_ratio": (0.0, 0.05, 0.1, 0.2, 0.35, 0.5, 0.75, 1.0001),
    "blendedness": (0.0, 1e-4, 1e-3, 0.01, 0.03, 0.1, 0.3, 1.0),
}
_STEP, _RANGE = 0.5, 5.0
_RANK_BINS = 10
# Bins of the dispersion of realisations.
_DISPERSIONS = 8


def magnitude_edges(survey: Survey) -> np.ndarray:
    """Bins of half a magnitude down to the faintest galaxies, and one for all that are brighter.

    Parameters
    ----------
    survey : Survey

    Returns
    -------
    (n + 1,) float array, mag
    """
    bright, faint = survey.population.magnitude_bright, survey.population.magnitude_faint
    edges = faint - np.arange(0.0, min(_RANGE, faint - bright) + 1e-9, _STEP)[::-1]
    return np.round(edges if edges[0] <= bright + 1e-9 else np.concatenate([[bright], edges]), 3)


def iou_by_magnitude(evidence: Evidence, edges: np.ndarray, oracle: Table | None = None) -> Table:
    """Figure 2: mean IoU of isolated and blended galaxies by magnitude; a galaxy not found counts 0.

    Parameters
    ----------
    evidence : Evidence
    edges : (n + 1,) float array, mag
    oracle : Table, optional
        From `appulse.sky.oracle.survey_oracle`, in bins of its own.

    Returns
    -------
    astropy.table.Table
        ``detector``, ``kind``, and the columns of `mean_in_bins`; the oracle's rows have no interval.
    """
    galaxies = evidence.galaxies
    tables = []
    for name in evidence.counts:
        for kind in KINDS:
            chosen = galaxies[galaxies["kind"] == kind]
            values = chosen[f"iou_{name}"]
            table = mean_in_bins(chosen["magnitude"], values, edges, groups=objects_of(chosen))
            tables.append(_labelled(table, detector=name, kind=kind))
    if oracle is not None:
        limit = Table({"low_edge": oracle["magnitude_low"], "high_edge": oracle["magnitude_high"]})
        limit["n"], limit["mean"] = 0, oracle["iou"]
        for column in ("mean_low", "mean_high", "std"):
            limit[column] = np.nan
        tables.append(_labelled(limit, detector="oracle", kind="isolated"))
    return vstack(tables, metadata_conflicts="silent")


def variance_by_magnitude(evidence: Evidence, edges: np.ndarray) -> Table:
    """Figure 3: mean variance inside the galaxies that were found, by magnitude.

    Parameters
    ----------
    evidence : Evidence
    edges : (n + 1,) float array, mag

    Returns
    -------
    astropy.table.Table
        ``variance`` (``class``: of the class over realisations; ``galaxy or sky``: P (1 - P) of P_GALAXY),
        ``kind`` and the columns of `mean_in_bins`.
    """
    galaxies = evidence.galaxies
    tables = []
    for variance, column in VARIANCES.items():
        for kind in KINDS:
            chosen = galaxies[galaxies["kind"] == kind]
            values = chosen[column]
            table = mean_in_bins(chosen["magnitude"], values, edges, groups=objects_of(chosen))
            tables.append(_labelled(table, variance=variance, kind=kind))
    return vstack(tables, metadata_conflicts="silent")


def blends_by(evidence: Evidence, column: str) -> Table:
    """Blends in bins of separation over size, flux ratio or blendedness.

    Parameters
    ----------
    evidence : Evidence
    column : str
        Key of `BLEND_BINS`.

    Returns
    -------
    astropy.table.Table
        ``detector``, ``low_edge``, ``high_edge``, ``n`` (true blends), ``recognised`` and ``unrecognised``
        (shares predicted as blended, and as isolated) with Wilson bounds; ``n_galaxies``, ``iou`` (mean of
        the galaxies in blends) with bootstrap bounds, and ``variance``, the model's mean inside them.
    """
    edges = BLEND_BINS[column]
    objects = evidence.objects[evidence.objects["kind"] == "blended"]
    galaxies = evidence.galaxies[evidence.galaxies["kind"] == "blended"]
    object_bin, galaxy_bin = (
        np.searchsorted(edges, each[column], side="right") - 1 for each in (objects, galaxies)
    )
    model = next(iter(evidence.counts))
    rows = []
    for name in evidence.counts:
        for k, (low, high) in enumerate(pairwise(edges)):
            outcome = objects[f"outcome_{name}"][object_bin == k]
            members = galaxies[galaxy_bin == k]
            row = {"detector": name, "low_edge": low, "high_edge": high, "n": len(outcome)}
            for share, kind in (("recognised", "blended"), ("unrecognised", "isolated")):
                row |= bounded(share, wilson(int(np.count_nonzero(outcome == kind)), len(outcome)))
            row |= {"n_galaxies": len(members)}
            iou = np.asarray(members[f"iou_{name}"], float)
            row |= bounded("iou", bootstrap_mean(iou, groups=objects_of(members)))
            variance = np.asarray(members["variance"], float) if name == model else np.zeros(0)
            row["variance"] = float(np.nanmean(variance)) if np.isfinite(variance).any() else np.nan
            rows.append(row)
    return Table(rows=rows)


def tradeoff(evidence: Evidence) -> Table:
    """Completeness and purity of blends along each detector's own threshold.

    Parameters
    ----------
    evidence : Evidence
        With details.

    Returns
    -------
    astropy.table.Table
        ``detector``, ``threshold`` (on P_OVERLAP for the model, the deblending contrast for others), and for
        isolated and blended objects completeness and purity with Wilson bounds.
    """
    rows = []
    for (name, threshold), counts in sorted(evidence.curves.items()):
        row = {"detector": name, "threshold": threshold}
        for kind in (Kind.BLENDED, Kind.ISOLATED):
            for score in ("completeness", "purity"):
                row |= bounded(f"{score}_{kind.name.lower()}", getattr(counts, score)(kind))
        rows.append(row)
    return Table(rows=rows)


def reliability_curves(evidence: Evidence) -> Table:
    """Reliability of the probabilities and of the frequencies over realisations.

    Parameters
    ----------
    evidence : Evidence

    Returns
    -------
    astropy.table.Table
        ``map`` and the columns of `PixelTally.reliability_table`.
    """
    tables = [_labelled(tally.reliability_table(), map=name) for name, tally in evidence.pixels.items()]
    return vstack(tables, metadata_conflicts="silent")


def pixel_table(evidence: Evidence) -> Table:
    """Brier score, log likelihood and calibration error of every map.

    Parameters
    ----------
    evidence : Evidence

    Returns
    -------
    astropy.table.Table
        ``map``, and ``brier``, ``log_loss`` (nats per pixel), ``calibration_error`` (over pixels with
        0.02 < P < 0.98), each with its bounds, and ``calibration_noise``, what noise alone would make of it.
        A detector without probabilities gets the best two it could have given to its yes and its no.
    """
    rows = []
    for name, tally in evidence.pixels.items():
        row = {"map": name} | bounded("brier", tally.brier()) | bounded("log_loss", tally.log_loss())
        row |= bounded("calibration_error", tally.calibration_error())
        rows.append(row | {"calibration_noise": tally.calibration_noise()})
    nothing = Interval(np.nan, np.nan, np.nan)
    for (name, event), hard in evidence.hard.items():
        row = {"map": f"{name}, {event}"} | bounded("brier", hard.best_brier())
        row |= bounded("log_loss", hard.best_log_loss()) | bounded("calibration_error", nothing)
        rows.append(row | {"calibration_noise": np.nan})
    return Table(rows=rows)


def rank_histogram(evidence: Evidence, quantities: Sequence[str]) -> Table:
    """How often the truth falls into each tenth of the realisations.

    Parameters
    ----------
    evidence : Evidence
        With details.
    quantities : sequence of str

    Returns
    -------
    astropy.table.Table
        ``quantity``, ``low_edge``, ``high_edge``, ``n``, ``share`` with Wilson bounds; a tenth each where the
        realisations are like the truth.
    """
    edges = np.linspace(0, 1, _RANK_BINS + 1)
    rows = []
    for quantity in quantities:
        column = f"rank_{quantity}"
        ranks = np.asarray(evidence.ranks[column], float) if len(evidence.ranks) else np.zeros(0)
        ranks = ranks[np.isfinite(ranks)]
        counts, _ = np.histogram(ranks, edges)
        for low, high, count in zip(edges[:-1], edges[1:], counts, strict=True):
            row = {"quantity": quantity, "low_edge": low, "high_edge": high, "n": int(count)}
            rows.append(row | bounded("share", wilson(int(count), len(ranks))))
    return Table(rows=rows)


def ensemble_table(evidence: Evidence) -> Table:
    """Energy score and diversity of the realisations, by kind of object.

    Parameters
    ----------
    evidence : Evidence
        With details.

    Returns
    -------
    astropy.table.Table
        ``kind``, ``n``, ``energy``, ``diversity`` of class >= 1 and, for blends, ``energy_overlap`` and
        ``diversity_overlap`` of class 2, each with bootstrap bounds.
    """
    rows = []
    for kind in KINDS:
        chosen = evidence.objects[evidence.objects["kind"] == kind]
        row = {"kind": kind, "n": len(chosen)}
        for column in ("energy", "diversity", "energy_overlap", "diversity_overlap"):
            values = np.asarray(chosen[column], float)
            row |= bounded(column, bootstrap_mean(values[np.isfinite(values)]))
        rows.append(row)
    return Table(rows=rows)


def residuals_by_dispersion(shot: Snapshot) -> Table:
    """Figure 5 as data: the error of the mean map where the realisations disagree more or less.

    Parameters
    ----------
    shot : Snapshot
        The region that the figure shows.

    Returns
    -------
    astropy.table.Table
        One row per bin of standard deviation, between 0 and its largest value: ``std_low``, ``std_high``,
        ``n_pixels``, ``share`` of all pixels, ``residual``: mean of |truth - mean|.
    """
    residual = np.abs(shot.truth - shot.mean)
    good = np.isfinite(residual) & np.isfinite(shot.std)
    std, residual = shot.std[good].astype(np.float64), residual[good].astype(np.float64)
    # Most of the sky is certain: it has a bin of its own.
    edges = np.concatenate(
        [[0.0], np.linspace(1e-3, max(float(std.max(initial=0.0)), 2e-3) + 1e-6, _DISPERSIONS)]
    )
    bin_of = np.searchsorted(edges, std, side="right") - 1
    n = np.bincount(bin_of, minlength=_DISPERSIONS)[:_DISPERSIONS]
    total = np.bincount(bin_of, weights=residual, minlength=_DISPERSIONS)[:_DISPERSIONS]
    return Table(
        {
            "std_low": edges[:-1],
            "std_high": edges[1:],
            "n_pixels": n,
            "share": n / max(n.sum(), 1),
            "residual": np.where(n > 0, total / np.maximum(n, 1), np.nan),
        }
    )


def _labelled(table: Table, **labels: str) -> Table:
    for index, (name, value) in enumerate(labels.items()):
        table.add_column(np.full(len(table), value), name=name, index=index)
    return table

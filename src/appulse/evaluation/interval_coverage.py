"""Whether the catalogue's intervals hold the truth as often as they say."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from astropy.table import Table

from appulse.evaluation.intervals import Interval, bounded, wilson
from appulse.evaluation.measured import deviations, snr
from appulse.network.calibration import Calibration
from appulse.objects.catalog import MEASURED

LEVELS = LEVEL_68, LEVEL_95 = 0.68, 0.95
# Blendedness 1 - sum g^2 / (sum g sum g_j) that parts hardly, partly and strongly blended galaxies.
BLENDEDNESS_EDGES = (0.0, 0.01, 0.1, 1.0)


def half_widths(measured: Table, quantity: str, calibration: Calibration, level: float) -> np.ndarray:
    """Half the width of each galaxy's interval, pixel noise of the flux included.

    Parameters
    ----------
    measured : Table
        From `matched_galaxies`, its intervals calibrated.
    quantity : str
        One of `appulse.objects.MEASURED`.
    calibration : Calibration
        Of the model; widens the 68 % interval to 95 %.
    level : {LEVEL_68, LEVEL_95}

    Returns
    -------
    (n,) float64 array
    """
    _, spread, noise = deviations(measured, quantity)
    half = np.hypot(spread, noise)
    if level == LEVEL_68:
        return half
    return half * calibration.ratio_95(quantity, snr(measured), np.asarray(measured["blended"]))


def covered(measured: Table, quantity: str, calibration: Calibration, level: float) -> Interval:
    """Share of the truths inside the intervals.

    Parameters
    ----------
    measured, quantity, calibration, level
        As for `half_widths`.

    Returns
    -------
    Interval
        Wilson's; NaN without galaxies.
    """
    error, _, _ = deviations(measured, quantity)
    half = half_widths(measured, quantity, calibration, level)
    n = int(np.count_nonzero(np.isfinite(error)))
    return wilson(int(np.count_nonzero(np.abs(error) <= half)), n)


def within_std(measured: Table, quantity: str) -> Interval:
    """Share of the truths within one standard deviation of the catalogue's value.

    Unlike `covered`, of ``Q`` and ``Q_std`` alone, as a reader takes them who asks for no interval.

    Parameters
    ----------
    measured : Table
        From `matched_galaxies`.
    quantity : str
        One of `appulse.objects.MEASURED`; to the ``_std`` of a flux its pixel noise is added in quadrature,
        and the error of an orientation is taken modulo 180 degrees.

    Returns
    -------
    Interval
        Wilson's; NaN without galaxies.
    """
    error = np.asarray(measured[f"true_{quantity}"] - measured[quantity], np.float64)
    if quantity == "orientation":
        error = (error + 90.0) % 180.0 - 90.0
    std = np.asarray(measured[f"{quantity}_std"], np.float64)
    if quantity == "flux":
        std = np.hypot(std, np.asarray(measured["flux_noise"], np.float64))
    known = np.isfinite(error) & np.isfinite(std)
    return wilson(int(np.count_nonzero(np.abs(error[known]) <= std[known])), int(np.count_nonzero(known)))


def coverage_table(measured: Table, calibration: Calibration, magnitude_edges: np.ndarray) -> Table:
    """Coverage and pulls of every quantity, for all galaxies and by kind, magnitude and blendedness.

    Parameters
    ----------
    measured : Table
        From `matched_galaxies`, its intervals calibrated.
    calibration : Calibration
        Of the model.
    magnitude_edges : (n + 1,) float array, mag

    Returns
    -------
    astropy.table.Table
        ``quantity``, ``group``, ``n``; ``coverage_68``, ``coverage_95`` and ``within_std`` (`within_std`)
        with bounds ``_low`` and ``_high``; of the pulls (error over half the 68 % interval) ``pull_median``
        and ``pull_width`` (half of what holds 68 % of them; 1 for intervals that mean what they say).
    """
    rows = []
    for quantity in MEASURED:
        error, _, _ = deviations(measured, quantity)
        pull = error / np.maximum(half_widths(measured, quantity, calibration, LEVEL_68), 1e-12)
        for group, chosen in _groups(measured, magnitude_edges).items():
            here = pull[chosen & np.isfinite(pull)]
            row = {"quantity": quantity, "group": group, "n": len(here)}
            for level in LEVELS:
                interval = covered(measured[chosen], quantity, calibration, level)
                row |= bounded(f"coverage_{100 * level:.0f}", interval)
            row |= bounded("within_std", within_std(measured[chosen], quantity))
            p16, p50, p84 = np.percentile(here, [16, 50, 84]) if len(here) else (np.nan,) * 3
            rows.append(row | {"pull_median": float(p50), "pull_width": float(0.5 * (p84 - p16))})
    return Table(rows=rows)


def _groups(measured: Table, magnitude_edges: np.ndarray) -> dict[str, np.ndarray]:
    alone = np.asarray(measured["alone"], bool)
    groups = {"all": np.ones(len(measured), bool), "alone": alone, "overlapping": ~alone}
    for column, edges, unit in (
        ("magnitude", magnitude_edges, " mag"),
        ("blendedness", BLENDEDNESS_EDGES, ""),
    ):
        values = np.asarray(measured[column], float)
        name = "" if unit else f"{column} "
        for low, high in pairwise(edges):
            groups[f"{name}{low:g} to {high:g}{unit}"] = (values >= low) & (values < high)
    return groups

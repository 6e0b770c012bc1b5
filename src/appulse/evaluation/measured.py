"""Measured galaxies beside their truth: one row per matched galaxy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from astropy.table import Column, Table, vstack
from astropy.units import Quantity

from appulse.evaluation.galaxies import match_galaxies
from appulse.objects.catalog import MEASURED
from appulse.objects.flags import ObjectFlag
from appulse.result import Result
from appulse.sky.field import Field
from appulse.sky.true_objects import MIN_TRUE_AREA, true_galaxy_masks


def matched_galaxies(field: Field, result: Result) -> Table:
    """Pair the galaxies of a result with the true ones by the IoU of their masks (0.5 and more).

    Parameters
    ----------
    field : Field
        The truth.
    result : Result
        Of the field's image as an array, so that fluxes share the field's unit.

    Returns
    -------
    astropy.table.Table
        ``id``, ``label``, ``magnitude``, ``blendedness``, ``alone`` (neither overlaps another galaxy),
        ``blended`` (the catalogue puts it into a blend), and for each quantity of `appulse.objects.MEASURED`
        ``true_Q`` (the same estimator on the galaxy's own noise-free image inside its true mask), ``Q``,
        ``Q_std``, ``Q_p16``, ``Q_p84``; ``flux_noise``. Galaxies flagged as cut by the border are left out,
        as are true ones under 10 pixels.
    """
    ids, true_masks = true_galaxy_masks(field.ternary(), field.id1, field.id2)
    match = match_galaxies(true_masks, [(cutout.window, cutout.mask) for cutout in result.cutouts])
    truth = field.galaxies(ids[match.true])
    found = result.catalog[match.predicted]
    pixels_shared = np.array([field.second[box][mask].max() > field.sigma for box, mask in true_masks], bool)
    table = Table()
    table["id"], table["label"] = truth["id"], found["label"]
    table["magnitude"], table["blendedness"] = truth["magnitude"], truth["blendedness"]
    table["alone"] = ~pixels_shared[match.true] & (found["blend_id"] == 0)
    table["blended"] = np.asarray(found["blend_id"]) > 0
    for quantity in MEASURED:
        table[f"true_{quantity}"] = truth[f"isophotal_{quantity}"]
        for suffix in ("", "_std", "_p16", "_p84"):
            table[quantity + suffix] = _plain(found[quantity + suffix])
    table["flux_noise"] = _plain(found["flux_noise"])
    border = (np.asarray(found["flags"]) & ObjectFlag.BORDER) > 0
    return table[~border & (np.asarray(table["true_area"]) >= MIN_TRUE_AREA)]


def _plain(column: Column | Quantity) -> np.ndarray:
    return np.asarray(getattr(column, "value", column), dtype=np.float64)


def stack(tables: Sequence[Table]) -> Table:
    """Rows of several fields.

    Parameters
    ----------
    tables : sequence of Table
        From `matched_galaxies`; at least one.
    """
    return vstack(list(tables), metadata_conflicts="silent")


def deviations(table: Table, quantity: str) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Errors of a quantity, half the width of its 68 % interval, and the pixel noise that adds to it.

    Parameters
    ----------
    table : Table
        From `matched_galaxies`.
    quantity : str
        One of `appulse.objects.MEASURED`.

    Returns
    -------
    error, spread, noise : (n,) float64 arrays
        In the order of the table; all NaN where one is not finite. The error is measured from the middle of
        the interval; that of an orientation is wrapped into [-90, 90).
    """
    middle = 0.5 * (table[f"{quantity}_p16"] + table[f"{quantity}_p84"])
    error = np.array(table[f"true_{quantity}"] - middle, dtype=np.float64)
    if quantity == "orientation":
        error = (error + 90.0) % 180.0 - 90.0
    spread = np.array(0.5 * (table[f"{quantity}_p84"] - table[f"{quantity}_p16"]), dtype=np.float64)
    noise = np.array(table["flux_noise"], dtype=np.float64) if quantity == "flux" else np.zeros(len(table))
    unknown = ~(np.isfinite(error) & np.isfinite(spread) & np.isfinite(noise))
    error[unknown] = spread[unknown] = noise[unknown] = np.nan
    return error, spread, noise


def snr(table: Table) -> np.ndarray:
    """Signal-to-noise ratio of each galaxy's flux.

    Parameters
    ----------
    table : Table
        From `matched_galaxies`.

    Returns
    -------
    (n,) float64 array
    """
    return np.asarray(table["flux"], dtype=np.float64) / np.asarray(table["flux_noise"], dtype=np.float64)

"""Measured galaxies beside their truth: one row per matched galaxy."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from astropy.table import Table, vstack

from appulse.evaluation.galaxies import match_galaxies
from appulse.evaluation.intervals import Interval, wilson
from appulse.objects.catalog import MEASURED
from appulse.objects.flags import ObjectFlag
from appulse.result import Result
from appulse.sky.field import Field
from appulse.sky.true_objects import true_galaxy_masks

# Pixels: quantities of smaller true galaxies are hardly defined.
MIN_AREA = 10


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
        ``id``, ``label``, ``magnitude``, ``blendedness``, ``alone`` (neither overlaps another galaxy), and
        for each quantity of `appulse.objects.MEASURED` ``true_Q`` (the same estimator on the galaxy's own
        noise-free image inside its true mask), ``Q``, ``Q_std``, ``Q_p16``, ``Q_p84``; ``flux_noise``.
        Galaxies flagged as cut by the border are left out, as are true ones under 10 pixels.
    """
    ids, true_masks, match = _match(field, result)
    truth = field.galaxies(ids[match.true])
    found = result.catalog[match.predicted]
    pixels_shared = np.array([field.second[box][mask].max() > field.sigma for box, mask in true_masks], bool)
    table = Table()
    table["id"], table["label"] = truth["id"], found["label"]
    table["magnitude"], table["blendedness"] = truth["magnitude"], truth["blendedness"]
    table["alone"] = ~pixels_shared[match.true] & (found["blend_id"] == 0)
    for quantity in MEASURED:
        table[f"true_{quantity}"] = truth[f"isophotal_{quantity}"]
        for suffix in ("", "_std", "_p16", "_p84"):
            table[quantity + suffix] = _plain(found[quantity + suffix])
    table["flux_noise"] = _plain(found["flux_noise"])
    border = (np.asarray(found["flags"]) & ObjectFlag.BORDER) > 0
    return table[~border & (np.asarray(table["true_area"]) >= MIN_AREA)]


def _match(field: Field, result: Result):
    ids, true_masks = true_galaxy_masks(field.ternary(), field.id1, field.id2)
    found = [(cutout.window, cutout.mask) for cutout in result.cutouts]
    return ids, true_masks, match_galaxies(true_masks, found)


def _plain(column) -> np.ndarray:
    return np.asarray(getattr(column, "value", column), dtype=np.float64)


@dataclass(frozen=True)
class GalaxyCounts:
    """Galaxies by their masks; counts, so that fields add up.

    Parameters
    ----------
    true, found, matched : int
        True galaxies of 10 pixels and more, galaxies in the catalogue, and pairs of the two. Galaxies at the
        image border are in none of them, nor are catalogued ones that match a smaller true one.
    """

    true: int
    found: int
    matched: int

    def __add__(self, other: GalaxyCounts) -> GalaxyCounts:
        return GalaxyCounts(self.true + other.true, self.found + other.found, self.matched + other.matched)

    def completeness(self) -> Interval:
        """Share of the true galaxies that were found; Wilson's interval."""
        return wilson(self.matched, self.true)

    def purity(self) -> Interval:
        """Share of the catalogued galaxies that are true ones; Wilson's interval."""
        return wilson(self.matched, self.found)


def count_galaxies(field: Field, result: Result) -> GalaxyCounts:
    """Count the galaxies of a field, of the catalogue, and those in both.

    Parameters
    ----------
    field : Field
        The truth.
    result : Result
        Of the field's image.

    Returns
    -------
    GalaxyCounts
    """
    _, true_masks, match = _match(field, result)
    height, width = field.image.shape
    large = np.array([mask.sum() >= MIN_AREA for _, mask in true_masks], bool)
    inside = np.array(
        [
            b[0].start > 0 and b[1].start > 0 and b[0].stop < height and b[1].stop < width
            for b, _ in true_masks
        ],
        bool,
    )
    found_inside = (np.asarray(result.catalog["flags"]) & ObjectFlag.BORDER) == 0
    counted = large[match.true] & inside[match.true] & found_inside[match.predicted]
    ignored = np.zeros(len(result.cutouts), bool)
    ignored[match.predicted[~counted]] = True
    return GalaxyCounts(
        int(np.count_nonzero(large & inside)),
        int(np.count_nonzero(found_inside & ~ignored)),
        int(np.count_nonzero(counted)),
    )


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
        Finite ones only. The error is measured from the middle of the interval; that of an orientation is
        wrapped into [-90, 90).
    """
    middle = 0.5 * (table[f"{quantity}_p16"] + table[f"{quantity}_p84"])
    error = np.asarray(table[f"true_{quantity}"] - middle, dtype=np.float64)
    if quantity == "orientation":
        error = (error + 90.0) % 180.0 - 90.0
    spread = np.asarray(0.5 * (table[f"{quantity}_p84"] - table[f"{quantity}_p16"]), dtype=np.float64)
    noise = np.asarray(table["flux_noise"]) if quantity == "flux" else np.zeros(len(table))
    finite = np.isfinite(error) & np.isfinite(spread) & np.isfinite(noise)
    return error[finite], spread[finite], noise[finite]


def coverage_68(table: Table, quantity: str, scale: float = 1.0) -> Interval:
    """Share of the truths inside the 68 % interval, its width multiplied by a factor.

    Parameters
    ----------
    table : Table
        From `matched_galaxies`.
    quantity : str
        One of `appulse.objects.MEASURED`.
    scale : float
        Factor on the spread over realisations; the pixel noise of a flux is added in quadrature.

    Returns
    -------
    Interval
        Wilson's; NaN without galaxies.
    """
    error, spread, noise = deviations(table, quantity)
    return wilson(int(np.count_nonzero(np.abs(error) <= np.hypot(scale * spread, noise))), len(error))

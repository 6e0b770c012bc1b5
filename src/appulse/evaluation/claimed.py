"""The catalogue's probabilities held against the truth: whether a galaxy is there, and overlaps another."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from astropy.table import Table

from appulse.evaluation.galaxies import match_galaxies
from appulse.evaluation.intervals import bounded, wilson
from appulse.evaluation.truth_tables import TrueGalaxies, result_masks
from appulse.objects.components import MIN_OVERLAP
from appulse.objects.flags import ObjectFlag
from appulse.result import Result
from appulse.sky.field import Field
from appulse.windows import at_border

# Column of the catalogue's probability, and of what it is the probability of.
EVENTS = {"p_detect": "real", "share_realised": "real", "p_blend": "overlapping"}
# The last bin holds what all realisations say.
EDGES = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9, 1.0, np.inf)


def claimed_galaxies(field: Field, galaxies: TrueGalaxies, result: Result) -> Table:
    """Every galaxy of a result's catalogue, and what is true of it.

    Parameters
    ----------
    field : Field
        The truth.
    galaxies : TrueGalaxies
        Of that field.
    result : Result
        Of the field's image.

    Returns
    -------
    astropy.table.Table
        ``label``, ``p_detect``, ``p_blend`` (NaN where no realisation holds the galaxy), ``share_realised``
        (``n_realisations`` over all; NaN of an object too large to be looked for in them); ``real``:
        whether a true galaxy has its mask (one to one, IoU of 0.5 and more); ``overlapping``: 1 where that
        shares at least 4 pixels with others, 0 where not, -1 where there is none. Left out, as when galaxies
        are counted: those at the border, and those of true ones under 10 pixels.
    """
    masks, catalog = result_masks(result), result.catalog
    match = match_galaxies(galaxies.masks, masks)
    ternary = field.ternary()
    shared = [int(np.count_nonzero(ternary[box][mask] == 2)) for box, mask in galaxies.masks]
    real, overlapping = np.zeros(len(masks), bool), np.full(len(masks), -1, np.int8)
    real[match.predicted] = True
    overlapping[match.predicted] = np.array(shared, int)[match.true] >= MIN_OVERLAP
    counts = np.array([not at_border(box, ternary.shape) for box, _ in masks], bool)
    counts[match.predicted[~galaxies.counted[match.true]]] = False
    table = Table({"label": np.asarray(catalog["label"])})
    n = np.asarray(catalog["n_realisations"])
    whole = ObjectFlag.LARGER_THAN_STAMP | ObjectFlag.MEASUREMENT_FAILED
    untold = (n == 0) & ((np.asarray(catalog["flags"]) & whole) == whole)
    table["p_detect"] = np.asarray(catalog["p_detect"], float)
    table["p_blend"] = np.where(n > 0, catalog["p_blend"], np.nan)
    table["share_realised"] = np.where(untold, np.nan, n / result.realisation_store.samples)
    table["real"], table["overlapping"] = real.astype(np.int8), overlapping
    return table[counts]


def probability_table(claimed: Table) -> Table:
    """How often what the catalogue calls likely is so.

    Parameters
    ----------
    claimed : Table
        From `claimed_galaxies`.

    Returns
    -------
    astropy.table.Table
        ``probability``: column of the catalogue (``share_realised``: ``n_realisations`` over all);
        ``event``: of what; ``from`` and ``to``, the bin, of which the last holds what all realisations say;
        ``n``; ``mean`` of the probability; ``share`` of those that are so, with Wilson's bounds, as if the
        galaxies of a blend had nothing to do with each other.
    """
    rows = []
    for name, event in EVENTS.items():
        values, outcome = np.asarray(claimed[name], float), np.asarray(claimed[event])
        for low, high in pairwise(EDGES):
            chosen = (values >= low) & (values < high) & (outcome >= 0)
            n = int(np.count_nonzero(chosen))
            row = {"probability": name, "event": event, "from": low, "to": min(high, 1.0), "n": n}
            row["mean"] = float(values[chosen].mean()) if n else np.nan
            rows.append(row | bounded("share", wilson(int(outcome[chosen].sum()), n)))
    return Table(rows=rows)

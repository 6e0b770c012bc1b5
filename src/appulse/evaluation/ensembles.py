"""The realisations of objects against their truth: energy score, diversity, and the truth's rank."""

from __future__ import annotations

import numpy as np
from astropy.table import Row, Table
from scipy import ndimage

from appulse.evaluation.energy import energy_terms
from appulse.objects.ensemble import measure_ensemble
from appulse.result import Result
from appulse.sky.field import Field
from appulse.sky.true_objects import TrueObjects
from appulse.windows import grown

# Empty sky around an object's box in which its realisations may reach, pixels.
_REACH = 6
# Quantities whose rank is taken: what does not wrap around and is not bounded.
RANKED = ("area", "flux", "half_light_radius")


def energy_columns(
    truth: TrueObjects, ternary: np.ndarray, result: Result, labels: np.ndarray
) -> dict[str, np.ndarray]:
    """Energy score and diversity of the realisations in the window of each object.

    Parameters
    ----------
    truth : TrueObjects
    ternary : (height, width) uint8 array
        True class map.
    result : Result
        At least two realisations.
    labels : (n,) int array
        Of the true objects.

    Returns
    -------
    dict of str to (n,) float array
        ``energy``, ``diversity`` of class >= 1, and ``energy_overlap``, ``diversity_overlap`` of class 2 (NaN
        where the truth has none). Pixels of other true objects are left out.
    """
    names = ("energy", "diversity", "energy_overlap", "diversity_overlap")
    columns = {name: np.full(len(labels), np.nan) for name in names}
    boxes = ndimage.find_objects(truth.labels)
    for row, label in enumerate(labels):
        window = grown(boxes[label - 1], _REACH, truth.labels.shape)
        here = truth.labels[window]
        others = (here > 0) & (here != label)
        drawn = np.where(others, 0, result.realisation_store.get(window))
        true = np.where(others, 0, ternary[window])
        for suffix, level in (("", 1), ("_overlap", 2)):
            if (true >= level).any():
                error, diversity = energy_terms(drawn >= level, true >= level)
                columns[f"energy{suffix}"][row] = 2 * error - diversity
                columns[f"diversity{suffix}"][row] = diversity
    return columns


def rank_table(field: Field, result: Result, measured: Table, *, largest: int = 700) -> Table:
    """Where the truth lies among the realisations of each galaxy, moved and stretched to its interval.

    Parameters
    ----------
    field : Field
    result : Result
        Of that field.
    measured : Table
        From `matched_galaxies`.
    largest : int
        So many galaxies, evenly taken from the table: every realisation of each is measured again.

    Returns
    -------
    astropy.table.Table
        ``label``, ``alone`` and for each of `RANKED` ``rank_Q``: share of the realisations below the truth,
        0 to 1, uniform for intervals that mean what they say; NaN where the galaxy is in fewer than half of
        them.
    """
    # For the pixel noise that is added to fluxes, and the order of equal values.
    rng = np.random.default_rng(0)
    chosen = measured[:: max(-(-len(measured) // largest), 1)]
    rows = []
    for row in chosen:
        values = _calibrated_values(result, int(row["label"]), row)
        ranks: dict[str, float] = {"label": int(row["label"]), "alone": bool(row["alone"])}
        for quantity, drawn in values.items():
            if quantity == "flux":
                drawn = drawn + row["flux_noise"] * rng.standard_normal(len(drawn))
            truth = row[f"true_{quantity}"]
            below, equal = np.count_nonzero(drawn < truth), np.count_nonzero(drawn == truth)
            # Equal ones, and the ends, are spread evenly: n values leave n + 1 places for the truth.
            place = below + rng.integers(equal + 1) + rng.random()
            enough = 2 * len(drawn) >= result.realisation_store.samples
            ranks[f"rank_{quantity}"] = float(place / (len(drawn) + 1)) if enough else np.nan
        rows.append(ranks)
    if not rows:
        return Table(names=("label", "alone", *(f"rank_{q}" for q in RANKED)))
    return Table(rows=rows)


def _calibrated_values(result: Result, label: int, row: Row) -> dict[str, np.ndarray]:
    """Values of each quantity over realisations, moved and stretched to the catalogue's interval."""
    blend = result.blend_of(label)
    ensemble = measure_ensemble(blend.realisations, blend.galaxies, blend.image)
    values = {}
    for quantity in RANKED:
        raw = np.asarray(getattr(ensemble, quantity)[blend.place], float)
        raw = raw[np.isfinite(raw)]
        low, high = row[f"{quantity}_p16"], row[f"{quantity}_p84"]
        if len(raw) < 2 or not np.isfinite(low):
            values[quantity] = np.zeros(0)
            continue
        p16, p84 = np.percentile(raw, [16, 84])
        stretch = (high - low) / (p84 - p16) if p84 > p16 else 0.0
        values[quantity] = 0.5 * (low + high) + stretch * (raw - 0.5 * (p16 + p84))
    return values

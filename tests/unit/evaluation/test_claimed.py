"""The catalogue's probabilities beside the truth, on a sky of discs and on numbers drawn by law."""

import dataclasses

import numpy as np
import pytest
from astropy.table import Table

from appulse.evaluation.claimed import EDGES, EVENTS, claimed_galaxies, probability_table
from appulse.evaluation.truth_tables import TrueGalaxies
from appulse.objects import ObjectFlag
from appulse.segmentation import segment
from appulse.sky.true_objects import true_objects
from by_hand import CIRCLES, by_hand, discs, field_of_discs


def claims(field, image=None):
    truth = true_objects(field.ternary(), field.id1, field.id2)
    result = segment(field.image if image is None else image, model=by_hand(), samples=8, seed=1)
    return claimed_galaxies(field, TrueGalaxies.of(field, truth), result), result


def test_every_disc_is_real_and_the_pair_overlaps():
    table, result = claims(field_of_discs())
    assert list(table["label"]) == list(result.catalog["label"]) and len(table) == 5
    assert (table["real"] == 1).all() and (table["share_realised"] <= 1).all()
    # Discs 2 and 3 share a lens.
    x = np.asarray(result.catalog["x_centroid"])
    assert sorted(np.round(x[table["overlapping"] == 1])) == pytest.approx([119, 132], abs=3)
    for name in ("p_detect", "p_blend"):
        np.testing.assert_array_equal(table[name], result.catalog[name])


def test_a_galaxy_that_is_not_there_is_not_real_and_one_at_the_border_is_left_out():
    field = field_of_discs()
    image = discs(field.image.shape, *CIRCLES, (200, 40, 8), (0, 100, 8), seed=3)
    table, result = claims(field, image)
    x, y = (np.asarray(result.catalog[f"{axis}_centroid"]) for axis in "xy")
    invented = result.catalog["label"][np.hypot(x - 200, y - 40) < 3][0]
    cut = result.catalog["label"][np.hypot(x, y - 100) < 8][0]
    assert list(table["label"][table["real"] == 0]) == [invented]
    assert table["overlapping"][table["label"] == invented] == -1
    assert cut not in table["label"] and len(table) == len(result.catalog) - 1


def test_a_galaxy_that_no_realisation_holds_has_a_share_of_0_and_one_too_large_to_look_for_has_none():
    field = field_of_discs()
    _, result = claims(field)
    catalog = result.catalog.copy()
    catalog["n_realisations"][:2] = 0
    catalog["flags"][:2] |= ObjectFlag.MEASUREMENT_FAILED
    catalog["flags"][1] |= ObjectFlag.LARGER_THAN_STAMP
    truth = true_objects(field.ternary(), field.id1, field.id2)
    changed = dataclasses.replace(result, catalog=catalog)
    table = claimed_galaxies(field, TrueGalaxies.of(field, truth), changed)
    assert table["share_realised"][0] == 0 and np.isnan(table["share_realised"][1])
    assert np.isnan(table["p_blend"][:2]).all() and not np.isnan(table["p_blend"][2:]).any()
    rows = probability_table(table)
    counts = [rows["n"][rows["probability"] == name].sum() for name in EVENTS]
    assert dict(zip(EVENTS, counts, strict=True)) == {"p_detect": 5, "share_realised": 4, "p_blend": 3}


def test_probabilities_that_mean_what_they_say_have_their_own_share():
    rng = np.random.default_rng(0)
    n = 20_000
    claimed = Table({name: rng.random(n) for name in ("p_detect", "share_realised", "p_blend")})
    claimed["p_detect"][:500] = 1.0
    claimed["real"] = (rng.random(n) < claimed["p_detect"]).astype(np.int8)
    claimed["overlapping"] = np.where(claimed["real"], rng.random(n) < claimed["p_blend"] ** 2, -1)
    table = probability_table(claimed)
    honest = table[table["probability"] == "p_detect"]
    assert honest["n"].sum() == n and len(honest) == len(EDGES) - 1
    assert honest["n"][-1] == 500 and honest["share"][-1] == honest["mean"][-1] == 1.0
    inside = (honest["share_low"] <= honest["mean"]) & (honest["mean"] <= honest["share_high"])
    assert inside.sum() >= len(honest) - 1
    # Squared ones are not, and only real galaxies count.
    squared = table[table["probability"] == "p_blend"]
    assert squared["n"].sum() == claimed["real"].sum()
    middle = squared[(squared["from"] > 0.2) & (squared["to"] < 0.8)]
    assert (middle["share_high"] < middle["mean"]).all()

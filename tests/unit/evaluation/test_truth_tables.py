"""Tables of true galaxies and objects of scenes whose numbers follow from their geometry."""

import numpy as np
import pytest
from astropy.table import Table

from appulse.evaluation import Detection, true_objects
from appulse.evaluation.truth_tables import TrueGalaxies, count_galaxies, galaxy_table, object_table
from appulse.sky import Field, Survey

SHAPE = (100, 120)
# x, y, radius, magnitude: a pair 10 apart, a lone one, one at the border.
DISCS = ((30, 40, 8, 22.0), (40, 40, 6, 23.0), (80, 60, 7, 24.0), (118, 90, 6, 21.0))


def disc(x0, y0, radius):
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    return np.hypot(x - x0, y - y0) <= radius


@pytest.fixture(scope="module")
def scene():
    first, second = np.zeros((2, *SHAPE), np.float32)
    id1, id2 = np.zeros((2, *SHAPE), np.int32)
    for number, (x, y, radius, _) in enumerate(DISCS, start=1):
        mask = disc(x, y, radius)
        id2[mask & (id1 > 0)] = number
        second[mask & (id1 > 0)] = 3
        id1[mask & (id1 == 0)] = number
        first[mask] = 3
    catalog = Table(
        rows=[(k, x, y, m, r, 0.1) for k, (x, y, r, m) in enumerate(DISCS, start=1)],
        names=("id", "x", "y", "magnitude", "isophotal_half_light_radius", "blendedness"),
    )
    survey = Survey("discs", "", pixel_scale=1.0, zero_point=25.0, noise=25.0)
    nothing = Table(names=("y", "x", "id", "flux"))
    field = Field(first, first, second, id1, id2, nothing, catalog, survey, 9000, 0)
    truth = true_objects(field.ternary(), id1, id2)
    return field, truth, TrueGalaxies.of(field, truth)


def detection(truth, *discs):
    """Claims these discs as galaxies of the true objects."""
    masks = []
    for x, y, radius in discs:
        mask = disc(x, y, radius)
        rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
        box = slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1)
        masks.append((box, mask[box]))
    n = truth.labels.max() + 1
    return Detection(truth.labels, np.ones(n, int), np.zeros(n, bool), tuple(masks))


def test_galaxies_know_their_neighbours_and_what_was_found(scene):
    field, truth, galaxies = scene
    found = detection(truth, (30, 40, 8), (80, 60, 5))
    std = np.full(SHAPE, 0.5, np.float32)
    p_galaxy = np.where(disc(80, 60, 4), 0.9, 0.5).astype(np.float32)
    table = galaxy_table(field, truth, galaxies, {"ours": found}, std, p_galaxy)
    assert list(table["id"]) == [1, 2, 3]  # the fourth is cut
    assert list(table["kind"]) == ["blended", "blended", "isolated"]
    np.testing.assert_allclose(table["separation"], [10, 10, np.nan])
    np.testing.assert_allclose(table["separation_over_size"], [10 / 7, 10 / 7, np.nan])
    np.testing.assert_allclose(table["flux_ratio"], [10**-0.4, 10**-0.4, np.nan])
    shrunk = disc(80, 60, 5).sum() / disc(80, 60, 7).sum()
    np.testing.assert_allclose(table["iou_ours"], [1, 0, shrunk])
    np.testing.assert_allclose(table["variance"], [0.25, np.nan, 0.25])
    sure = disc(80, 60, 4).sum() / disc(80, 60, 5).sum()
    doubt = sure * 0.09 + (1 - sure) * 0.25
    np.testing.assert_allclose(table["galaxy_variance"], [0.25, np.nan, doubt], rtol=1e-6)


def test_spread_at_the_border_and_in_the_core(scene):
    field, truth, galaxies = scene
    found = detection(truth, (80, 60, 7))
    inside = disc(80, 60, 7)
    # A disc's pixels whose 3 x 3 surroundings all lie in it.
    core = np.all([np.roll(inside, (y, x), (0, 1)) for y in (-1, 0, 1) for x in (-1, 0, 1)], axis=0)
    std = np.where(core, 0.1, 0.6).astype(np.float32)
    (row,) = galaxy_table(field, truth, galaxies, {"ours": found}, std, np.ones(SHAPE, np.float32))[[2]]
    assert (row["std_border"], row["std_core"]) == pytest.approx((0.6, 0.1))
    share = core.sum() / inside.sum()
    assert row["variance"] == pytest.approx(share * 0.01 + (1 - share) * 0.36)


def test_objects_know_their_galaxies_and_outcomes(scene):
    field, truth, galaxies = scene
    found = detection(truth, (30, 40, 8))
    std = np.where(truth.labels > 0, 0.3, 0.0).astype(np.float32)
    table = object_table(field, truth, galaxies, {"ours": found}, std)
    assert list(table["kind"]) == ["blended", "isolated"]
    assert list(table["outcome_ours"]) == ["isolated", "isolated"]
    assert list(table["iou_ours"]) == [1, 1]
    assert list(table["n_galaxies"]) == [2, 1] and list(table["magnitude"]) == [22.0, 24.0]
    np.testing.assert_allclose(table["flux_ratio"], [10**-0.4, np.nan])
    np.testing.assert_allclose(table["variance"], [0.09, 0.09], rtol=1e-6)


def test_counts_leave_out_the_border_on_either_side(scene):
    _, truth, galaxies = scene
    # One right, one invented, one on the galaxy that the border cuts, one invented at the border.
    masks = detection(truth, (30, 40, 8), (60, 15, 5), (118, 90, 6), (2, 50, 5)).masks
    counts = count_galaxies(galaxies, masks, SHAPE)
    assert (counts.true, counts.found, counts.matched) == (3, 2, 1)
    by_centre = count_galaxies(galaxies, masks, SHAPE, radius=1.0)
    assert (by_centre.true, by_centre.found, by_centre.matched) == (3, 2, 1)

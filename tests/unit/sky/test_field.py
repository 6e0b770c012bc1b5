"""Simulated fields: the same bytes again, and truth against galaxies drawn one by one."""

import dataclasses

import numpy as np
import pytest

from appulse.sky import field as field_module
from appulse.sky import read_field, simulate_field, write_field
from appulse.sky.population import Population
from appulse.sky.rendering import Renderer
from appulse.sky.truth import clip_to
from crowded import ARRAYS, CROWDED, SHAPE, same


@pytest.fixture(scope="module")
def field():
    return simulate_field(CROWDED, SHAPE, seed=7, index=2)


@pytest.fixture(scope="module")
def alone(field):
    """Each galaxy of the catalogue drawn again, alone on the field."""
    renderer = Renderer(field.survey)
    images = {}
    for row in field.catalog:
        stamp = renderer.draw(row)
        whole = np.zeros(SHAPE, np.float32)
        if stamp is None:
            images[int(row["id"])] = (whole, True)
            continue
        window, image = clip_to(stamp, SHAPE)
        whole[window] = image
        inside = stamp.y0 >= 0 and stamp.x0 >= 0
        inside &= all(
            p + n <= s for p, n, s in zip((stamp.y0, stamp.x0), stamp.image.shape, SHAPE, strict=True)
        )
        images[int(row["id"])] = (whole, inside)
    return images


def test_layers_have_the_promised_types(field):
    for name in ARRAYS:
        array = getattr(field, name)
        assert array.shape == SHAPE
        assert array.dtype == (np.int32 if name.startswith("id") else np.float32)
    assert field.catalog["id"].tolist() == list(range(1, len(field.catalog) + 1))
    assert len(field.deeper) > 0  # or the tests of third galaxies below prove nothing


def test_workers_do_not_change_a_byte(field):
    same(field, simulate_field(CROWDED, SHAPE, seed=7, index=2, workers=2))


def test_a_strip_that_is_missing_is_not_passed_over(monkeypatch):
    class Lost(list):
        def __iter__(self):
            return iter(self[:-1])

    drawn = field_module.run_tasks
    monkeypatch.setattr(field_module, "run_tasks", lambda *args, **how: Lost([*drawn(*args, **how)]))
    with pytest.raises(KeyError):
        simulate_field(CROWDED, 16, seed=7)


def test_seed_index_and_size_give_other_skies(field):
    survey = dataclasses.replace(CROWDED, population=Population(density=40.0))
    small = simulate_field(survey, 64, seed=1)
    for other in (simulate_field(survey, 64, 1, index=1), simulate_field(survey, 64, 2)):
        assert not np.array_equal(small.light, other.light)
        noise = [(f.image - f.light).ravel() for f in (small, other)]
        assert abs(np.corrcoef(noise)[0, 1]) < 0.07
    # A smaller size is never a crop of a larger field.
    larger = simulate_field(survey, 96, 1)
    assert not np.array_equal(larger.image[:64, :64], small.image)
    assert not np.array_equal(larger.id1[:64, :64] > 0, small.id1 > 0)


def test_noise_is_the_surveys(field):
    noise = (field.image - field.light) / field.sigma
    n = noise.size
    assert noise.std() == pytest.approx(1, abs=4 / np.sqrt(2 * n))
    assert noise.mean() == pytest.approx(0, abs=4 / np.sqrt(n))
    assert abs(np.corrcoef(noise[:, :-1].ravel(), noise[:, 1:].ravel())[0, 1]) < 4 / np.sqrt(n)


def test_layers_are_the_galaxies_drawn_one_by_one(field, alone):
    stack = np.stack([image for image, _ in alone.values()])
    ranked = -np.sort(-stack, axis=0)
    np.testing.assert_array_equal(field.first, ranked[0])
    np.testing.assert_array_equal(field.second, ranked[1])
    np.testing.assert_allclose(field.light, stack.sum(axis=0), rtol=1e-5)
    for threshold in (1.0, 3.0):
        count = np.minimum((stack > np.float32(threshold * field.sigma)).sum(axis=0), 2)
        np.testing.assert_array_equal(field.ternary(threshold), count)
    assert (count == 2).any()


def test_galaxy_masks_include_third_galaxies(field, alone):
    third = 0
    for threshold in (1.0, 2.5):
        for identity, (image, _) in alone.items():
            mask = image > np.float32(threshold * field.sigma)
            np.testing.assert_array_equal(field.galaxy_mask(identity, threshold), mask)
            third += np.count_nonzero(mask & (field.id1 != identity) & (field.id2 != identity))
    assert third > 0


def test_isophotal_catalogue(field, alone):
    compared = 0
    for row in field.catalog:
        image, inside = alone[int(row["id"])]
        if not inside:
            continue
        mask = image > np.float32(field.sigma)
        assert row["isophotal_area"] == np.count_nonzero(field.galaxy_mask(row["id"])) == mask.sum()
        if mask.any():
            assert row["isophotal_flux"] == pytest.approx(image[mask].sum(), rel=1e-4)
            compared += 1
        else:
            assert np.isnan(row["isophotal_flux"])
    assert compared > 10


def test_blendedness_of_the_catalogue(field, alone):
    for row in field.catalog:
        image = alone[int(row["id"])][0].astype(float)
        expected = 1 - (image**2).sum() / (image * field.light).sum() if image.any() else 0
        assert row["blendedness"] == pytest.approx(expected, abs=1e-5)
    assert field.catalog["blendedness"].max() > 0.3


def test_catalogue_is_consistent(field):
    catalog = field.catalog
    flux = 10 ** (-0.4 * (catalog["magnitude"] - field.survey.zero_point))
    np.testing.assert_allclose(catalog["flux"], flux)
    # Flux inside the isophote is part of the total.
    seen = catalog[catalog["isophotal_area"] > 0]
    assert np.all(seen["isophotal_flux"] <= 1.001 * seen["flux"])
    # The brightest galaxy of the field is where the catalogue says it is.
    inside = (
        (catalog["x"] > 5)
        & (catalog["x"] < SHAPE[1] - 6)
        & (catalog["y"] > 5)
        & (catalog["y"] < SHAPE[0] - 6)
    )
    best = catalog[inside][np.argmax(catalog["flux"][inside])]
    assert field.id1[round(best["y"]), round(best["x"])] == best["id"]


def test_galaxies_are_cut_by_every_border(field):
    for edge in (field.id1[0], field.id1[-1], field.id1[:, 0], field.id1[:, -1]):
        assert edge.any()


def test_empty_sky(tmp_path):
    survey = dataclasses.replace(CROWDED, population=Population(density=0.0))
    empty = simulate_field(survey, 40, seed=3)
    assert not empty.light.any() and not empty.ternary().any() and len(empty.catalog) == 0
    assert "isophotal_area" in empty.catalog.colnames
    write_field(empty, tmp_path / "field.fits")
    same(empty, read_field(tmp_path / "field.fits"))


def test_progress_counts_every_galaxy():
    calls = []
    survey = dataclasses.replace(CROWDED, population=Population(density=20.0))
    galaxies = len(simulate_field(survey, 160, seed=3, progress=lambda *call: calls.append(call)).catalog)
    # A bar shows from the start: a small field is a single strip.
    assert calls == [("galaxies", 0, galaxies), ("galaxies", galaxies, galaxies)] and galaxies > 0


def test_galaxies_by_identity(field):
    cut = field.cut((slice(40, 70), slice(60, 90)))
    ids = cut.catalog["id"].tolist()
    gaps = sorted({*range(1, ids[-1])} - {*ids})
    assert gaps and len(ids) > 3
    for some in ([], [ids[0]], [ids[-1], ids[1], ids[-1]], ids[::-1]):
        assert cut.galaxies(np.array(some, int))["id"].tolist() == some
    # The first that is absent: in a gap, below all, above all.
    for absent in (gaps[0], gaps[-1], 0, -1, ids[-1] + 1):
        with pytest.raises(KeyError, match=rf"no galaxy {absent} in this catalogue of {len(ids)}"):
            cut.galaxies(np.array([ids[2], absent, ids[-1] + 7, ids[0]]))
    empty = dataclasses.replace(cut, catalog=cut.catalog[:0])
    assert len(empty.galaxies(np.array([], int))) == 0
    with pytest.raises(KeyError, match="no galaxy 1"):
        empty.galaxies(np.array([1]))

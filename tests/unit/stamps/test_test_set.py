"""The test set: objects of the whole field, at random, each centred in a stamp of what the field holds."""

import dataclasses

import numpy as np
import pytest

from appulse.files import InputError
from appulse.inference.tiles import centred_origin, fits_stamp
from appulse.objects.components import label_objects
from appulse.sky import Population, Survey, read_field, simulate_field, write_field
from appulse.sky.stored_field import field_name
from appulse.sky.true_objects import Kind, true_objects
from appulse.stamps import build_test_set, list_test_set, read_test_set
from appulse.stamps import test_set as test_set_module

SIZE = 48


@pytest.fixture(scope="module")
def sky(tmp_path_factory):
    folder = tmp_path_factory.mktemp("fields")
    survey = dataclasses.replace(
        Survey.load("paper"), population=Population(density=350.0, magnitude_bright=22.0, size_factor=1.5)
    )
    for index, shape in enumerate(((340, 260), (130, 150))):
        write_field(simulate_field(survey, shape, seed=9000, index=index), folder / field_name(9000, index))
    return folder


def eligible(field):
    """Kind by first row and column of the stamp, found on the whole field at once."""
    ternary = field.ternary()
    objects = true_objects(ternary, field.id1, field.id2)
    found = {}
    for label, box in enumerate(label_objects(ternary)[1], start=1):
        y, x = centred_origin(box, SIZE)
        inside = 0 <= y <= ternary.shape[0] - SIZE and 0 <= x <= ternary.shape[1] - SIZE
        if inside and not objects.ignored[label] and fits_stamp(box, SIZE, test_set_module.MARGIN):
            found[y, x] = int(objects.kind[label])
    return found


@pytest.mark.parametrize("rows", [30, 64, 1024])
def test_all_objects_that_fit_whatever_the_strips(rows, sky, tmp_path, monkeypatch):
    monkeypatch.setattr(test_set_module, "_ROWS", rows)
    fields = [read_field(sky / field_name(9000, index)) for index in (0, 1)]
    expected = {
        (index, *corner): kind
        for index, field in enumerate(fields)
        for corner, kind in eligible(field).items()
        if kind in (Kind.ISOLATED, Kind.BLENDED)
    }
    kinds = list(expected.values())
    numbers = {"isolated": kinds.count(Kind.ISOLATED), "blended": kinds.count(Kind.BLENDED)}
    assert min(numbers.values()) > 4
    stamps = build_test_set(tmp_path / "test.fits", sky, size=SIZE, **numbers)
    found = {(row["index"], row["y"], row["x"]): row["kind"] for row in stamps.objects}
    assert found == expected and len(stamps) == len(expected)
    with pytest.raises(InputError, match=f"{numbers['blended']} blended objects fit a stamp"):
        build_test_set(tmp_path / "more.fits", sky, size=SIZE, isolated=1, blended=numbers["blended"] + 1)


@pytest.fixture(scope="module")
def stamps(sky, tmp_path_factory):
    path = tmp_path_factory.mktemp("set") / "test.fits"
    return build_test_set(path, sky, isolated=12, blended=4, size=SIZE, seed=3), path


def test_each_stamp_is_a_cut_of_its_field(stamps, sky):
    stamps, _ = stamps
    assert list(stamps.objects["kind"]) == [Kind.ISOLATED] * 12 + [Kind.BLENDED] * 4
    for place, row in enumerate(stamps.objects):
        field = read_field(sky / field_name(9000, row["index"]))
        window = slice(row["y"], row["y"] + SIZE), slice(row["x"], row["x"] + SIZE)
        np.testing.assert_allclose(stamps.images[place], field.image[window] / field.sigma, rtol=1e-6)
        np.testing.assert_array_equal(stamps.ternary[place], field.ternary()[window])
        for ids, cut in ((stamps.id1, field.id1[window]), (stamps.id2, field.id2[window])):
            # Renumbered within the stamp: one number per identity, and 0 stays 0.
            pairs = set(zip(ids[place].ravel().tolist(), cut.ravel().tolist(), strict=True))
            assert len({a for a, _ in pairs}) == len({b for _, b in pairs}) == len(pairs)
            assert all((a == 0) == (b == 0) for a, b in pairs)


def test_the_target_is_central_and_its_galaxies_are_listed(stamps, sky):
    stamps, _ = stamps
    for place, row in enumerate(stamps.objects):
        truth = stamps.ternary[place], stamps.id1[place], stamps.id2[place]
        objects = true_objects(*truth)
        mask = objects.labels == row["label"]
        rows, columns = np.nonzero(mask)
        for along in (rows, columns):
            assert (along.min() + along.max() + 1) // 2 == SIZE // 2
            assert along.min() >= test_set_module.MARGIN - 1
        assert mask.sum() == row["area"] and objects.kind[row["label"]] == row["kind"]
        field = read_field(sky / field_name(9000, row["index"]))
        galaxies = stamps.galaxies[stamps.galaxies["stamp"] == place]
        assert len(galaxies) == row["n_galaxies"] == objects.n_galaxies[row["label"]]
        for galaxy in galaxies:
            own = (stamps.id1[place] == galaxy["number"]) & mask
            own |= (stamps.id2[place] == galaxy["number"]) & (stamps.ternary[place] == 2) & mask
            assert own.any()
            true = field.catalog[field.catalog["id"] == galaxy["id"]][0]
            assert galaxy["magnitude"] == true["magnitude"]
            assert galaxy["x"] == pytest.approx(true["x"] - row["x"])
            assert galaxy["y"] == pytest.approx(true["y"] - row["y"])


def test_read_equals_built_and_the_seed_chooses(stamps, sky, tmp_path):
    stamps, path = stamps
    read = read_test_set(path)
    for name in ("images", "ternary", "id1", "id2"):
        np.testing.assert_array_equal(getattr(read, name), getattr(stamps, name), strict=True)
    for name in ("objects", "galaxies"):
        ours, theirs = getattr(stamps, name), getattr(read, name)
        assert ours.colnames == theirs.colnames
        for column in ours.colnames:
            np.testing.assert_array_equal(np.asarray(ours[column]), np.asarray(theirs[column]))
    listed, survey = list_test_set(path)
    np.testing.assert_array_equal(listed.as_array(), stamps.objects.as_array())
    assert survey == read.survey == stamps.survey and survey.population.density == 350.0
    numbers = {"isolated": 12, "blended": 4, "size": SIZE}
    build_test_set(tmp_path / "again.fits", sky, seed=3, **numbers)
    assert (tmp_path / "again.fits").read_bytes() == path.read_bytes()
    other = build_test_set(tmp_path / "other.fits", sky, seed=4, **numbers)
    assert not np.array_equal(other.images, stamps.images)


def test_some_of_the_stamps(stamps):
    stamps, path = stamps
    places = [13, 2, 15]
    some = read_test_set(path, places)
    for name in ("images", "ternary", "id1", "id2"):
        np.testing.assert_array_equal(getattr(some, name), getattr(stamps, name)[places], strict=True)
    np.testing.assert_array_equal(some.objects.as_array(), stamps.objects[places].as_array())
    for new, old in enumerate(places):
        mine, theirs = (s.galaxies[s.galaxies["stamp"] == p] for s, p in ((some, new), (stamps, old)))
        assert list(mine["id"]) == list(theirs["id"]) and len(mine) == some.objects["n_galaxies"][new]


def test_not_a_test_set(sky):
    with pytest.raises(InputError, match="not a test set"):
        read_test_set(sky / field_name(9000, 0))

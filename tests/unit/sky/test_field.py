"""Simulated fields: the same bytes again, and truth against galaxies drawn one by one."""

import dataclasses

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from appulse.files import InputError
from appulse.sky import Survey, field_file, field_paths, open_field, read_field, simulate_field, write_field
from appulse.sky import field as field_module
from appulse.sky.field import field_info, field_name, seeds_of
from appulse.sky.population import Population
from appulse.sky.rendering import Renderer
from appulse.sky.truth import clip_to

# Crowded enough that some pixels hold three galaxies, and rectangular so that y and x cannot change places.
CROWDED = dataclasses.replace(
    Survey.load("paper"),
    name="crowded",
    population=Population(density=700.0, magnitude_bright=20.0, size_factor=2.5),
)
SHAPE = (130, 150)
ARRAYS = ("image", "light", "first", "second", "id1", "id2")


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


def same(a, b):
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), strict=True)
    for name in ("catalog", "deeper"):
        ours, theirs = getattr(a, name), getattr(b, name)
        assert ours.colnames == theirs.colnames and len(ours) == len(theirs)
        for column in ours.colnames:
            np.testing.assert_array_equal(np.asarray(ours[column]), np.asarray(theirs[column]))


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


def test_round_trip_is_exact(field, tmp_path):
    write_field(field, tmp_path / "field.fits")
    back = read_field(tmp_path / "field.fits")
    same(field, back)
    assert (back.seed, back.index) == (7, 2)
    assert back.survey == field.survey
    assert back.survey.digest() == field.survey.digest()
    assert back.sigma == field.sigma
    np.testing.assert_array_equal(back.ternary(), field.ternary())
    crowded = field.deeper["id"][0]
    np.testing.assert_array_equal(back.galaxy_mask(crowded), field.galaxy_mask(crowded))
    for name in ARRAYS:
        assert getattr(back, name).dtype.isnative


def test_tables_come_back_in_native_byte_order(field, tmp_path):
    # FITS is big-endian, which torch and compiled code refuse (DESIGN: convert once).
    write_field(field, tmp_path / "field.fits")
    back = read_field(tmp_path / "field.fits")
    for table in (back.catalog, back.deeper):
        for name in table.colnames:
            assert table[name].dtype.isnative, name


def test_any_fits_reader_opens_it(field, tmp_path):
    path = tmp_path / "field.fits"
    write_field(field, path)
    with fits.open(path) as hdus:
        names = [hdu.name for hdu in hdus]
        for name in ("IMAGE", "FIRST", "SECOND", "ID1", "ID2", "TERNARY", "CATALOG"):
            assert name in names
        np.testing.assert_array_equal(hdus["IMAGE"].data, field.image)
        np.testing.assert_array_equal(hdus["TERNARY"].data, field.ternary())
        np.testing.assert_array_equal(hdus["ID2"].data, field.id2)
        assert hdus["TERNARY"].data.dtype == np.uint8
        assert hdus[0].header["NOISE"] == pytest.approx(field.sigma)
        assert hdus["IMAGE"].header["NOISE"] == pytest.approx(field.sigma)
        assert hdus["IMAGE"].header["BUNIT"] == "uJy"
        wcs = WCS(hdus["IMAGE"].header)
    hdus_scale = np.sqrt(abs(np.linalg.det(wcs.pixel_scale_matrix))) * 3600
    assert hdus_scale == pytest.approx(0.1)
    catalog = Table.read(path, hdu="CATALOG")
    assert len(catalog) == len(field.catalog) and str(catalog["half_light_radius"].unit) == "arcsec"
    assert not list(tmp_path.glob(".*"))  # no temporary file left


def test_empty_sky(tmp_path):
    survey = dataclasses.replace(CROWDED, population=Population(density=0.0))
    empty = simulate_field(survey, 40, seed=3)
    assert not empty.light.any() and not empty.ternary().any() and len(empty.catalog) == 0
    assert "isophotal_area" in empty.catalog.colnames
    write_field(empty, tmp_path / "field.fits")
    same(empty, read_field(tmp_path / "field.fits"))


@pytest.mark.parametrize("unit", ["uJy", "ADU", "electron / s", "DN", "my own unit"])
def test_any_unit_survives_the_file(unit, tmp_path):
    survey = dataclasses.replace(CROWDED, unit=unit, population=Population(density=20.0))
    write_field(simulate_field(survey, 32, seed=3), tmp_path / "field.fits")
    assert read_field(tmp_path / "field.fits").survey.unit == unit


def test_survey_of_a_point_source_depth_survives_the_header(tmp_path):
    # A depth with all its digits, as [noise] magnitude, snr, aperture gives one.
    survey = dataclasses.replace(CROWDED, noise=24.648736210376543, population=Population(density=17.0 / 3.0))
    write_field(simulate_field(survey, 32, seed=3), tmp_path / "field.fits")
    assert read_field(tmp_path / "field.fits").survey.digest() == survey.digest()


def test_progress_counts_every_galaxy():
    calls = []
    survey = dataclasses.replace(CROWDED, population=Population(density=20.0))
    galaxies = len(simulate_field(survey, 160, seed=3, progress=lambda *call: calls.append(call)).catalog)
    # A bar shows from the start: a small field is a single strip.
    assert calls == [("galaxies", 0, galaxies), ("galaxies", galaxies, galaxies)] and galaxies > 0


def test_not_a_field(tmp_path):
    text = tmp_path / "text.fits"
    text.write_text("not FITS at all")
    image = tmp_path / "image.fits"
    fits.writeto(image, np.zeros((4, 4), np.float32))
    for path in (text, image, tmp_path / "missing.fits"):
        for read in (read_field, open_field, field_info, lambda path: seeds_of([path])):
            with pytest.raises(InputError, match=path.name):
                read(path)


@pytest.mark.filterwarnings("ignore:File may have been truncated")
def test_truncated_field(field, tmp_path):
    path = tmp_path / "field.fits"
    write_field(field, path)
    content = path.read_bytes()
    # By its header alone, though that is whole; the last byte of the last table counts, too.
    for length in (len(content) // 5, len(content) * 9 // 10, len(content) - 2880, len(content) - 1):
        path.write_bytes(content[:length])
        for read in (read_field, open_field, field_info):
            with pytest.raises(InputError, match=r"field\.fits: not a field .*(cut short|it has no CATALOG)"):
                read(path)


def test_a_field_without_a_layer_is_refused_when_it_is_opened(field, tmp_path):
    path = tmp_path / "field.fits"
    write_field(field, path)
    with fits.open(path, disable_image_compression=True) as hdus:
        del hdus["ID2"]
        hdus.writeto(path, overwrite=True)
    with pytest.raises(InputError, match=r"field\.fits: not a field .*it has no ID2"):
        field_info(path)


def test_field_paths(tmp_path):
    with pytest.raises(InputError, match="no simulated fields"):
        field_paths(tmp_path)
    for name in ("field_0003_01.fits", "field_0003_00.fits", "field_other.fits", "sky.json"):
        (tmp_path / name).touch()
    assert [path.name for path in field_paths(tmp_path)] == ["field_0003_00.fits", "field_0003_01.fits"]


def test_a_fields_header_tells_its_seed_whatever_its_name(tmp_path):
    empty = simulate_field(dataclasses.replace(CROWDED, population=Population(density=0.0)), 16, seed=3)
    paths = []
    for seed, index in [(7, 0), (7, 12), (9000, 3), (12345, 0)]:
        paths.append(tmp_path / field_name(1, len(paths)))
        write_field(dataclasses.replace(empty, seed=seed, index=index), paths[-1])
    assert seeds_of(field_paths(tmp_path)) == seeds_of(paths) == {7, 9000, 12345}
    info = field_info(paths[1])
    assert (info.survey, info.shape, info.seed, info.index) == (empty.survey, (16, 16), 7, 12)


def test_tables_are_read_when_they_are_asked_for(field, tmp_path, monkeypatch):
    path, read = tmp_path / "field.fits", []
    write_field(field, path)
    table = field_file.native_table
    monkeypatch.setattr(field_file, "native_table", lambda hdu: read.append(hdu.name) or table(hdu))
    field_info(path)
    with open_field(path) as file:
        assert (file.seed, file.shape, file.sigma) == (7, SHAPE, field.sigma) and sum(file.counts.pixels)
        assert read == []
        assert len(file.catalog) == len(field.catalog) and file.catalog is file.catalog
        assert read == ["CATALOG"]
        file.read((slice(9), slice(9)))
        file.read()
    assert sorted(read) == ["CATALOG", "DEEPER"]


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

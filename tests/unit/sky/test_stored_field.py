"""Fields on disk: the same again, for any reader, and refused where they are damaged."""

import dataclasses

import numpy as np
import pytest
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from appulse.files import InputError
from appulse.sky import field_paths, open_field, read_field, simulate_field, stored_field, write_field
from appulse.sky.population import Population
from appulse.sky.stored_field import field_info, field_name, seeds_of
from crowded import ARRAYS, CROWDED, SHAPE, same


@pytest.fixture(scope="module")
def field():
    return simulate_field(CROWDED, SHAPE, seed=7, index=2)


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
    # Small angles on the sky are angles on the image; the middle is where the header says.
    offsets = np.hypot(catalog["x"] - (SHAPE[1] - 1) / 2, catalog["y"] - (SHAPE[0] - 1) / 2)
    middle = SkyCoord(150.0, 2.2, unit="deg")
    found = middle.separation(SkyCoord(catalog["ra"], catalog["dec"])).arcsec
    np.testing.assert_allclose(found, 0.1 * offsets, rtol=1e-6, atol=1e-6)
    assert np.all((catalog["ra"] < 150) == (catalog["x"] > (SHAPE[1] - 1) / 2))
    assert np.all((catalog["dec"] > 2.2) == (catalog["y"] > (SHAPE[0] - 1) / 2))
    assert not list(tmp_path.glob(".*"))  # no temporary file left


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
    table = stored_field.native_table
    monkeypatch.setattr(stored_field, "native_table", lambda hdu: read.append(hdu.name) or table(hdu))
    field_info(path)
    with open_field(path) as file:
        assert (file.seed, file.shape, file.sigma) == (7, SHAPE, field.sigma) and sum(file.counts.pixels)
        assert read == []
        assert len(file.catalog) == len(field.catalog) and file.catalog is file.catalog
        assert read == ["CATALOG"]
        file.read((slice(9), slice(9)))
        file.read()
    assert sorted(read) == ["CATALOG", "DEEPER"]

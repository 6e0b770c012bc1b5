import os

import astropy.units as u
import numpy as np
import pytest
from astropy.io import fits
from astropy.table import QTable, Table

from appulse.files import InputError
from appulse.products import (
    CATALOG_FORMATS,
    MAPS,
    PAIRS,
    PROVENANCE,
    read_catalog,
    read_segmentation,
    write_by_windows,
    write_catalog,
)

WCS_LINES = (
    "CTYPE1  = 'RA---TAN'",
    "CTYPE2  = 'DEC--TAN'",
    "CRPIX1  =  2.50E0 / odd digits",
    "CRVAL1D =  1.5D+00",
)
LAYERS = ["TERNARY", "MEAN", "STD", "P_GALAXY", "P_OVERLAP", "SEGM", "SEGM2", "FLAGS", "PAIRS"]
PROVENANCE_GIVEN = {
    "version": "0.1.0",
    "model": "euclid",
    "sha256": "0123456789abcdef" * 4,
    "seed": 7,
    "samples": 50,
    "method": "two-step",
}


def content(realisations=None):
    random = np.random.default_rng(5)
    shape = (5, 8)
    maps = {"ternary": random.integers(0, 3, shape), "flags": random.integers(0, 256, shape)}
    maps |= {name: random.random(shape) for name in ("mean", "std", "p_galaxy", "p_overlap")}
    maps["mean"][0, 0] = np.nan
    maps |= {"segm": random.integers(0, 2**31 - 1, shape), "segm2": np.zeros(shape, int)}
    header = fits.Header([fits.Card.fromstring(line) for line in WCS_LINES])
    header["DATE"], header["ORIGIN"] = "2020-01-01", "somewhere"
    pairs = Table(
        {"label_a": [1, 2], "label_b": [2, 9], "overlap_area": [12.0, 3.0], "p_blend": [0.75, 0.25]}
        | {"border_area": [0.0, 5.0]}
    )
    return maps | {
        "pairs": pairs,
        "header": header,
        "provenance": PROVENANCE_GIVEN,
        "realisations": realisations,
    }


def write_segmentation(path, *, pairs, header, provenance, realisations=None, **maps):
    """Write whole maps in one part."""
    part = {name.upper(): values for name, values in maps.items()}
    shape = maps["ternary"].shape
    if realisations is not None:
        part["REALISATIONS"] = realisations
    samples = 0 if realisations is None else len(realisations)
    options = {"pairs": pairs, "header": header, "provenance": provenance, "samples": samples}
    write_by_windows(path, [((slice(0, shape[0]), slice(0, shape[1])), part)], shape=shape, **options)


def test_layout_is_the_contracts_as_astropy_sees_it(tmp_path):
    path, given = tmp_path / "a_segmentation.fits", content(np.ones((3, 5, 8), int))
    write_segmentation(path, **given)
    with fits.open(path) as hdus:
        hdus.verify("exception")
        assert [hdu.name for hdu in hdus] == ["PRIMARY", *LAYERS, "REALISATIONS"]
        assert hdus[0].data is None
        assert [hdus[0].header[key] for key in PROVENANCE.values()] == list(PROVENANCE_GIVEN.values())
        dtypes = {hdu.name: hdu.data.dtype.newbyteorder("=").name for hdu in hdus[1:] if hdu.is_image}
        assert dtypes == {item.name: item.dtype for item in MAPS} | {"REALISATIONS": "uint8"}
        assert hdus["PAIRS"].columns.names == [item.name for item in PAIRS]
        for hdu in hdus[1:]:
            assert not {"DATE", "ORIGIN"} & set(hdu.header)
            if hdu.is_image:
                cards = [str(card).rstrip() for card in hdu.header.cards]
                assert [card for card in cards if card.startswith(("CTYPE", "CRPIX", "CRVAL"))] == list(
                    WCS_LINES
                )


def test_everything_comes_back(tmp_path):
    path = tmp_path / "a.fits"
    given = content(np.random.default_rng(1).integers(0, 3, (4, 5, 8)))
    write_segmentation(path, **given)
    read = read_segmentation(path)
    for item in MAPS:
        values = read[item.name.lower()]
        np.testing.assert_array_equal(values, given[item.name.lower()].astype(item.dtype))
        assert values.dtype == np.dtype(item.dtype) and values.dtype.isnative
    np.testing.assert_array_equal(read["realisations"], given["realisations"])
    assert read["provenance"] == PROVENANCE_GIVEN
    for name in given["pairs"].colnames:
        np.testing.assert_array_equal(read["pairs"][name], given["pairs"][name])


def test_two_writes_give_the_same_bytes_wherever_they_go(tmp_path):
    (tmp_path / "elsewhere").mkdir()
    paths = tmp_path / "a.fits", tmp_path / "elsewhere" / "b.fits"
    for path in paths:
        write_segmentation(path, **content())
    first, second = (path.read_bytes() for path in paths)
    assert first == second and str(tmp_path).encode() not in first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.fits", "elsewhere"]


def test_writes_that_take_a_part_only_are_gone_on_with(tmp_path, monkeypatch):
    """As Linux does beyond 2 GiB, and a network's file system when it likes."""
    write_segmentation(tmp_path / "a.fits", **content())
    whole = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda file, left, place: whole(file, left[:7], place))
    write_segmentation(tmp_path / "b.fits", **content())
    assert (tmp_path / "a.fits").read_bytes() == (tmp_path / "b.fits").read_bytes()


def test_no_pairs_no_realisations_no_wcs(tmp_path):
    given = content() | {"pairs": None, "header": None, "provenance": PROVENANCE_GIVEN | {"threshold": 0.4}}
    write_segmentation(tmp_path / "a.fits", **given)
    read = read_segmentation(tmp_path / "a.fits")
    assert len(read["pairs"]) == 0 and read["pairs"].colnames == [item.name for item in PAIRS]
    assert [read[name] for name in ("realisations", "background", "background_rms")] == [None] * 3
    assert len(read["header"]) == 0
    assert read["provenance"]["threshold"] == 0.4


def test_a_model_may_be_named_in_any_script(tmp_path):
    given = content() | {"provenance": PROVENANCE_GIVEN | {"model": "modèle"}}
    write_segmentation(tmp_path / "a.fits", **given)
    assert read_segmentation(tmp_path / "a.fits")["provenance"]["model"] == r"mod\xe8le"


def test_mistakes_of_the_caller_are_refused_before_anything_is_written(tmp_path):
    path = tmp_path / "a.fits"
    with pytest.raises(ValueError, match="sha256"):
        write_segmentation(path, **content() | {"provenance": {"version": "0"}})
    assert not path.exists()


def test_other_files_are_refused_by_name(tmp_path):
    path = tmp_path / "other.fits"
    with pytest.raises(InputError, match=r"other\.fits: no such file"):
        read_segmentation(path)
    fits.PrimaryHDU(np.zeros((2, 2))).writeto(path)
    with pytest.raises(InputError, match=r"other\.fits: not a segmentation file"):
        read_segmentation(path)
    path.write_text("text")
    with pytest.raises(InputError, match=r"other\.fits: cannot be read"):
        read_segmentation(path)


# ------------------------------------------------------------------------------------------ catalogues


def catalog(rows=3):
    table = QTable(
        {
            "label": np.arange(1, rows + 1, dtype=np.int32),
            "ra": np.linspace(1, 2, rows) * u.deg,
            "flux": np.linspace(0.1, np.pi, rows).astype(np.float32) * u.electron / u.s,
            "area": np.full(rows, 3.0) * u.pix,
            "half_light_radius": np.full(rows, np.nan) * u.arcsec,
            "p_detect": np.linspace(0, 1, rows),
        }
    )
    table["p_detect"].description = "share of the realisations"
    table["ra"].info.description = "right ascension"
    return table


@pytest.mark.parametrize("format", CATALOG_FORMATS)
@pytest.mark.parametrize("rows", [3, 0])
def test_values_units_types_and_descriptions_survive(tmp_path, format, rows):
    table = catalog(rows)
    path = write_catalog(table, tmp_path / "m31.v2_catalog", format)
    assert path == tmp_path / f"m31.v2_catalog.{format}"
    read = read_catalog(path)
    assert isinstance(read, QTable) and read.colnames == table.colnames
    for name in table.colnames:
        assert read[name].unit == table[name].unit
        assert read[name].dtype == table[name].dtype and read[name].dtype.isnative
        assert read[name].info.description == table[name].info.description
        np.testing.assert_array_equal(np.asarray(read[name]), np.asarray(table[name]))


@pytest.mark.parametrize("format", CATALOG_FORMATS)
def test_nanomaggies_spelt_out_are_the_same_fluxes(tmp_path, format):
    table = catalog()
    table["flux"] = table["flux"].value * (3.631e-6 * u.Jy).to(3.631e-9 * u.Jy)
    table["flux"].info.description = "light"
    read = read_catalog(write_catalog(table, tmp_path / "a", format))
    np.testing.assert_allclose(read["flux"].to_value(u.uJy), table["flux"].to_value(u.uJy), rtol=1e-6)
    assert read["flux"].info.description == table["flux"].info.description
    assert table["flux"].unit.scale == 3.631e-9  # the caller's own is left alone


@pytest.mark.parametrize("format", CATALOG_FORMATS)
def test_a_catalogue_written_again_has_the_same_bytes(tmp_path, format):
    first = write_catalog(catalog(), tmp_path / "a", format).read_bytes()
    assert write_catalog(catalog(), tmp_path / f"a.{format}", format).read_bytes() == first
    assert [path.name for path in tmp_path.iterdir()] == [f"a.{format}"]


def test_wrong_catalogues_are_refused_by_name(tmp_path):
    with pytest.raises(InputError, match="'csv' is unknown; choose from fits, ecsv, parquet"):
        write_catalog(catalog(), tmp_path / "a", "csv")
    with pytest.raises(InputError, match="no such file"):
        read_catalog(tmp_path / "a.ecsv")
    (tmp_path / "a.parquet").write_text("text")
    with pytest.raises(InputError, match=r"a\.parquet: cannot be read"):
        read_catalog(tmp_path / "a.parquet")

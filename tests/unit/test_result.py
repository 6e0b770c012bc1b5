"""A result made by hand: two galaxies that share a lens of pixels, and one alone beside a bad pixel."""

import json

import numpy as np
import pytest
from astropy.io import fits
from astropy.table import Table
from photutils.segmentation import SegmentationImage, SourceCatalog

from appulse.files import InputError
from appulse.inference.realisations import Realisations
from appulse.objects import COLUMNS, build_catalog
from appulse.products import CATALOG_FORMATS, PAIRS, read_catalog, read_segmentation
from appulse.result import GalaxyCutout, Result, is_product, product_paths
from appulse.segmentation import segment
from by_hand import by_hand

SAMPLES, SHAPE = 5, (20, 30)
WINDOWS = (np.s_[2:9, 3:9], np.s_[2:9, 7:13], np.s_[12:17, 20:26])
PROVENANCE = {
    "version": "0.1.0",
    "model": "euclid",
    "sha256": "0123456789abcdef" * 4,
    "seed": 7,
    "samples": SAMPLES,
    "method": "two-step",
    "mode": "copula",
}


def made_by_hand(windows=WINDOWS):
    random = np.random.default_rng(0)
    covered = np.zeros(SHAPE, int)
    segm, segm2 = np.zeros((2, *SHAPE), np.int32)
    rows = []
    for label, window in enumerate(windows, start=1):
        covered[window] += 1
        segm2[window] = np.where(segm[window] > 0, label, 0)
        segm[window] = np.where(segm[window] > 0, segm[window], label)
        y, x = (np.mean([side.start, side.stop - 1]) for side in window)
        area = (window[0].stop - window[0].start) * (window[1].stop - window[1].start)
        row = {"label": label, "blend_id": int(label < 3), "x_centroid": x, "y_centroid": y, "area": area}
        rows.append(row | {"ellipticity": 0.2, "orientation": 30.0})
    ternary = np.minimum(covered, 2).astype(np.uint8)
    store = Realisations(SAMPLES, SHAPE)
    classes = np.where(random.random((SAMPLES, *SHAPE)) < 0.8, ternary, 0).astype(np.uint8)
    store.put(np.s_[0 : SHAPE[0], 0 : SHAPE[1]], classes)
    mean, std = store.mean_and_std()
    bad = np.zeros(SHAPE, bool)
    bad[14, 27] = True
    maps = [np.where(bad, np.nan, each).astype(np.float32) for each in (mean, std, ternary > 0, ternary > 1)]
    image = np.where(bad, np.nan, 5.0 * covered + random.standard_normal(SHAPE)).astype(np.float32)
    pairs = (
        {"label_a": [1], "label_b": [2], "overlap_area": [14], "p_blend": [0.8], "border_area": [9]}
        if windows
        else None
    )
    return Result(
        catalog=build_catalog(rows, flux_unit="nJy", pixel_scale_arcsec=0.1),
        pairs=Table(pairs) if pairs else Table(names=[item.name for item in PAIRS]),
        ternary=ternary,
        mean=maps[0],
        std=maps[1],
        p_galaxy=maps[2],
        p_overlap=maps[3],
        segm=segm,
        segm2=segm2,
        flags=bad.astype(np.uint8),
        image=image,
        background=np.full(SHAPE, 30, np.float32),
        background_rms=np.where(bad, np.nan, np.linspace(1, 2, SHAPE[1])).astype(np.float32),
        header=fits.Header({"CRPIX1": 3.5, "BUNIT": "nJy"}),
        provenance=PROVENANCE,
        cutouts=tuple(GalaxyCutout(window, np.ones(covered[window].shape, bool)) for window in windows),
        realisation_store=store,
    )


@pytest.fixture(scope="module")
def result():
    return made_by_hand()


def test_a_mask_lies_where_its_cutout_lies(result):
    for label, window in enumerate(WINDOWS, start=1):
        expected = np.zeros(SHAPE, bool)
        expected[window] = True
        np.testing.assert_array_equal(result.mask(label), expected)
    np.testing.assert_array_equal(result.mask(1) & result.mask(2), result.ternary == 2)


def test_realisations_of_a_galaxy_are_a_window_of_the_fields(result):
    whole = result.realisations()
    assert whole.shape == (SAMPLES, *SHAPE) and whole.dtype == np.uint8
    for label, window in enumerate(WINDOWS, start=1):
        np.testing.assert_array_equal(result.realisations(label), whole[:, *window])


@pytest.mark.parametrize("label", [0, -1, 4])
@pytest.mark.parametrize("method", ["mask", "realisations", "show"])
def test_a_label_that_is_not_in_the_catalogue_is_refused(result, label, method):
    with pytest.raises(ValueError, match=f"label {label}: the catalogue has labels 1 to 3"):
        getattr(result, method)(label)


def test_photutils_takes_the_segmentation_and_measures_with_it(result):
    segmentation = result.to_photutils()
    assert isinstance(segmentation, SegmentationImage)
    np.testing.assert_array_equal(segmentation.labels, result.catalog["label"])
    np.testing.assert_array_equal(segmentation.data, result.segm)
    image = np.nan_to_num(result.image)
    fluxes = [image[result.segm == label].sum() for label in result.catalog["label"]]
    np.testing.assert_allclose(SourceCatalog(image, segmentation).segment_flux, fluxes, rtol=1e-5)


def test_the_summary_counts(result):
    summary = result.summary()
    assert summary | PROVENANCE == summary
    counts = {key: summary[key] for key in ("height", "width", "galaxies", "galaxies_in_blends", "blends")}
    expected = {"height": 20, "width": 30, "galaxies": 3, "galaxies_in_blends": 2, "blends": 1}
    assert counts == expected and summary["bad_pixels"] == 1
    shares = [summary[f"share_{name}"] for name in ("background", "galaxy", "overlap")]
    assert sum(shares) == pytest.approx(1, abs=1e-5)
    assert shares[2] == pytest.approx(14 / 599, abs=1e-6)
    json.dumps(summary)


def test_products_do_not_depend_on_the_parts_that_they_are_written_in(result, tmp_path, monkeypatch):
    options = {"keep_realisations": True, "keep_background": True}
    whole = [path.read_bytes() for path in result.write(tmp_path / "whole", **options)]
    monkeypatch.setattr("appulse.result._PART", (7, 12))
    monkeypatch.setattr("appulse.result._BAND", 14)
    assert [path.read_bytes() for path in result.write(tmp_path / "parts", **options)] == whole


@pytest.mark.parametrize("windows", [WINDOWS, ()], ids=["galaxies", "none"])
@pytest.mark.parametrize("catalog_format", CATALOG_FORMATS)
def test_everything_is_written_under_its_name_and_can_be_read_again(tmp_path, windows, catalog_format):
    result = made_by_hand(windows)
    written = result.write(
        tmp_path / "new",
        "m31.v2",
        catalog_format=catalog_format,
        keep_realisations=True,
        keep_background=True,
        regions=True,
    )
    names = ["segmentation.fits", f"catalog.{catalog_format}", "regions.reg", "preview.png", "summary.json"]
    assert [path.name for path in written] == [f"m31.v2_{name}" for name in names]
    assert sorted((tmp_path / "new").iterdir()) == sorted(written)
    assert set(written) <= set(product_paths(tmp_path / "new", "m31.v2"))
    in_fits = {path for path in written if path.suffix == ".fits"}
    assert {path for path in written if is_product(path)} == in_fits

    segmentation = read_segmentation(written[0])
    for name in ("ternary", "mean", "std", "p_galaxy", "p_overlap", "segm", "segm2", "flags"):
        np.testing.assert_array_equal(segmentation[name], getattr(result, name), err_msg=name)
    np.testing.assert_array_equal(segmentation["realisations"], result.realisations())
    for name in ("background", "background_rms"):
        np.testing.assert_array_equal(segmentation[name], getattr(result, name), err_msg=name)
        assert fits.getheader(written[0], name)["BUNIT"] == "nJy"
    assert len(segmentation["pairs"]) == len(result.pairs)
    assert segmentation["header"]["CRPIX1"] == 3.5 and "BUNIT" not in segmentation["header"]
    assert segmentation["provenance"] == PROVENANCE

    catalog = read_catalog(written[1])
    assert catalog.colnames == [column.name for column in COLUMNS] and len(catalog) == len(windows)
    for name in catalog.colnames:
        assert catalog[name].unit == result.catalog[name].unit
        np.testing.assert_array_equal(np.asarray(catalog[name]), np.asarray(result.catalog[name]))
    assert json.loads(written[-1].read_text()) == result.summary()
    with pytest.raises(InputError, match="is no catalogue of appulse; it lacks area, flux, label"):
        read_catalog(written[0])


def test_an_unknown_format_is_refused_before_anything_is_written(tmp_path, result):
    with pytest.raises(InputError, match="format 'csv' is unknown"):
        result.write(tmp_path / "new", catalog_format="csv")
    assert not (tmp_path / "new").exists()


def test_what_photutils_changes_is_its_own(result):
    before = result.segm.copy()
    result.to_photutils().data[:] = 0
    np.testing.assert_array_equal(result.segm, before)


def test_pairs_come_back_as_they_were(tmp_path):
    disc = [np.hypot(*np.mgrid[-40:40, -40 - x : 40 - x]) < 9 for x in (-7, 7)]
    image = 8.0 * sum(disc) + np.random.default_rng(0).standard_normal((80, 80))
    result = segment(image.astype(np.float32), model=by_hand(), samples=3, rms=1.0)
    assert len(result.pairs)
    result.write(tmp_path, preview=False)
    again = read_segmentation(tmp_path / "image_segmentation.fits")["pairs"]
    for name in result.pairs.colnames:
        assert again[name].dtype == result.pairs[name].dtype and again[name].unit == result.pairs[name].unit
        np.testing.assert_array_equal(again[name], result.pairs[name])


def test_what_others_have_written_is_no_product(tmp_path):
    image, table = np.zeros((20, 30), np.float32), Table({"label": [1], "flux": [2.0]})
    fits.writeto(tmp_path / "image.fits", image, fits.Header({"MODEL": "a", "SEED": 1}))
    fits.writeto(tmp_path / "image.fits.gz", image)
    fits.HDUList([fits.PrimaryHDU(), fits.ImageHDU(image)]).writeto(tmp_path / "sci.fits")
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(image)]).writeto(tmp_path / "image.fits.fz")
    table.write(tmp_path / "table.fits")
    fits.PrimaryHDU().writeto(tmp_path / "empty.fits")
    (tmp_path / "cut.fits").write_bytes((tmp_path / "sci.fits").read_bytes()[:3000])
    (tmp_path / "text.fits").write_text("no FITS")
    (tmp_path / "folder.fits").mkdir()
    assert not [path for path in (*tmp_path.iterdir(), tmp_path / "missing.fits") if is_product(path)]


def test_only_what_is_asked_for_is_written(tmp_path, result):
    written = result.write(tmp_path, preview=False)
    assert [path.name for path in written] == [
        "image_segmentation.fits",
        "image_catalog.fits",
        "image_summary.json",
    ]
    assert sorted(tmp_path.iterdir()) == sorted(written)
    assert read_segmentation(written[0])["realisations"] is None


def test_writing_again_gives_the_same_bytes_wherever_it_goes(tmp_path, result):
    options = {"keep_realisations": True, "regions": True}
    one = result.write(tmp_path / "one", "a", **options)
    two = made_by_hand().write(tmp_path / "two", "a", **options)
    assert [path.read_bytes() for path in one] == [path.read_bytes() for path in two]


def test_regions_are_ellipses_of_the_galaxies_area_in_coordinates_counted_from_one(tmp_path, result):
    result.write(tmp_path, "a", preview=False, regions=True)
    lines = (tmp_path / "a_regions.reg").read_text().splitlines()
    assert lines[:2] == ["# Region file format: DS9", "image"] and len(lines) == 2 + 3
    for line, row in zip(lines[2:], result.catalog, strict=True):
        numbers = line[line.index("(") + 1 : line.index(")")].split(",")
        x, y, major, minor, angle = map(float, numbers)
        assert line.startswith("ellipse(")
        assert (x, y) == pytest.approx((row["x_centroid"].value + 1, row["y_centroid"].value + 1), abs=0.01)
        assert np.pi * major * minor == pytest.approx(row["area"].value, rel=0.01)
        assert minor / major == pytest.approx(1 - row["ellipticity"], abs=0.01)
        assert angle == pytest.approx(row["orientation"].value, abs=0.1)
        assert f"text={{{row['label']}}}" in line
        assert ("magenta" in line) == (row["blend_id"] > 0)

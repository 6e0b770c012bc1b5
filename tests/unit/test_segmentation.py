"""The main job with a network whose weights are set by hand (tests/by_hand.py)."""

import os
import subprocess
import sys
from pathlib import Path

import astropy.units as u
import numpy as np
import pytest
import torch
from astropy.coordinates import SkyCoord
from astropy.io import fits
from astropy.nddata import CCDData, NDData
from astropy.utils.masked import Masked
from astropy.wcs import WCS

from appulse.engine.describe import _pairs
from appulse.evaluation.truth_tables import result_masks
from appulse.files import InputError
from appulse.inference.crowding import Sampling
from appulse.inference.realisations import Realisations
from appulse.network import OperatingPoint
from appulse.network.calibration import ErrorBars
from appulse.objects import COLUMNS, MEASURED, ObjectFlag, PixelFlag, Separation, label_objects
from appulse.objects.components import MIN_OVERLAP
from appulse.objects.ensemble import Ensemble
from appulse.objects.thresholds import MAX_GALAXIES
from appulse.products import read_catalog
from appulse.segmentation import segment
from by_hand import BRIGHTNESS, SAMPLES, SIZE, by_hand, discs, thresholding_model

STAGES = ["background", "first pass", "second pass", "rebuilding", "bridges", "parting", "galaxies"]
MAPS = ("ternary", "mean", "std", "p_galaxy", "p_overlap", "segm", "segm2", "flags")


def lens_area(radius_a, radius_b, distance):
    """Area that two circles share."""
    cosines = [
        (distance**2 + one**2 - other**2) / (2 * distance * one)
        for one, other in ((radius_a, radius_b), (radius_b, radius_a))
    ]
    height = radius_a * np.sqrt(1 - cosines[0] ** 2)
    sectors = radius_a**2 * np.arccos(cosines[0]) + radius_b**2 * np.arccos(cosines[1])
    return sectors - distance * height


ALONE, PAIR, BORDER = (40, 50, 7), ((120, 60, 9), (131, 66, 8)), (197, 120, 6)
SCENE = (ALONE, *PAIR, BORDER)
SHAPE = (150, 200)


def run(image, **options):
    options = {"model": by_hand(), "samples": SAMPLES, "rms": 1.0, "subtract_background": False} | options
    return segment(image, **options)


@pytest.fixture(scope="module")
def scene():
    return run(discs(SHAPE, *SCENE))


def row_at(result, x, y):
    """The catalogue's row nearest to a position, which must be within 2 pixels."""
    distance = np.hypot(result.catalog["x_centroid"].value - x, result.catalog["y_centroid"].value - y)
    assert distance.min() < 2
    return result.catalog[int(np.argmin(distance))]


def assert_same_maps(one, other, skip=()):
    for name in MAPS:
        if name not in skip:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
    np.testing.assert_array_equal(one.realisations(), other.realisations())


def assert_same_catalogue(one, other, rtol=0.0):
    assert one.catalog.colnames == other.catalog.colnames
    for name in one.catalog.colnames:
        values = [np.asarray(result.catalog[name]) for result in (one, other)]
        np.testing.assert_allclose(*values, rtol=rtol, err_msg=name)


# ---------------------------------------------------------------------------------- what is in the scene


def test_every_galaxy_is_found_once_where_it_is(scene):
    assert len(scene.catalog) == 4
    rows = [row_at(scene, x, y) for x, y, _ in (ALONE, *PAIR)]
    assert len({row["label"] for row in rows}) == 3
    for row, (_, _, radius) in zip(rows, (ALONE, *PAIR), strict=True):
        area = np.pi * radius**2
        assert row["area"].value == pytest.approx(area, rel=0.25)  # the 3x3 box adds half a pixel all around
        assert row["flux"].value == pytest.approx(BRIGHTNESS * area, rel=0.15)
        assert row["half_light_radius"].value == pytest.approx(radius / np.sqrt(2), rel=0.15)
        assert row["ellipticity"] < 0.2 and row["p_detect"] == 1 and row["n_realisations"] > SAMPLES // 2


def test_a_galaxy_on_top_of_another_is_detected_where_there_are_two():
    """The light of its host is there without it."""
    rows, columns = np.mgrid[:96, :96]
    image = 0.3 * np.random.default_rng(0).normal(size=rows.shape)
    image += np.where(np.hypot(rows - 48, columns - 48) < 14, 4.0, 0.0)
    image += np.where(np.hypot(rows - 48, columns - 51) < 5, 2.5, 0.0)
    # In one pass the realisations are those of the first.
    result = segment(image, model=by_hand(), samples=40, seed=0, rms=1.0, method="grid")
    nested = (result.catalog["flags"] & ObjectFlag.NESTED) > 0
    assert nested.sum() == 1
    for is_nested, row, (box, mask) in zip(nested, result.catalog, result_masks(result), strict=True):
        found = result.realisations()[:, *box][:, mask] >= (2 if is_nested else 1)
        assert row["p_detect"] == pytest.approx((found.mean(axis=1) >= 0.5).mean())
    assert result.catalog["p_detect"][~nested] == 1 and result.catalog["p_detect"][nested] < 0.95


def test_a_pair_shares_the_pixels_of_its_lens(scene):
    a, b = (row_at(scene, x, y) for x, y, _ in PAIR)
    assert a["blend_id"] == b["blend_id"] > 0
    assert row_at(scene, *ALONE[:2])["blend_id"] == 0
    (pair,) = scene.pairs
    assert {pair["label_a"], pair["label_b"]} == {a["label"], b["label"]} and pair["p_blend"] > 0.5
    lens = lens_area(PAIR[0][2], PAIR[1][2], np.hypot(11, 6))
    shared = scene.mask(a["label"]) & scene.mask(b["label"])
    assert pair["overlap_area"] == shared.sum() == a["overlap_area"].value == b["overlap_area"].value
    assert shared.sum() == pytest.approx(lens, rel=0.35)
    np.testing.assert_array_equal(shared, scene.ternary == 2)
    assert set(scene.segm[shared]) | set(scene.segm2[shared]) == {a["label"], b["label"]}


def test_a_faint_bridge_is_cut_and_ternary_still_follows_from_the_probabilities():
    y, x = np.indices((90, 120))
    # Half-way the two reach 0.8 sigma each: background by the truth, though the network sees 1.6 there.
    # Nowhere is there light enough for the network to see an overlap, which would hold the two together.
    light = sum(5 * np.exp(-((x - centre) ** 2 + (y - 45) ** 2) / 50.0) for centre in (50, 69.14))
    result = run((light + 0.1 * np.random.default_rng(0).standard_normal(light.shape)).astype(np.float32))
    assert len(label_objects(result.ternary, 1)[1]) == 2
    t_galaxy, t_overlap = (result.provenance[name] for name in ("t_galaxy", "t_overlap"))
    galaxy = result.p_galaxy > t_galaxy
    np.testing.assert_array_equal(result.ternary, galaxy + 1 * (galaxy & (result.p_overlap > t_overlap)))
    assert (result.p_overlap <= result.p_galaxy).all()


def test_no_bridge_is_cut_beside_what_the_network_calls_an_overlap():
    y, x = np.indices((90, 120))
    # The same border, half-way; here both are bright, which the network takes for overlaps.
    light = sum(100 * np.exp(-((x - centre) ** 2 + (y - 45) ** 2) / 50.0) for centre in (44, 75.08))
    for block in (2048, SIZE):
        result = run(light.astype(np.float32), block=block)
        assert (result.p_overlap[45, 53:56] > 0.5).any() and result.p_overlap[45, 59] < 0.5
        assert len(label_objects(result.ternary, 1)[1]) == 1


def test_only_what_touches_the_border_is_flagged_so(scene):
    flags = np.array(scene.catalog["flags"])
    border = np.array(scene.catalog["bbox_xmax"]) == SHAPE[1] - 1
    np.testing.assert_array_equal((flags & ObjectFlag.BORDER) > 0, border)
    assert border.sum() == 1 and not (flags & ~ObjectFlag.BORDER).any()


def test_a_galaxy_larger_than_a_stamp_keeps_the_first_pass_and_says_so():
    result = run(discs((128, 128), (40, 60, 26), (105, 60, 6)))
    large, small = row_at(result, 40, 60), row_at(result, 105, 60)
    assert large["flags"] & ObjectFlag.LARGER_THAN_STAMP and not small["flags"]
    assert (result.flags[result.mask(large["label"])] == PixelFlag.FIRST_PASS).all()
    assert not result.flags[result.mask(small["label"])].any()
    grid = run(discs((128, 128), (40, 60, 26), (105, 60, 6)), method="grid")
    inside = result.mask(large["label"])
    np.testing.assert_array_equal(result.p_galaxy[inside], grid.p_galaxy[inside])


def test_three_galaxies_in_one_object_are_flagged():
    result = run(discs((100, 100), (35, 50, 8), (48, 50, 8), (61, 50, 8)))
    assert len(result.catalog) == 3
    assert all(row["flags"] & ObjectFlag.THREE_OR_MORE for row in result.catalog)
    assert {(pair["label_a"], pair["label_b"]) for pair in result.pairs} <= {(1, 2), (1, 3), (2, 3)}
    assert len(result.pairs) >= 2


# ------------------------------------------------------------------------------------- maps and catalogue


def test_the_catalogue_has_every_column_and_labels_are_the_segmentation_images(scene):
    assert scene.catalog.colnames == [column.name for column in COLUMNS]
    for column in COLUMNS:
        assert scene.catalog[column.name].dtype == np.dtype(column.dtype)
    labels = np.array(scene.catalog["label"])
    np.testing.assert_array_equal(labels, np.arange(1, len(labels) + 1))
    np.testing.assert_array_equal(np.unique(scene.segm), np.arange(len(labels) + 1))


def test_masks_make_up_the_class_map(scene):
    masks = np.stack([scene.mask(label) for label in scene.catalog["label"]])
    np.testing.assert_array_equal(masks.any(axis=0), scene.ternary > 0)
    np.testing.assert_array_equal(masks.any(axis=0), scene.segm > 0)
    assert (scene.ternary == 2).any() and (masks.sum(axis=0)[scene.ternary == 2] >= 2).all()
    assert (masks.sum(axis=0)[scene.ternary == 1] == 1).all()
    np.testing.assert_array_equal(scene.segm2 > 0, masks.sum(axis=0) > 1)
    for label, mask in enumerate(masks, start=1):
        assert mask[(scene.segm == label) | (scene.segm2 == label)].all()
    assert (scene.segm != scene.segm2)[scene.segm2 > 0].all()


def test_boxes_areas_and_fluxes_follow_from_the_masks(scene):
    for row in scene.catalog:
        mask = scene.mask(row["label"])
        y, x = np.nonzero(mask)
        assert (row["bbox_xmin"], row["bbox_xmax"]) == (x.min(), x.max())
        assert (row["bbox_ymin"], row["bbox_ymax"]) == (y.min(), y.max())
        assert row["area"].value == mask.sum()
        light = scene.image[mask].astype(float)
        if row["blend_id"] == 0:
            assert row["flux"].value == pytest.approx(light.sum(), rel=1e-5)
            assert row["flux_noise"].value == pytest.approx(np.sqrt(mask.sum()), rel=1e-5)
            assert row["x_centroid"].value == pytest.approx(np.average(x, weights=light), abs=0.3)
        else:
            alone = scene.image[mask & (scene.ternary == 1)].astype(float)
            assert alone.sum() < row["flux"].value < light.sum()
            assert row["flux_noise"].value < np.sqrt(mask.sum())
    blended = np.array(scene.catalog["blend_id"]) > 0
    together = np.any([scene.mask(label) for label in scene.catalog["label"][blended]], axis=0)
    assert scene.catalog["flux"].value[blended].sum() == pytest.approx(scene.image[together].sum(), rel=1e-5)


def test_spreads_are_ordered_and_probabilities_are_shares(scene):
    for name in ("area", "flux", "half_light_radius", "ellipticity", "orientation"):
        low, high = (np.asarray(scene.catalog[f"{name}_p{q}"]) for q in (16, 84))
        assert (low <= high).all() and (np.asarray(scene.catalog[f"{name}_std"]) >= 0).all()
    assert (scene.catalog["area_std"].value > 0).all()
    present = np.asarray(scene.catalog["n_realisations"])
    for name, total in (("p_detect", SAMPLES), ("p_blend", present)):
        share = np.asarray(scene.catalog[name])
        assert ((0 <= share) & (share <= 1)).all()
        np.testing.assert_allclose(share * total, np.round(share * total), atol=1e-9)
    orientation = scene.catalog["orientation"].value
    assert ((0 <= orientation) & (orientation < 180)).all()


def test_factors_of_the_calibration_widen_the_spreads(scene):
    bars = {"flux": ErrorBars((), (3.0,), (2.0,), (0.0,))}
    wide = run(discs(SHAPE, *SCENE), model=thresholding_model(error_bars=bars))
    for name, factor in (("flux_std", 3.0), ("area_std", 1.0)):
        np.testing.assert_allclose(wide.catalog[name].value, factor * scene.catalog[name].value, rtol=1e-6)
    np.testing.assert_array_equal(wide.catalog["flux"], scene.catalog["flux"])


def test_error_bars_of_the_calibration_do_not_hold_for_the_papers_mode():
    bars = {name: ErrorBars((), (3.0,), (2.0,), (0.5,)) for name in MEASURED}
    for options in ({}, {"error_bars": bars}, {"blend_error_bars": bars}):
        result = run(discs(SHAPE, *SCENE), model=thresholding_model(**options), mode="latent")
        if not options:
            plain = result
        assert_same_catalogue(result, plain)


def test_error_bars_of_the_calibration_move_and_widen_the_intervals(scene):
    snr = np.asarray(scene.catalog["flux"] / scene.catalog["flux_noise"])
    edge = np.mean(snr[scene.catalog["blend_id"] == 0])  # between the two that are alone
    bars = {
        "error_bars": {"flux": ErrorBars((edge,), (2.0, 4.0), (2.0, 2.0), (-0.5, 1.0))},
        "blend_error_bars": {"flux": ErrorBars((), (3.0,), (2.0,), (0.25,))},
    }
    moved = run(discs(SHAPE, *SCENE), model=thresholding_model(**bars))
    shared = scene.catalog["blend_id"] > 0
    assert len(set(zip(shared.tolist(), (snr > edge).tolist(), strict=True))) >= 3
    low, high, new_low, new_high = (
        np.asarray(each.catalog[f"flux_p{q}"]) for each in (scene, moved) for q in (16, 84)
    )
    factor, shift = (
        np.where(shared, of_blends, np.where(snr > edge, brighter, fainter))
        for of_blends, brighter, fainter in ((3.0, 4.0, 2.0), (0.25, 1.0, -0.5))
    )
    np.testing.assert_allclose(new_high - new_low, factor * (high - low), rtol=1e-5)
    by = shift * 0.5 * (high - low)
    np.testing.assert_allclose(0.5 * (new_low + new_high), 0.5 * (low + high) + by, rtol=1e-6)
    for name in ("flux", "area", "area_p16", "area_p84"):
        np.testing.assert_array_equal(moved.catalog[name], scene.catalog[name])


@pytest.mark.parametrize("point", ["balanced", "pure"])
def test_class_map_is_the_formula_on_the_probabilities(point):
    points = {"balanced": OperatingPoint(0.5, 0.5), "pure": OperatingPoint(0.8, 0.3, min_area=60)}
    # The second disc has 37 pixels: under `pure` in the class map, but not among the objects.
    image = discs((96, 96), (50, 40, 9), (20, 20, 3))
    result = run(image, model=thresholding_model(operating_points=points), operating_point=point)
    thresholds = points[point]
    galaxy = result.p_galaxy > thresholds.t_galaxy
    expected = galaxy.astype(int) + (galaxy & (result.p_overlap > thresholds.t_overlap))
    np.testing.assert_array_equal(result.ternary, expected)
    assert len(result.catalog) == (2 if point == "balanced" else 1)
    assert (result.provenance["t_galaxy"], result.provenance["t_overlap"]) == (
        thresholds.t_galaxy,
        thresholds.t_overlap,
    )
    assert result.ternary[20, 20] == 1 and (result.segm[20, 20] > 0) == (point == "balanced")


def test_mean_and_std_are_those_of_the_realisations(scene):
    stack = scene.realisations()
    assert stack.shape == (SAMPLES, *SHAPE) and stack.dtype == np.uint8
    np.testing.assert_array_equal(scene.mean, stack.mean(axis=0).astype(np.float32))
    np.testing.assert_array_max_ulp(scene.std, stack.std(axis=0).astype(np.float32), 1)
    assert scene.std.max() > 0
    label = row_at(scene, *ALONE[:2])["label"]
    window = scene.cutouts[label - 1].window
    np.testing.assert_array_equal(scene.realisations(label), stack[:, *window])
    assert isinstance(scene.realisation_store, Realisations)


def test_probabilities_are_ordered(scene):
    assert ((0 <= scene.p_overlap) & (scene.p_overlap <= scene.p_galaxy) & (scene.p_galaxy <= 1)).all()


# ----------------------------------------------------------------------------------------- reproducible


@pytest.mark.parametrize("method", ["two-step", "grid"])
@pytest.mark.parametrize("mode", ["copula", "latent"])
def test_the_same_call_gives_the_same_result(method, mode):
    image = discs((70, 100), (30, 30, 7), (70, 40, 8), (80, 46, 7))
    one, two = (run(image, method=method, mode=mode) for _ in range(2))
    assert_same_maps(one, two)
    assert_same_catalogue(one, two)
    assert len(one.catalog) == 3


def test_another_seed_gives_other_realisations_and_the_same_galaxies(scene):
    other = run(discs(SHAPE, *SCENE), seed=1)
    assert (other.realisations() != scene.realisations()).any()
    assert len(other.catalog) == len(scene.catalog)
    for row in scene.catalog:
        twin = row_at(other, row["x_centroid"].value, row["y_centroid"].value)
        shared, either = (
            combine(scene.mask(row["label"]), other.mask(twin["label"])).sum()
            for combine in (np.logical_and, np.logical_or)
        )
        assert shared > 0.9 * either and (row["blend_id"] > 0) == (twin["blend_id"] > 0)


def test_the_image_is_left_as_it_was():
    image = discs((64, 64), (30, 30, 7))
    before = image.copy()
    run(image)
    np.testing.assert_array_equal(image, before)


# ----------------------------------------------------------------------------------------------- units


@pytest.mark.parametrize("factor", [2.0**-100, 2.0**30])
def test_units_do_not_matter(scene, factor):
    """A power of two changes no digit, so neither may the maps."""
    result = run((discs(SHAPE, *SCENE).astype(float) * factor).astype(np.float32), rms=factor)
    assert_same_maps(result, scene)
    for name in result.catalog.colnames:
        scale = factor if name.startswith("flux") else 1.0
        values = np.asarray(result.catalog[name]) / scale
        np.testing.assert_allclose(values, np.asarray(scene.catalog[name]), rtol=1e-5, err_msg=name)


@pytest.mark.parametrize("factor", [1e-12, 1e9])
def test_units_that_round_change_no_galaxy(scene, factor):
    result = run((discs(SHAPE, *SCENE).astype(float) * factor).astype(np.float32), rms=factor)
    assert np.mean(result.ternary != scene.ternary) < 1e-3
    assert len(result.catalog) == len(scene.catalog)
    np.testing.assert_allclose(result.catalog["flux"].value, scene.catalog["flux"].value * factor, rtol=0.02)


def test_noise_may_be_given_in_three_ways_and_as_map_or_number():
    image = discs((80, 90), (40, 40, 8)) * 2
    expected = run(image, rms=2.0)
    for given in (
        {"rms": np.full((80, 90), 2.0)},
        {"rms": None, "variance": 4.0},
        {"rms": None, "variance": np.full((80, 90), 4.0, np.float32)},
        {"rms": None, "weight": 0.25},
        {"rms": None, "weight": np.full((80, 90), 0.25)},
    ):
        result = run(image, **given)
        assert_same_maps(result, expected)
        assert_same_catalogue(result, expected)


def test_a_step_of_the_noise_inside_a_galaxy_moves_and_bends_it_little():
    y, x = np.mgrid[:96, :128].astype(float)
    light = 400 * np.exp(-((x - 64) ** 2 + (y - 48) ** 2) / (2 * 5.0**2))
    lone = thresholding_model(operating_points={"balanced": OperatingPoint(0.5, 1.0)})
    noise = np.random.default_rng(1).standard_normal(light.shape)
    for deeper in (1.0, 2.0, 3.0):
        rms = np.where(x < 64, 1.0, deeper)
        result = run(light + rms * noise, rms=rms, model=lone)
        row = row_at(result, 64, 48)
        # The mask reaches less far on the noisier side, where little light is.
        assert float(row["x_centroid"].value) == pytest.approx(64, abs=0.1)
        assert float(row["y_centroid"].value) == pytest.approx(48, abs=0.1)
        assert float(row["half_light_radius"].value) == pytest.approx(5 * np.sqrt(2 * np.log(2)), rel=0.03)
        assert float(row["ellipticity"]) < 0.05
        assert float(row["flux"].value) == pytest.approx(light.sum(), rel=0.02)


def test_noise_that_contradicts_the_image_is_flagged_everywhere(scene):
    result = run(2 * discs(SHAPE, *SCENE), rms=1.0)
    assert (result.flags & PixelFlag.NOISE_DISAGREES).all()
    assert result.provenance["noise_ratio"] == pytest.approx(2, rel=0.05)
    assert not (scene.flags & PixelFlag.NOISE_DISAGREES).any()
    assert scene.provenance["noise_ratio"] == pytest.approx(1, rel=0.05)


def test_noise_of_a_flux_is_that_of_the_map_with_the_sources_own():
    light = discs(SHAPE, *SCENE, noise=0)
    light[10:16, 100:106] = 300  # which shows the gain
    variance = 1 + 0.25 * light
    image = light + np.sqrt(variance) * np.random.default_rng(3).standard_normal(SHAPE)
    result = run(image, rms=None, variance=variance)
    for x, y, _ in (ALONE, BORDER):
        row = row_at(result, min(x, SHAPE[1] - 4), y)
        mask = result.mask(row["label"])
        assert row["blend_id"] == 0
        assert row["flux_noise"].value == pytest.approx(np.sqrt(variance[mask].sum()), rel=1e-5)
        np.testing.assert_allclose(result.background_rms[mask], 1, rtol=0.2)
        assert np.sqrt(variance[mask]).mean() > 1.25


def test_noise_of_a_flux_knows_of_correlated_pixels():
    """Each is a mean of three independent ones: a sum has each of those as often as pixels use it."""
    shifts = ((0, 0), (1, 0), (1, 1))
    noise = sum(np.roll(discs((256, 256)), shift, axis=(0, 1)) for shift in shifts) / np.sqrt(3)
    result = run(noise + discs((256, 256), (120, 120, 20), noise=0))
    (row,) = (row for row in result.catalog if row["area"].value > 900)
    mask = result.mask(row["label"])
    uses = sum(np.roll(mask, (-y, -x), axis=(0, 1)).astype(float) for y, x in shifts)
    assert row["flux_noise"].value == pytest.approx(np.sqrt((uses**2).sum() / 3), rel=0.1)
    assert row["flux_noise"].value > 1.5 * np.sqrt(mask.sum())


@pytest.mark.parametrize(("left", "is_seen"), [(0, True), (150, False), (300, True)])
def test_a_crowd_is_told_if_the_parts_that_are_looked_at_hold_it(monkeypatch, left, is_seen):
    monkeypatch.setattr("appulse.engine.provenance.SAMPLING", Sampling(longest=90, part=45, count=2))
    image = discs((90, 380))
    image[:, left : left + 80] += BRIGHTNESS
    warnings = run(image, rms=None).warnings
    assert any("% of the pixels hold sources" in warning for warning in warnings) == is_seen


def test_drizzled_noise_puts_every_galaxy_outside_the_models_range():
    noise = discs((120, 120))
    drizzled = (noise + np.roll(noise, 1, axis=0) + np.roll(noise, 1, axis=1)) / np.sqrt(3)
    result = run(drizzled + discs((120, 120), (60, 60, 8), noise=0))
    assert result.provenance["noise_correlation"] > 0.25 and len(result.catalog) > 0
    assert all(row["flags"] & ObjectFlag.OUTSIDE_MODEL_RANGE for row in result.catalog)


def test_without_noise_map_the_noise_is_measured(scene):
    result = run(3 * discs(SHAPE, *SCENE) + 100, rms=None, subtract_background=True)
    assert len(result.catalog) == len(scene.catalog)
    flux = row_at(result, *ALONE[:2])["flux"].value
    assert flux == pytest.approx(3 * row_at(scene, *ALONE[:2])["flux"].value, rel=0.1)


def test_background_and_its_noise_give_the_image_back(scene):
    height, width = SHAPE
    sky = 100 + 0.05 * np.arange(width) + np.zeros((height, 1))
    given = (3 * discs(SHAPE, *SCENE) + sky).astype(np.float32)
    given[20:23, 5] = np.nan
    result = run(given, rms=None, subtract_background=True)
    np.testing.assert_allclose(result.background, sky, atol=1)
    good = np.isfinite(given)
    np.testing.assert_array_equal(np.isfinite(result.background_rms), good)
    np.testing.assert_allclose(result.background_rms[good], 3, rtol=0.1)
    back = result.background + result.background_rms * result.image
    np.testing.assert_allclose(back[good], given[good], rtol=1e-6)
    assert not scene.background.any() and (scene.background_rms == 1).all()


# ------------------------------------------------------------------------------------------- bad pixels


def test_bad_pixels_are_nan_or_zero_or_flagged():
    image = discs((96, 96), (40, 40, 8), (75, 75, 7))
    image[38:44, 44:60] = np.nan
    bad = np.isnan(image)
    result = run(image)
    for name in ("mean", "std", "p_galaxy", "p_overlap"):
        np.testing.assert_array_equal(np.isnan(getattr(result, name)), bad, err_msg=name)
    for name in ("ternary", "segm", "segm2"):
        assert not getattr(result, name)[bad].any()
    assert result.realisations()[:, ~bad].any() and not result.realisations()[:, bad].any()
    np.testing.assert_array_equal((result.flags & PixelFlag.BAD_PIXEL) > 0, bad)
    np.testing.assert_array_equal(np.isnan(result.image), bad)
    touched, clean = row_at(result, 39, 40), row_at(result, 75, 75)
    assert touched["flags"] & ObjectFlag.BAD_PIXEL and not clean["flags"] & ObjectFlag.BAD_PIXEL
    for name in ("flux", "flux_noise", "area", "x_centroid", "y_centroid"):
        assert np.isfinite(np.asarray(touched[name]))


def test_a_pixel_may_be_bad_in_many_ways():
    image = discs((96, 96), (40, 40, 8), (75, 75, 7))
    bad = np.zeros(image.shape, bool)
    bad[38:44, 44:60] = True
    expected = run(np.where(bad, np.nan, image))
    ways = (
        run(np.where(bad, np.inf, image)),
        run(np.where(bad, 1e20, image), mask=bad),
        run(image, mask=3 * bad.astype(np.int16)),
        run(image, rms=None, weight=np.where(bad, 0.0, 1.0)),
        run(image, rms=np.where(bad, np.nan, 1.0)),
    )
    for result in ways:
        assert_same_maps(result, expected)
        assert_same_catalogue(result, expected)


def test_bad_pixels_change_nothing_beyond_a_stamp():
    circles = ((30, 30, 7), (150, 40, 8), (160, 46, 7))
    image = discs((70, 200), *circles)
    expected = run(image)
    image[20:34, 10:34] = np.nan
    result = run(image)
    assert (result.ternary != expected.ternary).any()
    far = np.s_[:, 34 + SIZE :]
    for name in ("ternary", "mean", "std", "p_galaxy", "p_overlap", "flags"):
        np.testing.assert_array_equal(getattr(result, name)[far], getattr(expected, name)[far], err_msg=name)


# ------------------------------------------------------------------------------------- nothing, or little


@pytest.mark.parametrize("method", ["two-step", "grid"])
def test_no_galaxy_no_row_but_every_column(method, tmp_path):
    result = run(discs((70, 80)), method=method)
    assert len(result.catalog) == len(result.pairs) == 0 and result.cutouts == ()
    assert result.catalog.colnames == [column.name for column in COLUMNS]
    assert result.pairs.colnames == ["label_a", "label_b", "overlap_area", "p_blend", "border_area"]
    assert not result.segm.any() and not result.ternary.any()
    assert len(result.write(tmp_path, "empty", regions=True)) == 5


@pytest.mark.parametrize("shape", [(30, 45), (64, 20), (12, 12), (65, 65)])
def test_images_smaller_than_a_stamp_or_just_larger(shape):
    result = run(discs(shape, (6, 6, 4)))
    assert all(getattr(result, name).shape == shape for name in MAPS)
    row = row_at(result, 6, 6)
    assert len(result.catalog) == 1 and row["area"].value == pytest.approx(49, rel=0.4)


@pytest.mark.parametrize("value", [0.0, 7.5, np.nan])
def test_an_image_without_contrast_is_refused(value):
    with pytest.raises(InputError, match="nothing to segment"):
        run(np.full((64, 64), value, np.float32))


def test_one_realisation_is_enough():
    result = run(discs((64, 64), (30, 30, 7)), samples=1)
    assert len(result.catalog) == 1 and not result.std.any()
    assert result.realisations().shape == (1, 64, 64)


# ---------------------------------------------------------------------------------------------- refusals


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"method": "magic"}, "unknown method 'magic'"),
        ({"operating_point": "perfect"}, "no operating point 'perfect'; it has: balanced"),
        ({"samples": 0}, "samples is 0"),
        ({"model": "andromeda"}, "unknown model 'andromeda'"),
        ({"model": "missing.safetensors"}, "no such weight file"),
        ({"rms": 1.0, "weight": 1.0}, "both rms and weight"),
        ({"rms": np.ones((5, 5))}, r"shape \(5, 5\)"),
        ({"mask": np.ones((5, 5))}, r"shape \(5, 5\)"),
        ({"mode": "magic"}, "magic"),
        ({"seed": -1}, "seed"),
        ({"seed": "a"}, "seed is 'a'; it must be a whole number"),
        ({"samples": 2.5}, "samples is 2.5; it must be a whole number"),
        ({"block": 256.0}, "block is 256.0; it must be a whole number"),
        ({"device": "gpu"}, "unknown device 'gpu'; known: auto, cpu, cuda"),
        ({"origin": 5}, r"origin is 5; it must be \(y0, x0\)"),
        ({"origin": (192,)}, r"it must be \(y0, x0\)"),
        ({"hdu": "SCI"}, "the image is an array"),
    ],
)
def test_options_that_cannot_be_used_are_refused_in_one_line(options, message):
    with pytest.raises(InputError, match=message) as caught:
        run(discs((64, 64), (30, 30, 7)), **options)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shape", [(64,), (2, 64, 64)])
def test_arrays_that_are_no_image_are_refused(shape):
    with pytest.raises(InputError, match="2-D image"):
        run(np.ones(shape))


@pytest.mark.skipif(torch.cuda.is_available(), reason="a CUDA device is here")
def test_a_device_that_is_not_there_is_refused():
    with pytest.raises(InputError, match="no CUDA device"):
        run(discs((64, 64)), device="cuda")


@pytest.mark.parametrize("method", ["two-step", "grid", "sliding"])
def test_progress_is_reported_stage_by_stage(method):
    calls, image = [], discs((70, 70), (20, 20, 6), (50, 50, 6))
    run(image, method=method, progress=lambda *call: calls.append(call))
    stages = list(dict.fromkeys(stage for stage, _, _ in calls))
    assert stages == [stage for stage in STAGES if method == "two-step" or stage != "second pass"]
    known = {"first pass": 4, "second pass": 2, "galaxies": 2} if method == "two-step" else {"galaxies": 2}
    for stage in stages:
        counts = [call[1:] for call in calls if call[0] == stage]
        total = known.get(stage, counts[-1][1])
        assert counts == [(n, total) for n in range(1, total + 1)], stage


# ------------------------------------------------------------------------------------------------- files


SIP = {
    "CTYPE1": "RA---TAN-SIP",
    "CTYPE2": "DEC--TAN-SIP",
    "CRVAL1": 150.1,
    "CRVAL2": 2.2,
    "CRPIX1": 80.5,
    "CRPIX2": 60.5,
    "CD1_1": -2.7e-5,
    "CD1_2": 1.1e-6,
    "CD2_1": 9.0e-7,
    "CD2_2": 2.8e-5,
    "A_ORDER": 2,
    "A_2_0": 3e-5,
    "A_1_1": -2e-5,
    "B_ORDER": 2,
    "B_0_2": 4e-5,
    "B_1_1": 1e-5,
}


def write_fits(path, image, **cards):
    header = fits.Header()
    for key, value in cards.items():
        header[key] = value
    fits.writeto(path, image, header)
    return path


def test_sky_positions_are_those_of_the_images_own_wcs_distortions_included(tmp_path):
    path = write_fits(tmp_path / "sip.fits", discs((120, 160), (40, 50, 7), (110, 80, 8)), BUNIT="nJy", **SIP)
    result = run(path)
    with fits.open(path) as hdus:
        wcs = WCS(hdus[0].header)
    x, y = (result.catalog[f"{axis}_centroid"].value for axis in "xy")
    expected = wcs.pixel_to_world(x, y)
    found = SkyCoord(result.catalog["ra"], result.catalog["dec"])
    assert len(found) == 2 and found.separation(expected).max() < 1e-7 * u.arcsec
    without = SkyCoord(*wcs.wcs_pix2world(x, y, 0), unit="deg")
    assert found.separation(without).max() > 1e-3 * u.arcsec  # the distortion is no dead letter

    result.write(tmp_path / "out", "sip", preview=False)
    corners = [[0, 0], [159, 0], [0, 119], [159, 119], [33.3, 71.7]]
    with fits.open(tmp_path / "out" / "sip_segmentation.fits") as hdus:
        for hdu in hdus[1:-1]:
            written = WCS(hdu.header)
            assert written.sip is not None
            np.testing.assert_array_equal(written.all_pix2world(corners, 0), wcs.all_pix2world(corners, 0))


@pytest.mark.parametrize("dtype", [np.float32, np.int16])
def test_masked_pixels_of_an_array_are_bad(dtype):
    image = np.round(100 * discs((70, 70), (40, 40, 8), (15, 15, 7))).astype(dtype)
    mask = np.zeros(image.shape, bool)
    mask[30:50, 30:50] = True
    result, given = run(np.ma.masked_array(image, mask)), run(image, mask=mask)
    np.testing.assert_array_equal(result.flags & PixelFlag.BAD_PIXEL > 0, mask)
    for name in ("p_galaxy", "segm", "image"):
        np.testing.assert_array_equal(getattr(result, name), getattr(given, name))


@pytest.mark.parametrize("kind", ["rms", "variance", "weight", "mask"])
def test_masked_pixels_of_a_map_are_bad(kind):
    mask = np.zeros((70, 70), bool)
    mask[30:50, 30:50] = True
    values = np.ma.masked_array(np.full(mask.shape, float(kind != "mask")), mask)
    result = run(discs((70, 70), (40, 40, 8)), **({"rms": None} | {kind: values}))
    np.testing.assert_array_equal(result.flags & PixelFlag.BAD_PIXEL > 0, mask)


@pytest.mark.parametrize("unit", [1, u.uJy])
@pytest.mark.parametrize("kind", ["image", "rms", "mask"])
def test_astropys_masked_arrays_are_as_numpys(kind, unit):
    masked = np.zeros((70, 70), bool)
    masked[30:50, 30:50] = True
    given = {"image": discs((70, 70), (40, 40, 8)), "rms": np.ones((70, 70)), "mask": np.zeros((70, 70))}
    expected = run(**given | {kind: np.ma.array(given[kind], mask=masked)})
    given |= {name: given[name] * unit for name in ("image", "rms")}
    result = run(**given | {kind: Masked(given[kind], mask=masked)})
    assert (result.flags & PixelFlag.BAD_PIXEL > 0).sum() == masked.sum()
    for name in ("ternary", "flags", "p_galaxy"):
        np.testing.assert_array_equal(getattr(result, name), getattr(expected, name))


def test_masks_in_realisations_are_what_the_catalogue_measured():
    """In blends and alone, beside bad pixels and beside neighbours that share a window."""
    image = discs(SHAPE, *SCENE, (20, 100, 6), (20, 114, 6), noise=1.5)
    image[22:25, 98:101] = np.nan
    result = run(image, samples=12)
    assert len(result.pairs) and (result.catalog["area_std"] > 0).any()
    for row in result.catalog:
        masks = result.galaxy_masks(row["label"])
        areas = masks.sum(axis=(1, 2))
        assert masks.shape[1:] == result.cutout(row["label"]).mask.shape
        assert (areas > 0).sum() == row["n_realisations"]
        assert areas[areas > 0].std() == pytest.approx(row["area_std"].value, rel=1e-6)
    with pytest.raises(ValueError, match="label 99"):
        result.galaxy_masks(99)


def test_blends_are_as_probable_as_masks_of_realisations_meet():
    result = run(discs(SHAPE, *SCENE, (60, 100, 7), (70, 106, 7), noise=1.5), samples=12)
    assert len(result.pairs) == 2
    for pair in result.pairs:
        one, other = (result.galaxy_masks(pair[f"label_{side}"]) for side in "ab")
        both = (one & other).sum(axis=(1, 2)) >= MIN_OVERLAP
        present = one.any(axis=(1, 2)) & other.any(axis=(1, 2))
        assert pair["p_blend"] == pytest.approx(both.sum() / present.sum())
        # Blends of two: what is true of the pair is true of each.
        for label, masks in ((pair["label_a"], one), (pair["label_b"], other)):
            share = both.sum() / masks.any(axis=(1, 2)).sum()
            assert result.catalog["p_blend"][label - 1] == pytest.approx(share)


def test_a_product_is_no_image_unless_its_hdu_is_named(tmp_path):
    run(discs((70, 70), (40, 40, 8))).write(tmp_path, "a", preview=False)
    with pytest.raises(InputError, match="a product of appulse; give the image that it was made of"):
        run(tmp_path / "a_segmentation.fits")
    assert run(tmp_path / "a_segmentation.fits", hdu="MEAN").ternary.shape == (70, 70)


THREADS = """
import torch
from appulse.segmentation import segment
from by_hand import by_hand, discs
before = torch.get_num_threads()
segment(discs((64, 64)), model=by_hand(), samples=2, rms=1.0)
print(before, torch.get_num_threads())
"""


@pytest.mark.parametrize("threads", [1, 2])
def test_the_number_of_threads_stays_what_it_was(threads):
    """Numba, at its first parallel loop, would give torch as many as there are CPUs."""
    plain = {name: value for name, value in os.environ.items() if not name.endswith("_NUM_THREADS")}
    wanted = {"OMP_NUM_THREADS": str(threads), "PYTHONPATH": str(Path(__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", THREADS], env=plain | wanted, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [str(threads)] * 2


def test_quantities_keep_their_units():
    image = discs((70, 70), (40, 40, 8))
    plain = run(image, rms=np.ones(image.shape))
    for given in (
        {"rms": 1e-3 * u.mJy},
        {"rms": np.full(image.shape, 1e-3) * u.mJy},
        {"variance": np.ones(image.shape) * u.uJy**2},
        {"weight": np.full(image.shape, 1e6) / u.mJy**2},
    ):
        result = run(image * u.uJy, **({"rms": None} | given))
        assert result.catalog["flux"].unit == u.uJy
        np.testing.assert_allclose(result.catalog["flux"].value, plain.catalog["flux"].value, rtol=1e-5)


@pytest.mark.parametrize(
    ("image", "maps", "message"),
    [
        (CCDData(np.ones((70, 70)), unit="adu"), {}, "is a CCDData.*mask=x.mask"),
        (fits.PrimaryHDU(np.ones((70, 70))), {}, "is a PrimaryHDU; give the file"),
        (NDData(np.ones((70, 70))), {}, "is a NDData"),
        (np.ones((70, 70)), {"rms": NDData(np.ones((70, 70)))}, "the rms is a NDData"),
        (np.ones((70, 70), complex), {}, "complex128; appulse needs real numbers"),
        (np.full((70, 70), "a"), {}, "appulse needs real numbers"),
        (np.ones((70, 70)) * u.Jy, {"rms": 1 * u.s}, "the rms is in s, the image in Jy"),
        (np.ones((70, 70)), {"rms": 1 * u.Jy}, "the rms is in Jy, the image in no unit"),
        (np.ones((70, 70)) * u.Jy, {"variance": 1 * u.Jy}, "the variance is in Jy"),
    ],
)
def test_arrays_that_cannot_be_taken_are_refused(image, maps, message):
    with pytest.raises(InputError, match=message):
        run(image, **maps)


def test_an_object_of_more_galaxies_than_are_looked_for_says_so():
    chain = [(20 + 14 * number, 32, 9) for number in range(MAX_GALAXIES + 2)]
    many, few = run(discs((64, 14 * len(chain) + 40), *chain)), run(discs((64, 90), *chain[:4]))
    assert len(many.catalog) == MAX_GALAXIES
    assert (many.catalog["flags"].value & ObjectFlag.MOST_GALAXIES > 0).all()
    assert len(few.catalog) == 4 and not (few.catalog["flags"].value & ObjectFlag.MOST_GALAXIES).any()


@pytest.mark.parametrize(("kind", "power"), [("rms", 1), ("variance", 2), ("weight", -2)])
def test_noise_maps_of_any_scale_are_read(tmp_path, kind, power):
    """A weight in (W m-2 Hz-1)-2 is beyond single precision, and a variance below it."""
    image, unit = discs((70, 70), (40, 40, 8)), 1e-26
    write_fits(tmp_path / "a.fits", image * np.float32(unit))
    rms = np.random.default_rng(0).uniform(0.8, 1.2, image.shape)
    fits.writeto(tmp_path / "map.fits", (rms * unit) ** power)
    fits.HDUList(
        [
            fits.PrimaryHDU(),
            fits.CompImageHDU((rms * unit) ** power, quantize_level=0, compression_type="GZIP_2"),
        ]
    ).writeto(tmp_path / "map.fits.fz")
    expected = run(image, rms=rms)
    for name in ("map.fits", "map.fits.fz"):
        result = run(tmp_path / "a.fits", **({"rms": None} | {kind: tmp_path / name}))
        assert not (result.flags & PixelFlag.BAD_PIXEL).any()
        np.testing.assert_allclose(result.image, expected.image, rtol=1e-5)


def test_an_unknown_frame_costs_the_sky_positions_only(tmp_path):
    image = discs((70, 70), (40, 40, 8))
    cards = {"CTYPE1": "HPLN-TAN", "CTYPE2": "HPLT-TAN", "CDELT1": 1e-4, "CDELT2": 1e-4}
    result, without = run(write_fits(tmp_path / "a.fits", image, **cards)), run(image)
    assert len(result.catalog) == 1 and np.isnan(result.catalog["ra"]).all()
    np.testing.assert_array_equal(result.segm, without.segm)
    assert [warning for warning in result.warnings if "no sky positions" in warning]
    assert result.header["CTYPE1"] == "HPLN-TAN"


def test_sizes_are_in_arcsec_with_a_wcs_and_in_pixels_without(tmp_path):
    image = discs((96, 96), (40, 50, 7))
    simple = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CDELT1": -0.2 / 3600, "CDELT2": 0.2 / 3600}
    with_wcs, without = run(write_fits(tmp_path / "a.fits", image, **simple)), run(image)
    assert with_wcs.catalog["half_light_radius"].unit == u.arcsec
    assert without.catalog["half_light_radius"].unit == u.pix
    for name in ("half_light_radius", "half_light_radius_std", "half_light_radius_p84"):
        np.testing.assert_allclose(with_wcs.catalog[name].value, 0.2 * without.catalog[name].value)
    assert np.isnan(without.catalog["ra"]).all() and np.isnan(without.catalog["dec"]).all()


@pytest.mark.parametrize(
    ("text", "unit", "area"),
    [
        ("MJy/sr", u.MJy, (0.2 * u.arcsec).to_value(u.rad) ** 2),
        ("mJy/arcsec2", u.mJy, 0.04),
        ("MJy/mas2", u.MJy, 200.0**2),
        ("nJy/pixel", u.nJy, 1.0),
        ("nJy", u.nJy, 1.0),
    ],
)
def test_surface_brightness_is_summed_to_flux(tmp_path, text, unit, area):
    image = discs((96, 96), (40, 50, 7))
    wcs = {"CTYPE1": "RA---TAN", "CTYPE2": "DEC--TAN", "CDELT1": -0.2 / 3600, "CDELT2": 0.2 / 3600}
    plain = run(image).catalog
    catalog = run(write_fits(tmp_path / "a.fits", image, BUNIT=text, **wcs)).catalog
    for name in ("flux", "flux_std", "flux_p16", "flux_noise"):
        assert catalog[name].unit == unit
        np.testing.assert_allclose(catalog[name].value, area * plain[name].value)
    np.testing.assert_array_equal(catalog["area"].value, plain["area"].value)


def test_surface_brightness_without_a_wcs_says_that_it_is_none_of_flux(tmp_path):
    catalog = run(write_fits(tmp_path / "a.fits", discs((96, 96), (40, 50, 7)), BUNIT="MJy/sr")).catalog
    assert catalog["flux"].unit == u.MJy / u.sr * u.pix


def test_maps_beside_a_plain_image_that_are_not_used_are_told(tmp_path):
    image = discs((64, 64), (30, 30, 7))
    planes = {"SCI": image, "WEIGHT": np.ones(image.shape), "OTHER": image, "RMS": np.ones((5, 5))}
    hdus = [fits.ImageHDU(plane.astype(np.float32), name=name) for name, plane in planes.items()]
    fits.HDUList([fits.PrimaryHDU(), *hdus]).writeto(tmp_path / "a.fits")

    def told(**options):
        return [words for words in run(tmp_path / "a.fits", **options).warnings if "not used" in words]

    (words,) = told(rms=None)
    assert words.startswith("WEIGHT of the file")
    assert told(rms="none") == told(rms=None, weight=f"{tmp_path / 'a.fits'}[WEIGHT]") == []


def test_a_map_of_another_kind_is_suspected():
    image = discs((96, 96), (40, 50, 7), noise=0.002) * 0.01
    for rms, suspected in ((1e4, True), (0.05 * 0.002, False)):
        words = " ".join(run(image, rms=rms).warnings)
        assert "times the supplied noise" in words or not suspected
        assert ("is the map a weight" in words) == suspected


def test_too_few_realisations_for_error_bars_are_told():
    image = discs((64, 64), (30, 30, 7))
    for samples in (2, 9):
        told = run(image, samples=samples).warnings
        assert [words for words in told if words.startswith(f"{samples} realisations: too few")]
    assert not [words for words in run(image, samples=10).warnings if "too few" in words]


def test_a_result_names_itself_in_a_line(scene):
    assert repr(scene) == "<Result of image: 4 galaxies in 200 x 150 pixels, 2 warnings>"
    assert len(scene.warnings) == 2


def test_the_catalogue_knows_what_made_it(tmp_path):
    result = run(write_fits(tmp_path / "gål.fits", discs((64, 64), (30, 30, 7))), seed=3)
    expected = {"IMAGE": r"g\xe5l", "MODEL": "by hand", "SEED": 3, "SAMPLES": SAMPLES, "T_OVERLAP": 0.5}
    assert result.catalog.meta.items() >= expected.items()
    for format in ("fits", "ecsv", "parquet"):
        result.write(tmp_path / format, catalog_format=format, preview=False)
        meta = read_catalog(tmp_path / format / f"gål_catalog.{format}").meta
        assert meta == result.catalog.meta, format


@pytest.mark.parametrize(("text", "unit"), [("nJy", u.nJy), ("electron/s", u.electron / u.s), ("adu", u.adu)])
def test_fluxes_carry_the_images_unit(tmp_path, text, unit):
    result = run(write_fits(tmp_path / "a.fits", 8 * discs((96, 96), (40, 50, 7)), BUNIT=text), rms=8.0)
    for name in ("flux", "flux_std", "flux_p16", "flux_p84", "flux_noise"):
        assert result.catalog[name].unit == unit
    assert result.catalog["flux"][0].value == pytest.approx(8 * BRIGHTNESS * np.pi * 49, rel=0.15)


@pytest.mark.parametrize(
    "text", ["mag(AB)", "mag/arcsec2", "ABmag", "STmag", "log(ct)", "log10(flux)", "asinh(ct)", "sqrt(ct)"]
)
def test_pixels_that_are_not_linear_are_refused(tmp_path, text):
    path = write_fits(tmp_path / "a.fits", 8 * discs((96, 96), (40, 50, 7)), BUNIT=text)
    with pytest.raises(InputError, match="linear unit"):
        run(path)


def test_the_asinh_of_pan_starrs_is_refused_with_its_inverse(tmp_path):
    linear, soften, offset = discs((64, 64), (30, 30, 7)).astype(np.float64), 0.3, 0.1
    stored = 2.5 * np.log10(np.e) * np.arcsinh((linear - offset) / (2 * soften))
    path = write_fits(tmp_path / "a.fits", stored, BSOFTEN=soften, BOFFSET=offset)
    with pytest.raises(InputError, match=r"BOFFSET \+ 2 BSOFTEN sinh\(pixel / 1.0857362\)"):
        run(path)
    np.testing.assert_allclose(offset + 2 * soften * np.sinh(stored / 1.0857362), linear, atol=1e-6)


def test_every_way_of_storing_the_same_pixels_gives_the_same_result(tmp_path):
    counts = np.round(50 * discs((96, 110), (40, 50, 7), (80, 60, 8))).astype(np.int16)
    expected = run(counts.astype(np.float32), rms=50.0)
    assert len(expected.catalog) == 2
    big = tmp_path / "big.fits"  # FITS integers are big-endian
    fits.writeto(big, counts)
    fits.writeto(tmp_path / "double.fits", counts.astype(np.float64))
    fits.writeto(tmp_path / "zipped.fits.gz", counts)
    fits.HDUList([fits.PrimaryHDU(), fits.CompImageHDU(counts)]).writeto(tmp_path / "rice.fits.fz")
    scaled = fits.PrimaryHDU(counts.astype(np.float64))
    scaled.scale("int16", bscale=0.5, bzero=100)
    scaled.writeto(tmp_path / "scaled.fits")
    other, science = fits.ImageHDU(counts[::-1].copy(), name="OTHER"), fits.ImageHDU(counts, name="SCI")
    fits.HDUList([fits.PrimaryHDU(), other, science]).writeto(tmp_path / "several.fits")
    fits.writeto(tmp_path / "cube.fits", np.stack([counts[::-1], counts]))
    for name, hdu in (
        ("big.fits", None),
        ("double.fits", None),
        ("zipped.fits.gz", None),
        ("rice.fits.fz", None),
        ("scaled.fits", None),
        ("several.fits", None),
        ("several.fits", "SCI"),
        ("several.fits", 2),
        ("cube.fits", "0[1]"),
    ):
        result = run(tmp_path / name, hdu=hdu, rms=50.0)
        assert_same_maps(result, expected)
        assert_same_catalogue(result, expected)
    other = run(tmp_path / "several.fits", hdu="OTHER", rms=50.0)
    assert other.ternary[95 - 50, 40] == 1
    # Native arrays of any type and byte order pass as well.
    for array in (counts.astype(">i2"), counts.astype(">f8"), counts.astype("<f4")):
        assert_same_maps(run(array, rms=50.0), expected)


def test_files_that_hold_no_single_image_are_refused_by_name(tmp_path):
    fits.writeto(tmp_path / "cube.fits", np.ones((3, 50, 50), np.float32))
    with pytest.raises(InputError, match=r"cube\.fits: .*3 axes.*--hdu"):
        run(tmp_path / "cube.fits")
    fits.writeto(tmp_path / "flat.fits", discs((50, 50)))
    with pytest.raises(InputError, match=r"flat\.fits: there is no HDU 'SCI'"):
        run(tmp_path / "flat.fits", hdu="SCI")
    with pytest.raises(InputError, match=r"absent\.fits: no such file"):
        run(tmp_path / "absent.fits")


def test_maps_may_be_files(tmp_path):
    image = discs((80, 90), (40, 40, 8)) * 2
    bad = np.zeros((80, 90), np.uint8)
    bad[36:40, 46:60] = 1
    expected = run(image, rms=2.0, mask=bad)
    path = write_fits(tmp_path / "image.fits", image)
    mask = write_fits(tmp_path / "mask.fits", bad)
    for kind, value in (("rms", 2.0), ("variance", 4.0), ("weight", 0.25)):
        noise = write_fits(tmp_path / f"{kind}.fits", np.full((80, 90), value))
        result = run(path, **({"rms": None, "mask": mask} | {kind: noise}))
        assert_same_maps(result, expected)
        assert_same_catalogue(result, expected)
    small = write_fits(tmp_path / "small.fits", np.ones((79, 90)))
    with pytest.raises(InputError, match=r"small\.fits: its shape \(79, 90\)"):
        run(path, rms=small)


def test_a_map_file_of_several_images_wants_its_hdu_named(tmp_path):
    """As a calibrated exposure given as its own variance map: its first image is not that."""
    image = discs((80, 90), (40, 40, 8)) * 2
    planes = [fits.ImageHDU(image, name="IMAGE"), fits.ImageHDU(np.full(image.shape, 4.0), name="VARIANCE")]
    fits.HDUList([fits.PrimaryHDU(), *planes]).writeto(tmp_path / "calexp.fits")
    with pytest.raises(InputError, match=r"calexp\.fits\[VARIANCE\]'. Besides IMAGE it holds VARIANCE"):
        run(image, rms=None, variance=tmp_path / "calexp.fits")
    assert_same_maps(run(image, rms=None, variance=f"{tmp_path}/calexp.fits[VARIANCE]"), run(image, rms=2.0))


def test_galaxies_without_spreads_say_so():
    """Found at a low threshold, in hardly any realisation."""
    point = OperatingPoint(t_galaxy=0.02, t_overlap=0.9)
    image = discs((96, 96), (40, 40, 8), (75, 75, 7), noise=0)
    image[image > 0] = 1.0  # P_GALAXY of 0.1 or so
    image[10:24, 60:74] = 9.0
    result = run(image, model=thresholding_model(operating_points={"balanced": point}), samples=3)
    absent = np.asarray(result.catalog["n_realisations"]) == 0
    failed = (np.asarray(result.catalog["flags"]) & ObjectFlag.MEASUREMENT_FAILED) > 0
    assert absent.any() and not absent.all()
    np.testing.assert_array_equal(failed, absent)
    np.testing.assert_array_equal(np.isnan(result.catalog["area_std"].value), absent)


@pytest.mark.parametrize(("columns", "listed"), [(1, 0), (3, 1)])
def test_pairs_that_hardly_meet_are_not_listed(columns, listed):
    masks = np.zeros((2, 20, 20), bool)
    masks[0, 5:15, 2:9], masks[1, 5:15, 9:16] = True, True
    masks[1, 5:7, 9 - columns : 9] = True  # two pixels of each column are shared
    reference = Separation(masks, np.zeros(2, bool))
    pairs = _pairs(reference, Ensemble.empty(2, 4), np.zeros((20, 20)))
    assert len(pairs) == listed and all(pair["overlap_area"] == 2 * columns for pair in pairs)


def test_a_pair_is_as_probable_as_realisations_with_both_say():
    masks = np.zeros((2, 20, 20), bool)
    masks[0, 5:15, 2:11] = masks[1, 5:15, 9:16] = True
    ensemble = Ensemble.empty(2, 5)
    ensemble.present[:] = [[True, True, True, True, False], [True, True, True, False, True]]
    ensemble.shared[0, 1] = ensemble.shared[1, 0] = [9, 3, 4, 0, 0]  # four pixels make an overlap
    (pair,) = _pairs(Separation(masks, np.zeros(2, bool)), ensemble, np.zeros((20, 20)))
    assert pair["p_blend"] == pytest.approx(2 / 3)

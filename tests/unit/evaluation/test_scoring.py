"""Scores of a model that finds every disc of a sky of discs (tests/by_hand.py)."""

import dataclasses
import json

import numpy as np
import pytest
from astropy.table import Table

from appulse.baselines import SepDetector
from appulse.evaluation import Kind, detection_from_ternary, true_objects
from appulse.evaluation.fields import read_fields, refuse_seen_seeds, refuse_tuned_seeds, unseen_paths
from appulse.evaluation.measured import matched_galaxies
from appulse.evaluation.pure_noise import clean_stamps
from appulse.evaluation.run import FULL, QUICK, unseen_sky
from appulse.evaluation.scoring import Scoring, score_fields
from appulse.evaluation.truth_tables import TrueGalaxies, count_galaxies, result_masks
from appulse.files import UsageError
from appulse.inference.background import scale_to_noise
from appulse.inference.sampler import Sampler
from appulse.inference.two_step import draw_maps
from appulse.segmentation import segment
from appulse.sky import Survey, simulate_field
from appulse.sky.population import Pairs
from appulse.sky.stored_field import write_field
from appulse.sky.true_objects import MIN_TRUE_AREA
from by_hand import CIRCLES, SHAPE, SIZE, by_hand, field_of_discs, thresholding_model


@pytest.fixture(scope="module")
def field():
    return field_of_discs()


@pytest.fixture(scope="module")
def scores(field):
    scoring = Scoring(samples=8, noise_side=128, noise_fields=2)
    return score_fields(by_hand(), [field], [SepDetector()], scoring)


def test_everything_is_found_and_nothing_else(scores):
    for kind, number in ((Kind.ISOLATED, 3), (Kind.BLENDED, 1)):
        assert scores.counts.n_true(kind) == number
        assert scores.counts.completeness(kind).value == scores.counts.purity(kind).value == 1.0
    counts = scores.evidence.galaxy_counts["by hand", "masks"]
    assert (counts.true, counts.found, counts.matched) == (5, 5, 5)
    assert scores.clean_noise["by hand"].value == 1.0


def test_every_detector_has_every_score(scores):
    by_detector = {
        name: set(scores.table["score"][scores.table["detector"] == name]) for name in ("by hand", "SEP")
    }
    assert by_detector["by hand"] == by_detector["SEP"]
    assert set(scores.table1()["detector"]) == {"by hand", "SEP"}
    assert scores.headline.startswith("by hand ") and "SEP" in scores.headline


def test_matched_galaxies_stand_beside_their_own_truth(field):
    result = segment(field.image, model=by_hand(), samples=8, seed=1)
    table = matched_galaxies(field, result)
    assert sorted(table["id"]) == [1, 2, 3, 4, 5]
    assert sorted(table["id"][table["alone"]]) == [1, 4, 5]
    assert sorted(table["id"][table["blended"]]) == [2, 3]
    for row in table:
        radius = CIRCLES[row["id"] - 1][2]
        assert row["true_area"] == pytest.approx(np.pi * radius**2, rel=0.05)
        assert row["area"] == pytest.approx(row["true_area"], rel=0.15)
    galaxies = TrueGalaxies.of(field, true_objects(field.ternary(), field.id1, field.id2))
    for radius in (None, 5.0):
        counts = count_galaxies(galaxies, result_masks(result), SHAPE, radius=radius)
        assert counts.completeness().value == counts.purity().value == 1.0


def test_cut_and_tiny_galaxies_are_found_but_not_measured_against_their_truth(field):
    """A disc, one across the border, and blocks of 6 and of 10 pixels, all of which the network finds."""
    shape = (80, 100)
    y, x = np.mgrid[: shape[0], : shape[1]]
    id1 = 1 * (np.hypot(x - 30, y - 45) <= 8) + 2 * (np.hypot(x - 99, y - 20) <= 7)
    id1[20:22, 60:63], id1[60:62, 70:75] = 3, 4
    light = np.array([0, 4, 4, 12, 12], np.float32)[id1]  # what is small is blurred most
    rows = [
        dict(field.catalog[0]) | {"id": number, "isophotal_area": np.count_nonzero(id1 == number)}
        for number in (1, 2, 3, 4)
    ]
    nothing = np.zeros_like(light)
    scene = dataclasses.replace(
        field,
        image=light + 0.1 * np.random.default_rng(0).standard_normal(shape).astype(np.float32),
        first=light,
        second=nothing,
        id1=id1.astype(np.int32),
        id2=nothing.astype(np.int32),
        catalog=Table(rows),
    )
    result = segment(scene.image, model=by_hand(), samples=8, seed=1, rms=1.0, subtract_background=False)
    assert len(result.catalog) == 4
    table = matched_galaxies(scene, result)
    assert list(table["id"]) == [1, 4] and table["true_area"][1] == MIN_TRUE_AREA


@pytest.mark.parametrize("method", ["two-step", "grid"])
def test_maps_are_those_of_the_segmentation_by_that_method(field, method):
    result = segment(field.image, model=by_hand(), samples=4, seed=3, method=method)
    maps = draw_maps(scale_to_noise(field.image).scaled, Sampler(by_hand(), 4, 3), method=method)
    np.testing.assert_array_equal(maps.p_galaxy, result.p_galaxy)
    assert maps.centred.any() == (method == "two-step")


class OnePixel:
    """A detector that takes one pixel for a galaxy, whatever the image."""

    setting = np.nan

    def __init__(self, name, x):
        self.name, self.x = name, x

    def detect(self, image):
        ternary = np.zeros(image.shape, np.uint8)
        ternary[70, self.x] = 1
        return detection_from_ternary(ternary, min_area=1)

    def variants(self):
        return {}


def test_one_false_pixel_soils_the_stamp_that_it_lies_in_and_no_other():
    # What is left over at the border belongs to no stamp.
    others = [OnePixel("inside", 10), OnePixel("left over", -1)]
    clean = clean_stamps(by_hand(), others, samples=2, side=3 * SIZE + 20, fields=2)
    assert {name: each.value for name, each in clean.items()} == {
        "by hand": 1.0,
        "inside": 16 / 18,
        "left over": 1.0,
    }


def test_numbers_are_written_as_they_are(scores, tmp_path):
    scores.write(tmp_path)
    written = json.loads((tmp_path / "scores.json").read_text())
    assert written["detectors"]["by hand"]["isolated completeness"][0] == 1.0
    assert np.sum(written["confusion"]) == 4
    table = Table.read(tmp_path / "table1.ecsv")
    assert len(table) == 4 and (table["paper_completeness"][table["kind"] == "isolated"] == 0.991).all()
    assert "isolated completeness" in str(scores)


def test_fields_pool(field, scores):
    twice = scores.evidence + scores.evidence
    assert twice.counts["SEP"].table.sum() == 2 * scores.evidence.counts["SEP"].table.sum()
    assert len(twice.objects) == 2 * len(scores.evidence.objects)
    once, both = scores.evidence.pixels["P_GALAXY"], twice.pixels["P_GALAXY"]
    assert both.brier().value == pytest.approx(once.brier().value)
    assert len(twice.regions) == 1


def test_detectors_are_not_tuned_on_what_they_are_tested_on(tmp_path):
    # Their names do not tell.
    for seed, name in ((2000, "field_2000_00.fits"), (9001, "field_2001_00.fits")):
        write_field(simulate_field(Survey.load("paper"), 16, seed), tmp_path / name)
    with pytest.raises(UsageError, match="seed 9001 is tested on"):
        refuse_tuned_seeds(tmp_path, [9000, 9001])
    refuse_tuned_seeds(tmp_path, [9000])
    refuse_tuned_seeds(None, [9001])


@pytest.mark.parametrize(
    "history", [{"seeds": [0, 9001]}, {"calibration_seeds": [9001]}, {"selection_seeds": [9001]}]
)
def test_fields_that_the_model_has_seen_are_refused(history, tmp_path):
    model = thresholding_model()
    model.training.update(history)
    write_field(simulate_field(Survey.load("paper"), 16, 9001), tmp_path / "field_9500_00.fits")  # renamed
    with pytest.raises(UsageError, match="9001"):
        refuse_seen_seeds(model, [9001])
    with pytest.raises(UsageError, match="9001"):
        unseen_paths(tmp_path, model)
    assert (
        len(unseen_paths(tmp_path, by_hand()))
        == len(unseen_paths(tmp_path, model, allow_training_seeds=True))
        == 1
    )


def test_fields_with_injected_pairs_are_refused(tmp_path):
    crowded = dataclasses.replace(Survey.load("paper"), pairs=Pairs(0.5))
    write_field(simulate_field(crowded, 64, 9001), tmp_path / "field_9001_00.fits")
    with pytest.raises(UsageError, match="injected pairs"):
        list(read_fields([tmp_path / "field_9001_00.fits"]))
    with pytest.raises(UsageError, match="injected pairs"):  # before detectors are tuned
        unseen_sky(by_hand(), tmp_path, None, None, effort=FULL)


def test_what_a_quick_run_does_not_score_is_not_refused(tmp_path):
    model = thresholding_model()
    model.training["seeds"] = [9001]
    for seed in (9000, 9001):
        write_field(simulate_field(Survey.load("paper"), 16, seed), tmp_path / f"field_{seed}_00.fits")
    with pytest.raises(UsageError, match="9001"):
        unseen_sky(model, tmp_path, None, None, effort=FULL)
    paths, _ = unseen_sky(model, tmp_path, None, None, effort=QUICK)
    assert [path.name for path in paths] == ["field_9000_00.fits"]
    with pytest.raises(UsageError, match="9000 is tested on, too"):
        unseen_sky(model, tmp_path, None, tmp_path, effort=QUICK)

"""Scores of a model that finds every disc of a sky of discs (tests/by_hand.py)."""

import json

import numpy as np
import pytest
from astropy.table import Table

from appulse.baselines.compare import comparison_table
from appulse.evaluation import Kind
from appulse.evaluation.evaluate import refuse_seen_fields, score_fields
from appulse.evaluation.measured import count_galaxies, matched_galaxies
from appulse.files import UsageError
from appulse.objects import MEASURED, measure
from appulse.segmentation import segment
from appulse.sky import Field, Survey
from by_hand import BRIGHTNESS, by_hand, discs, thresholding_model

SHAPE = (192, 256)
CIRCLES = ((40, 50, 8), (120, 60, 9), (131, 66, 8), (200, 120, 7), (60, 140, 10))
# One unit of noise per pixel.
SURVEY = Survey("discs", "Discs on unit noise.", pixel_scale=1.0, zero_point=25.0, noise=25.0)


@pytest.fixture(scope="module")
def field():
    y, x = np.mgrid[: SHAPE[0], : SHAPE[1]]
    first, second = np.zeros((2, *SHAPE), np.float32)
    id1, id2 = np.zeros((2, *SHAPE), np.int32)
    rows = []
    for number, (x0, y0, radius) in enumerate(CIRCLES, start=1):
        mask = np.hypot(x - x0, y - y0) <= radius
        second[mask & (id1 > 0)], id2[mask & (id1 > 0)] = BRIGHTNESS, number
        alone = mask & (id1 == 0)
        first[alone], id1[alone] = BRIGHTNESS, number
        isophote = measure(BRIGHTNESS * mask.astype(float), mask)
        row = {"id": number, "magnitude": 20.0 + number, "blendedness": 0.0}
        rows.append(row | {f"isophotal_{q}": getattr(isophote, q) for q in MEASURED})
    return Field(
        image=discs(SHAPE, *CIRCLES, seed=3),
        first=first,
        second=second,
        id1=id1,
        id2=id2,
        deeper=Table(names=("y", "x", "id", "flux")),
        catalog=Table(rows),
        survey=SURVEY,
        seed=9001,
        index=0,
    )


@pytest.fixture(scope="module")
def scores(field):
    return score_fields(by_hand(), [field], samples=8, noise_side=128)


def test_everything_is_found_and_nothing_else(scores):
    for kind, number in ((Kind.ISOLATED, 3), (Kind.BLENDED, 1)):
        assert scores.counts.n_true(kind) == number
        assert scores.counts.completeness(kind).value == scores.counts.purity(kind).value == 1.0
    assert (scores.galaxy_counts.true, scores.galaxy_counts.found, scores.galaxy_counts.matched) == (5, 5, 5)
    assert scores.clean_noise.value == 1.0


def test_matched_galaxies_stand_beside_their_own_truth(field):
    result = segment(field.image, model=by_hand(), samples=8, seed=1)
    table = matched_galaxies(field, result)
    assert sorted(table["id"]) == [1, 2, 3, 4, 5]
    assert sorted(table["id"][table["alone"]]) == [1, 4, 5]
    for row in table:
        radius = CIRCLES[row["id"] - 1][2]
        assert row["true_area"] == pytest.approx(np.pi * radius**2, rel=0.05)
        assert row["area"] == pytest.approx(row["true_area"], rel=0.15)
    counts = count_galaxies(field, result)
    assert counts.completeness().value == counts.purity().value == 1.0


def test_numbers_are_written_as_they_are(scores, tmp_path):
    scores.write(tmp_path)
    written = json.loads((tmp_path / "scores.json").read_text())
    assert written["completeness_isolated"][0] == 1.0
    assert np.sum(written["confusion"]) == 4
    assert len(Table.read(tmp_path / "table1.ecsv")) == 2
    assert "IoU of 0.5" in str(scores)


def test_comparison_has_a_row_for_each_score(scores):
    table = comparison_table({"one": scores.counts, "other": scores.counts})
    assert len(table) == 12
    assert (table["value"][table["score"] == "blended purity"] == 1.0).all()


@pytest.mark.parametrize("history", [{"seeds": [0, 9001]}, {"calibration_seeds": [9001]}])
def test_fields_that_the_model_has_seen_are_refused(field, history):
    model = thresholding_model()
    model.training.update(history)
    with pytest.raises(UsageError, match="9001"):
        refuse_seen_fields(model, [field])
    refuse_seen_fields(by_hand(), [field])

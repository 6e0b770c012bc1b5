"""Which parts of a field are worth a picture."""

import numpy as np
import pytest

from appulse.evaluation.detection import Detection, detection_from_result
from appulse.evaluation.snapshots import figure1_stamps, figure5_region, uncertain_blends, worst_failures
from appulse.evaluation.truth_tables import TrueGalaxies, object_table, result_masks
from appulse.inference.sampler import Sampler
from appulse.segmentation import segment
from appulse.sky.true_objects import true_objects
from by_hand import SHAPE, SIZE, by_hand, field_of_discs


@pytest.fixture(scope="module")
def field():
    return field_of_discs()


@pytest.fixture(scope="module")
def result(field):
    return segment(field.image, model=by_hand(), samples=8, seed=1)


def test_stamps_show_overlap_a_galaxy_alone_and_nothing(field):
    overlap, border, empty = figure1_stamps(field, field.image, Sampler(by_hand(), 8, 1))
    assert overlap.truth.shape == overlap.mean.shape == (SIZE, SIZE)
    assert (overlap.truth == 2).sum() == (field.ternary() == 2).sum()  # the whole lens fits a stamp
    assert not (border.truth == 2).any() and (border.truth == 1).any()
    assert not empty.truth.any()
    assert overlap.mean[overlap.truth == 2].mean() > 1.5 and border.mean[border.truth == 1].mean() > 0.8
    for shot in (overlap, border, empty):  # of classes 0, 1 and 2, by their mean
        apart = shot.mean % 1
        assert (shot.std**2 >= apart * (1 - apart) - 1e-6).all()
        assert (shot.std**2 <= shot.mean * (2 - shot.mean) + 1e-6).all()


def test_a_field_smaller_than_a_stamp_has_no_stamps(field):
    assert (
        figure1_stamps(field.cut((slice(SIZE - 1), slice(SIZE - 1))), field.image, Sampler(by_hand(), 2, 1))
        == []
    )


def test_the_region_of_figure_5_holds_the_overlap(field, result):
    shot = figure5_region(field, result)
    assert shot.truth.shape == (min(SHAPE), min(SHAPE))
    assert (shot.truth == 2).sum() == (field.ternary() == 2).sum()


def test_failures_are_the_objects_that_are_not_what_they_are_taken_for(field, result):
    truth = true_objects(field.ternary(), field.id1, field.id2)
    galaxies = TrueGalaxies.of(field, truth)
    claim = detection_from_result(result)
    right = Detection(claim.objects, claim.n_galaxies, claim.blended, result_masks(result))
    nothing = Detection(np.zeros_like(claim.objects), np.zeros(1, int), np.zeros(1, bool), ())
    for found, expected in ((right, 0), (nothing, 4)):
        objects = object_table(field, truth, galaxies, {"ours": found}, result.std)
        shots = worst_failures(field, result, objects, "ours")
        assert len(shots) == expected
        assert [shot.order for shot in shots] == sorted(shot.order for shot in shots)
        assert all("missed" in shot.title and shot.truth.any() for shot in shots)


def test_blends_that_no_realisation_doubts_are_not_uncertain(field, result):
    certain = segment(field.image, model=by_hand(), samples=8, seed=1)
    certain.catalog["p_blend"] = 1.0
    assert uncertain_blends(field, certain) == []
    certain.catalog["p_blend"] = 0.5
    components = len({(cutout.window[0].start, cutout.window[1].start) for cutout in certain.cutouts})
    assert len(uncertain_blends(field, certain)) == components  # each blend once

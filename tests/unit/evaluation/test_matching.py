"""True objects of hand-made scenes, and their matches."""

import numpy as np
import pytest

from appulse.evaluation import (
    Kind,
    excluded_predictions,
    match_centroids,
    match_galaxies,
    match_objects,
    true_galaxy_masks,
    true_objects,
)


def scene():
    """Six objects: isolated, blended, touching, too small, cut by the border, nested blend of three."""
    id1 = np.zeros((60, 60), dtype=np.int32)
    id2 = np.zeros_like(id1)
    id1[5:10, 5:10] = 7  # isolated
    id1[5:10, 20:26], id1[5:10, 26:30] = 3, 4  # blended: 3 reaches two columns into 4
    id2[5:10, 26:28] = 3
    id1[20:25, 5:10], id1[20:25, 10:15] = 8, 9  # touching, without an overlap
    id1[20:23, 30:33] = 11  # 9 pixels
    id1[30:35, 0:5] = 12  # border
    id1[40:50, 20:40] = 20
    id2[42:44, 22:24], id2[46:48, 30:33] = 21, 22  # two nested galaxies, never the brightest
    ternary = (id1 > 0).astype(np.uint8) + (id2 > 0)
    return ternary, id1, id2


def test_kinds_and_members_of_a_hand_made_scene():
    ternary, id1, id2 = scene()
    truth = true_objects(ternary, id1, id2)
    at = {
        name: truth.labels[y, x]
        for name, (y, x) in {
            "isolated": (7, 7),
            "blended": (7, 25),
            "touching": (22, 7),
            "small": (21, 31),
            "border": (32, 2),
            "nested": (45, 25),
        }.items()
    }
    assert sorted(at.values()) == [1, 2, 3, 4, 5, 6]
    kinds = {name: Kind(truth.kind[label]).name for name, label in at.items()}
    assert kinds == {
        "isolated": "ISOLATED",
        "blended": "BLENDED",
        "touching": "TOUCHING",
        "small": "ISOLATED",
        "border": "ISOLATED",
        "nested": "BLENDED",
    }
    assert {name: truth.n_galaxies[label] for name, label in at.items()} == {
        "isolated": 1,
        "blended": 2,
        "touching": 2,
        "small": 1,
        "border": 1,
        "nested": 3,
    }
    assert {name for name, label in at.items() if truth.ignored[label]} == {"small", "border"}
    assert truth.area[at["nested"]] == 200


def test_the_second_galaxy_below_the_threshold_does_not_count():
    ternary = np.zeros((20, 20), dtype=np.uint8)
    ternary[5:10, 5:10] = 1
    id1 = np.where(ternary > 0, 1, 0)
    id2 = np.where(ternary > 0, 2, 0)  # present everywhere, but nowhere above the noise
    truth = true_objects(ternary, id1, id2)
    assert truth.n_galaxies[1] == 1
    assert truth.kind[1] == Kind.ISOLATED


def test_masks_of_galaxies_share_the_overlap():
    ternary, id1, id2 = scene()
    ids, masks = true_galaxy_masks(ternary, id1, id2)
    assert ids.tolist() == [3, 4, 7, 8, 9, 11, 12, 20, 21, 22]
    rebuilt = np.zeros(ternary.shape, dtype=int)
    for box, mask in masks:
        rebuilt[box] += mask
    np.testing.assert_array_equal(rebuilt, ternary)
    assert masks[0][1].sum() == 40  # galaxy 3: six own columns and two shared ones, five rows
    assert masks[0][0] == (slice(5, 10), slice(20, 28))


def test_match_needs_half_the_union():
    true = np.zeros((10, 40), dtype=np.int32)
    true[2:4, 2:12] = 1  # 20 pixels
    true[2:4, 22:32] = 2
    predicted = np.zeros_like(true)
    predicted[2:4, 2:7] = 1  # 10 of them: IoU exactly 0.5
    predicted[2:4, 22:26] = 2  # 8: IoU 0.4
    predicted[2:4, 28:31] = 3  # 6: IoU 0.3
    match = match_objects(true, predicted)
    assert match.predicted.tolist() == [0, 1, 0]
    assert match.true.tolist() == [0, 1, 0, 0]
    assert match.iou.tolist() == [0, 0.5, 0.4]
    assert match.overlaps.tolist() == [[1, 1, 10], [2, 2, 8], [2, 3, 6]]


def test_labels_that_are_no_components_still_match_one_to_one():
    true = np.array([[1, 1, 0, 2, 2]])
    predicted = np.array([[1, 1, 0, 1, 1]])  # IoU exactly 0.5 with both
    match = match_objects(true, predicted)
    assert match.predicted.tolist() == [0, 1, 0]
    assert match.true.tolist() == [0, 1]


def test_match_objects_refuses_unequal_shapes():
    labels = np.zeros((4, 4), dtype=np.int32)
    with pytest.raises(ValueError, match="equal shapes"):
        match_objects(labels, labels[:3])


def test_predictions_on_ignored_truths_are_excluded():
    ternary, id1, id2 = scene()
    truth = true_objects(ternary, id1, id2)
    predicted = np.zeros_like(truth.labels)
    predicted[20:23, 30:33] = 1  # matches the small object
    predicted[32:36, 1:4] = 2  # 9 of 12 pixels on the border object, IoU below 0.5
    predicted[55:60, 50:55] = 3  # itself cut by the border
    predicted[30:33, 45:50] = 4  # on nothing
    predicted[5:10, 5:10] = 5  # a good match
    match = match_objects(truth.labels, predicted)
    excluded = excluded_predictions(truth, predicted, match)
    assert excluded.tolist() == [False, True, True, True, False, False]


def test_galaxies_match_for_the_largest_total_iou():
    def row(start, stop):
        return (slice(0, 1), slice(start, stop)), np.ones((1, stop - start), dtype=bool)

    # Truth 0 likes prediction 0 best (10/11), but only 0 is left for truth 1 (8/11 against nothing).
    true = [row(0, 10), row(3, 11)]
    predicted = [row(0, 11), row(0, 8)]
    match = match_galaxies(true, predicted)
    assert match.true.tolist() == [0, 1]
    assert match.predicted.tolist() == [1, 0]
    assert match.score == pytest.approx([0.8, 8 / 11])


def test_centroids_match_as_many_as_possible_within_the_radius():
    true = np.array([[0.0, 0.0], [4.0, 0.0], [50.0, 50.0]])
    predicted = np.array([[3.0, 0.0], [8.0, 0.0], [90.0, 90.0]])
    # The nearest pair (1, 0) alone would leave 0 without a partner.
    match = match_centroids(true, predicted, radius=5)
    assert match.true.tolist() == [0, 1]
    assert match.predicted.tolist() == [0, 1]
    assert match.score.tolist() == [3, 4]
    assert match_centroids(true, predicted, radius=1).true.tolist() == [1]
    assert match_centroids(true, np.empty((0, 2)), radius=5).true.size == 0

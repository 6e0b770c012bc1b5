"""Components against scikit-image and by construction."""

import numpy as np
from skimage.measure import label as skimage_label

from appulse.objects import central_component, label_objects
from appulse.objects.components import distinct_pairs, label_connected


def test_labels_agree_with_scikit_image():
    rng = np.random.default_rng(4)
    for _ in range(20):
        ternary = rng.choice(3, p=(0.7, 0.25, 0.05), size=(40, 30)).astype(np.uint8)
        labels, slices = label_objects(ternary)
        np.testing.assert_array_equal(labels, skimage_label(ternary > 0, connectivity=2))
        assert labels.dtype == np.int32
        assert len(slices) == labels.max()


def test_both_connectivities_agree_with_scikit_image():
    mask = np.random.default_rng(6).random((50, 40)) > 0.5
    for diagonals, connectivity in ((True, 2), (False, 1)):
        labels, count = label_connected(mask, diagonals)
        np.testing.assert_array_equal(labels, skimage_label(mask, connectivity=connectivity))
        assert count == labels.max()


def test_labels_count_in_raster_order_and_slices_hold_their_object():
    rng = np.random.default_rng(5)
    labels, slices = label_objects(rng.choice(3, p=(0.8, 0.15, 0.05), size=(30, 30)))
    first_pixels = [np.flatnonzero(labels == i)[0] for i in range(1, len(slices) + 1)]
    assert first_pixels == sorted(first_pixels)
    for i, box in enumerate(slices, start=1):
        assert (labels[box] == i).sum() == (labels == i).sum()


def test_small_objects_are_dropped_and_the_rest_renumbered():
    ternary = np.zeros((10, 10), dtype=np.uint8)
    ternary[0, 0] = 1
    ternary[2:4, 2:4] = 2
    ternary[7:9, 5:9] = 1
    labels, slices = label_objects(ternary, min_area=4)
    assert labels[0, 0] == 0
    assert (labels[2, 2], labels[7, 5]) == (1, 2)
    assert slices[1] == (slice(7, 9), slice(5, 9))


def test_no_objects():
    labels, slices = label_objects(np.zeros((5, 6), dtype=np.uint8))
    assert labels.shape == (5, 6) and not labels.any() and slices == []
    assert not central_component(np.zeros((5, 6), dtype=np.uint8), 2, 3).any()


def test_central_component_at_nearest_or_by_reference():
    ternary = np.zeros((20, 20), dtype=np.uint8)
    ternary[9:12, 9:12] = 1
    ternary[2:5, 2:6] = 2
    centre, corner = ternary == 1, ternary == 2
    np.testing.assert_array_equal(central_component(ternary, 10, 10), centre)
    np.testing.assert_array_equal(central_component(ternary, 6, 7), corner)
    np.testing.assert_array_equal(central_component(ternary, 10, 10, reference_mask=corner), corner)
    elsewhere = np.zeros_like(corner)
    elsewhere[19, 19] = True
    np.testing.assert_array_equal(central_component(ternary, 10, 10, reference_mask=elsewhere), centre)


def test_distinct_pairs_are_those_of_the_obvious_way():
    rng = np.random.default_rng(0)
    first, second = rng.integers(0, 5, 500), rng.integers(0, 7, 500)
    pairs, places = distinct_pairs(first, second)
    expected, rows = np.unique(np.column_stack([first, second]), axis=0, return_index=True)
    np.testing.assert_array_equal(pairs, expected)
    np.testing.assert_array_equal(places, rows)
    none, _ = distinct_pairs(first[:0], second[:0])
    assert none.shape == (0, 2)

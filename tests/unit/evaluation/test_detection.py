"""A ternary map read as a detector's claim."""

import numpy as np

from appulse.evaluation import Kind, detection_from_ternary


def test_kinds_of_a_hand_made_map():
    ternary = np.zeros((20, 30), dtype=np.uint8)
    ternary[2:6, 2:6] = 1  # isolated
    ternary[2:6, 10:20] = 1
    ternary[2:6, 14] = 2  # four pixels of overlap: blended
    ternary[10:14, 2:12] = 1
    ternary[10:13, 5] = 2  # three: not blended
    ternary[18, 2:6] = 1  # four pixels: dropped
    detection = detection_from_ternary(ternary)

    assert detection.kinds.tolist() == [Kind.NONE, Kind.ISOLATED, Kind.BLENDED, Kind.ISOLATED]
    assert detection.n_galaxies.tolist() == [0, 1, 2, 1]
    assert np.unique(detection.objects).tolist() == [0, 1, 2, 3]
    assert detection.objects.dtype == np.int32
    assert not detection.objects[18].any()


def test_objects_that_meet_at_a_corner_are_one():
    ternary = np.zeros((10, 10), dtype=np.uint8)
    ternary[1:4, 1:4] = 1
    ternary[4:7, 4:7] = 1
    assert detection_from_ternary(ternary).objects.max() == 1


def test_nothing_found():
    detection = detection_from_ternary(np.zeros((5, 5), dtype=np.uint8))
    assert not detection.objects.any()
    assert detection.kinds.tolist() == [Kind.NONE]

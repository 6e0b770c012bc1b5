"""A ternary map read as a detector's claim."""

import numpy as np

from appulse import segment
from appulse.evaluation import Kind, detection_from_result, detection_from_ternary
from appulse.network.calibration import OperatingPoint
from by_hand import thresholding_model


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


def test_a_thin_overlap_is_claimed_from_the_light_on_the_border():
    # With this threshold on P_OVERLAP no pixel is ever drawn as class 2.
    model = thresholding_model(operating_points={"balanced": OperatingPoint(t_galaxy=0.5, t_overlap=1.0)})
    y, x = np.mgrid[:96, :96]
    places = (
        (25, 25),
        (36, 25),
        (25, 70),
        (70, 70),
    )  # a pair whose profiles cross at 15 sigma, and two alone
    image = sum(80 * np.exp(-((x - x0) ** 2 + (y - y0) ** 2) / (2 * 3.0**2)) for x0, y0 in places)
    image += np.random.default_rng(0).standard_normal(image.shape)
    result = segment(image, model=model, samples=4, rms=1.0, subtract_background=False)
    assert not (result.ternary == 2).any()
    drawn, claimed = detection_from_ternary(result.ternary), detection_from_result(result)
    np.testing.assert_array_equal(claimed.objects, drawn.objects)
    assert not drawn.blended.any()
    pair = claimed.objects[25, 30]
    assert claimed.blended.nonzero()[0].tolist() == [pair]
    assert claimed.n_galaxies[pair] == 2
    assert claimed.kinds[claimed.objects[70, 25]] == claimed.kinds[claimed.objects[70, 70]] == Kind.ISOLATED

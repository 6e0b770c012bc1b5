"""Segmentation maps read as lone, touching and blended galaxies."""

import numpy as np
import pytest

from appulse.baselines import detection_from_segments
from appulse.baselines.segments import border_pixels
from appulse.evaluation import Kind


def two_segments(n_rows_shared):
    segments = np.zeros((20, 20), dtype=np.int32)
    segments[5:10, 5:10] = 4
    segments[10 - n_rows_shared : 15 - n_rows_shared, 10:15] = 9
    return segments


@pytest.mark.parametrize(
    ("n_rows_shared", "kind"), [(1, Kind.TOUCHING), (2, Kind.TOUCHING), (3, Kind.BLENDED), (5, Kind.BLENDED)]
)
def test_border_of_two_squares(n_rows_shared, kind):
    # Two squares side by side along r rows: r + 1 pixels of each have a neighbour, counting the diagonal one.
    detection = detection_from_segments(two_segments(n_rows_shared))
    assert detection.objects.max() == 1
    assert detection.n_galaxies.tolist() == [0, 2]
    assert detection.kinds[1] == kind
    for turn in (np.transpose, np.flipud, np.fliplr):
        assert detection_from_segments(turn(two_segments(n_rows_shared))).kinds.tolist() == [0, kind]


def test_segments_apart_are_isolated():
    segments = two_segments(5)
    segments[segments == 9] = 0
    segments[5:10, 12:17] = 9
    assert detection_from_segments(segments).kinds.tolist() == [0, 1, 1]


def test_three_segments_of_which_two_blend():
    segments = two_segments(5)
    segments[10, 15:18] = 2  # meets 9 at one corner
    detection = detection_from_segments(segments)
    assert detection.n_galaxies.tolist() == [0, 3]
    assert detection.blended.tolist() == [False, True]


def test_borders_of_different_neighbours_do_not_add_up():
    # The middle segment shares three pixels with each of two others, four with none.
    segments = np.zeros((9, 9), dtype=np.int32)
    segments[3:6, 3:6] = 1
    segments[3:6, 1:3] = 2
    segments[3:6, 6:8] = 3
    assert detection_from_segments(segments).kinds.tolist() == [0, Kind.TOUCHING]


@pytest.mark.parametrize("labels", [(1, 2), (2, 1)])
def test_the_shorter_side_of_a_border_decides(labels):
    # Four pixels of the long bar have a neighbour in the block, but only two of the block's.
    segments = np.zeros((12, 12), dtype=np.int32)
    segments[5, 1:11] = labels[0]
    segments[6:10, 4:6] = labels[1]
    assert detection_from_segments(segments).kinds.tolist() == [0, Kind.TOUCHING]


def test_no_segments():
    detection = detection_from_segments(np.zeros((6, 6), dtype=np.int32))
    assert detection.kinds.tolist() == [0]


def test_a_segment_in_pieces_is_one_galaxy():
    segments = two_segments(5)
    segments[0:2, 0:3] = 9  # apart from the rest of 9
    segments[16:18, 2:6] = 4
    segments[18, 2:9] = 7  # a galaxy of its own, beside a fragment of 4
    detection = detection_from_segments(segments)
    assert detection.kinds.tolist() == [0, Kind.BLENDED, Kind.ISOLATED]
    assert detection.n_galaxies.tolist() == [0, 2, 1]
    assert sorted(int(mask.sum()) for _, mask in detection.masks) == [7, 25, 25]
    assert (segments == 9).sum() == 31  # the caller's own are as they were


def test_pieces_that_one_object_holds_stay():
    segments = np.zeros((5, 9), dtype=np.int32)
    segments[1:4, 1:8] = 2
    segments[1:4, 4] = 1  # cuts 2 into two pieces
    detection = detection_from_segments(segments)
    assert sorted(int(mask.sum()) for _, mask in detection.masks) == [3, 18]


def test_borders_are_those_of_the_obvious_way():
    segments = np.random.default_rng(0).integers(0, 4, (30, 20)).astype(np.int32)
    expected = set()
    for (y, x), label in np.ndenumerate(segments):
        near = segments[max(y - 1, 0) : y + 2, max(x - 1, 0) : x + 2]
        expected |= {
            (label, other, 20 * y + x) for other in near.ravel() if label and other not in (0, label)
        }
    np.testing.assert_array_equal(border_pixels(segments), sorted(expected))


def test_only_border_pixels_with_light_count_where_light_is_asked_for():
    segments = two_segments(5)  # six rows of border, counting the diagonals
    image = np.where(segments > 0, 3.0, 0.0)
    assert detection_from_segments(segments, image, border_light=2.0).kinds[1] == Kind.BLENDED
    # Dark along the border but for its first two rows: those do not make four pixels.
    dim = image.copy()
    dim[7:, 7:13] = 0.3
    assert detection_from_segments(segments, dim).kinds[1] == Kind.BLENDED
    assert detection_from_segments(segments, dim, border_light=2.0).kinds[1] == Kind.TOUCHING


def test_a_border_bright_on_one_side_alone_is_none():
    segments = two_segments(5)
    image = np.where(segments == 4, 9.0, 0.0)
    image[:, 10:] = -30.0  # what is beside it, smoothed, is below the noise
    assert detection_from_segments(segments, image, border_light=2.0).kinds[1] == Kind.TOUCHING


def test_light_of_no_demand_changes_nothing():
    rng = np.random.default_rng(3)
    segments = rng.integers(0, 5, (40, 40)).astype(np.int32)
    plain = detection_from_segments(segments)
    asked = detection_from_segments(segments, np.ones(segments.shape), border_light=1e-9)
    np.testing.assert_array_equal(plain.kinds, asked.kinds)

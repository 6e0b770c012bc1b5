import numpy as np
import pytest

from appulse.inference.tiles import centred_origin, fits_stamp, grid_origins, overlap


def test_the_grid_starts_at_the_origin_and_counts_in_raster_order():
    assert grid_origins(np.s_[0:64, 0:96], 32) == [(0, 0), (0, 32), (0, 64), (32, 0), (32, 32), (32, 64)]
    assert grid_origins(np.s_[0:65, 0:1], 32) == [(0, 0), (32, 0), (64, 0)]
    assert grid_origins(np.s_[30:48, 70:71], 32, 8) == [(8, 56), (24, 56)]


@pytest.mark.parametrize(
    ("origin", "of_image", "of_stamp"),
    [
        ((0, 0), np.s_[0:8, 0:8], np.s_[0:8, 0:8]),
        ((-3, 5), np.s_[0:5, 5:10], np.s_[3:8, 0:5]),
        ((6, -2), np.s_[6:9, 0:6], np.s_[0:3, 2:8]),
    ],
)
def test_a_stamp_that_reaches_past_the_image_knows_which_of_its_pixels_lie_on_it(origin, of_image, of_stamp):
    assert overlap(origin, 8, (9, 10)) == (of_image, of_stamp)


@pytest.mark.parametrize("origin", [(-8, 0), (9, 0), (0, 10), (-50, -50), (50, 50)])
def test_a_stamp_beside_the_image_shares_no_pixel_with_it(origin):
    of_image, of_stamp = overlap(origin, 8, (9, 10))
    assert np.zeros((9, 10))[of_image].size == np.zeros((8, 8))[of_stamp].size == 0


def test_an_object_lies_in_the_middle_of_its_stamp():
    assert centred_origin(np.s_[10:20, 0:4], 8) == (11, -2)
    assert centred_origin(np.s_[10:11, 5:8], 8) == (6, 2)


def test_the_wider_side_decides_whether_an_object_fits():
    assert fits_stamp(np.s_[0:16, 100:116], 32, 8)
    assert not fits_stamp(np.s_[0:17, 100:116], 32, 8)
    assert not fits_stamp(np.s_[0:16, 100:117], 32, 8)

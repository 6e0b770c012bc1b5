"""Realisations of a field: what goes in comes out, in two bits."""

import numpy as np

from appulse.inference.realisations import Realisations


def test_a_window_comes_back_and_its_surroundings_stay_empty():
    store = Realisations(11, (20, 30))
    classes = np.random.default_rng(0).integers(0, 3, (11, 4, 5), np.uint8)
    window = np.s_[3:7, 20:25]
    store.put(window, classes)
    np.testing.assert_array_equal(store.get(window), classes)
    whole = store.get(np.s_[0:20, 0:30])
    assert whole.dtype == np.uint8 and np.count_nonzero(whole) == np.count_nonzero(classes)
    np.testing.assert_array_equal(store.get(np.s_[5:9, 22:23])[:, :2, 0], classes[:, 2:, 2])


def test_a_field_takes_two_bits_per_pixel_and_realisation():
    assert Realisations(64, (10, 10)).planes.nbytes == 10 * 10 * 64 * 2 // 8


def test_where_all_realisations_agree_the_spread_is_exactly_zero():
    store = Realisations(50, (1, 3))
    store.put(np.s_[0:1, 0:3], np.broadcast_to(np.array([[0, 1, 2]], np.uint8), (50, 1, 3)))
    mean, std = store.mean_and_std()
    np.testing.assert_array_equal(mean, [[0, 1, 2]])
    np.testing.assert_array_equal(std, [[0, 0, 0]])

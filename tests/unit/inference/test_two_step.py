"""The two passes with a stand-in for the sampler; they know its `size`, `samples` and `draw` only."""

import numpy as np
import pytest

from appulse.inference.sampler import SampledStamp
from appulse.inference.tiles import centred_origin
from appulse.inference.two_step import EDGE, MARGIN, class_map, first_pass, second_pass
from appulse.network import OperatingPoint

SIZE, SAMPLES = 32, 10
POINT = OperatingPoint(0.5, 0.5, min_area=4)


class PixelwiseSampler:
    """Thresholds pixels, and draws from a generator keyed by the stamp's content, not by its position."""

    size, samples = SIZE, SAMPLES

    def draw(self, scaled, origins, corner=(0, 0)):
        padded = np.pad(np.nan_to_num(scaled), 4 * SIZE)
        for y, x in origins:
            stamp = padded[y - corner[0] + 4 * SIZE :, x - corner[1] + 4 * SIZE :][:SIZE, :SIZE]
            random = np.random.default_rng(np.ascontiguousarray(stamp, np.float32).view(np.uint32).ravel())
            p_galaxy = np.where(stamp > 3, 0.9, 0.01).astype(np.float32)
            p_galaxy += random.uniform(0, 0.01, p_galaxy.shape).astype(np.float32)
            p_overlap = np.where(stamp > 8, 0.8, 0.001).astype(np.float32)
            uniform = random.random((SAMPLES, SIZE, SIZE))
            uniform[:, stamp == 0] = np.maximum(uniform[:, stamp == 0], 0.1)  # nothing in the empty sky
            classes = (uniform < p_galaxy).astype(np.uint8) + (uniform < p_overlap)
            yield SampledStamp((y, x), classes, p_galaxy, p_overlap)


def square(image, y, x, side=7, brightness=5.0):
    """A galaxy: a bright square with its corner at (y, x) and a still brighter pixel inside."""
    image[y : y + side, x : x + side] = brightness
    image[y + 1, x + 2] = 9.0


def both_passes(image, point=POINT, progress=None):
    """Maps of the field, and a copy of those of the first pass."""
    first = first_pass(image, PixelwiseSampler())
    maps = first_pass(image, PixelwiseSampler(), progress)
    second_pass(image, maps, PixelwiseSampler(), point, progress)
    return maps, first


def everything(maps, window=None):
    """All maps of a window, as one comparable (n, height, width) stack."""
    window = window or np.s_[0 : maps.p_galaxy.shape[0], 0 : maps.p_galaxy.shape[1]]
    layers = (maps.p_galaxy[window], maps.p_overlap[window], *maps.realisations.get(window))
    return np.stack([layer.astype(np.float64) for layer in layers])


# -------------------------------------------------------------------------------------------- class map


def test_class_map_is_the_contracts_formula():
    p_galaxy = np.array([0.2, 0.4, 0.41, 0.9, 0.9, 0.3, np.nan])
    p_overlap = np.array([0.1, 0.1, 0.1, 0.61, 0.6, 0.9, np.nan])
    classes = class_map(p_galaxy, p_overlap, OperatingPoint(0.4, 0.6))
    np.testing.assert_array_equal(classes, [0, 0, 1, 2, 1, 0, 0])
    assert classes.dtype == np.uint8


# ------------------------------------------------------------------------------------------- first pass


@pytest.mark.parametrize("shape", [(64, 96), (50, 77), (32, 33), (20, 100), (9, 5), (1, 40)])
def test_every_pixel_comes_from_the_stamp_of_the_grid_that_holds_it_inside_its_edges(shape):
    image = 4 * np.random.default_rng(0).standard_normal(shape, dtype=np.float32)
    maps = first_pass(image, PixelwiseSampler())
    assert maps.p_galaxy.shape == maps.p_overlap.shape == maps.realisations.shape == shape
    step = SIZE - 2 * EDGE
    for y in range(0, shape[0], step):
        for x in range(0, shape[1], step):
            (stamp,) = PixelwiseSampler().draw(image, [(y - EDGE, x - EDGE)])
            window = np.s_[y : min(y + step, shape[0]), x : min(x + step, shape[1])]
            height, width = maps.p_galaxy[window].shape
            inner = np.s_[EDGE : EDGE + height, EDGE : EDGE + width]
            np.testing.assert_array_equal(maps.p_galaxy[window], stamp.p_galaxy[inner])
            np.testing.assert_array_equal(maps.p_overlap[window], stamp.p_overlap[inner])
            np.testing.assert_array_equal(maps.realisations.get(window), stamp.classes[:, *inner])
    assert not maps.centred.any()


def test_both_passes_report_their_progress():
    image = np.zeros((60, 100), np.float32)
    square(image, 10, 10)
    square(image, 40, 70)
    calls = []
    both_passes(image, progress=lambda *call: calls.append(call))
    first = -(-60 // (SIZE - 2 * EDGE)) * -(-100 // (SIZE - 2 * EDGE))
    assert [call[1:] for call in calls if call[0] == "first pass"] == [(n + 1, first) for n in range(first)]
    assert [call for call in calls if call[0] == "second pass"] == [("second pass", n, 2) for n in (1, 2)]


# ------------------------------------------------------------------------------------------ second pass


def test_an_object_takes_the_values_of_its_own_stamp_and_the_rest_keeps_the_first_pass():
    image = np.zeros((80, 96), np.float32)
    square(image, 28, 29)  # cut by both lines of the grid
    maps, first = both_passes(image)
    np.testing.assert_array_equal(maps.centred, image > 3)
    (stamp,) = PixelwiseSampler().draw(image, [centred_origin(np.s_[28:35, 29:36], SIZE)])
    inside = np.s_[28:35, 29:36]
    in_stamp = np.s_[28 - stamp.origin[0] : 35 - stamp.origin[0], 29 - stamp.origin[1] : 36 - stamp.origin[1]]
    np.testing.assert_array_equal(maps.p_galaxy[inside], stamp.p_galaxy[in_stamp])
    np.testing.assert_array_equal(maps.p_overlap[inside], stamp.p_overlap[in_stamp])
    np.testing.assert_array_equal(maps.realisations.get(inside), stamp.classes[:, *in_stamp])

    outside = ~maps.centred
    np.testing.assert_array_equal(everything(maps)[:, outside], everything(first)[:, outside])
    assert (everything(maps)[:, ~outside] != everything(first)[:, ~outside]).any()


def test_an_object_does_not_feel_others_far_away_nor_where_it_stands():
    alone = np.zeros((100, 140), np.float32)
    square(alone, 40, 30)
    crowded = alone.copy()
    for y, x in ((2, 90), (5, 120), (80, 100), (50, 100)):
        square(crowded, y, x, side=5 + x % 3)
    moved = np.zeros((100, 140), np.float32)
    square(moved, 57, 81)
    expected = everything(both_passes(alone)[0], np.s_[40:47, 30:37])
    np.testing.assert_array_equal(everything(both_passes(crowded)[0], np.s_[40:47, 30:37]), expected)
    np.testing.assert_array_equal(everything(both_passes(moved)[0], np.s_[57:64, 81:88]), expected)


@pytest.mark.parametrize("side", [SIZE - 2 * MARGIN, SIZE - 2 * MARGIN + 1])
def test_an_object_too_large_for_a_stamp_keeps_its_first_pass(side):
    image = np.zeros((96, 96), np.float32)
    square(image, 21, 21, side=side)
    maps, first = both_passes(image)
    if side <= SIZE - 2 * MARGIN:
        np.testing.assert_array_equal(maps.centred, image > 3)
    else:
        assert not maps.centred.any()
        np.testing.assert_array_equal(everything(maps), everything(first))


def test_objects_under_the_smallest_area_are_not_drawn_again():
    image = np.zeros((64, 64), np.float32)
    image[20, 20:23] = 5.0
    image[50, 20:24] = 5.0
    maps, _ = both_passes(image)
    assert not maps.centred[:40].any() and maps.centred[50, 20:24].all()


def test_an_object_at_the_corner_reaches_past_the_image():
    image = np.zeros((40, 50), np.float32)
    image[36:, 45:] = 5.0
    maps, _ = both_passes(image)
    np.testing.assert_array_equal(maps.centred, image > 3)
    (stamp,) = PixelwiseSampler().draw(image, [centred_origin(np.s_[36:40, 45:50], SIZE)])
    y, x = 36 - stamp.origin[0], 45 - stamp.origin[1]
    np.testing.assert_array_equal(maps.p_galaxy[36:, 45:], stamp.p_galaxy[y : y + 4, x : x + 5])


def test_neighbours_keep_their_own_detected_pixels():
    """Two objects two pixels apart: each one's stamp shows the other, and claims none of it."""
    image = np.zeros((64, 64), np.float32)
    square(image, 20, 12, side=8)
    square(image, 21, 22, side=9, brightness=4.0)
    maps, _ = both_passes(image)
    for box in (np.s_[20:28, 12:20], np.s_[21:30, 22:31]):
        (stamp,) = PixelwiseSampler().draw(image, [centred_origin(box, SIZE)])
        (y, x), (rows, columns) = stamp.origin, box
        here = np.s_[rows.start - y : rows.stop - y, columns.start - x : columns.stop - x]
        np.testing.assert_array_equal(maps.p_galaxy[box], stamp.p_galaxy[here])
        np.testing.assert_array_equal(maps.realisations.get(box), stamp.classes[:, *here])


class GenerousSampler(PixelwiseSampler):
    """Every stamp sees a smooth halo of probability around its own centre, whatever the image holds."""

    def draw(self, scaled, origins, corner=(0, 0)):
        for stamp in super().draw(scaled, origins, corner):
            y, x = np.mgrid[:SIZE, :SIZE] - SIZE // 2
            level = np.float32(stamp.origin[1] % 7 + 1) / 100
            halo = np.hypot(y, x) < 9
            p_galaxy = np.where(halo, 0.7 + level, stamp.p_galaxy).astype(np.float32)
            classes = np.maximum(stamp.classes, halo)
            yield SampledStamp(stamp.origin, classes, p_galaxy, stamp.p_overlap)


def test_a_pixel_claimed_twice_goes_to_the_object_whose_centre_is_nearer():
    image = np.zeros((64, 80), np.float32)
    image[30:35, 26:31] = image[30:35, 38:43] = 5.0
    sampler = GenerousSampler()
    maps = first_pass(image, PixelwiseSampler())
    second_pass(image, maps, sampler, POINT)
    origins = [centred_origin(np.s_[30:35, x : x + 5], SIZE) for x in (26, 38)]
    left, right = sampler.draw(image, origins)
    level_left, level_right = left.p_galaxy[SIZE // 2, SIZE // 2], right.p_galaxy[SIZE // 2, SIZE // 2]
    assert level_left != level_right
    # Between the objects, which end at columns 30 and 38, the halos overlap; their centres are at 28 and 40.
    row = maps.p_galaxy[32]
    np.testing.assert_array_equal(row[31:34], level_left)
    np.testing.assert_array_equal(row[35:38], level_right)
    np.testing.assert_array_equal(row[26:31], level_left)
    np.testing.assert_array_equal(row[38:43], level_right)

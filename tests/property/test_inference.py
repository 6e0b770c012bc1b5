"""Tiles against naive indexing, and the packed realisations against a plain stack."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from appulse.inference.realisations import Realisations
from appulse.inference.tiles import centred_origin, fits_stamp, grid_origins, overlap, wrapped

SHAPES = st.tuples(st.integers(1, 40), st.integers(1, 40))
SIZES = st.integers(1, 24)
ORIGINS = st.tuples(st.integers(-60, 60), st.integers(-60, 60))


@given(SHAPES, SIZES, st.integers(0, 11), st.tuples(st.integers(0, 90), st.integers(0, 90)))
def test_the_grid_without_edges_covers_every_pixel_exactly_once_whatever_the_window(
    shape, size, edge, corner
):
    size += 2 * edge
    window = tuple(slice(start, start + length) for start, length in zip(corner, shape, strict=True))
    count = np.zeros(shape, int)
    for y, x in grid_origins(window, size, edge):
        inner = y + edge - corner[0], x + edge - corner[1]
        of_image, _ = overlap(inner, size - 2 * edge, shape)
        count[of_image] += 1
        assert count[of_image].size, "no stamp is drawn for nothing"
    assert (count == 1).all()


@given(SHAPES, SIZES, ORIGINS)
def test_overlap_is_what_naive_indexing_finds(shape, size, origin):
    image = np.arange(1, shape[0] * shape[1] + 1).reshape(shape)
    stamp = np.zeros((size, size), int)
    for y in range(size):
        for x in range(size):
            row, column = origin[0] + y, origin[1] + x
            if 0 <= row < shape[0] and 0 <= column < shape[1]:
                stamp[y, x] = image[row, column]
    of_image, of_stamp = overlap(origin, size, shape)
    np.testing.assert_array_equal(image[of_image], stamp[of_stamp])
    assert image[of_image].size == np.count_nonzero(stamp)


@st.composite
def boxes(draw):
    rows, columns = (
        slice(start, start + length)
        for start, length in zip(draw(ORIGINS), draw(st.tuples(SIZES, SIZES)), strict=True)
    )
    return rows, columns


@given(boxes(), st.integers(1, 64), st.integers(0, 10))
def test_a_centred_stamp_leaves_the_same_margin_on_both_sides(box, size, margin):
    before = [side.start - start for side, start in zip(box, centred_origin(box, size), strict=True)]
    after = [start + size - side.stop for side, start in zip(box, centred_origin(box, size), strict=True)]
    assert all(abs(one - other) <= 1 for one, other in zip(before, after, strict=True))
    assert fits_stamp(box, size, margin) == (min(before + after) >= margin)


@given(ORIGINS, SHAPES, st.integers(1, 20))
def test_wrapped_windows_read_a_plane_of_copies(origin, shape, period):
    square = np.arange(period**2).reshape(period, period)
    window = square[wrapped(origin, shape, period)]
    assert window.shape == shape
    rows = np.take(square, np.arange(origin[0], origin[0] + shape[0]), axis=0, mode="wrap")
    expected = np.take(rows, np.arange(origin[1], origin[1] + shape[1]), axis=1, mode="wrap")
    np.testing.assert_array_equal(window, expected)


# ---------------------------------------------------------------------------------------- realisations


@st.composite
def stacks(draw):
    samples, height, width = draw(st.integers(1, 70)), draw(st.integers(1, 5)), draw(st.integers(1, 5))
    return draw(hnp.arrays(np.uint8, (samples, height, width), elements=st.integers(0, 2)))


def whole(shape):
    return slice(0, shape[0]), slice(0, shape[1])


def stored(classes):
    store = Realisations(len(classes), classes.shape[1:])
    store.put(whole(store.shape), classes)
    return store


@given(stacks())
def test_realisations_come_back_whatever_their_number(classes):
    np.testing.assert_array_equal(stored(classes).get(whole(classes.shape[1:])), classes)


@given(stacks())
def test_mean_and_std_are_those_of_the_stack(classes):
    mean, std = stored(classes).mean_and_std()
    assert mean.dtype == std.dtype == np.float32
    np.testing.assert_array_equal(mean, classes.mean(axis=0).astype(np.float32))
    np.testing.assert_array_max_ulp(std, classes.std(axis=0).astype(np.float32), 1)
    np.testing.assert_array_equal(std == 0, np.ptp(classes, axis=0) == 0)


@given(stacks(), st.randoms(use_true_random=False))
def test_mean_and_std_do_not_depend_on_the_order(classes, random):
    order = list(range(len(classes)))
    random.shuffle(order)
    for one, other in zip(stored(classes).mean_and_std(), stored(classes[order]).mean_and_std(), strict=True):
        np.testing.assert_array_equal(one, other)


@given(stacks(), st.data())
def test_parts_put_together_make_the_whole(classes, data):
    height, width = classes.shape[1:]
    row, column = data.draw(st.integers(0, height)), data.draw(st.integers(0, width))
    store = Realisations(len(classes), (height, width))
    for rows in (slice(row, height), slice(0, row)):
        for columns in (slice(0, column), slice(column, width)):
            store.put((rows, columns), classes[:, rows, columns])
    np.testing.assert_array_equal(store.get(whole((height, width))), classes)

"""Layers against a plain sort over all galaxies at once."""

import numpy as np
import pytest

from appulse.sky.rendering import SourceImage
from appulse.sky.truth import Layers, add_light, blendedness, clip_to, shared_light, summed_light, ternary_map

SHAPE = (19, 23)


def random_sources(seed, n=30):
    """Sources of distinct values with holes, many of them over a border."""
    rng = np.random.default_rng(seed)
    sources = []
    for _ in range(n):
        height, width = rng.integers(1, 14, 2)
        image = rng.random((height, width)).astype(np.float32) * (rng.random((height, width)) < 0.7)
        y0, x0 = int(rng.integers(-10, 22)), int(rng.integers(-10, 26))
        sources.append(SourceImage(y0, x0, image.astype(np.float32)))
    return sources


def stacked(sources):
    """Every galaxy on its own full-size image, pixel by pixel."""
    stack = np.zeros((len(sources), *SHAPE), np.float32)
    for plane, source in zip(stack, sources, strict=True):
        for (row, column), value in np.ndenumerate(source.image):
            y, x = source.y0 + row, source.x0 + column
            if 0 <= y < SHAPE[0] and 0 <= x < SHAPE[1]:
                plane[y, x] = value
    return stack


def layered(sources, identities=None):
    layers = Layers.empty(SHAPE)
    for identity, source in zip(identities or range(1, len(sources) + 1), sources, strict=True):
        layers.add(source, identity)
    return layers


@pytest.mark.parametrize("seed", range(4))
def test_layers_are_the_sorted_stack(seed):
    sources = random_sources(seed)
    stack, layers = stacked(sources), layered(sources)
    order = np.argsort(-stack, axis=0)
    ranked = np.take_along_axis(stack, order, axis=0)
    identity = np.where(ranked > 0, order + 1, 0)
    np.testing.assert_array_equal(layers.first, ranked[0])
    np.testing.assert_array_equal(layers.second, ranked[1])
    np.testing.assert_array_equal(layers.id1, identity[0])
    np.testing.assert_array_equal(layers.id2, identity[1])
    light = summed_light(layers.first, layers.second, layers.sparse())
    np.testing.assert_allclose(light, stack.sum(axis=0), rtol=1e-6)
    other = np.random.default_rng(seed).random(SHAPE).astype(np.float32)
    light = summed_light(layers.first, layers.second, layers.sparse(), other)
    np.testing.assert_allclose(light, stack.sum(axis=0) + other, rtol=1e-6)

    found = {
        (int(y), int(x), int(i), float(flux))
        for part in layers.deeper
        for y, x, i, flux in zip(*part, strict=True)
    }
    expected = {
        (y, x, int(identity[rank, y, x]), float(ranked[rank, y, x]))
        for rank, y, x in np.argwhere(ranked > 0)
        if rank >= 2
    }
    assert found == expected
    assert sum(len(part[0]) for part in layers.deeper) == len(expected)  # each once


@pytest.mark.parametrize("seed", range(3))
def test_order_of_adding_does_not_matter(seed):
    sources = random_sources(seed)
    forwards = layered(sources)
    order = np.random.default_rng(seed).permutation(len(sources))
    shuffled = layered([sources[i] for i in order], [int(i) + 1 for i in order])
    for name in ("first", "second", "id1", "id2"):
        np.testing.assert_array_equal(getattr(forwards, name), getattr(shuffled, name))


@pytest.mark.parametrize("threshold", [0.0, 0.3, 0.8])
def test_ternary_map_counts_galaxies(threshold):
    sources = random_sources(5)
    layers = layered(sources)
    count = (stacked(sources) > threshold).sum(axis=0)
    ternary = ternary_map(layers.first, layers.second, threshold)
    np.testing.assert_array_equal(ternary, np.minimum(count, 2))
    assert ternary.dtype == np.uint8 and set(np.unique(ternary)) == {0, 1, 2}


def test_add_tells_whether_any_light_falls_on_the_field():
    layers = Layers.empty(SHAPE)
    one = np.ones((3, 3), np.float32)
    assert not layers.add(SourceImage(-3, 0, one), 1)
    assert not layers.add(SourceImage(0, SHAPE[1], one), 2)
    corner = np.zeros((3, 3), np.float32)
    corner[0, 0] = 1
    assert not layers.add(SourceImage(-1, -1, corner), 3)  # its lit pixel is off the field
    assert not layers.first.any() and not layers.id1.any()
    assert layers.add(SourceImage(SHAPE[0] - 1, SHAPE[1] - 1, corner), 4)
    assert layers.id1[-1, -1] == 4 and layers.first.sum() == 1


@pytest.mark.parametrize("y0", [-9, -5, -2, 0, 7, 16, 19, 40])
@pytest.mark.parametrize("x0", [-11, -6, -1, 0, 9, 20, 23, 50])
def test_clip_to_every_border(y0, x0):
    source = SourceImage(y0, x0, np.random.default_rng(0).random((5, 6)).astype(np.float32) + 1)
    window, image = clip_to(source, SHAPE)
    field = np.zeros(SHAPE, np.float32)
    assert field[window].shape == image.shape
    field[window] = image
    np.testing.assert_array_equal(field, stacked([source])[0])


def test_clip_to_a_field_inside_the_stamp():
    source = SourceImage(-4, -6, np.arange(40 * 50, dtype=np.float32).reshape(40, 50))
    window, image = clip_to(source, SHAPE)
    assert window == (slice(0, 19), slice(0, 23))
    np.testing.assert_array_equal(image, source.image[4:23, 6:29])


def test_unlabelled_light_adds_up():
    sources = random_sources(9)
    light = np.zeros(SHAPE, np.float32)
    for source in sources:
        add_light(light, source)
    np.testing.assert_allclose(light, stacked(sources).sum(axis=0), rtol=1e-5)


def blended(sources, light):
    return blendedness(*np.transpose([shared_light(source, light) for source in sources]))


def test_blendedness_by_hand():
    # One row: galaxy a = (2, 1), galaxy b = (1, 3) one pixel to the right; sum = (2, 2, 3).
    a = SourceImage(4, 4, np.array([[2, 1]], np.float32))
    b = SourceImage(4, 5, np.array([[1, 3]], np.float32))
    lone = SourceImage(10, 10, np.array([[5, 2]], np.float32))
    light = stacked([a, b, lone]).sum(axis=0)
    # a: 1 - (4 + 1) / (4 + 2) = 1/6;  b: 1 - (1 + 9) / (2 + 9) = 1/11.
    np.testing.assert_allclose(blended([a, b, lone], light), [1 / 6, 1 / 11, 0], atol=1e-12)


def test_blendedness_of_a_galaxy_lost_under_another():
    faint = SourceImage(4, 4, np.full((2, 2), 0.01, np.float32))
    bright = SourceImage(4, 4, np.full((2, 2), 100, np.float32))
    values = blended([faint, bright], stacked([faint, bright]).sum(axis=0))
    assert values[0] > 0.999 and values[1] < 1e-3


def test_blendedness_off_the_field_is_zero():
    off = SourceImage(-50, 0, np.ones((2, 2), np.float32))
    assert blended([off], np.ones(SHAPE, np.float32)).tolist() == [0]


def test_blendedness_of_two_halves_is_that_of_the_whole():
    sources = random_sources(2)
    light = stacked(sources).sum(axis=0)
    halves = np.zeros((len(sources), 2))
    for start, stop in ((0, 8), (8, SHAPE[0])):
        for total, source in zip(halves, sources, strict=True):
            total += shared_light(SourceImage(source.y0 - start, source.x0, source.image), light[start:stop])
    np.testing.assert_allclose(blendedness(*halves.T), blended(sources, light), rtol=1e-12, atol=1e-12)

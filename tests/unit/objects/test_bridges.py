"""Faint bridges, against profiles whose overlap is known in closed form."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appulse.objects.bridges import bridges_of_field, faint_bridges
from appulse.objects.components import label_objects

WIDTH, PEAK = 3.0, 100.0


def pair(distance, angle=0.0, shape=(81, 81)):
    """Two equal round galaxies in units of the noise, noise-free, each alone."""
    y, x = np.indices(shape)
    dy, dx = 0.5 * distance * np.sin(angle), 0.5 * distance * np.cos(angle)
    return [
        PEAK * np.exp(-((x - 40 - side * dx) ** 2 + (y - 40 - side * dy) ** 2) / (2 * WIDTH**2))
        for side in (-1, 1)
    ]


def count(mask):
    return len(label_objects(mask, 1)[1])


# Each reaches one sigma 9.1 pixels from its centre.
@pytest.mark.parametrize(("distance", "truly_apart"), [(14, False), (17, False), (21, True), (23, True)])
def test_galaxies_are_parted_where_the_truth_has_background_between_them(distance, truly_apart):
    one, other = pair(distance)
    assert (count((one > 1) | (other > 1)) == 2) == truly_apart
    joined = one + other > 0.1  # a class map that reaches too far
    assert count(joined) == 1
    assert count(joined & ~faint_bridges(joined, one + other)) == (2 if truly_apart else 1)


@settings(max_examples=25, deadline=None)
@given(st.floats(0, np.pi), st.integers(0, 2**32 - 1))
def test_whatever_the_angle_and_the_noise_the_cut_is_thin_and_complete(angle, seed):
    light = sum(pair(22, angle))
    joined = light > 0.1
    assert count(joined) == 1
    noisy = light + np.random.default_rng(seed).normal(0, 0.5, light.shape)
    bridges = faint_bridges(joined, noisy)
    assert count(joined & ~bridges) == 2
    # Not more than a line across the bridge, which is narrower than 20 pixels.
    assert not (bridges & ~joined).any() and bridges.sum() <= 20


def test_lone_galaxies_and_noise_have_none():
    single = pair(0)[0]
    assert not faint_bridges(single > 0.1, single).any()
    noise = np.random.default_rng(1).standard_normal((64, 64))
    assert not faint_bridges(np.ones((64, 64), bool), noise).any()


def test_a_field_is_its_objects_one_by_one():
    far, near = sum(pair(22)), sum(pair(12))
    image = np.hstack([far, near, np.full_like(far, np.nan)])
    foreground = np.nan_to_num(image) > 0.1
    found = bridges_of_field(foreground, image, 5)
    np.testing.assert_array_equal(found[:, :81], faint_bridges(far > 0.1, far))
    assert not found[:, 81:].any() and found.any()
    p_overlap = np.full(image.shape, np.nan)
    p_overlap[:, :162] = 0.0
    np.testing.assert_array_equal(bridges_of_field(foreground, image, 5, p_overlap), found)
    p_overlap[38:43, 39:42] = 1.0
    assert not bridges_of_field(foreground, image, 5, p_overlap).any()


def giant_and_companion():
    """A giant whose faint border a companion overlaps, and the class map's true overlap."""
    y, x = np.indices((101, 101))
    giant = 20 * np.exp(-np.hypot(y - 50, x - 40) / 12)
    companion = 30 * np.exp(-((y - 50) ** 2 + (x - 78) ** 2) / (2 * 1.5**2))
    return giant, companion, (giant > 1) & (companion > 1)


def test_galaxies_that_share_a_likely_overlap_stay_together():
    giant, companion, overlap = giant_and_companion()
    union = (giant > 1) | (companion > 1)
    assert count(union) == 1 and np.count_nonzero(overlap) >= 4
    # The valley runs inside the giant, where its light is still falling: beside the overlap, not through it.
    cut = faint_bridges(union, giant + companion)
    assert count(union & ~cut) == 2 and not (cut & overlap).any()
    assert not faint_bridges(union, giant + companion, 0.6 * overlap).any()
    np.testing.assert_array_equal(faint_bridges(union, giant + companion, 0.4 * overlap), cut)


def test_a_speckle_or_an_overlap_of_others_holds_no_bridge():
    giant, companion, overlap = giant_and_companion()
    union, light = (giant > 1) | (companion > 1), giant + companion
    cut = faint_bridges(union, light)
    speckle, inside = np.zeros((2, *union.shape))
    speckle[tuple(np.argwhere(overlap)[:3].T)] = 1.0
    np.testing.assert_array_equal(faint_bridges(union, light, speckle), cut)
    # Of something in the giant, which has no peak of its own there.
    inside[46:55, 56:62] = 1.0
    assert not (inside > 0)[:, 63:].any() and np.argwhere(cut)[:, 1].min() > 62 + 6
    np.testing.assert_array_equal(faint_bridges(union, light, inside), cut)
    # A third galaxy, on the far side of the companion, shares its own overlap with that one alone.
    y, x = np.indices(union.shape)
    third = 40 * np.exp(-((y - 50) ** 2 + (x - 84) ** 2) / (2 * 1.5**2))
    union |= third > 1
    light = light + third
    shared = 1.0 * ((companion > 1) & (third > 1))
    assert np.count_nonzero(shared) >= 4
    cut = faint_bridges(union, light, shared)
    assert cut.any() and count(union & ~cut) == 2

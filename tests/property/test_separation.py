"""Separation on true ternary maps of random ellipses, and its promises on any map at all."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from scipy.optimize import linear_sum_assignment

from appulse.objects import separate

SCENE_SIZE = 120
EIGHT_CONNECTED = np.ones((3, 3))


def elliptical_radius(x, y, semi_major, axis_ratio, angle):
    """1 on the ellipse, for every pixel of the scene."""
    rows, columns = np.mgrid[:SCENE_SIZE, :SCENE_SIZE]
    dx, dy = columns - x, rows - y
    along = dx * np.cos(angle) + dy * np.sin(angle)
    across = -dx * np.sin(angle) + dy * np.cos(angle)
    return np.hypot(along / semi_major, across / (semi_major * axis_ratio))


def random_scene(rng, n_galaxies):
    """Masks (n, h, w), ternary map and noisy image of overlapping ellipses that the map can tell apart."""
    while True:
        ellipses = []
        for i in range(n_galaxies):
            x = y = SCENE_SIZE / 2
            semi_major, angle = rng.uniform(5, 25), rng.uniform(0, np.pi)
            if i:
                neighbour = ellipses[rng.integers(i)]
                distance = rng.uniform(0, 1.05) * (neighbour[2] + semi_major)
                direction = rng.uniform(0, 2 * np.pi)
                x, y = (
                    neighbour[0] + distance * np.cos(direction),
                    neighbour[1] + distance * np.sin(direction),
                )
            ellipses.append((x, y, semi_major, rng.uniform(0.3, 1), angle))
        radii = np.stack([elliptical_radius(*ellipse) for ellipse in ellipses])
        masks = radii <= 1
        if is_identifiable(masks):
            scale_lengths = rng.uniform(1.5, 4.5, size=(n_galaxies, 1, 1))
            image = np.exp(-scale_lengths * (radii - 1)).sum(axis=0) + rng.normal(size=radii[0].shape)
            return masks, np.minimum(masks.sum(axis=0), 2).astype(np.uint8), image


def is_identifiable(masks):
    """An overlap of 4 pixels, one object, nothing cut off, and every galaxy exposed or visibly nested."""
    depth = masks.sum(axis=0)
    one_object = ndimage.label(depth > 0, structure=EIGHT_CONNECTED)[1] == 1
    cut_off = depth[0].any() or depth[-1].any() or depth[:, 0].any() or depth[:, -1].any()
    if (depth >= 2).sum() < 4 or not one_object or cut_off:
        return False
    for j, mask in enumerate(masks):
        if mask.sum() < 8:
            return False
        if (mask & (depth == 1)).sum() < 6:
            nested = any((mask & other).sum() >= 0.9 * mask.sum() for i, other in enumerate(masks) if i != j)
            if not nested or (mask & (depth == 2)).sum() < 0.8 * mask.sum():
                return False
    return True


def matched_iou(found, true):
    """IoU summed over the best one-to-one pairs, per true galaxy; a galaxy that is not found counts 0."""
    iou = np.array([[(f & t).sum() / (f | t).sum() for t in true] for f in found])
    rows, columns = linear_sum_assignment(-iou)
    return iou[rows, columns].sum() / len(true)


@pytest.mark.parametrize("with_image", [False, True], ids=["geometry", "image"])
@pytest.mark.parametrize("n_galaxies", [2, 3])
def test_true_maps_of_ellipses_give_the_true_galaxies(n_galaxies, with_image):
    # The project's target: at least 95 % correct counts, mean mask IoU at least 0.9.
    rng = np.random.default_rng(9000 + n_galaxies)
    counts, ious = [], []
    for _ in range(200):
        masks, ternary, image = random_scene(rng, n_galaxies)
        found = separate(ternary, image if with_image else None).masks
        counts.append(len(found))
        ious.append(matched_iou(found, masks))
    assert np.mean(np.array(counts) == n_galaxies) >= 0.95
    assert np.mean(ious) >= 0.9


def assert_promises(ternary, separation):
    masks = separation.masks
    assert masks.shape[1:] == ternary.shape
    assert separation.nested.shape == (len(masks),)
    assert (len(masks) >= 1) == (ternary > 0).any()
    np.testing.assert_array_equal(masks.any(axis=0), ternary > 0)
    assert masks.any(axis=(1, 2)).all()
    owners = masks.sum(axis=0)
    assert (owners[ternary == 1] == 1).all()
    # The documented exception: an object with fewer than 4 overlap pixels may be a single galaxy.
    labels, count = ndimage.label(ternary > 0, structure=EIGHT_CONNECTED)
    for i in range(1, count + 1):
        overlap = (labels == i) & (ternary == 2)
        if overlap.sum() >= 4:
            assert (owners[overlap] >= 2).all()


any_ternary = hnp.arrays(
    np.uint8, hnp.array_shapes(min_dims=2, max_dims=2, max_side=10), elements=st.integers(0, 2)
)


@settings(max_examples=100, deadline=None)
@given(ternary=any_ternary, with_image=st.booleans(), seed=st.integers(0, 99))
def test_promises_hold_on_any_map(ternary, with_image, seed):
    image = np.random.default_rng(seed).normal(size=ternary.shape) * 5 if with_image else None
    assert_promises(ternary, separate(ternary, image))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10_000), smoothing=st.sampled_from([0.7, 1.5, 3.0]))
def test_promises_hold_on_smooth_random_maps(seed, smoothing):
    field = ndimage.gaussian_filter(np.random.default_rng(seed).normal(size=(40, 40)), smoothing)
    ternary = ((field > 0).astype(np.uint8) + (field > field.std())).astype(np.uint8)
    assert_promises(ternary, separate(ternary, 20 * field / field.std()))
    assert_promises(ternary, separate(ternary, p_galaxy=1 / (1 + np.exp(-field / field.std()))))


@settings(max_examples=15, deadline=None)
@given(seed=st.integers(0, 10_000), turns=st.integers(1, 3))
def test_count_follows_a_quarter_turn(seed, turns):
    masks, ternary, _ = random_scene(np.random.default_rng(seed), 2)
    turned = separate(np.rot90(ternary, turns)).masks
    straight = separate(ternary).masks
    assert len(turned) == len(straight)
    assert (
        abs(matched_iou(np.rot90(turned, -turns, axes=(1, 2)), masks) - matched_iou(straight, masks)) < 0.02
    )

"""Galaxies followed into realisations: against the full search, and where the answer is known."""

import numpy as np
import pytest
from scipy.ndimage import gaussian_filter, shift

from appulse.objects import separate
from appulse.objects.following import follow
from appulse.objects.separation import Separation, nested_galaxies

ROWS, COLUMNS = np.mgrid[:48, :56]


def ellipse(x, y, a, b, degrees=0.0, scale=1.0):
    """Squared elliptical radius, so that ``< 1`` is the inside; ``scale`` moves the outline."""
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    u, v = (COLUMNS - x) * c + (ROWS - y) * s, -(COLUMNS - x) * s + (ROWS - y) * c
    return ((u / a) ** 2 + (v / b) ** 2) / scale


def ternary_of(*levels):
    return np.minimum(sum(np.asarray(level < 1, dtype=np.uint8) for level in levels), 2)


def iou(first, second):
    return (first & second).sum() / (first | second).sum()


PAIR = ((22, 23, 12, 8, 20), (34, 25, 9, 7, -30))
IMAGE = sum(60 * np.exp(-3 * np.sqrt(ellipse(*one))) for one in PAIR)


@pytest.mark.parametrize("seed", range(6))
def test_jittered_pairs_are_what_the_ellipses_are(seed):
    rng = np.random.default_rng(seed)
    jitter = gaussian_filter(rng.standard_normal(ROWS.shape), 3)
    scale = np.exp(0.15 * jitter / jitter.std())
    levels = [ellipse(*one) / scale for one in PAIR]
    reference = separate(ternary_of(*(ellipse(*one) for one in PAIR)), IMAGE)
    found = follow(ternary_of(*levels), reference, IMAGE)
    truth = [level < 1 for level in levels]
    best = max(min(iou(found[0], truth[a]), iou(found[1], truth[b])) for a, b in ((0, 1), (1, 0)))
    assert best > 0.88


def test_masks_make_up_the_realisation():
    levels = [ellipse(*one, scale=1.1) for one in PAIR]
    ternary = ternary_of(*levels)
    reference = separate(ternary_of(*(ellipse(*one) for one in PAIR)), IMAGE)
    found = follow(ternary, reference, IMAGE)
    np.testing.assert_array_equal(found.any(axis=0), ternary > 0)
    np.testing.assert_array_equal(found.sum(axis=0) == 2, ternary == 2)


def test_the_order_is_the_references():
    ternary = ternary_of(*(ellipse(*one) for one in PAIR))
    reference = separate(ternary, IMAGE)
    found = follow(ternary, reference, IMAGE)
    assert all(iou(one, other) > 0.95 for one, other in zip(found, reference.masks, strict=True))


def test_nested_galaxy_is_its_region_and_leaves_the_host_whole():
    host, inner = ellipse(27, 24, 16, 12), ellipse(31, 26, 4, 3)
    reference = separate(ternary_of(host, inner), 50 * np.exp(-np.sqrt(host)))
    assert reference.nested.tolist() == [False, True]
    grown = ternary_of(host, ellipse(31, 26, 5, 4))
    found = follow(grown, reference, IMAGE)
    np.testing.assert_array_equal(found[0], host < 1)
    np.testing.assert_array_equal(found[1], grown == 2)
    gone = follow(ternary_of(host), reference, IMAGE)
    assert gone[0].sum() == (host < 1).sum() and not gone[1].any()


# Two hosts, and a small galaxy whose overlap runs into their lens.
THREE = ((20, 24, 13, 10, 10), (35, 24, 12, 9, -20), (24, 27, 5, 4, 30))


def masks_of(galaxies, scale=1.0):
    return np.array([ellipse(*one, scale=scale) < 1 for one in galaxies])


def reference_of(masks):
    return Separation(masks, nested_galaxies(masks))


@pytest.mark.parametrize("x", [24, 27, 30])
def test_a_nested_galaxy_does_not_swallow_the_lens_of_two_others(x):
    masks = masks_of((*THREE[:2], (x, *THREE[2][1:])))
    reference, ternary = reference_of(masks), np.minimum(masks.sum(axis=0), 2).astype(np.uint8)
    assert reference.nested.tolist() == [False, False, True]
    # What is seen in a realisation that is the reference's own map is the reference.
    for found, mask in zip(follow(ternary, reference, IMAGE), masks, strict=True):
        assert iou(found, mask) > 0.95


def test_nested_galaxies_that_meet_share_no_region():
    masks = masks_of(((27, 24, 18, 14), (23, 24, 5, 4), (30, 25, 5, 4)))
    ternary = np.minimum(masks.sum(axis=0), 2).astype(np.uint8)
    assert (masks[1] & masks[2]).any()
    for found, mask in zip(follow(ternary, reference_of(masks), IMAGE), masks, strict=True):
        assert iou(found, mask) > 0.9


def test_a_nested_galaxy_keeps_what_sticks_out():
    masks = masks_of(((27, 24, 14, 11), (38.2, 24, 3.5, 3)))
    reference = reference_of(masks)
    assert reference.nested[1] and (masks[1] & ~masks[0]).any()
    found = follow(np.minimum(masks.sum(axis=0), 2).astype(np.uint8), reference, IMAGE)
    assert iou(found[1], masks[1]) > 0.95


def test_galaxies_that_touch_keep_their_border():
    """A border where the light has its valley, which no ellipses would draw."""
    union = (ellipse(26, 24, 20, 9) < 1) | (ellipse(18, 20, 9, 9) < 1)
    left = union & (COLUMNS + 0.3 * ROWS < 36)
    reference = reference_of(np.stack([left, union & ~left]))
    found = follow(union.astype(np.uint8), reference, IMAGE)
    np.testing.assert_array_equal(found, reference.masks)
    grown = (ellipse(26, 24, 22, 11) < 1) | (ellipse(18, 20, 11, 11) < 1)
    found = follow(grown.astype(np.uint8), reference, IMAGE)
    np.testing.assert_array_equal(found.sum(axis=0), grown)
    assert not (found & reference.masks[::-1]).any()


@pytest.mark.parametrize("seed", range(4))
def test_jittered_triples_are_what_the_ellipses_are(seed):
    rng = np.random.default_rng(seed)
    levels = []
    for one in THREE:
        jitter = gaussian_filter(rng.standard_normal(ROWS.shape), 3)
        levels.append(ellipse(*one) / np.exp(0.15 * jitter / jitter.std()))
    found = follow(ternary_of(*levels), reference_of(masks_of(THREE)), IMAGE)
    assert min(iou(mask, level < 1) for mask, level in zip(found, levels, strict=True)) > 0.8


def test_pixels_of_an_absent_galaxy_go_to_the_other():
    reference = separate(ternary_of(*(ellipse(*one) for one in PAIR)), IMAGE)
    left_alone = ternary_of(ellipse(*PAIR[0]))
    found = follow(left_alone, reference, IMAGE)
    assert sorted(mask.sum() for mask in found) == [0, (left_alone > 0).sum()]


def test_lone_galaxy_with_an_enclosed_overlap_stays_whole():
    host = ellipse(27, 24, 16, 12)
    reference = separate(ternary_of(host), 50 * np.exp(-np.sqrt(host)))
    found = follow(ternary_of(host, ellipse(27, 24, 4, 3)), reference, IMAGE)
    np.testing.assert_array_equal(found[0], host < 1)
    assert len(found) == 2


def test_lone_galaxy_with_a_companion_is_searched_anew():
    lone = ternary_of(ellipse(*PAIR[0]))
    reference = separate(lone, 60 * np.exp(-3 * np.sqrt(ellipse(*PAIR[0]))))
    both = ternary_of(*(ellipse(*one) for one in PAIR))
    found = follow(both, reference, IMAGE)
    full = separate(both, IMAGE).masks
    np.testing.assert_array_equal(np.sort(found.sum(axis=(1, 2))), np.sort(full.sum(axis=(1, 2))))


def test_moving_everything_moves_the_masks():
    ternary = ternary_of(*(ellipse(*one) for one in PAIR))
    reference = separate(ternary, IMAGE)
    jittered = ternary_of(*(ellipse(*one, scale=1.15) for one in PAIR))
    moved = [np.roll(array, (2, 3), axis=(-2, -1)) for array in (jittered, reference.masks, IMAGE)]
    there = follow(moved[0], type(reference)(moved[1], reference.nested), shift(IMAGE, (2, 3)))
    here = follow(jittered, reference, IMAGE)
    np.testing.assert_array_equal(there, np.roll(here, (2, 3), axis=(-2, -1)))

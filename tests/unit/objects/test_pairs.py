"""Pairs of galaxies that meet, against profiles known in closed form."""

import numpy as np
import pytest

from appulse.objects import divide_at_peaks, meeting_pairs, overlapping
from appulse.objects.components import MIN_OVERLAP

WIDTH, PEAK = 3.0, 100.0


def two_gaussians(distance):
    """Two equal round galaxies in units of the noise, noise-free: their light, and each alone."""
    y, x = np.mgrid[:41, :81]
    single = [
        PEAK * np.exp(-((x - 40 - side * distance / 2) ** 2 + (y - 20) ** 2) / (2 * WIDTH**2))
        for side in (-1, 1)
    ]
    return sum(single), single


# Half-way each has PEAK exp(-d^2 / 8 w^2): one sigma at d = 18.2 pixels.
@pytest.mark.parametrize(("distance", "expected"), [(12, True), (15, True), (21, False), (24, False)])
def test_a_bright_border_is_an_overlap_of_the_truth(distance, expected):
    light, single = two_gaussians(distance)
    sides = np.indices(light.shape)[1]
    masks = np.stack([(single[0] > 1) & (sides < 40), (single[1] > 1) & (sides >= 40)])
    overlap = np.count_nonzero(np.minimum(*single) > 1)
    assert (overlap >= MIN_OVERLAP) == expected
    assert any(pair.is_blend for pair in meeting_pairs(masks, light)) == expected


def test_pixels_are_counted_by_hand():
    image = np.full((12, 12), 5.0)
    a, b, far = (np.zeros((12, 12), bool) for _ in range(3))
    a[2:9, 2:6], b[2:9, 5:9], far[2:9, 11] = True, True, True
    (pair,) = meeting_pairs(np.stack([a, b, far]), image)
    assert (pair.first, pair.second, pair.overlap_area) == (0, 1, 7)
    b[:, 5] = False
    (pair,) = meeting_pairs(np.stack([a, b]), image)
    assert (pair.overlap_area, pair.border_area) == (0, 7) and pair.is_blend
    assert meeting_pairs(np.stack([a, b]), np.zeros((12, 12))) == []
    assert meeting_pairs(a[None], image) == []


def test_fewer_pixels_than_an_overlap_needs_are_none():
    assert not overlapping(MIN_OVERLAP - 1, MIN_OVERLAP - 1)
    np.testing.assert_array_equal(overlapping(np.array([0, 4, 9]), np.array([4, 0, 3])), True)


def test_objects_are_divided_at_the_valley():
    light, _ = two_gaussians(14)
    left, right = sorted(divide_at_peaks(light > 1, light), key=lambda mask: np.nonzero(mask)[1].mean())
    assert not (left & right).any() and ((left | right) == (light > 1)).all()
    # The symmetry axis is column 40, which goes to one of the two.
    assert np.nonzero(left)[1].max() <= 40 and np.nonzero(right)[1].min() >= 40
    single, _ = two_gaussians(0)
    np.testing.assert_array_equal(divide_at_peaks(single > 1, single), (single > 1)[None])

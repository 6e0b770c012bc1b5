"""Fits of ellipses to ternary maps, against the ellipses the maps were made of."""

import numpy as np
import pytest

from appulse.objects.ellipses import assign, ellipses_of, misfit, refine

ROWS, COLUMNS = np.mgrid[:60, :70].astype(float)


def ellipse(x, y, semi_major, semi_minor, degrees):
    c, s = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    a, b = semi_major**-2.0, semi_minor**-2.0
    return np.array([x, y, a * c * c + b * s * s, (a - b) * c * s, a * s * s + b * c * c])


def mask_of(parameters):
    x, y, qxx, qxy, qyy = parameters
    dx, dy = COLUMNS - x, ROWS - y
    return qxx * dx**2 + 2 * qxy * dx * dy + qyy * dy**2 <= 1


PAIR = np.stack([ellipse(28, 30, 16, 10, 20), ellipse(42, 33, 12, 9, 110)])
MASKS = np.stack([mask_of(e) for e in PAIR])
TERNARY = MASKS.sum(axis=0).astype(np.uint8)
UNION = TERNARY > 0


def pixels():
    return ROWS[UNION], COLUMNS[UNION], TERNARY[UNION]


def test_moments_of_a_pixelised_ellipse_give_it_back():
    ys, xs, _ = pixels()
    found = ellipses_of(np.ascontiguousarray(MASKS[:, UNION]), ys, xs)
    np.testing.assert_allclose(found[:, :2], PAIR[:, :2], atol=0.1)
    np.testing.assert_allclose(found[:, 2:], PAIR[:, 2:], rtol=0.05, atol=1e-4)


def test_true_ellipses_fit_without_misfit_and_share_the_pixels_as_they_were():
    ys, xs, classes = pixels()
    assert misfit(TERNARY, PAIR) == 0
    np.testing.assert_array_equal(assign(ys, xs, classes, PAIR), MASKS[:, UNION])


def test_refinement_finds_them_from_a_rough_start():
    ys, xs, classes = pixels()
    rough = np.stack([ellipse(24, 28, 10, 10, 0), ellipse(46, 34, 10, 10, 0)])
    found = refine(ys, xs, classes, rough, 60)
    np.testing.assert_array_equal(assign(ys, xs, classes, found), MASKS[:, UNION])
    assert misfit(TERNARY, found) < 2 < misfit(TERNARY, rough)


@pytest.mark.parametrize("growth", [0.5, 1.0])
def test_misfit_of_a_ring_is_half_its_width_squared_per_outline(growth):
    # A circle drawn too large by g: the misfit is the integral of the depth, g^2 / 2 per unit of outline.
    radius = 20.0
    small = mask_of(ellipse(35, 30, radius, radius, 0)).astype(np.uint8)
    large = ellipse(35, 30, radius + growth, radius + growth, 0)[None]
    expected = 2 * np.pi * (radius * growth**2 / 2 + growth**3 / 6)
    assert misfit(small, large) == pytest.approx(expected, rel=0.15)


def test_a_galaxy_without_pixels_still_has_an_ellipse():
    ys, xs, _ = pixels()
    found = ellipses_of(np.zeros((1, ys.size), dtype=bool), ys, xs)
    assert np.isfinite(found).all()


def test_pixels_out_of_reach_do_not_draw_an_ellipse_to_them():
    rows, columns = np.mgrid[:50, :90]
    disc, stranger = (np.hypot(columns - x, rows - 25) <= 12 for x in (20, 70))
    ys, xs = (axis.astype(np.float64) for axis in np.nonzero(disc | stranger))
    classes = np.ones(ys.size, np.uint8)
    alone = ellipses_of(disc[disc | stranger][None], ys, xs)
    start = alone * (1, 1, 1.2, 1.2, 1.2)
    np.testing.assert_allclose(refine(ys, xs, classes, start, 20, 3.0), alone)
    assert refine(ys, xs, classes, start, 20)[0, 0] > 40

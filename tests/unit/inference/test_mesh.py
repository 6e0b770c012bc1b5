"""The mesh of levels, held against planes, which it gives back exactly."""

import numpy as np
import pytest

from appulse.inference.mesh import CELL, join_mesh
from appulse.inference.mesh_filter import filtered_level


def plane(y, x):
    return 3 + 0.7 * y - 0.2 * x


def of_centres(shape):
    """A plane at the centres of the mesh cells of an image."""
    edges = [np.append(np.arange(0, length, CELL), length) for length in shape]
    y, x = ((edge[:-1] + edge[1:] - 1) / 2 for edge in edges)
    return plane(y[:, None], x)


@pytest.mark.parametrize("shape", [(320, 384), (300, 321), (65, 500), (128, 129)])
def test_a_plane_is_a_plane_to_every_border_whatever_the_window(shape):
    mesh = of_centres(shape)
    whole = join_mesh(mesh, shape, dtype=np.float64, onwards=True)
    np.testing.assert_allclose(whole, plane(*np.mgrid[: shape[0], : shape[1]]), atol=1e-9)
    for window in (np.s_[0:20, 0:33], np.s_[30:64, 60:129], np.s_[shape[0] - 7 : shape[0], 0 : shape[1]]):
        part = join_mesh(mesh, shape, window, np.float64, onwards=True)
        assert part.tobytes() == whole[window].tobytes()


def test_a_noise_keeps_the_outermost_value_at_the_borders():
    mesh = of_centres((320, 384))
    joined = join_mesh(mesh, (320, 384), dtype=np.float64)
    assert (joined[:32, 31] == joined[0, 31]).all() and joined.min() >= mesh.min()


def test_one_cell_has_one_value():
    assert np.ptp(join_mesh(np.full((1, 1), 5.0), (40, 50), onwards=True)) == 0


@pytest.mark.parametrize("shape", [(448, 448), (456, 420), (300, 321)])
def test_a_plane_stays_one_at_borders_and_beside_what_was_not_exposed(shape):
    exact = of_centres(shape)
    inside = np.zeros(exact.shape, bool)
    np.testing.assert_allclose(filtered_level(exact, inside, shape), exact)
    outside = np.ones(exact.shape, bool)
    outside[1:4, 2:5] = False
    result = filtered_level(np.where(outside, np.nan, exact), outside, shape)
    np.testing.assert_allclose(result[:5, 1:6], exact[:5, 1:6])


def test_a_narrow_last_row_of_cells_is_continued_by_its_own_distance():
    exact = of_centres((260, 324))
    outside = np.zeros(exact.shape, bool)
    outside[-1] = outside[:, -1] = True
    np.testing.assert_allclose(filtered_level(np.where(outside, np.nan, exact), outside, (260, 324)), exact)


@pytest.mark.parametrize("place", [(0, 0), (0, 3), (3, 1), (1, 1), (5, 5)])
def test_an_outlier_has_no_say_at_borders(place):
    mesh = np.zeros((6, 6))
    mesh[place] = 9
    assert not filtered_level(mesh, np.zeros(mesh.shape, bool), (384, 384)).any()


@pytest.mark.parametrize("place", [(2, 4), (4, 1), (3, 3)])
def test_an_outlier_has_no_say_beside_what_was_not_exposed(place):
    outside = np.zeros((7, 7), bool)
    outside[:, 0] = outside[:2] = True
    mesh = np.where(outside, np.nan, 0)
    mesh[place] = 9
    assert not filtered_level(mesh, outside, (448, 448)).any()


def test_where_sources_leave_no_sky_the_level_is_bridged():
    """What rises towards a galaxy from both sides does not go on rising into it."""
    mesh = np.array([[0.0, 1.0, np.nan, np.nan, 1.0, 0.0]] * 5)
    assert filtered_level(mesh, np.zeros(mesh.shape, bool), (320, 384)).max() <= 1

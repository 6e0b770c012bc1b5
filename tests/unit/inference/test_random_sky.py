import numpy as np
import pytest
from scipy import special, stats

from appulse.inference.random_sky import PERIOD, copula_field, empty_sky, latent_draws, look_at

FIVE_SIGMA = 5 / PERIOD  # of the correlation of two independent white squares


def unit_field(field):
    """The Gaussian field behind the thresholds: ``g`` with ``Phi(g) = sigmoid(threshold)``."""
    return special.ndtri(special.expit(field.astype(np.float64)))


def correlation(one, other):
    return np.corrcoef(one.ravel(), other.ravel())[0, 1]


# --------------------------------------------------------------------------------------------- empty sky


def test_empty_sky_is_unit_white_noise():
    sky = empty_sky(3)
    assert sky.shape == (PERIOD, PERIOD) and sky.dtype == np.float32
    assert stats.kstest(sky.ravel(), "norm").pvalue > 1e-3
    for shift in ((0, 1), (1, 0), (1, 1)):
        assert abs(correlation(sky, np.roll(sky, shift, axis=(0, 1)))) < FIVE_SIGMA
    np.testing.assert_array_equal(sky, empty_sky(3))
    assert abs(correlation(sky, empty_sky(4))) < FIVE_SIGMA


# ----------------------------------------------------------------------------------------------- copula


def test_without_smoothing_every_threshold_is_uniform_and_alone():
    field = copula_field(1, 2, 0.0)
    assert field.dtype == np.float32 and field.shape == (2, PERIOD, PERIOD)
    assert stats.kstest(special.expit(field[0]).ravel(), "uniform").pvalue > 1e-3
    g = unit_field(field)
    assert abs(correlation(g[0], g[1])) < FIVE_SIGMA
    assert abs(correlation(g[0], np.roll(g[0], 1, axis=1))) < FIVE_SIGMA


@pytest.mark.parametrize("length", [1.5, 3.0])
def test_smoothed_thresholds_are_uniform_as_well(length):
    # Pixels eight lengths apart are independent, as the Kolmogorov-Smirnov test wants them.
    apart = copula_field(2, 6, length)[:, :: int(8 * length), :: int(8 * length)]
    assert stats.kstest(special.expit(apart).ravel(), "uniform").pvalue > 1e-3


@pytest.mark.parametrize("length", [0.7, 3.0, 6.0])
def test_correlation_falls_as_white_noise_smoothed_by_that_gaussian(length):
    g = unit_field(copula_field(5, 6, length))
    independent = g.size / (4 * np.pi * length**2)
    tolerance = 5 / np.sqrt(independent)
    assert g.var() == pytest.approx(1, abs=1.5 * tolerance)
    for axis in (1, 2):
        for distance in (1, 2, 4, 8):
            measured = np.mean(g * np.roll(g, distance, axis=axis)) / g.var()
            assert measured == pytest.approx(np.exp(-(distance**2) / (4 * length**2)), abs=tolerance)


def test_the_plane_has_no_edge_where_the_square_repeats():
    g = unit_field(copula_field(5, 6, 3.0))
    across = g[:, 0] - g[:, -1]
    inside = g[:, 1] - g[:, 0]
    assert across.std() == pytest.approx(inside.std(), rel=0.2)


def test_more_realisations_do_not_change_the_first_ones():
    np.testing.assert_array_equal(copula_field(7, 2, 3.0), copula_field(7, 4, 3.0)[:2])


def test_realisations_seeds_and_purposes_are_independent():
    first, second = copula_field(7, 2, 0.0)
    assert abs(correlation(first, second)) < FIVE_SIGMA
    assert abs(correlation(first, copula_field(8, 1, 0.0)[0])) < FIVE_SIGMA
    assert abs(correlation(first, empty_sky(7))) < FIVE_SIGMA


def test_thresholds_keep_their_precision_in_both_tails():
    field = np.sort(copula_field(1, 2, 0.0).ravel())
    assert np.isfinite(field).all()
    # The extremes of half a million draws lie near 4.7 sigma, where logit(Phi) is +-13.6.
    assert -17 < field[0] < -11 and 11 < field[-1] < 17
    assert len(np.unique(field[-50:])) == 50


# ---------------------------------------------------------------------------------------------- latents


def test_latents_are_standard_normal_over_stamps():
    draws = [latent_draws(0, 20, 4, (128 * y, 128 * x)) for y in range(-4, 5) for x in range(-4, 5)]
    draws = np.stack(draws)
    assert draws.shape == (81, 20, 4) and draws.dtype == np.float32
    assert stats.kstest(draws.ravel(), "norm").pvalue > 1e-3
    together = np.corrcoef(draws.reshape(81, -1))
    assert np.abs(together - np.eye(81)).max() < 5.5 / np.sqrt(80)


def test_every_position_even_a_negative_one_has_its_own_latents():
    origins = [(0, 0), (0, 1), (1, 0), (-1, 0), (0, -1), (-1, -1), (1, 1), (-64, 64), (64, -64), (64, 64)]
    first = {origin: latent_draws(5, 3, 2, origin).tobytes() for origin in origins}
    assert len(set(first.values())) == len(origins)
    assert all(latent_draws(5, 3, 2, origin).tobytes() == drawn for origin, drawn in first.items())
    assert latent_draws(6, 3, 2, (0, 0)).tobytes() != first[0, 0]


def test_more_draws_do_not_change_the_first_ones():
    np.testing.assert_array_equal(latent_draws(5, 3, 4, (-9, 17)), latent_draws(5, 8, 4, (-9, 17))[:3])


# --------------------------------------------------------------------------------------------- look_at


@pytest.mark.parametrize("origin", [(0, 0), (-3, 500), (510, -510), (10_000, -10_000)])
def test_a_field_repeats_over_the_sky(origin):
    field = np.arange(2 * 8 * 8).reshape(2, 8, 8)
    expected = np.roll(field, (-origin[0], -origin[1]), axis=(1, 2))[:, :5, :7]
    np.testing.assert_array_equal(look_at(field, origin, (5, 7)), expected)
    moved = look_at(field, (origin[0] - 8, origin[1] + 16), (5, 7))
    np.testing.assert_array_equal(moved, expected)


def test_overlapping_stamps_see_the_same_draws_where_they_overlap():
    sky = empty_sky(0)
    one, other = look_at(sky, (-20, 490), (64, 64)), look_at(sky, (-10, 500), (64, 64))
    np.testing.assert_array_equal(one[10:, 10:], other[:-10, :-10])

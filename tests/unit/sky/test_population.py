"""The drawn galaxies against the laws they are drawn from."""

import numpy as np
import pytest
from scipy import integrate, stats

from appulse.sky.population import SERSIC_INDEX_RANGE, SERSIC_INDEX_STEP, Population

AREA = 400.0  # arcmin^2: some 20,000 galaxies
# Seeds are fixed, so a p-value is a constant; a wrong law gives one below 1e-20 with so many galaxies.
P_VALUE = 1e-3


@pytest.fixture(scope="module")
def drawn():
    return Population().draw(AREA, np.random.default_rng(11))


def miller_median(magnitude):
    """Miller et al. 2013: ln(r_d / arcsec) = -1.145 - 0.269 (i - 23)."""
    return np.exp(-1.145 - 0.269 * (magnitude - 23.0))


def test_number_is_poisson_of_the_density():
    population = Population(density=20.0)
    numbers = [len(population.draw(2.0, rng)["magnitude"]) for rng in np.random.default_rng(0).spawn(400)]
    assert np.mean(numbers) == pytest.approx(40.0, abs=4 * np.sqrt(40.0 / 400))
    assert np.var(numbers) == pytest.approx(40.0, rel=0.3)


@pytest.mark.parametrize("slope", [0.31, 0.6])
def test_number_counts_follow_the_law(slope):
    population = Population(density=60.0, count_slope=slope, magnitude_bright=19.0, magnitude_faint=25.2)
    magnitude = population.draw(AREA, np.random.default_rng(1))["magnitude"]
    assert 19.0 <= magnitude.min() and magnitude.max() <= 25.2
    # N(<m) = N0 10^(slope m), less what is brighter than the bright end.
    low, high = 10 ** (slope * 19.0), 10 ** (slope * 25.2)
    law = lambda m: (10 ** (slope * m) - low) / (high - low)  # noqa: E731
    assert stats.kstest(magnitude, law).pvalue > P_VALUE
    # The slope itself, from the cumulated counts far from the bright end.
    n_23, n_25 = np.count_nonzero(magnitude < 23), np.count_nonzero(magnitude < 25)
    assert np.log10(n_25 / n_23) / 2 == pytest.approx(slope, abs=0.02)


def test_paper_counts_of_the_science_book():
    # N(<i) = 46 x 10^(0.31 (i - 25)) per arcmin^2 gives 53 at 25.2 (REFERENCE, 3).
    magnitude = Population().draw(AREA, np.random.default_rng(2))["magnitude"]
    expected = 46.0 * 10 ** (0.31 * (24.0 - 25.0)) * AREA
    assert np.count_nonzero(magnitude < 24.0) == pytest.approx(expected, rel=0.04)


@pytest.mark.parametrize("factor", [1.0, 1.678])
def test_sizes_follow_miller(factor):
    drawn = Population(size_factor=factor).draw(AREA, np.random.default_rng(3))
    major = drawn["half_light_radius"] / np.sqrt(1 - drawn["ellipticity"])  # stored circularised
    scaled = major / (factor * miller_median(drawn["magnitude"]))
    assert np.median(scaled) == pytest.approx(1.0, rel=0.01)
    for low, high in ((20, 23), (23, 24), (24, 25), (25, 25.2)):
        inside = (drawn["magnitude"] > low) & (drawn["magnitude"] <= high)
        assert np.median(scaled[inside]) == pytest.approx(1.0, rel=0.04)

    # p(r) ~ r exp(-(r/a)^(4/3)) with the median at r_d, by quadrature.
    law = lambda r: r * np.exp(-((r * 1.134) ** (4 / 3)))  # noqa: E731
    radii = np.linspace(0, 12, 1201)
    cumulated = integrate.cumulative_simpson(law(radii), x=radii, initial=0)
    cumulated /= cumulated[-1]
    assert stats.kstest(scaled, lambda r: np.interp(r, radii, cumulated)).pvalue > P_VALUE


def test_ellipticity_is_rayleigh_cut(drawn):
    ellipticity = drawn["ellipticity"]
    assert 0 <= ellipticity.min() and ellipticity.max() <= 0.9
    whole = stats.rayleigh(scale=0.25)
    assert stats.kstest(ellipticity, lambda e: whole.cdf(e) / whole.cdf(0.9)).pvalue > P_VALUE


def test_wide_ellipticity_law_is_cut_not_clipped():
    ellipticity = Population(ellipticity_scale=1.0).draw(50.0, np.random.default_rng(4))["ellipticity"]
    assert ellipticity.max() <= 0.9
    assert np.unique(ellipticity).size == ellipticity.size  # none piled up at the cut


def test_orientation_is_uniform(drawn):
    orientation = drawn["orientation"]
    assert 0 <= orientation.min() and orientation.max() < 180
    assert stats.kstest(orientation, stats.uniform(0, 180).cdf).pvalue > P_VALUE


@pytest.mark.parametrize("median", [0.3, 1.3, 4.0, 6.2])
def test_sersic_indices_lie_on_galsims_grid(median):
    galsim = pytest.importorskip("galsim")
    index = Population(sersic_index=median).draw(AREA, np.random.default_rng(5))["sersic_index"]
    low, high = SERSIC_INDEX_RANGE
    assert low <= index.min() and index.max() <= high
    steps = (index - low) / SERSIC_INDEX_STEP
    np.testing.assert_allclose(steps, np.round(steps), atol=1e-6)
    # GalSim caches 100 distinct profiles and raises outside 0.3 to 6.2.
    assert np.unique(index).size <= 100
    for n in (index.min(), index.max()):
        galsim.Sersic(n=n, half_light_radius=1.0)


def test_sersic_indices_are_log_normal(drawn):
    index = drawn["sersic_index"]
    # Quantised, so right to one step.
    assert np.median(index) == pytest.approx(1.3, abs=SERSIC_INDEX_STEP)
    low, high = np.quantile(index, [0.16, 0.84])
    assert 0.5 * np.log(high / low) == pytest.approx(0.35, abs=0.03)


def test_same_generator_same_galaxies():
    first, second = (Population().draw(3.0, np.random.default_rng(9)) for _ in range(2))
    for name, values in first.items():
        np.testing.assert_array_equal(values, second[name])


def test_no_area_no_galaxies():
    assert all(values.size == 0 for values in Population().draw(0.0, np.random.default_rng(0)).values())

"""Sources of a field: options that are off change nothing, those that are on follow their laws."""

import dataclasses

import numpy as np
import pytest
from scipy import stats
from scipy.spatial import cKDTree

from appulse.sky import Survey
from appulse.sky.population import (
    BULGE_INDEX,
    DISC_INDEX,
    LARGEST_DISC_INDEX,
    Bulges,
    Clumps,
    Faint,
    Pairs,
    Stars,
)
from appulse.sky.sources import GALAXY, MARGIN, STAR, UNLABELLED, draw_sources

WIDE = Survey.load("euclid-wide")
SHAPE = (900, 1200)
AREA = (SHAPE[0] + 2 * MARGIN) * (SHAPE[1] + 2 * MARGIN) * (0.1 / 60) ** 2  # arcmin^2
OPTIONS = {
    "bulges": Bulges(0.5, 0.3),
    "clumps": Clumps(0.5),
    "stars": Stars(20.0),
    "faint": Faint(26.5),
    "pairs": Pairs(0.5, 2.0),
}
COLUMNS = ("x", "y", "magnitude", "flux", "half_light_radius", "ellipticity", "orientation")
SHAPES = ("bulge_fraction", "sersic_index")


def drawn(**options):
    return draw_sources(dataclasses.replace(WIDE, **options), SHAPE, seed=3, index=1)


@pytest.fixture(scope="module")
def plain():
    return drawn()


def test_galaxies_are_those_of_the_first_version(plain):
    # Fields simulated before there were options: one generator, population first, then x, then y.
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([3, 1, 0])))
    population = WIDE.population.draw(AREA, rng)
    n = len(population["magnitude"])
    np.testing.assert_array_equal(plain["magnitude"], population["magnitude"])
    np.testing.assert_array_equal(plain["x"], rng.uniform(-MARGIN - 0.5, SHAPE[1] + MARGIN - 0.5, n))
    np.testing.assert_array_equal(plain["y"], rng.uniform(-MARGIN - 0.5, SHAPE[0] + MARGIN - 0.5, n))
    assert (plain["kind"] == GALAXY).all() and (plain["bulge_fraction"] == 0).all()
    assert (plain["real_index"] == -1).all()
    assert plain["kind"].dtype == np.int8


@pytest.mark.parametrize("name", OPTIONS)
def test_an_option_leaves_galaxies_and_the_other_options_alone(plain, name):
    everything = drawn(**OPTIONS)
    without = drawn(**{other: value for other, value in OPTIONS.items() if other != name})
    for kind in (GALAXY, UNLABELLED, STAR):
        # Companions come last among the galaxies, so the shorter list is the beginning of the longer.
        n = min(np.count_nonzero(table["kind"] == kind) for table in (everything, without))
        for column in COLUMNS if name == "bulges" else COLUMNS + SHAPES:
            ours, theirs = (table[column][table["kind"] == kind][:n] for table in (everything, without))
            np.testing.assert_array_equal(ours, theirs)
    for column in COLUMNS:
        np.testing.assert_array_equal(everything[column][: len(plain)], plain[column])


def test_faint_galaxies_continue_the_counts():
    table = drawn(faint=Faint(27.0))
    faint = table[table["kind"] == UNLABELLED]
    assert faint["magnitude"].min() >= 25.2 and faint["magnitude"].max() <= 27.0
    slope = WIDE.population.count_slope
    # N(< 27) / N(< 25.2) from one law with the bright end of the population.
    bright, at_faint, limit = (10 ** (slope * m) for m in (18.0, 25.2, 27.0))
    expected = 53.0 * AREA * (limit - at_faint) / (at_faint - bright)
    assert len(faint) == pytest.approx(expected, abs=4 * np.sqrt(expected))
    law = lambda m: (10 ** (slope * m) - at_faint) / (limit - at_faint)  # noqa: E731
    assert stats.kstest(faint["magnitude"], law).pvalue > 1e-3


def test_stars_follow_their_law():
    table = drawn(stars=Stars(60.0, 19.0, 24.0, 0.2))
    stars = table[table["kind"] == STAR]
    assert len(stars) == pytest.approx(60 * AREA, abs=4 * np.sqrt(60 * AREA))
    low, high = 10 ** (0.2 * 19.0), 10 ** (0.2 * 24.0)
    law = lambda m: (10 ** (0.2 * m) - low) / (high - low)  # noqa: E731
    assert stats.kstest(stars["magnitude"], law).pvalue > 1e-3
    assert np.isnan(stars["half_light_radius"]).all()
    np.testing.assert_allclose(stars["flux"], 10 ** (-0.4 * (stars["magnitude"] - 23.9)))
    width = SHAPE[1] + 2 * MARGIN
    assert stats.kstest((stars["x"] + MARGIN + 0.5) / width, stats.uniform.cdf).pvalue > 1e-3


def test_bulges_follow_their_law(plain):
    table = drawn(bulges=Bulges(0.4, 0.2))
    has = table["bulge_fraction"] > 0
    n = len(table)
    assert has.sum() == pytest.approx(0.4 * n, abs=4 * np.sqrt(0.24 * n))
    assert stats.kstest(table["bulge_fraction"][has], stats.halfnorm(scale=0.2).cdf).pvalue > 1e-3
    assert (table["sersic_index"][has] == DISC_INDEX).all()
    np.testing.assert_array_equal(table["sersic_index"][~has], plain["sersic_index"][~has])
    assert DISC_INDEX == pytest.approx(1, abs=0.03) and BULGE_INDEX == pytest.approx(4, abs=0.03)


def test_clumps_are_in_discs_and_follow_their_law():
    table = drawn(clumps=Clumps(0.4, 0.3), stars=Stars(20.0), bulges=Bulges(0.4, 0.6))
    disc = (table["sersic_index"] <= LARGEST_DISC_INDEX) & (table["bulge_fraction"] <= 0.5)
    has = table["clump_fraction"] > 0
    n = disc.sum()
    for no_disc in (table["sersic_index"] > LARGEST_DISC_INDEX, table["bulge_fraction"] > 0.5):
        assert no_disc.any() and not has[no_disc].any()
    assert has.sum() == pytest.approx(0.4 * n, abs=4 * np.sqrt(0.24 * n))
    assert stats.kstest(table["clump_fraction"][has] / 0.3, stats.uniform.cdf).pvalue > 1e-3
    assert len(set(table["clump_seed"][has])) > 0.99 * has.sum()


def test_a_survey_without_clumps_has_no_columns_of_them(plain):
    assert not {"clump_fraction", "clump_seed"} & set(plain.colnames)


@pytest.mark.parametrize("radius", [0.7, 1.5, 2.0])  # arcsec
def test_pairs_beyond_chance(radius):
    """Pairs within a radius: those by chance, and those of hosts with their companions."""
    share, separation = 0.5, 2.0
    surveys = [dataclasses.replace(WIDE, pairs=pairs) for pairs in (None, Pairs(share, separation))]
    counted, expected = np.zeros(2), np.zeros(2)
    for seed in range(4):
        for k, survey in enumerate(surveys):
            table = draw_sources(survey, SHAPE, seed, 0)
            points = np.column_stack([table["x"], table["y"]])
            counted[k] += len(cKDTree(points).query_pairs(radius / 0.1))
            n = 53.0 * AREA * (1 + share * k)
            expected[k] += 0.5 * n**2 * np.pi * (radius / 60) ** 2 / AREA
            # Uniform over the disc: (radius / separation)^2 of the companions are so near.
            expected[k] += k * share * 53.0 * AREA * (radius / separation) ** 2
    # Numbers of pairs scatter a little more than Poisson's: each galaxy is in several.
    assert counted[0] == pytest.approx(expected[0], abs=5 * np.sqrt(expected[0]))
    assert counted[1] == pytest.approx(expected[1], abs=5 * np.sqrt(expected[1]))
    assert counted[1] > 2 * counted[0]


def test_only_pairs_make_a_sky_biased():
    for name, option in OPTIONS.items():
        assert dataclasses.replace(WIDE, **{name: option}).is_unbiased == (name != "pairs")


def test_ranges_must_be_drawn_first():
    mixed = Survey.load("mixed")
    with pytest.raises(ValueError, match="for_field"):
        draw_sources(mixed, SHAPE, 0, 0)
    assert len(draw_sources(mixed.for_field(0, 0), SHAPE, 0, 0)) > 0

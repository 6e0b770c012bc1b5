"""Closed forms against each other, against skies of plain ellipses, and the simulator against them."""

import dataclasses

import numpy as np
import pytest
from scipy import integrate, stats

from appulse.objects.measurement import measure
from appulse.sky import PSF, Population, Survey, closed_forms, simulate_field
from appulse.sky.counts import count_strip, merge
from appulse.sky.rendering import Renderer
from appulse.sky.report import SkyReport

SCALE = 0.1
# A PSF fifty times smaller than the galaxies below: what is drawn is the profile.
SHARP = dataclasses.replace(Survey.load("euclid-wide"), pixel_scale=SCALE, psf=PSF("gaussian", 0.02))


def profile(kind, radius, flux, width):
    """Surface brightness by its definition."""
    shape = np.exp(-0.5 * (radius / width) ** 2) if kind == "gaussian" else np.exp(-radius / width)
    return flux / (2 * np.pi * width**2) * shape


@pytest.mark.parametrize("kind", ["gaussian", "disc"])
@pytest.mark.parametrize("level", [0.01, 0.5, 5.0])
def test_isophotes_by_quadrature(kind, level):
    flux, width = 20.0, 0.6
    isophote = closed_forms.gaussian_isophote if kind == "gaussian" else closed_forms.disc_isophote
    area, inside, half = isophote(flux, width, level)
    edge = np.sqrt(area / np.pi)
    assert profile(kind, edge, flux, width) == pytest.approx(level)
    light = lambda r: integrate.quad(lambda x: 2 * np.pi * x * profile(kind, x, flux, width), 0, r)[0]  # noqa: E731
    assert light(edge) == pytest.approx(inside)
    assert light(half) == pytest.approx(inside / 2)
    assert isophote(flux, width, 100.0) == (0.0, 0.0, 0.0)


@pytest.mark.parametrize("kind", ["gaussian", "disc"])
@pytest.mark.parametrize(("ellipticity", "orientation"), [(0.0, 0.0), (0.6, 25.0)])
@pytest.mark.parametrize("magnitude", [18.0, 20.0])
def test_drawn_galaxies_have_the_isophotes_of_their_profiles(kind, ellipticity, orientation, magnitude):
    half_light = 1.0
    width = half_light / (np.sqrt(2 * np.log(2)) if kind == "gaussian" else closed_forms.DISC_HALF_LIGHT)
    flux = 10 ** (-0.4 * (magnitude - SHARP.zero_point))
    galaxy = {"x": 3.3, "y": 7.8, "flux": flux, "half_light_radius": half_light}
    galaxy |= {"ellipticity": ellipticity, "orientation": orientation}
    galaxy["sersic_index"] = 0.5 if kind == "gaussian" else 1.0
    image = Renderer(SHARP).draw(galaxy).image
    drawn = measure(image, image > SHARP.sigma)
    isophote = closed_forms.gaussian_isophote if kind == "gaussian" else closed_forms.disc_isophote
    area, inside, half = isophote(flux, width, SHARP.sigma / SCALE**2)
    # Areas are counted in whole pixels, of which the border has some 2 sqrt(pi area).
    assert drawn.area == pytest.approx(area / SCALE**2, abs=1.5 * (area / SCALE**2) ** (1 / 3))
    assert drawn.flux == pytest.approx(inside, rel=0.005)
    if ellipticity == 0:  # the measured radius is that of a circle
        assert drawn.half_light_radius == pytest.approx(half / SCALE, rel=0.01)
    # The isophote has the profile's shape; all its light is drawn.
    assert drawn.ellipticity == pytest.approx(ellipticity, abs=0.01)
    assert image.sum(dtype=float) == pytest.approx(flux, rel=0.01)


def ellipses_on_a_torus(rng, side, number, radius, *, paired=False):
    """Masks of random ellipses by their definition, and what the closed forms ask of them."""
    places = rng.uniform(0, side, (number, 2))
    if paired:
        places[1::2] = places[: number - 1 : 2] + radius
    cover = np.zeros((side, side), int)
    masks, ellipticities, orientations = [], rng.uniform(0, 0.7, number), rng.uniform(0, 180, number)
    for (y, x), e, angle in zip(places, ellipticities, np.deg2rad(orientations), strict=True):
        major = radius * np.exp(0.3 * rng.standard_normal()) / np.sqrt(1 - e)
        reach = int(major) + 2
        rows, columns = (np.arange(int(c) - reach, int(c) + reach + 1) for c in (y, x))
        dx, dy = columns - x, (rows - y)[:, None]
        u, v = dx * np.cos(angle) + dy * np.sin(angle), dy * np.cos(angle) - dx * np.sin(angle)
        inside = np.nonzero(u**2 + (v / (1 - e)) ** 2 < major**2)
        masks.append((rows[inside[0]] % side, columns[inside[1]] % side))
        cover[masks[-1]] += 1
    return cover, masks, ellipticities, orientations


@pytest.mark.parametrize(("radius", "window"), [(1.2, 8), (3.0, 24)])
def test_poisson_forms_on_a_sky_of_ellipses(radius, window):
    side = 24 * 32
    number = int(0.08 * side**2 / (np.pi * radius**2))
    cover, masks, ellipticities, orientations = ellipses_on_a_torus(
        np.random.default_rng(3), side, number, radius
    )
    areas, density = np.array([len(rows) for rows, _ in masks]), number / side**2
    expected = closed_forms.poisson_shares(areas.sum() / side**2)
    assert sum(expected) == pytest.approx(1)
    deviation = closed_forms.overlap_deviation(areas, side**2)
    for share, law, factor in zip(
        np.bincount(np.minimum(cover, 2).ravel()), expected, (1, 2, 1), strict=True
    ):
        assert share / side**2 == pytest.approx(law, abs=3.5 * factor * deviation)

    tiles = cover.reshape(side // window, window, side // window, window).any(axis=(1, 3))
    law = closed_forms.empty_share(density, areas, ellipticities, orientations, window)
    assert np.mean(~tiles) == pytest.approx(law, abs=3 * np.sqrt(law * (1 - law) / tiles.size))

    seen = areas > 0
    blended = np.mean([np.any(cover[mask] > 1) for mask, area in zip(masks, areas, strict=True) if area])
    # Blends come in pairs, which doubles the variance.
    error = np.sqrt(2 * blended * (1 - blended) / seen.sum())
    law = closed_forms.blended_share(density, areas, ellipticities)
    assert blended == pytest.approx(law, abs=3 * error + 0.06 * law)


def test_pairs_break_the_poisson_forms():
    cover, masks, *_ = ellipses_on_a_torus(np.random.default_rng(3), 768, 1600, 3.0, paired=True)
    areas = [len(rows) for rows, _ in masks]
    expected = closed_forms.poisson_shares(sum(areas) / cover.size)
    deviation = closed_forms.overlap_deviation(areas, cover.size)
    assert np.mean(cover > 1) > expected[2] + 10 * deviation


def test_deviation_of_the_overlap_over_many_skies():
    rng, side = np.random.default_rng(4), 160
    overlaps, deviations = [], []
    for _ in range(150):
        cover, masks, *_ = ellipses_on_a_torus(rng, side, 30, 5.0)
        overlaps.append(np.mean(cover > 1))
        deviations.append(closed_forms.overlap_deviation([len(rows) for rows, _ in masks], side**2))
    assert np.std(overlaps) == pytest.approx(np.mean(deviations), rel=0.2)


def test_no_galaxies_no_overlap():
    assert closed_forms.poisson_shares(0.0) == (1.0, 0.0, 0.0)
    assert closed_forms.overlap_deviation([], 100) == 0.0
    assert closed_forms.empty_share(0.1, [0.0], [0.2], [0.0], 128) == 1.0
    assert np.isnan(closed_forms.blended_share(0.1, [0.0], [0.2]))


@pytest.fixture(scope="module")
def crowded():
    """Ten times the density of `paper`, small galaxies: many overlaps on a field that is quick to draw."""
    population = Population(density=400.0, magnitude_bright=23.5, size_factor=1.0)
    survey = dataclasses.replace(Survey.load("paper"), name="crowded", population=population)
    return simulate_field(survey, 640, seed=5)


def report_of(field, ternary):
    counts = merge([count_strip(ternary, field.id1, field.id2, 0)])
    return SkyReport.of(field.survey, ternary.shape, [counts], [field.catalog])


def test_simulated_field_against_poisson(crowded):
    shares = {share.name: share for share in report_of(crowded, crowded.ternary()).shares()}
    for name in ("background", "galaxy", "overlap"):
        share = shares[name]
        # Galaxies cut by the border add some scatter to that of their places.
        assert share.measured == pytest.approx(
            share.expected, abs=3 * np.hypot(share.expected_error, 0.1 * share.error)
        )
    blended = shares["blended galaxies"]
    assert blended.measured == pytest.approx(blended.expected, abs=3 * blended.error)


def test_drawn_populations_follow_the_laws(crowded):
    population = crowded.survey.population
    drawn = population.draw(60.0, np.random.default_rng(6))
    edges = np.arange(23.5, 25.3, 0.2)
    edges[-1] = 25.2
    expected = closed_forms.number_counts(population, edges)
    assert expected.sum() == pytest.approx(population.density)
    number, _ = np.histogram(drawn["magnitude"], edges)
    assert stats.chisquare(number, expected / expected.sum() * number.sum()).pvalue > 1e-3

    major = drawn["half_light_radius"] / np.sqrt(1 - drawn["ellipticity"])
    for share in (0.16, 0.5, 0.84):
        below = major < closed_forms.size_quantiles(population, drawn["magnitude"], share)
        assert np.mean(below) == pytest.approx(share, abs=4 * np.sqrt(0.25 / len(major)))

    e = np.linspace(0, 1, 2001)
    density = closed_forms.ellipticity_density(population, e)
    cumulated = integrate.cumulative_trapezoid(density, e, initial=0)
    assert cumulated[-1] == pytest.approx(1, abs=1e-3)
    assert stats.kstest(drawn["ellipticity"], lambda x: np.interp(x, e, cumulated)).pvalue > 1e-3
    assert np.interp(closed_forms.ellipticity_median(population), e, cumulated) == pytest.approx(
        0.5, abs=1e-3
    )


def test_size_law_is_normalised_at_its_quantiles():
    # p(r) ~ r exp(-(1.134 r / r_d)^(4/3)) of Miller et al. 2013 by quadrature, at magnitude 23.
    population = Population(size_factor=1.3)
    scale = 1.3 * np.exp(-1.145) / 1.134
    law = lambda r: r * np.exp(-((r / scale) ** (4 / 3)))  # noqa: E731
    total = integrate.quad(law, 0, 20)[0]
    for share in (0.16, 0.5, 0.84):
        quantile = closed_forms.size_quantiles(population, 23.0, share)
        assert integrate.quad(law, 0, quantile)[0] / total == pytest.approx(share, abs=1e-3)

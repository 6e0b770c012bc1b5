"""Clumps of a galaxy: what they hold, where they lie, and what they look like through a telescope."""

import dataclasses

import galsim
import numpy as np
import pytest
from scipy import stats

from appulse.sky import PSF, Survey
from appulse.sky.profiles import clump_parts, isophotal_radius, reach_of, smooth_parts
from appulse.sky.rendering import Renderer

SURVEY = dataclasses.replace(Survey.load("euclid-wide"), psf=PSF("gaussian", 0.18))


def galaxy(**changes):
    values = dict(
        x=0.2,
        y=-0.3,
        flux=500.0,
        half_light_radius=1.1,
        sersic_index=1.02,
        ellipticity=0.4,
        orientation=35.0,
        bulge_fraction=0.2,
        clump_fraction=0.3,
        clump_seed=7,
    )
    return values | changes


@pytest.mark.parametrize("seed", range(30))
def test_clumps_hold_their_share_of_the_flux_inside_the_disc(seed):
    source = galaxy(clump_seed=seed)
    clumps, smooth = clump_parts(source), smooth_parts(source)
    assert 5 <= len(clumps) <= 48
    assert sum(part.flux for part in clumps) == pytest.approx(0.3 * 500)
    assert [part.flux for part in smooth] == pytest.approx([0.8 * 350, 0.2 * 350])
    # None as bright as a companion would be.
    assert max(part.flux for part in clumps) <= 0.3 * 500 * 1.5 / (1.5 + 0.5 * (len(clumps) - 1))
    assert max(np.hypot(part.x, part.y) for part in clumps) <= 1.7 * 1.1
    assert clumps == clump_parts(dict(source))


def test_places_are_those_of_the_disc_on_average():
    clumps = [part for seed in range(400) for part in clump_parts(galaxy(clump_seed=seed))]
    # Of an exponential disc's light, cut at 1.7 half-light radii: 1 - (1 + r) exp(-r) in scale lengths.
    radii = np.array([np.hypot(part.x, part.y) for part in clumps]) / 1.1 * 1.678
    inside = lambda r: 1 - (1 + r) * np.exp(-r)  # noqa: E731
    law = lambda r: inside(r) / inside(1.7 * 1.678)  # noqa: E731
    assert stats.kstest(radii[::7], law).pvalue > 1e-3
    # And no direction is preferred.
    angles = np.arctan2([part.y for part in clumps], [part.x for part in clumps])
    assert np.abs(np.mean(np.exp(1j * angles))) < 0.05


def test_clumps_change_neither_flux_nor_tilt():
    """Moments of the light, averaged over many patterns, are those of a tilted disc cut where clumps end."""
    plain = galaxy(bulge_fraction=0.0, clump_fraction=0.0)
    renderer = Renderer(SURVEY)
    smooth = renderer.draw(plain).image.sum(dtype=float)
    moments = []
    for seed in range(60):
        drawn = renderer.draw(galaxy(bulge_fraction=0.0, clump_seed=seed, clump_fraction=0.9))
        # Beyond clumps the disc is faint, so that less of it is lost below the rendering limit.
        assert drawn.image.sum(dtype=float) == pytest.approx(smooth, rel=0.02)
        y, x = np.indices(drawn.image.shape)
        y, x = y + drawn.y0 + 0.3, x + drawn.x0 - 0.2
        weight = drawn.image / drawn.image.sum()
        moments.append([(weight * x * x).sum(), (weight * x * y).sum(), (weight * y * y).sum()])
    xx, xy, yy = np.mean(moments, axis=0)
    angle = 0.5 * np.rad2deg(np.arctan2(2 * xy, xx - yy))
    assert angle == pytest.approx(35.0, abs=5)
    spread = np.hypot(xx - yy, 2 * xy)
    ratio = np.sqrt((xx + yy - spread) / (xx + yy + spread))
    assert ratio == pytest.approx(0.6, abs=0.05)


@pytest.mark.parametrize("seed", range(8))
def test_a_clump_is_drawn_where_the_tilt_puts_it(seed):
    """All of a galaxy's profiles, one by one through GalSim."""
    source = galaxy(clump_seed=seed)
    renderer = Renderer(SURVEY)
    y0, y1, x0, x1 = renderer.box(source)
    shear = galsim.Shear(q=0.6, beta=35 * galsim.degrees).getMatrix()
    psf = galsim.Gaussian(fwhm=0.18)
    expected = np.zeros((y1 - y0, x1 - x0))
    for part in (*smooth_parts(source), *clump_parts(source)):
        profile = galsim.Sersic(part.sersic_index, half_light_radius=part.half_light_radius, flux=part.flux)
        x, y = shear @ [part.x, part.y] / 0.1
        expected += (
            galsim.Convolve(profile.shear(q=0.6, beta=35 * galsim.degrees), psf)
            .drawImage(
                nx=x1 - x0,
                ny=y1 - y0,
                scale=0.1,
                offset=(0.2 + x - (x0 + x1) // 2, -0.3 + y - (y0 + y1) // 2),
                dtype=float,
            )
            .array
        )
    drawn = renderer.draw(source)
    y, x = drawn.y0 - y0, drawn.x0 - x0
    window = expected[y : y + drawn.image.shape[0], x : x + drawn.image.shape[1]]
    lit = drawn.image > 0
    np.testing.assert_allclose(drawn.image[lit], window[lit], rtol=2e-3, atol=0.05 * SURVEY.sigma)
    expected[y : y + drawn.image.shape[0], x : x + drawn.image.shape[1]][lit] = 0
    assert expected.max() < 1.5 * renderer.level


@pytest.mark.parametrize("ellipticity", [0.0, 0.4, 0.9])
@pytest.mark.parametrize("seed", range(4))
def test_beyond_its_reach_a_galaxy_is_fainter_than_the_level(seed, ellipticity):
    source = galaxy(clump_seed=seed, flux=20.0, clump_fraction=0.6, ellipticity=ellipticity)
    level = Renderer(SURVEY).level / 0.01
    reach = reach_of(source, level)
    parts = [*smooth_parts(source), *clump_parts(source)]
    sheared = [
        galsim.Sersic(part.sersic_index, half_light_radius=part.half_light_radius, flux=part.flux)
        .shift(part.x, part.y)
        .shear(q=1 - ellipticity, beta=35 * galsim.degrees)
        for part in parts
    ]
    for angle in np.linspace(0, 2 * np.pi, 60):
        place = galsim.PositionD(reach * np.cos(angle), reach * np.sin(angle))
        assert sum(profile.xValue(place) for profile in sheared) < level


def test_the_reach_of_one_profile_is_its_isophote():
    plain = galaxy(bulge_fraction=0.0, clump_fraction=0.0)
    assert reach_of(plain, 0.5) == isophotal_radius(500.0, 1.1, 1.02, 0.4, 0.5)

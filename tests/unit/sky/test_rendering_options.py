"""Stars, bulges and boxes, against GalSim alone."""

import dataclasses

import galsim
import numpy as np
import pytest

from appulse.sky import PSF, Survey
from appulse.sky.population import BULGE_INDEX, BULGE_SIZE, DISC_INDEX, Bulges, Faint, Stars
from appulse.sky.rendering import LARGEST_HALF_WIDTH, Renderer
from appulse.sky.sources import STAR, draw_sources

WIDE = Survey.load("euclid-wide")
GAUSSIAN = dataclasses.replace(WIDE, psf=PSF("gaussian", 0.5))


def star(flux, x=0.0, y=0.0):
    return {"x": x, "y": y, "flux": flux, "kind": STAR, "bulge_fraction": 0.0, "real_index": -1}


def galaxy(**changes):
    values = dict(
        x=0.0,
        y=0.0,
        flux=200.0,
        half_light_radius=0.6,
        sersic_index=DISC_INDEX,
        ellipticity=0.3,
        orientation=25.0,
    )
    return values | dict(kind=0, bulge_fraction=0.0, real_index=-1) | changes


def test_a_star_is_a_gaussian_psf():
    # Integrals of the Gaussian over pixels, in closed form.
    from scipy.special import erf

    x, y, flux = 4.3, -2.8, 40.0
    source = Renderer(GAUSSIAN).draw(star(flux, x, y))
    s = 0.5 / 2.3548200450309493 / 0.1

    def over_pixels(start, n, centre):
        edges = start + np.arange(n + 1) - 0.5 - centre
        return np.diff(0.5 * erf(edges / (np.sqrt(2) * s)))

    rows, columns = source.image.shape
    expected = flux * np.outer(over_pixels(source.y0, rows, y), over_pixels(source.x0, columns, x))
    lit = source.image > 0
    level = 0.05 * GAUSSIAN.sigma
    np.testing.assert_allclose(source.image[lit], expected[lit], rtol=1e-3, atol=0.5 * level)
    assert expected[~lit].max() < 1.5 * level
    assert source.image.sum(dtype=float) == pytest.approx(flux, rel=2e-3)


def test_a_star_is_the_moffat_psf():
    flux = 90.0  # magnitude 19
    source = Renderer(WIDE).draw(star(flux, 0.25, 0.5))
    # GalSim's defaults ring around a star by a tenth of the noise.
    accurate = galsim.GSParams(maxk_threshold=1e-5)
    alone = galsim.Moffat(beta=3.5, fwhm=0.18, flux=flux, gsparams=accurate).drawImage(
        nx=401, ny=401, scale=0.1, offset=(0.25, -0.5), dtype=np.float32
    )
    # y = 0.5 belongs to pixel 1.
    window = (slice(199 + source.y0, None), slice(200 + source.x0, None))
    rows, columns = source.image.shape
    expected = alone.array[window][:rows, :columns]
    # GalSim's FFTs are good to 1e-6 of the flux; here that is the rendering limit.
    lit = source.image > 0
    np.testing.assert_allclose(source.image[lit], expected[lit], rtol=0.002, atol=0.05 * WIDE.sigma)


@pytest.mark.parametrize("fraction", [0.2, 0.7])
def test_a_bulge_is_the_sum_of_its_parts(fraction):
    values = galaxy(bulge_fraction=fraction)
    source = Renderer(WIDE).draw(values)
    disc = galsim.Sersic(DISC_INDEX, half_light_radius=0.6, flux=200.0 * (1 - fraction))
    bulge = galsim.Sersic(BULGE_INDEX, half_light_radius=0.6 * BULGE_SIZE, flux=200.0 * fraction)
    sheared = (disc + bulge).shear(q=0.7, beta=25 * galsim.degrees)
    alone = galsim.Convolve(sheared, galsim.Moffat(beta=3.5, fwhm=0.18)).drawImage(nx=801, ny=801, scale=0.1)
    rows, columns = source.image.shape
    y, x = 400 + source.y0, 400 + source.x0
    expected = alone.array[y : y + rows, x : x + columns]
    level = 0.05 * WIDE.sigma
    clear = expected > 1.5 * level
    np.testing.assert_allclose(source.image[clear], expected[clear], rtol=2e-3, atol=0.5 * level)


@pytest.mark.parametrize(
    ("fraction", "index", "size"), [(0.0, DISC_INDEX, 1.0), (1.0, BULGE_INDEX, BULGE_SIZE)]
)
def test_the_ends_of_the_bulge_fraction(fraction, index, size):
    ours = Renderer(WIDE).draw(galaxy(bulge_fraction=fraction))
    single = Renderer(WIDE).draw(galaxy(sersic_index=index, half_light_radius=0.6 * size))
    assert (ours.y0, ours.x0) == (single.y0, single.x0)
    np.testing.assert_array_equal(ours.image, single.image)


@pytest.mark.parametrize("name", ["euclid-wide", "lsst-10yr", "hst-acs"])
def test_boxes_hold_what_is_drawn(name):
    options = dict(bulges=Bulges(0.5, 0.5), stars=Stars(60.0), faint=Faint(27.1))
    survey = dataclasses.replace(Survey.load(name), **options)
    sources = draw_sources(survey, (400, 400), 4, 0)
    renderer = Renderer(survey)
    drawn = 0
    for row in sources[:: max(len(sources) // 100, 1)]:
        source, (y0, y1, x0, x1) = renderer.draw(row), renderer.box(row)
        assert y1 - y0 == x1 - x0 <= 2 * LARGEST_HALF_WIDTH + 1
        assert y0 <= row["y"] <= y1 - 1 and x0 <= row["x"] <= x1 - 1
        if source is not None:
            drawn += 1
            assert y0 <= source.y0 and source.y0 + source.image.shape[0] <= y1
            assert x0 <= source.x0 and source.x0 + source.image.shape[1] <= x1
    assert drawn > 20


def test_too_faint_a_star():
    assert Renderer(WIDE).draw(star(1e-6)) is None

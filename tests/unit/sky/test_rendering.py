"""Drawn galaxies against closed forms and against plain GalSim on an image far too large."""

import dataclasses

import galsim
import numpy as np
import pytest
from scipy.integrate import quad
from scipy.optimize import brentq

from appulse.sky import PSF, Survey
from appulse.sky.profiles import isophotal_radius, psf_radius
from appulse.sky.rendering import RENDER_LIMIT, Renderer

WIDE = Survey.load("euclid-wide")
GROUND = dataclasses.replace(WIDE, pixel_scale=0.2, noise=26.0, psf=PSF("gaussian", 0.8))
DEEP = Survey.load("paper")
SEEING = dataclasses.replace(WIDE, pixel_scale=0.2, noise=26.5, psf=PSF("moffat", 0.7, 2.5))


def galaxy(magnitude=20.0, survey=WIDE, **changes):
    flux = 10 ** (-0.4 * (magnitude - survey.zero_point))
    values = dict(
        x=0.0, y=0.0, flux=flux, half_light_radius=0.5, sersic_index=1.02, ellipticity=0.3, orientation=30.0
    )
    return values | changes


def plain(values, survey, half):
    """The same galaxy by GalSim alone, ``image[half, half]`` at the integer pixel nearest its centre.

    Its defaults ring around bright sources by more than the rendering limit.
    """
    q = 1 - values["ellipticity"]
    profile = galsim.Sersic(values["sersic_index"], half_light_radius=values["half_light_radius"])
    profile = profile.withFlux(values["flux"]).shear(q=q, beta=values["orientation"] * galsim.degrees)
    if survey.psf.model == "gaussian":
        psf = galsim.Gaussian(fwhm=survey.psf.fwhm)
    else:
        psf = galsim.Moffat(beta=survey.psf.beta, fwhm=survey.psf.fwhm)
    offset = (values["x"] - round(values["x"]), values["y"] - round(values["y"]))
    image = galsim.ImageF(2 * half + 1, 2 * half + 1)
    seen = galsim.Convolve(profile, psf, gsparams=galsim.GSParams(maxk_threshold=1e-5))
    return seen.drawImage(image, scale=survey.pixel_scale, offset=offset).array


def test_isophote_of_a_gaussian():
    # n = 0.5 is a Gaussian: I = F / (2 pi s^2) exp(-r^2 / 2 s^2), half the light within s sqrt(2 ln 2).
    flux, s, level = 300.0, 0.7, 0.4
    expected = s * np.sqrt(2 * np.log(flux / (2 * np.pi * s**2 * level)))
    assert isophotal_radius(flux, s * np.sqrt(2 * np.log(2)), 0.5, 0.0, level) == pytest.approx(expected)


@pytest.mark.parametrize("level", [0.001, 0.1, 3.0])
def test_isophote_of_an_exponential_disc(level):
    flux, scale = 80.0, 0.35
    half_light = scale * brentq(lambda x: 1 - (1 + x) * np.exp(-x) - 0.5, 1, 3)
    profile = lambda r: flux / (2 * np.pi * scale**2) * np.exp(-r / scale)  # noqa: E731
    expected = brentq(lambda r: np.log(profile(r) / level), 0, 50)
    assert isophotal_radius(flux, half_light, 1.0, 0.0, level) == pytest.approx(expected)


@pytest.mark.parametrize("index", [0.6, 1.32, 4.02, 6.18])
@pytest.mark.parametrize("ellipticity", [0.0, 0.4, 0.85])
def test_isophote_of_galsims_profile_along_the_major_axis(index, ellipticity):
    flux, half_light, level = 50.0, 0.4, 0.02
    major = isophotal_radius(flux, half_light, index, ellipticity, level)
    sersic = galsim.Sersic(index, half_light_radius=half_light, flux=flux)
    sheared = sersic.shear(q=1 - ellipticity, beta=0 * galsim.degrees)
    # GalSim tabulates profiles; both sides of the isophote are clear of its interpolation.
    assert sheared.xValue(major, 0) == pytest.approx(level, rel=0.01)
    assert sheared.xValue(0, major * (1 - ellipticity)) == pytest.approx(level, rel=0.01)


def test_isophote_fainter_than_the_level():
    assert isophotal_radius(1.0, 1.0, 1.0, 0.2, 100.0) == 0.0
    assert psf_radius(PSF("gaussian", 1.0), 1.0, 100.0) == 0.0
    assert psf_radius(PSF("moffat", 1.0), 1.0, 100.0) == 0.0


@pytest.mark.parametrize("psf", [PSF("gaussian", 0.8), PSF("moffat", 0.18, 3.5), PSF("moffat", 0.7, 2.5)])
@pytest.mark.parametrize("level", [0.01, 1.0])
def test_psf_radius_by_root_finding(psf, level):
    # Unnormalised profile; its width and its flux by quadrature and root finding.
    if psf.model == "gaussian":
        shape = lambda r, width: np.exp(-((r / width) ** 2))  # noqa: E731
    else:
        shape = lambda r, width: (1 + (r / width) ** 2) ** -psf.beta  # noqa: E731
    width = brentq(lambda w: shape(psf.fwhm / 2, w) - 0.5, 1e-3, 10)
    total = quad(lambda r: 2 * np.pi * r * shape(r, width), 0, np.inf)[0]
    flux = 40.0
    expected = brentq(lambda r: flux / total * shape(r, width) - level, 0, 20)
    assert psf_radius(psf, flux, level) == pytest.approx(expected, rel=1e-4)


@pytest.mark.parametrize(
    ("survey", "values"),
    [
        (WIDE, galaxy(18.5, half_light_radius=1.0, x=3.4, y=-2.7)),
        (WIDE, galaxy(22.0, sersic_index=3.96, x=100.49, y=50.51)),
        (WIDE, galaxy(25.2, half_light_radius=0.1, ellipticity=0.0)),
        (WIDE, galaxy(24.0, half_light_radius=0.3, ellipticity=0.88, orientation=77.0, sersic_index=0.48)),
        (WIDE, galaxy(19.0, half_light_radius=0.02, x=0.5, y=0.5)),  # a star, nearly
        (DEEP, galaxy(21.0, half_light_radius=0.8, ellipticity=0.6, orientation=160.0)),
        (DEEP, galaxy(24.0, sersic_index=5.94, half_light_radius=0.3)),
        (GROUND, galaxy(20.0, half_light_radius=0.3)),
        (GROUND, galaxy(22.0, half_light_radius=1.5, ellipticity=0.7, orientation=100.0)),
        (SEEING, galaxy(19.0, half_light_radius=0.05)),
        (SEEING, galaxy(20.0, half_light_radius=0.8, sersic_index=1.98)),
    ],
)
def test_nothing_above_the_limit_is_lost(survey, values):
    level = RENDER_LIMIT * survey.sigma
    source = Renderer(survey).draw(values)
    half = 400
    everything = plain(values, survey, half)
    # Where the source lies in the large one.
    y = source.y0 - round(values["y"]) + half
    x = source.x0 - round(values["x"]) + half
    assert min(y, x) > 0
    window = (slice(y, y + source.image.shape[0]), slice(x, x + source.image.shape[1]))
    outside = np.ones(everything.shape, bool)
    outside[window] = False
    assert everything[outside].max() < 1.1 * level  # a pixel at the limit may fall either side of it
    # GalSim's FFT on the smaller image folds a little light back: less than half the limit, 0.025 sigma.
    drawn = np.zeros_like(everything)
    drawn[window] = source.image
    clear = everything > 1.5 * level
    assert clear.any()
    np.testing.assert_allclose(drawn[clear], everything[clear], rtol=2e-3, atol=0.5 * level)
    assert drawn[everything < 0.5 * level].max(initial=0.0) == 0.0
    assert source.image.dtype == np.float32
    assert source.image[source.image > 0].min() >= np.float32(level)
    # Trimmed: no border of zeros.
    for edge in (source.image[0], source.image[-1], source.image[:, 0], source.image[:, -1]):
        assert edge.any()


@pytest.mark.parametrize("index", [0.48, 1.02])
def test_flux_and_half_light_radius(index):
    values = galaxy(18.0, half_light_radius=2.0, sersic_index=index, ellipticity=0.0)
    source = Renderer(WIDE).draw(values)
    assert source.image.sum(dtype=float) == pytest.approx(values["flux"], rel=0.01)
    y, x = np.indices(source.image.shape)
    radius = np.hypot(y + source.y0, x + source.x0) * WIDE.pixel_scale
    order = np.argsort(radius, axis=None)
    cumulated = np.cumsum(source.image.ravel()[order], dtype=float)
    half = radius.ravel()[order][np.searchsorted(cumulated, 0.5 * values["flux"])]
    # A PSF ten times smaller adds a few parts in a thousand.
    assert half == pytest.approx(2.0, rel=0.02)


def test_whole_pixel_shift_moves_the_image():
    renderer = Renderer(WIDE)
    here = renderer.draw(galaxy(x=10.3, y=7.8))
    there = renderer.draw(galaxy(x=-36.7, y=1007.8))
    assert (there.y0 - here.y0, there.x0 - here.x0) == (1000, -47)
    # The fractional part of a large position has fewer bits.
    np.testing.assert_allclose(there.image, here.image, rtol=1e-4)


def test_centre_of_light_is_at_x_y():
    values = galaxy(19.0, x=12.37, y=-4.81, ellipticity=0.5)
    source = Renderer(WIDE).draw(values)
    rows, columns = np.indices(source.image.shape)
    total = source.image.sum()
    assert (rows * source.image).sum() / total + source.y0 == pytest.approx(-4.81, abs=0.02)
    assert (columns * source.image).sum() / total + source.x0 == pytest.approx(12.37, abs=0.02)


def test_quarter_turn():
    renderer = Renderer(WIDE)
    flat = renderer.draw(galaxy(orientation=20.0, ellipticity=0.6))
    upright = renderer.draw(galaxy(orientation=110.0, ellipticity=0.6))
    level = renderer.level
    # image[y, x] with y up: np.rot90 turns clockwise as seen on the sky, hence -1.
    np.testing.assert_allclose(upright.image, np.rot90(flat.image, -1), atol=0.1 * level, rtol=1e-3)


@pytest.mark.parametrize("orientation", [0.0, 30.0, 90.0, 150.0])
def test_orientation_is_counter_clockwise_from_x(orientation):
    source = Renderer(WIDE).draw(galaxy(19.0, orientation=orientation, ellipticity=0.5, sersic_index=0.6))
    y, x = np.indices(source.image.shape)
    y, x = y + source.y0, x + source.x0
    xx, yy, xy = ((source.image * m).sum() for m in (x * x, y * y, x * y))
    angle = 0.5 * np.rad2deg(np.arctan2(2 * xy, xx - yy))
    assert (angle - orientation + 90) % 180 - 90 == pytest.approx(0, abs=0.5)


def test_too_faint_to_draw():
    assert Renderer(WIDE).draw(galaxy(32.0, half_light_radius=2.0)) is None


def test_a_wide_cusp_under_a_narrow_psf_is_drawn_all_the_same():
    """GalSim's own thresholds ask for a transform that does not fit; of a smaller galaxy they do not."""
    survey = Survey.load("euclid-wide")
    narrow = Renderer(dataclasses.replace(survey, psf=dataclasses.replace(survey.psf, fwhm=0.06)))
    flux = 10 ** (-0.4 * (18.0 - survey.zero_point))
    source = {"x": 50.2, "y": 60.4, "flux": flux, "sersic_index": 5.94, "ellipticity": 0.3}
    source |= {"orientation": 30.0, "half_light_radius": 3.0}
    with pytest.raises(galsim.GalSimFFTSizeError):
        galsim.Convolve(narrow.profile(source), narrow.psf).drawImage(scale=survey.pixel_scale)
    wide = narrow.draw(source)
    assert 0.85 * flux < wide.image.sum() < flux
    # As drawn at half the size, where GalSim's thresholds do: the same light on a quarter of the sky.
    source["half_light_radius"] = 0.6
    assert narrow.draw(source).image.sum() == pytest.approx(0.96 * flux, rel=0.03)

"""Sources drawn through tabulated transforms, against GalSim with its accuracy turned up, one by one."""

import dataclasses

import galsim
import numpy as np
import pytest

from appulse.sky import PSF, Survey
from appulse.sky.fourier import sersic_transform
from appulse.sky.population import Bulges, Clumps, Faint, Stars
from appulse.sky.rendering import Renderer
from appulse.sky.sources import draw_sources

# GalSim's defaults err by up to 0.13 of the noise themselves (docs/decisions/0006-*.md).
ACCURATE = galsim.GSParams(
    folding_threshold=1e-4,
    maxk_threshold=1e-5,
    kvalue_accuracy=1e-7,
    stepk_minimum_hlr=10,
    maximum_fft_size=16384,
)
# Units of the noise, in every pixel.
LARGEST_ERROR = 0.02


def accurate_image(renderer, source):
    """By GalSim alone, from profiles made anew: those that it has drawn keep their accuracy."""
    psf = galsim.Moffat(beta=renderer.survey.psf.beta, fwhm=renderer.survey.psf.fwhm, gsparams=ACCURATE)
    if source["kind"] == 2:
        profile = psf.withFlux(source["flux"])
    else:
        profile = galsim.Convolve(renderer.profile(source).withGSParams(ACCURATE), psf, gsparams=ACCURATE)
    y0, y1, x0, x1 = renderer.box(source)
    offset = (source["x"] - (x0 + x1) // 2, source["y"] - (y0 + y1) // 2)
    return profile.drawImage(
        nx=x1 - x0, ny=y1 - y0, scale=renderer.survey.pixel_scale, offset=offset, dtype=float
    ).array


@pytest.mark.parametrize("name", ["paper", "euclid-wide", "lsst-10yr", "hst-acs", "roman-wide"])
def test_every_source_is_galsims(name):
    survey = Survey.load(name)
    faint = Faint(survey.population.magnitude_faint + 1.0)
    survey = dataclasses.replace(survey, bulges=Bulges(0.4, 0.4), stars=Stars(200.0, 19.0), faint=faint)
    survey = dataclasses.replace(survey, clumps=Clumps(0.5))
    sources = draw_sources(survey, (250, 250), 6, 0)
    renderer = Renderer(survey)
    shuffled = np.random.default_rng(1).permutation(len(sources))
    picked = [row for kind in (0, 1, 2) for row in shuffled[sources["kind"][shuffled] == kind][:13]]
    assert set(sources["kind"][picked]) == {0, 1, 2}
    for row in sources[picked]:
        source = dict(zip(sources.colnames, row, strict=True))
        expected = accurate_image(renderer, source)
        image = np.zeros(expected.shape)
        stamp, (y0, _, x0, _) = renderer.draw(source), renderer.box(source)
        if stamp is not None:
            height, width = stamp.image.shape
            y, x = stamp.y0 - y0, stamp.x0 - x0
            image[y : y + height, x : x + width] = stamp.image
        # What lies under the rendering limit is left out by design.
        image[image == 0] = np.minimum(expected, renderer.level)[image == 0]
        np.testing.assert_allclose(image, expected, rtol=1e-5, atol=LARGEST_ERROR * survey.sigma)


def evaluated(index, k):
    table = sersic_transform(index)
    place = np.sqrt(k) * 2048 / 24
    c = table[place.astype(int)]
    t = place - place.astype(int)
    return c[:, 0] + t * (c[:, 1] + t * (c[:, 2] + t * c[:, 3]))


def test_transform_of_a_gaussian_and_of_a_disc():
    from scipy.special import gammaincinv

    k = np.linspace(0, 500, 4001)
    # exp(-b r^2) and exp(-b r): both have closed transforms.
    b = gammaincinv(1.0, 0.5)
    np.testing.assert_allclose(evaluated(0.5, k), np.exp(-(k**2) / (4 * b)), atol=5e-7)
    b = gammaincinv(2.0, 0.5)
    np.testing.assert_allclose(evaluated(1.0, k), (1 + (k / b) ** 2) ** -1.5, atol=5e-7)


@pytest.mark.parametrize("index", [0.3, 2.4, 4.02, 6.18])
def test_transform_is_galsims(index):
    k = np.linspace(0, 300, 200)
    accurate = galsim.GSParams(kvalue_accuracy=1e-7, maxk_threshold=1e-6)
    profile = galsim.Sersic(index, half_light_radius=1.0, gsparams=accurate)
    expected = [profile.kValue(each, 0.0).real for each in k]
    np.testing.assert_allclose(evaluated(index, k), expected, atol=5e-6)


def test_a_psf_much_narrower_than_a_pixel_is_left_to_galsim():
    survey = dataclasses.replace(Survey.load("euclid-wide"), psf=PSF("gaussian", 0.02))
    renderer = Renderer(survey)
    source = dict(
        x=3.2, y=8.7, flux=20.0, half_light_radius=0.3, sersic_index=1.02, ellipticity=0.2, orientation=30
    )
    image = renderer.reference_image(source)
    stamp, (y0, _, x0, _) = renderer.draw(source), renderer.box(source)
    height, width = stamp.image.shape
    inside = image[stamp.y0 - y0 :, stamp.x0 - x0 :][:height, :width]
    np.testing.assert_array_equal(
        stamp.image, np.where(inside >= renderer.level, inside, 0).astype(np.float32)
    )

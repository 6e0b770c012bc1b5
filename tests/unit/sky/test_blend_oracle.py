"""The ideal observer of blends, where the answer is known."""

import dataclasses

import numpy as np
import pytest
from scipy import ndimage

from appulse.sky.blend_oracle import claim_limit, recognised, second_galaxies, single_galaxy_misfit
from appulse.sky.noise import correlation_kernel
from appulse.sky.oracle import half_width, model_image
from appulse.sky.rendering import Renderer
from appulse.sky.survey import Survey

# Flux, half-light radius, x, y, two shears, Sérsic index.
BRIGHT, FAINT = (0.4, 0.3, 0.0, 0.0, 0.1, 0.0, 1.0), (0.06, 0.2, 0.0, 0.0, 0.0, 0.1, 1.0)


@pytest.fixture(scope="module")
def renderer():
    return Renderer(Survey.load("euclid-wide"))


def moved(galaxy, x, y):
    return (*galaxy[:2], galaxy[2] + x, galaxy[3] + y, *galaxy[4:])


def square_snr(renderer, galaxy):
    image = model_image(renderer, np.array(galaxy[:6]), galaxy[6], 40)
    return (image**2).sum() / renderer.survey.sigma**2


@pytest.mark.parametrize("place", [(0.0, 0.0), (0.3, -0.4), (11.0, 6.5)])
@pytest.mark.parametrize("index", [0.7, 1.26, 3.0])
def test_one_galaxy_looks_like_one(renderer, place, index):
    assert single_galaxy_misfit(renderer, [(*moved(BRIGHT, *place)[:6], index)]) < 0.5


def test_two_alike_in_one_place_look_like_one(renderer):
    half = (BRIGHT[0] / 2, *BRIGHT[1:])
    assert single_galaxy_misfit(renderer, [half, half]) < 0.5


def test_the_index_is_fitted(renderer):
    """A core of another index changes the profile: no index given beforehand would do as well."""
    core = (BRIGHT[0] / 3, 0.1, 0.0, 0.0, 0.1, 0.0, 2.5)
    misfit = single_galaxy_misfit(renderer, [BRIGHT, core])
    assert misfit < 0.05 * square_snr(renderer, core)


def test_a_companion_far_away_is_all_that_is_left(renderer):
    """One galaxy fits the brighter; of the fainter its whole light is left over."""
    misfit = single_galaxy_misfit(renderer, [BRIGHT, moved(FAINT, 25.0, 0.0)])
    assert misfit == pytest.approx(square_snr(renderer, FAINT), rel=0.1)


def test_the_closer_the_less_is_known_and_never_more_than_the_companions_light(renderer):
    misfits = [single_galaxy_misfit(renderer, [BRIGHT, moved(FAINT, x, 0.0)]) for x in (1, 3, 6, 10)]
    assert misfits == sorted(misfits)
    assert misfits[-1] <= square_snr(renderer, FAINT) * 1.01


def test_noise_halved_is_chi_squared_times_four(renderer):
    pair = [BRIGHT, moved(FAINT, 4.0, 1.0)]
    deeper = Renderer(dataclasses.replace(renderer.survey, noise=renderer.survey.noise + 2.5 * np.log10(2)))
    once, twice = (single_galaxy_misfit(each, pair) for each in (renderer, deeper))
    assert twice == pytest.approx(4 * once, rel=0.05)


def test_the_limit_is_that_of_a_search_place_by_place(renderer):
    """Noise images, each searched with explicit templates at every pixel by least squares."""
    galaxy = np.array((0.5, 0.25, 0.0, 0.0, 0.1, 0.05, 1.3))
    half = half_width(renderer, galaxy[:6], galaxy[6])
    side = 2 * half + 1
    columns = []
    for k, step in enumerate((1e-3, 1e-3, 1e-2, 1e-2, 1e-2, 1e-2, 1e-2)):
        up, down = galaxy.copy(), galaxy.copy()
        up[k] += step
        down[k] -= step
        difference = [model_image(renderer, each[:6], each[6], half) for each in (up, down)]
        columns.append((difference[0] - difference[1]).ravel() / step)
    basis, _ = np.linalg.qr(np.array(columns).T / np.abs(columns).max(axis=1))
    lit = model_image(renderer, galaxy[:6], galaxy[6], half) > renderer.survey.sigma
    lit = ndimage.binary_dilation(lit, iterations=2)
    templates = []
    for image in second_galaxies(renderer, galaxy, half):
        for y, x in np.argwhere(lit):
            placed = ndimage.shift(image, (y - half, x - half), order=0).ravel()
            placed -= basis @ (basis.T @ placed)
            templates.append(placed / np.sqrt(placed @ placed))
    noise = np.random.default_rng(5).standard_normal((1500, side * side))
    gains = np.maximum(noise @ np.array(templates).T, 0).max(axis=1) ** 2
    for share in (0.3, 0.05):
        limit = claim_limit(renderer, galaxy, share, draws=1500)
        # The share's own error, and templates cut at the border instead of wrapped around it.
        assert (gains > limit).mean() == pytest.approx(share, abs=4 * np.sqrt(share / 1500) + 0.1 * share)


def test_correlated_noise_hides_companions():
    """Of a smooth companion far away the chi squared is less by the kernel's sum to the fourth."""
    survey = Survey.load("hst-acs")
    renderer = Renderer(survey)
    faint = (0.3 * FAINT[0], 0.3, *FAINT[2:])
    misfit = single_galaxy_misfit(renderer, [BRIGHT, moved(faint, 40.0, 0.0)])
    less = correlation_kernel(survey.correlation).sum() ** 4
    assert misfit == pytest.approx(square_snr(renderer, faint) / less, rel=0.1)


def test_recognition_at_the_limit_is_even_and_rises():
    assert recognised(25.0, 25.0) == pytest.approx(0.5)
    assert recognised(0.0, 25.0) < 1e-6 and recognised(100.0, 25.0) > 1 - 1e-6

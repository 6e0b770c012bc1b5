"""The ideal observer of blends, where the answer is known."""

import dataclasses

import numpy as np
import pytest

from appulse.sky.blend_oracle import FREEDOM, ideal_recognition, single_galaxy_misfit
from appulse.sky.oracle import model_image
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
def test_one_galaxy_looks_like_one(renderer, place):
    assert single_galaxy_misfit(renderer, [moved(BRIGHT, *place)]) < 0.5


def test_two_alike_in_one_place_look_like_one(renderer):
    half = (BRIGHT[0] / 2, *BRIGHT[1:])
    assert single_galaxy_misfit(renderer, [half, half]) < 0.5


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


def test_recognition_is_that_of_simulated_fits():
    rng = np.random.default_rng(0)
    misfit, rate = 20.0, 0.01
    noise = rng.standard_normal((200_000, FREEDOM))
    limit = np.quantile((noise**2).sum(axis=1), 1 - rate)
    noise[:, 0] += np.sqrt(misfit)
    simulated = ((noise**2).sum(axis=1) > limit).mean()
    assert ideal_recognition(misfit, rate) == pytest.approx(simulated, abs=0.01)
    assert ideal_recognition(0.0, rate) == pytest.approx(rate, rel=1e-3)

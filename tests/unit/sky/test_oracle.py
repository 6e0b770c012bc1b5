"""The oracle against least-squares fits to noisy images, and its file."""

import dataclasses

import numpy as np
import pytest
from scipy.optimize import least_squares

from appulse.sky import Population, Survey
from appulse.sky.noise import correlation_kernel
from appulse.sky.oracle import ORACLE_FILE, fit_covariance, model_image, oracle_scores, survey_oracle
from appulse.sky.rendering import Renderer

EDGES = np.array([22.0, 23.0, 24.5, 25.2])


@pytest.fixture(scope="module")
def scores():
    survey = Survey.load("euclid-wide")
    return {
        noise: oracle_scores(dataclasses.replace(survey, noise=noise), EDGES, galaxies=16, draws=3)
        for noise in (24.65, 27.2)
    }


def test_deeper_is_better_and_fainter_is_worse(scores):
    shallow, deep = scores[24.65], scores[27.2]
    assert (np.asarray(deep["iou"]) > np.asarray(shallow["iou"])).all()
    for table in (shallow, deep):
        assert (table["iou"][0] > table["iou"][1:]).all()
        assert (np.asarray(table["iou"]) < 1).all()


def test_shallow_images_hide_faint_galaxies(scores):
    assert scores[24.65]["visible"][-1] < scores[27.2]["visible"][-1]


def test_without_noise_the_fit_is_exact():
    survey = dataclasses.replace(Survey.load("paper"), noise=31.0)
    assert oracle_scores(survey, np.array([22.0, 22.5]), galaxies=4, draws=2)["iou"][0] > 0.995


def test_nothing_visible():
    survey = dataclasses.replace(Survey.load("paper"), noise=20.0)
    table = oracle_scores(survey, np.array([25.0, 25.2]), galaxies=3)
    assert table["visible"][0] == 0 and np.isnan(table["iou"][0]) and np.isnan(table["completeness"][0])


def test_fits_to_noisy_images_scatter_as_the_bound_says():
    survey = Survey.load("euclid-wide")
    renderer, half, index = Renderer(survey), 14, 1.02
    flux = 10 ** (-0.4 * (23.0 - survey.zero_point))
    truth = np.array([flux, 0.3, 0.2, -0.3, 0.15, 0.05])
    image = model_image(renderer, truth, index, half)
    mask = image > survey.sigma
    covariance = fit_covariance(renderer, truth, index, half)
    errors, rng = np.sqrt(np.diag(covariance)), np.random.default_rng(8)
    fits, ious = [], []
    for _ in range(40):
        noisy = image + survey.sigma * rng.standard_normal(image.shape)

        def residual(steps, noisy=noisy):
            return (model_image(renderer, truth + steps * errors, index, half) - noisy).ravel() / survey.sigma

        fit = least_squares(residual, np.zeros(6), diff_step=1e-2, xtol=1e-3, ftol=1e-4)
        fits.append(fit.x)
        found = model_image(renderer, truth + fit.x * errors, index, half) > survey.sigma
        ious.append(np.count_nonzero(found & mask) / np.count_nonzero(found | mask))
    # In units of the bound: mean 0, standard deviation 1, each within three standard errors of 40 fits.
    np.testing.assert_allclose(np.mean(fits, axis=0), 0.0, atol=3 / np.sqrt(40) + 0.1)
    np.testing.assert_allclose(np.std(fits, axis=0), 1.0, atol=3 / np.sqrt(80))
    drawn = truth + rng.standard_normal((100, 6)) @ np.linalg.cholesky(covariance).T
    expected = []
    for parameters in drawn:
        found = model_image(renderer, parameters, index, half) > survey.sigma
        expected.append(np.count_nonzero(found & mask) / np.count_nonzero(found | mask))
    assert np.mean(ious) == pytest.approx(np.mean(expected), abs=3 * np.std(ious) / np.sqrt(40))


def test_correlated_noise_is_what_an_aperture_feels():
    """Of light that changes slowly over the kernel, errors are larger by the square of the kernel's sum."""
    survey = Survey.load("hst-acs")
    kernel = correlation_kernel(survey.correlation)
    errors = []
    for correlation in (None, survey.correlation):
        renderer = Renderer(dataclasses.replace(survey, correlation=correlation))
        truth = np.array([10 ** (-0.4 * (23.0 - survey.zero_point)), 0.5, 0.2, -0.3, 0.1, 0.0])
        errors.append(np.sqrt(fit_covariance(renderer, truth, 1.0, 60)[0, 0]))
    assert errors[1] / errors[0] == pytest.approx(kernel.sum() ** 2, rel=0.02)


def test_computed_once_per_survey(tmp_path):
    population = Population(magnitude_bright=21.0, magnitude_faint=22.3)
    survey = dataclasses.replace(Survey.load("paper"), population=population)
    calls = []
    first = survey_oracle(survey, tmp_path, progress=lambda *args: calls.append(args))
    assert calls == [("limit of an ideal fit", done, 3) for done in (1, 2, 3)]
    assert first["magnitude_low"].tolist() == [21.0, 21.5, 22.0] and first["magnitude_high"][-1] == 22.3
    written = (tmp_path / ORACLE_FILE).read_bytes()

    again = survey_oracle(survey, tmp_path, progress=lambda *args: pytest.fail("computed again"))
    for name in first.colnames:
        np.testing.assert_array_equal(again[name], first[name])
    # Another survey, or a file cut short, is computed anew, to the same bytes.
    deeper = survey_oracle(dataclasses.replace(survey, noise=28.0), tmp_path)
    assert (deeper["iou"] > first["iou"]).all() and (tmp_path / ORACLE_FILE).read_bytes() != written
    (tmp_path / ORACLE_FILE).write_bytes(written[: len(written) // 2])
    survey_oracle(survey, tmp_path)
    assert (tmp_path / ORACLE_FILE).read_bytes() == written

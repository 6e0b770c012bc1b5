"""Calibrated probabilities of a network that is known, and of draws whose truth follows known curves."""

import dataclasses

import numpy as np
import pytest
import torch
from scipy import special

from appulse.evaluation.modes import calibration_gain
from appulse.evaluation.pixel_scores import expected_calibration_error
from appulse.evaluation.probabilities import (
    BACKGROUND_STRIDE,
    LEAST_PROBABILITY,
    Draws,
    fit_latent_scale,
    log_loss,
    with_curves,
)
from appulse.network import Calibration
from appulse.network.calibration import IDENTITY
from by_hand import SIZE, by_hand, discs, field_of_discs, thresholding_model
from skies_by_hand import field_of


def disc_field(shape=(SIZE, SIZE), *circles):
    """Noisy discs, and a truth in which every pixel of a disc is class 1."""
    field = field_of(discs(shape, *circles, noise=0.0))
    return dataclasses.replace(field, image=discs(shape, *circles) * field.survey.sigma)


def synthetic(seed, n=40_000, draws=3):
    """Draws whose truth follows curves that are known: slopes of 0.7 and 1.6."""
    rng = np.random.default_rng(seed)
    galaxy = rng.normal(0, 2, n) + rng.normal(0, 1, (draws, n))
    overlap = rng.normal(-1, 2, n) + rng.normal(0, 1, (draws, n))
    p_galaxy = special.expit(0.7 * galaxy)
    p_overlap = (p_galaxy * special.expit(1.6 * overlap)).mean(axis=0)
    drawn = rng.random(n)
    truth = (drawn < p_galaxy.mean(axis=0)).astype(np.uint8) + (drawn < p_overlap)
    return Draws(np.arange(n), galaxy, overlap, truth, np.ones(n, np.float32), (200, n // 200))


def test_without_a_draw_the_probabilities_are_those_of_the_prior_mean():
    model = thresholding_model()
    field = disc_field((SIZE, SIZE), (30, 30, 8))
    drawn = Draws.of(model, field, latent_scale=0.0, centred=False)
    assert drawn.galaxy.shape[0] == 1
    maps = drawn.maps(Calibration())
    with torch.inference_mode():
        stamp = torch.from_numpy(field.image / np.float32(field.survey.sigma))[None, None]
        joined, prior = model.network.encode(stamp)
        softmax = model.network.realise(joined, prior.mean).softmax(dim=1)[0].numpy()
    # Away from the border, where the grid has other stamps, and from the noise measured instead of known.
    middle = np.s_[20:42, 20:42]
    np.testing.assert_allclose(maps[0][middle], softmax[1:].sum(axis=0)[middle], atol=0.15)
    assert np.corrcoef(maps[0][middle].ravel(), softmax[1:].sum(axis=0)[middle].ravel())[0, 1] > 0.99


def test_curves_from_some_draws_calibrate_others():
    calibration = with_curves(Calibration(), [synthetic(0), synthetic(1)])
    unseen = synthetic(2)
    for level, probability in enumerate(unseen.probabilities(calibration), start=1):
        assert expected_calibration_error(probability, unseen.truth >= level) < 0.02
    uncalibrated = unseen.probabilities(Calibration())
    assert expected_calibration_error(uncalibrated[0], unseen.truth >= 1) > 0.04
    assert log_loss(unseen, calibration) < log_loss(unseen, Calibration())


def test_some_of_the_background_stands_for_all_of_it():
    field = disc_field((2 * SIZE, 2 * SIZE), (30, 30, 8), (90, 40, 7))
    drawn = Draws.of(thresholding_model(), field, latent_scale=0.0, centred=False)
    certain = drawn.galaxy.max(axis=0) <= special.logit(LEAST_PROBABILITY)
    assert set(drawn.weights[certain]) == {BACKGROUND_STRIDE} and set(drawn.weights[~certain]) == {1.0}
    assert drawn.weights.sum() == pytest.approx(field.image.size, rel=0.05)
    columns = np.bincount(drawn.pixels[certain] % field.image.shape[1], minlength=field.image.shape[1])
    assert np.count_nonzero(columns) > 0.8 * len(columns)


def test_the_loss_is_that_of_the_true_classes():
    drawn = synthetic(3, n=200)
    galaxy, overlap = (part.mean(axis=0) for part in naive(drawn))
    expected = 0.0
    for p_galaxy, p_overlap, truth in zip(galaxy, overlap, drawn.truth, strict=True):
        expected -= np.log((1 - p_galaxy, p_galaxy - p_overlap, p_overlap)[truth])
    assert log_loss(drawn, Calibration()) == pytest.approx(expected, rel=1e-6)


def test_a_curve_that_denies_everything_scores_the_share_of_what_is_there():
    field = field_of_discs().cut(np.s_[30:100, 90:160])  # the pair that overlaps
    plain, denied = (
        calibration_gain(model, field)
        for model in (by_hand(), thresholding_model(galaxy=(-20.0,) * len(IDENTITY)))
    )
    for event, level in (("P_GALAXY", 1), ("P_OVERLAP", 2)):
        share = np.mean(field.ternary() >= level)
        without, with_it = denied[denied["map"] == event]
        assert share > 0 and not without["calibrated"] and with_it["calibrated"]
        assert with_it["brier"] == pytest.approx(share, rel=1e-6) and without["brier"] < 0.5 * share
        # By the identity nothing is gained.
        assert set(plain["brier"][plain["map"] == event]) == {without["brier"]}


def naive(drawn):
    galaxy = 1 / (1 + np.exp(-drawn.galaxy))
    return galaxy, galaxy / (1 + np.exp(-drawn.overlap))


def test_a_latent_that_knows_nothing_of_the_truth_is_not_drawn():
    model = thresholding_model()
    with torch.no_grad():
        model.network.combiner.of_latent.weight[0, 0] = 2.0
    field = disc_field((2 * SIZE, 2 * SIZE), (30, 30, 8), (90, 40, 7), (60, 95, 9))
    assert fit_latent_scale(model, [field]) == 0.0


def model_with_a_hidden_difference():
    """At the prior's mean, discs of brightness 2 and 4 are below its threshold; the latent moves that."""
    model = thresholding_model()
    combiner = model.network.combiner
    with torch.no_grad():
        combiner.rest[0].weight.zero_()
        combiner.of_features.bias[0] = -np.arcsinh(5.0)
        combiner.of_latent.weight[0, 0] = 1.0
        combiner.rest[0].weight[1, 0] = 20.0
        combiner.rest[0].bias.copy_(torch.tensor([0.0, -3.0, -20.0]))
    return model


def test_a_latent_that_tells_more_than_its_mean_is_drawn():
    # Faint discs are no galaxies, bright ones are. At the prior's mean they look alike.
    shape, bright = (3 * SIZE, 3 * SIZE), ((30, 30, 9), (90, 40, 9), (60, 95, 9), (150, 150, 9))
    field = disc_field(shape, *bright)
    faint = discs(shape, (150, 40, 9), (40, 150, 9), (100, 140, 9), (150, 100, 9), noise=0.0) / 2
    field = dataclasses.replace(field, image=field.image + faint * np.float32(field.survey.sigma))
    assert fit_latent_scale(model_with_a_hidden_difference(), [field]) > 0.0

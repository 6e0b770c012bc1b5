"""The oracle: an ideal fit gets better with depth and worse with magnitude, and cannot pass 1."""

import dataclasses

import numpy as np
import pytest

from appulse.sky import Survey
from appulse.sky.oracle import oracle_scores

EDGES = np.array([22.0, 23.0, 24.5, 25.2])


@pytest.fixture(scope="module")
def scores():
    survey = Survey.load("euclid-wide")
    return {
        noise: oracle_scores(dataclasses.replace(survey, noise=noise), EDGES, galaxies=12, draws=3)
        for noise in (24.65, 27.2)
    }


def test_deeper_is_better_and_fainter_is_worse(scores):
    shallow, deep = scores[24.65], scores[27.2]
    assert (np.asarray(deep["iou"]) > np.asarray(shallow["iou"])).all()
    for table in (shallow, deep):
        assert (np.diff(table["iou"]) < 0).all()
        assert (np.asarray(table["iou"]) < 1).all()


def test_without_noise_the_fit_is_exact():
    survey = dataclasses.replace(Survey.load("paper"), noise=31.0)
    assert oracle_scores(survey, np.array([22.0, 22.5]), galaxies=4, draws=2)["iou"][0] > 0.995


def test_shallow_images_hide_faint_galaxies(scores):
    assert scores[24.65]["visible"][-1] < scores[27.2]["visible"][-1]

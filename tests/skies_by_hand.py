"""Simulated fields whose layers are set by hand, so that what a stamp must hold is known."""

import dataclasses

import numpy as np
from astropy.table import Table

from appulse.sky import Population, Survey, simulate_field
from appulse.sky.field import Field
from appulse.stamps import StampConfig

NOISE = 27.0
SURVEY = dataclasses.replace(Survey.load("paper"), noise=NOISE)
# Nothing but cutting and noise.
PLAIN = StampConfig(
    size=32,
    overlap_share=0.0,
    giant_share=0.0,
    flips=False,
    background_scatter=0.0,
    noise_scatter=0.0,
    blank_share=0.0,
)


def plain(**changes):
    return dataclasses.replace(PLAIN, **changes)


def field_of(first, second=None, third=(), *, survey=SURVEY, seed=5, index=0):
    """A field whose galaxies are given in units of the noise; ``third`` lists (y, x, brightness)."""
    first = np.asarray(first, np.float32) * np.float32(survey.sigma)
    second = (
        np.zeros_like(first) if second is None else np.asarray(second, np.float32) * np.float32(survey.sigma)
    )
    y, x, flux = np.array(third, float).reshape(-1, 3).T
    deeper = Table(
        [
            y.astype(np.int32),
            x.astype(np.int32),
            np.full(len(y), 3, np.int32),
            (flux * survey.sigma).astype("f4"),
        ],
        names=("y", "x", "id", "flux"),
    )
    crowded = dataclasses.replace(survey, population=Population(density=2000.0))
    catalog = simulate_field(crowded, 32, 1).catalog[:3]  # what it says of them is of no matter
    ids = [(layer > 0).astype(np.int32) * number for number, layer in ((1, first), (2, second))]
    image = first + second
    return Field(image, first, second, *ids, deeper, catalog, survey, seed, index)


def blobs(shape=(96, 96)):
    """Two overlapping square galaxies, surface brightnesses that float16 holds exactly."""
    a, b = np.zeros(shape, np.float32), np.zeros(shape, np.float32)
    a[30:44, 20:40] = np.linspace(0, 16, 20) // 0.25 * 0.25
    b[36:50, 30:52] = 3.0
    return np.maximum(a, b), np.minimum(a, b)

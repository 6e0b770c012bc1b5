"""A crowded survey, and whether two of its fields are the same, for several tests."""

import dataclasses

import numpy as np

from appulse.sky import Survey
from appulse.sky.population import Population

# Crowded enough that some pixels hold three galaxies, and rectangular so that y and x cannot change places.
CROWDED = dataclasses.replace(
    Survey.load("paper"),
    name="crowded",
    population=Population(density=700.0, magnitude_bright=20.0, size_factor=2.5),
)
SHAPE = (130, 150)
ARRAYS = ("image", "light", "first", "second", "id1", "id2")


def same(a, b):
    for name in ARRAYS:
        np.testing.assert_array_equal(getattr(a, name), getattr(b, name), strict=True)
    for name in ("catalog", "deeper"):
        ours, theirs = getattr(a, name), getattr(b, name)
        assert ours.colnames == theirs.colnames and len(ours) == len(theirs)
        for column in ours.colnames:
            np.testing.assert_array_equal(np.asarray(ours[column]), np.asarray(theirs[column]))

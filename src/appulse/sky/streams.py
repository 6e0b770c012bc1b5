"""Independent random streams of simulated fields."""

from __future__ import annotations

from enum import IntEnum

import numpy as np


class Purpose(IntEnum):
    """What a stream is for: the third word of its key, after seed and index of the field."""

    GALAXIES = 0
    NOISE = 1
    BULGES = 2
    FAINT = 3
    STARS = 4
    PAIRS = 5
    REAL = 6
    RANGES = 7


def generator(seed: int, index: int, purpose: Purpose, *key: int) -> np.random.Generator:
    """A stream.

    Parameters
    ----------
    seed, index : int
        Seed, and number of the field under that seed.
    purpose : Purpose
    *key : int
        What the stream depends on besides.
    """
    return np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, index, purpose, *key])))

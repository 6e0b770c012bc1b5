"""Independent random streams of stamps, led by a word of this room's own.

Simulated fields and the latent's draws have streams of their seeds as well, and a key that is a shorter one
with zeros behind it is the same key to NumPy.
"""

from __future__ import annotations

from enum import IntEnum

import numpy as np

_ROOM = 0x7374616D  # "stam"


class Purpose(IntEnum):
    """What a stream is for: the word of its key after the seed."""

    ORDER = 0
    BATCH = 1
    DEVICE = 2
    CORNERS = 3
    TEST_SET = 4


def generator(seed: int, purpose: Purpose, *key: int) -> np.random.Generator:
    """A stream.

    Parameters
    ----------
    seed : int
        Of the run, or of the store.
    purpose : Purpose
    *key : int
        What the stream depends on besides.
    """
    return np.random.Generator(np.random.SFC64(_sequence(seed, purpose, *key)))


def device_seed(seed: int, number: int) -> int:
    """Seed of the noise that a device draws for a batch.

    Parameters
    ----------
    seed, number : int
        Of the run and of the batch.
    """
    return int(_sequence(seed, Purpose.DEVICE, number).generate_state(1, np.uint64)[0] >> 1)


def _sequence(seed: int, purpose: Purpose, *key: int) -> np.random.SeedSequence:
    return np.random.SeedSequence((_ROOM, seed, purpose, *key))

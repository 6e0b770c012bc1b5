"""Random streams with keys: draws that do not depend on who makes them, when, or in what order.

The keys of all of them are made here, so that no two are the same:

=========================  =============================================  ====================
drawn                      key                                            by
=========================  =============================================  ====================
a simulated field          seed, number of the field, `OfField`, ...      Philox
training and test stamps   "stam", seed, `OfStamps`, ...                  SFC64
realisations, empty sky    "infe", seed, `OfSky`, ...                     Philox
the oracle's galaxies      "orac", seed                                   Philox
clumps of a galaxy         "clum", a number drawn for the galaxy          Philox
latents in training        "late", seed, batch, rank                      PyTorch's generators
=========================  =============================================  ====================

A key begins with the word of its room; those of fields, which were there first, begin with their seed, so
that no field may have a seed as large as a room's word: `LARGEST_FIELD_SEED`. Seeds take one word, 32 bits.
To NumPy a key of less than four words is the same with zeros behind it: the keys of one purpose are all of
one length.

The values of the words and their order are part of every format: under others, the same seed is another sky.
What is resampled for an error bar has generators of its own, without a key.
"""

from __future__ import annotations

from enum import IntEnum, unique

import numpy as np


@unique
class _Room(IntEnum):
    STAMPS = 0x7374616D  # "stam"
    SKY = 0x696E6665  # "infe"
    ORACLE = 0x6F726163  # "orac"
    LATENTS = 0x6C617465  # "late"
    CLUMPS = 0x636C756D  # "clum"


# 1.67 thousand millions.
LARGEST_FIELD_SEED = min(_Room) - 1


@unique
class OfField(IntEnum):
    """What is drawn for a simulated field."""

    GALAXIES = 0
    NOISE = 1
    BULGES = 2
    FAINT = 3
    STARS = 4
    PAIRS = 5
    REAL = 6
    RANGES = 7
    CLUMPS = 8


@unique
class OfStamps(IntEnum):
    """What is drawn for stamps."""

    ORDER = 0
    BATCH = 1
    DEVICE = 2
    CORNERS = 3
    TEST_SET = 4


@unique
class OfSky(IntEnum):
    """What is drawn over the sky of an image."""

    EMPTY = 0
    COPULA = 1
    LATENT = 2
    SMOOTH_LATENT = 3


def field_stream(seed: int, index: int, purpose: OfField, *key: int) -> np.random.Generator:
    """A stream of a simulated field.

    Parameters
    ----------
    seed, index : int
        Seed, and number of the field under that seed.
    purpose : OfField
    *key : int
        What the stream depends on besides.

    Raises
    ------
    ValueError
        A seed below 0 or above `LARGEST_FIELD_SEED`.
    """
    if not 0 <= seed <= LARGEST_FIELD_SEED:
        raise ValueError(f"seed {seed}: that of a field must be from 0 to {LARGEST_FIELD_SEED}.")
    return _philox(seed, index, purpose, *key)


def stamp_stream(seed: int, purpose: OfStamps, *key: int) -> np.random.Generator:
    """A stream of stamps.

    Parameters
    ----------
    seed : int
        Of the run, or of the store.
    purpose : OfStamps
    *key : int
        What the stream depends on besides.
    """
    return np.random.Generator(np.random.SFC64(np.random.SeedSequence((_Room.STAMPS, seed, purpose, *key))))


def sky_stream(seed: int, purpose: OfSky, *key: int) -> np.random.Generator:
    """A stream of what covers the sky of an image.

    Parameters
    ----------
    seed : int
        Of the run.
    purpose : OfSky
    *key : int
        What the stream depends on besides.
    """
    return _philox(_Room.SKY, seed, purpose, *key)


def oracle_stream(seed: int) -> np.random.Generator:
    """The stream of an oracle.

    Parameters
    ----------
    seed : int
        Of its galaxies and fits.
    """
    return _philox(_Room.ORACLE, seed)


def clump_stream(number: int) -> np.random.Generator:
    """The stream of one galaxy's clumps.

    Parameters
    ----------
    number : int
        Drawn for the galaxy.
    """
    return _philox(_Room.CLUMPS, number)


def device_seed(seed: int, number: int) -> int:
    """Seed of the noise that a device draws for a batch of stamps.

    Parameters
    ----------
    seed, number : int
        Of the run and of the batch.
    """
    return _torch_seed(_Room.STAMPS, seed, OfStamps.DEVICE, number)


def latent_seed(seed: int, batch: int, rank: int) -> int:
    """Seed of the latents that a process draws for a batch in training.

    Parameters
    ----------
    seed, batch, rank : int
        Of the run, of the batch and of the process.
    """
    return _torch_seed(_Room.LATENTS, seed, batch, rank)


def _philox(*key: int) -> np.random.Generator:
    return np.random.Generator(np.random.Philox(np.random.SeedSequence(key)))


def _torch_seed(*key: int) -> int:
    # PyTorch takes 64 bits, but not all of those with the sign's.
    return int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)

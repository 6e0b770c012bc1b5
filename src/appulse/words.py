"""Counts as a person writes them: 1 galaxy, 2 galaxies."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def counted(number: int, noun: str, plural: str | None = None) -> str:
    """Number and noun, agreeing.

    Parameters
    ----------
    number : int
        How many.
    noun : str
        Of one.
    plural : str, optional
        Of all other numbers; by default the noun with an s.

    Returns
    -------
    str
    """
    return f"{number} {noun if number == 1 else plural or noun + 's'}"


def galaxies_in_words(summary: Mapping[str, Any]) -> str:
    """What was found in an image, such as "44 galaxies, 2 of them in 1 blend".

    Parameters
    ----------
    summary : mapping
        Of a result: its ``galaxies``, ``galaxies_in_blends`` and ``blends``.

    Returns
    -------
    str
    """
    galaxies = counted(summary["galaxies"], "galaxy", "galaxies")
    return f"{galaxies}, {summary['galaxies_in_blends']} of them in {counted(summary['blends'], 'blend')}"

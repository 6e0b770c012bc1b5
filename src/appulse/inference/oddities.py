"""What is odd about an image's background and noise: one sentence each, in lists of one or none."""

from __future__ import annotations

import math


def of_clipping(lowest: float, *, is_given: bool) -> list[str]:
    """A sky that is clipped.

    Parameters
    ----------
    lowest : float
        At which value; NaN where it is not.
    is_given : bool
        Whether there is a noise map, and the measured noise is not used.
    """
    if math.isnan(lowest):
        return []
    clipped = f"many sky pixels hold the lowest value, {lowest:g}: the sky is clipped there, "
    if is_given:
        return [clipped + "which no model knows; give the image before clipping"]
    return [
        clipped + "no noise is left to measure, and thresholds mean nothing; give the image before clipping, "
        "or a noise map (--rms)"
    ]


def of_one_value() -> list[str]:
    """An image of which no noise could be measured."""
    return [
        "nearly all pixels hold one value, and the scatter of all, sources too, is taken for the noise: give "
        "a noise map (--rms)"
    ]

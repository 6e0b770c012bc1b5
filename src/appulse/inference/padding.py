"""Zeros that no exposure reached, told from zeros that are values."""

from collections.abc import Sequence

import numpy as np
from scipy import ndimage

from appulse.inference.exposure import Exposure
from appulse.inference.mesh import CELL
from appulse.windows import Window, cropped, grown

# Blocks of zeros: noise hardly ever fills the smallest one of a continuous image, nor the largest one of an
# image of counts, be it of one count in a pixel.
SIDES = range(3, 16, 2)
# Chance that noise fills a block, where neighbouring pixels say half of what independent ones would.
CHANCE = 1e-9


def padding(exposure: Exposure, window: Window, image: np.ndarray, side: int) -> np.ndarray | np.bool_:
    """Zeros that no exposure reached: those in a block of side by side zeros, and those beside it.

    Noise makes single zeros where values are rounded, and hardly ever a whole block. Masks have no say, nor
    has any pixel further than ``side`` from it.

    Parameters
    ----------
    exposure : Exposure
        Of the image.
    window : (slice, slice)
        Of the image.
    image : (height, width) array
        Its pixels there.
    side : int, pixels
        From `padding_side`.

    Returns
    -------
    (height, width) bool array, or False where there is none
    """
    if not (image == 0).any():
        return np.False_  # the ~ of Python's own is -1
    outer = grown(window, side, exposure.shape)
    zeros = (exposure.image.window(*outer) == 0).view(np.uint8)
    blocks = ndimage.minimum_filter(zeros, side, mode="constant", cval=1)
    beside = ndimage.maximum_filter(blocks, side + 2, mode="constant", cval=0)
    return ((zeros & beside) > 0)[cropped(window, outer)]


def zeros_outside(
    exposure: Exposure, window: Window, image: np.ndarray, bad: np.ndarray, side: int
) -> tuple[int, int]:
    """Zeros and pixels outside the blocks, in mesh cells that are mostly so.

    Parameters
    ----------
    exposure : Exposure
        Of the image.
    window : (slice, slice)
        A strip of one row of mesh cells.
    image, bad : (height, width) array
        Its pixels, and which of them are bad.
    side : int, pixels
        Of the blocks.

    Returns
    -------
    zeros, pixels : int
    """
    good = ~bad
    outside = good & ~padding(exposure, window, image, side)
    edges = np.arange(0, image.shape[1], CELL)
    zeros, left, there = (
        np.add.reduceat(np.count_nonzero(each, axis=0), edges)
        for each in (outside & (image == 0), outside, good)
    )
    mostly = 2 * left > there
    return int(zeros[mostly].sum()), int(left[mostly].sum())


def padding_side(
    exposure: Exposure, windows: Sequence[Window], counts: Sequence[tuple[int, int]], quantised: bool
) -> int:
    """Side of the smallest block of zeros that noise does not make; 0 where zeros are values like others.

    How often noise makes a zero is counted outside the blocks, so that no patch of zeros has a say in it, and
    in mesh cells that are mostly outside: between the blocks of an image that is nearly all zeros, none are.

    Parameters
    ----------
    exposure : Exposure
        Of the image.
    windows : sequence of (slice, slice)
        Strips of one row of mesh cells, of the whole image.
    counts : sequence of (int, int)
        From `zeros_outside` of these, with the smallest of `SIDES`.
    quantised : bool
        Whether its values are steps.

    Returns
    -------
    int, pixels
    """
    for side in SIDES:
        if side > SIDES[0]:
            strips = ((window, *exposure.read(window)) for window in windows)
            counts = [zeros_outside(exposure, window, image, bad, side) for window, image, _, bad in strips]
        zeros, pixels = (sum(each) for each in zip(*counts, strict=True))
        if pixels == 0:
            return 0 if quantised else side
        if (zeros / pixels) ** (side**2 / 2) < CHANCE:
            return side
    return 0

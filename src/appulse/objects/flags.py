"""Every flag bit, declared once: name, value, meaning. Writer, reader, documentation and tests look here."""

from enum import IntFlag


class ObjectFlag(IntFlag):
    """Bits of the catalogue's ``flags`` column."""

    BAD_PIXEL = 1
    BORDER = 2
    LARGER_THAN_STAMP = 4
    NESTED = 8
    THREE_OR_MORE = 16
    OUTSIDE_MODEL_RANGE = 32
    MEASUREMENT_FAILED = 64
    MOST_GALAXIES = 128


class PixelFlag(IntFlag):
    """Bits of the ``FLAGS`` image (uint8)."""

    BAD_PIXEL = 1
    NOISE_DISAGREES = 2
    FIRST_PASS = 4


OBJECT_MEANING = {
    ObjectFlag.BAD_PIXEL: "the galaxy or its edge contains a bad pixel",
    ObjectFlag.BORDER: "the object touches the image border",
    ObjectFlag.LARGER_THAN_STAMP: "the object does not fit a stamp with its margins",
    ObjectFlag.NESTED: "the galaxy lies inside another",
    ObjectFlag.THREE_OR_MORE: "the object holds three or more galaxies",
    ObjectFlag.OUTSIDE_MODEL_RANGE: "noise of neighbouring pixels is correlated otherwise than in training",
    ObjectFlag.MEASUREMENT_FAILED: "at least one quantity, or its spread, could not be measured",
    ObjectFlag.MOST_GALAXIES: "the object was split into 12 galaxies, the most looked for; it may hold more",
}
# A dictionary of its own: members of two IntFlags with the same bit are equal keys.
PIXEL_MEANING = {
    PixelFlag.BAD_PIXEL: "bad pixel: NaN in float maps, 0 in integer maps",
    PixelFlag.NOISE_DISAGREES: "supplied noise outside 0.8 to 1.25 times the measured scatter",
    PixelFlag.FIRST_PASS: "two-step: in a galaxy, but from the first pass instead of its own centred stamp",
}


def describe(flags: ObjectFlag | PixelFlag) -> list[str]:
    """Spell out the bits set in ``flags``.

    Parameters
    ----------
    flags : ObjectFlag or PixelFlag
        A plain integer has no meaning of its own: wrap it, ``ObjectFlag(int(row["flags"]))``.

    Returns
    -------
    list of str
        One meaning per bit set, lowest bit first; empty for 0.

    Raises
    ------
    TypeError
        If ``flags`` is neither an `ObjectFlag` nor a `PixelFlag`.
    """
    if not isinstance(flags, (ObjectFlag, PixelFlag)):
        raise TypeError(f"describe takes an ObjectFlag or a PixelFlag, not {type(flags).__name__}.")
    meanings = OBJECT_MEANING if isinstance(flags, ObjectFlag) else PIXEL_MEANING
    return [meaning for bit, meaning in meanings.items() if bit in flags]

"""Layouts of instruments' files: which HDU is the image, which its noise and its mask, which bits are bad."""

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from astropy.io import fits

from appulse.files.hdus import Hdu, label, list_hdus

# Which bits make a pixel bad is our choice, by one rule: those whose value is not the sky's. A pixel that the
# pipeline repaired or only remarks on keeps its value.

# Euclid, every instrument: bit 0, INVALID, "pixels with an arbitrary value which shall not be used for
# anything" (Data Product Description Document, VIS flag map).
EUCLID_BAD = 1

# HST, ACS and WFC3 (their Data Handbooks, tables of DQ flags): 1 lost, 2 filled, 4 bad detector pixel,
# 8 masked or unstable, 16 hot, 128 bad column or reference pixel, 256 and 2048 saturated, 4096 and 8192
# cosmic rays, 16384 marked by hand or ghost. Good all the same, as calibration takes care of them: 32 CTE
# tail, 64 warm, 512 uncertain flat field, 1024 charge trap.
HST_BAD = 1 | 2 | 4 | 8 | 16 | 128 | 256 | 2048 | 4096 | 8192 | 16384

# JWST: bit 0, DO_NOT_USE (jwst pipeline documentation, data quality flags).
JWST_BAD = 1

# Rubin and HSC number their planes in cards MP_NAME of the mask's header, and the numbers may change
# (dp1.lsst.io, mask planes). BAD, SAT (saturated) and NO_DATA are bad. Not so CR and INTRP: a visit has
# them interpolated, a coadd took such pixels from its other visits. DETECTED marks every source.
RUBIN_BAD = ("BAD", "SAT", "NO_DATA")

# Of HDUs beside an image whose noise or mask is not recognised: what they hold is not sure enough to be used
# unasked.
_NOISE_NAMES = re.compile(
    "WHT|WGT|WEIGHTS?|IVM|IVAR|INVVAR|RMS|ERR|ERRORS?|SIGMA|NOISE|STD|UNC|UNCERT(AINTY)?|VAR|VARIANCE"
)
_MASK_NAMES = re.compile("MASK|MSK|DQ|FLAGS?|BPM")

ANY_BIT = -1  # all bits of a two's complement integer
NO_WEIGHT = None


@dataclass(frozen=True)
class Instrument:
    """How an instrument's files are laid out.

    Attributes
    ----------
    name : str
    image : str
        Regular expression that the image's EXTNAME matches whole; its groups may stand in the other names.
    noise_kind, noise : str
        What the noise plane holds, ``rms`` or ``variance``, and its EXTNAME.
    masks : tuple of (EXTNAME, bad)
        The first that is there counts. Bad are bits, or names of planes (see `RUBIN_BAD`), or `NO_WEIGHT`:
        pixels that are 0, where the plane is a weight or an exposure time.
    telescope : str
        TELESCOP in any header of the file; empty where it does not matter.
    """

    name: str
    image: str
    noise_kind: str
    noise: str
    masks: tuple[tuple[str, int | tuple[str, ...] | None], ...]
    telescope: str = ""


# Noise planes may include the photons of the sources (HST and Rubin do); `scale_to_noise` takes them out. The
# WHT of a drizzled image is an exposure time unless asked otherwise (DrizzlePac's final_wht_type), so it says
# where there is light, not how much noise.
INSTRUMENTS = (
    # VIS quadrants are called 1-1.E.SCI, NISP detectors DET11.SCI (Data Product Description Document).
    Instrument(
        "Euclid",
        r"(?P<detector>.+)\.SCI",
        "rms",
        "{detector}.RMS",
        (("{detector}.FLG", EUCLID_BAD), ("{detector}.DQ", EUCLID_BAD)),
    ),
    Instrument("HST", "SCI", "rms", "ERR", (("DQ", HST_BAD), ("WHT", NO_WEIGHT)), "HST"),
    Instrument("JWST", "SCI", "rms", "ERR", (("DQ", JWST_BAD), ("WHT", NO_WEIGHT)), "JWST"),
    Instrument("Rubin", "IMAGE", "variance", "VARIANCE", (("MASK", RUBIN_BAD),)),
    # Files in the manner of HST from elsewhere, of unknown bits: as with --mask, any makes a pixel bad.
    Instrument("SCI/ERR/DQ", "SCI", "rms", "ERR", (("DQ", ANY_BIT), ("WHT", NO_WEIGHT))),
)


@dataclass(frozen=True)
class Companion:
    """A plane that belongs to an image.

    Attributes
    ----------
    kind : {"rms", "variance", "mask"}
    index : int
        Of its HDU.
    bad : int or None
        Of a mask: bits that make a pixel bad; `NO_WEIGHT` where zero does.
    """

    kind: str
    index: int
    bad: int | None = None


@dataclass(frozen=True)
class Layout:
    """What a file holds.

    Attributes
    ----------
    instrument : str
        Name, or empty for a plain image.
    image : int
        Index of the image's HDU.
    companions : tuple of Companion
        Noise and mask, as far as there are.
    description : str
        The same in words.
    unused : tuple of int
        HDUs of the image's shape whose names say that they are the noise or the mask that it lacks.
    """

    instrument: str
    image: int
    companions: tuple[Companion, ...]
    description: str
    unused: tuple[int, ...] = ()


def recognise(headers: Iterable[fits.Header], image: int | None = None) -> Layout | None:
    """Tell what a file holds from the names and headers of its HDUs.

    Parameters
    ----------
    headers : sequence of astropy.io.fits.Header
        Of each HDU; of a tile-compressed one: the image's own.
    image : int, optional
        Index of the HDU to take as the image. By default the first that fits an instrument's layout, then one
        called SCI, then the first 2-D image, then any image.

    Returns
    -------
    Layout or None
        None where no HDU is an image.
    """
    hdus = list_hdus(headers)
    images = [hdu for hdu in hdus if hdu.shape]
    telescopes = {str(hdu.header.get("TELESCOP", "")).strip().upper() for hdu in hdus}
    wanted = images if image is None else [hdus[image]]
    for instrument in INSTRUMENTS:
        if instrument.telescope and instrument.telescope not in telescopes:
            continue
        pattern = re.compile(instrument.image)
        candidates = [hdu for hdu in wanted if pattern.fullmatch(hdu.name)]
        for hdu in candidates:
            companions = _companions(instrument, hdu, images)
            if companions:
                others = [one for one in images if one is not hdu and pattern.fullmatch(one.name)]
                words = _describe(instrument, hdu, companions, others, hdus)
                unused = _unused(hdu, companions, others, images)
                return Layout(instrument.name, hdu.index, companions, words, unused)
    if not wanted:
        return None
    science = [hdu for hdu in wanted if hdu.name == "SCI"]
    flat = [hdu for hdu in wanted if hdu.is_flat]
    hdu = (science or flat or wanted)[0]
    others = [one for one in images if one is not hdu and one.name == hdu.name and hdu.name]
    words = f"plain image {label(hdus, hdu.index)}{_besides(others, hdus)}"
    return Layout("", hdu.index, (), words, _unused(hdu, (), others, images))


def _companions(instrument: Instrument, image: Hdu, images: Sequence[Hdu]) -> tuple[Companion, ...]:
    """Planes of the same version and shape as the image."""
    match = re.fullmatch(instrument.image, image.name)
    detector = match.groupdict() if match else {}

    def find(name: str) -> Hdu | None:
        name = name.format(**detector)
        alike = (one for one in images if (one.name, one.version) == (name, image.version))
        return next((one for one in alike if one.shape[-2:] == image.shape[-2:] and one.is_flat), None)

    found = []
    noise = find(instrument.noise)
    if noise:
        found.append(Companion(instrument.noise_kind, noise.index))
    for name, marks in instrument.masks:
        mask = find(name)
        if mask is None:
            continue
        bad = _bits_of_planes(mask, marks) if isinstance(marks, tuple) else marks
        if bad == 0:  # bits without names: among them those of every source
            continue
        found.append(Companion("mask", mask.index, bad))
        break
    return tuple(found)


def _unused(
    image: Hdu, companions: Sequence[Companion], others: Sequence[Hdu], images: Sequence[Hdu]
) -> tuple[int, ...]:
    """HDUs that may be the noise or the mask that no companion is."""
    kinds = {"mask" if one.kind == "mask" else "noise" for one in companions}
    lacking = [names for kind, names in (("noise", _NOISE_NAMES), ("mask", _MASK_NAMES)) if kind not in kinds]
    taken = {image.index, *(one.index for one in companions)}
    return tuple(
        one.index
        for one in images
        if one.index not in taken
        and one.shape[-2:] == image.shape[-2:]
        and any(names.fullmatch(one.name) for names in lacking)
        and (one.version == image.version or not others)  # of one chip of several, its own
    )


def _bits_of_planes(mask: Hdu, planes: Iterable[str]) -> int:
    numbers = [mask.header.get(f"MP_{plane}") for plane in planes]
    return sum(1 << number for number in numbers if isinstance(number, int) and 0 <= number < 64)


def _describe(
    instrument: Instrument,
    image: Hdu,
    companions: Iterable[Companion],
    others: Sequence[Hdu],
    hdus: Sequence[Hdu],
) -> str:
    roles = [f"{label(hdus, companion.index)} as {companion.kind}" for companion in companions]
    image_label = label(hdus, image.index)
    return f"{instrument.name}: {image_label} with {', '.join(roles)}{_besides(others, hdus)}"


def _besides(others: Sequence[Hdu], hdus: Sequence[Hdu]) -> str:
    if not others:
        return ""
    example = label(hdus, others[0].index)
    return f"; one of {len(others) + 1} images, another with --hdu {example}"

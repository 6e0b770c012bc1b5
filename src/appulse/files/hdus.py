"""HDUs of a file by what their headers say, and the one that ``--hdu`` means."""

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from astropy.io import fits

from appulse.files.errors import InputError

_CHOICE = re.compile(r"(?P<hdu>[^\[\]]+?)\s*(\[(?P<plane>\s*\d+(\s*,\s*\d+)*\s*)\])?")


@dataclass(frozen=True)
class Hdu:
    """What a header says of its HDU.

    Attributes
    ----------
    index : int
        Place in the file, counted from 0.
    name : str
        EXTNAME in capitals; empty where there is none.
    version : int
        EXTVER.
    shape : tuple of int
        Of the pixels; empty where it is no image or has no pixels.
    header : astropy.io.fits.Header
    """

    index: int
    name: str
    version: int
    shape: tuple[int, ...]
    header: fits.Header

    @property
    def is_flat(self) -> bool:
        """Whether it is one 2-D image; axes of length 1 beyond two do not count."""
        return len(self.shape) >= 2 and all(n == 1 for n in self.shape[:-2])


def list_hdus(headers: Iterable[fits.Header]) -> list[Hdu]:
    """HDUs of a file from their headers.

    Parameters
    ----------
    headers : sequence of astropy.io.fits.Header
        Of a tile-compressed image: the image's own, not the table's.

    Returns
    -------
    list of Hdu
    """
    return [_hdu(index, header) for index, header in enumerate(headers)]


def _hdu(index: int, header: fits.Header) -> Hdu:
    name = str(header.get("EXTNAME", "" if index else "PRIMARY")).strip().upper()
    version = header.get("EXTVER", 1)
    axes = header.get("NAXIS", 0)
    shape = tuple(int(header.get(f"NAXIS{axis}", 0)) for axis in range(axes, 0, -1))
    is_image = str(header.get("XTENSION", "IMAGE")).strip() == "IMAGE" and not header.get("GROUPS", False)
    if not is_image or math.prod(shape) == 0:
        shape = ()
    return Hdu(index, name, version if isinstance(version, int) else 1, shape, header)


def label(hdus: Sequence[Hdu], index: int) -> str:
    """Name of an HDU that ``--hdu`` understands, with its version where the name alone is not enough.

    Parameters
    ----------
    hdus : list of Hdu
    index : int

    Returns
    -------
    str
        Such as ``SCI``, ``SCI,2``, or ``3`` where it has no name.
    """
    hdu = hdus[index]
    if not hdu.name:
        return str(index)
    alike = [one for one in hdus if one.name == hdu.name]
    if len(alike) == 1:
        return hdu.name
    unique = sum(one.version == hdu.version for one in alike) == 1
    return f"{hdu.name},{hdu.version}" if unique else str(index)


def choose_hdu(path: str | Path, hdus: Sequence[Hdu], choice: str | int) -> tuple[int, tuple[int, ...]]:
    """Place of the HDU that the user means, and the plane of a cube.

    Parameters
    ----------
    path : str or Path
        For messages.
    hdus : list of Hdu
    choice : str or int
        'NAME', 'NAME,VERSION', or a number; with '[0]' behind it for a plane.

    Returns
    -------
    index : int
    plane : tuple of int
        Empty where none was given.

    Raises
    ------
    InputError
        There is no such HDU, or it is no image.
    """
    match = _CHOICE.fullmatch(str(choice).strip())
    if not match:
        raise InputError(
            f"{path}: --hdu {choice!r} is not understood; give a name, 'NAME,VERSION', a number, or 'SCI[0]'."
        )
    index = _find(path, hdus, match["hdu"])
    if not hdus[index].shape:
        raise InputError(
            f"{path}: HDU {_quoted(hdus[index])} is not an image with data; its HDUs are {contents(hdus)}."
        )
    return index, tuple(int(n) for n in match["plane"].split(",")) if match["plane"] else ()


def _find(path: str | Path, hdus: Sequence[Hdu], wanted: str) -> int:
    if re.fullmatch(r"\d+", wanted):
        if int(wanted) < len(hdus):
            return int(wanted)
    else:
        name, _, version = (part.strip().upper() for part in wanted.partition(","))
        for hdu in hdus:
            if hdu.name == name and version in ("", str(hdu.version)):
                return hdu.index
    raise InputError(f"{path}: there is no HDU {wanted!r}; its HDUs are {contents(hdus)}.")


def flat_plane(path: str | Path, hdus: Sequence[Hdu], index: int, plane: tuple[int, ...]) -> tuple[int, ...]:
    """Check that an HDU, or a plane of it, is a 2-D image.

    Parameters
    ----------
    path : str or Path
        For messages.
    hdus : list of Hdu
    index : int
    plane : tuple of int
        As the user gave it.

    Returns
    -------
    tuple of int
        Leading indices of the plane, one for each axis beyond two.

    Raises
    ------
    InputError
        It is not 2-D, or there is no such plane.
    """
    hdu = hdus[index]
    extra = hdu.shape[: max(len(hdu.shape) - 2, 0)]
    if plane:
        if len(plane) != len(extra) or any(p >= n for p, n in zip(plane, extra, strict=True)):
            raise InputError(
                f"{path}: HDU {_quoted(hdu)} has axes {hdu.shape}; there is no plane {list(plane)} in it."
            )
        return plane
    if hdu.is_flat:
        return (0,) * len(extra)
    advice = ""
    if len(hdu.shape) > 2:
        advice = f" Choose a plane with --hdu '{label(hdus, index)}[{','.join('0' * len(extra))}]'."
    axes = "axis" if len(hdu.shape) == 1 else "axes"
    raise InputError(
        f"{path}: HDU {_quoted(hdu)} has {len(hdu.shape)} {axes} {hdu.shape}; "
        f"appulse needs a 2-D image.{advice}"
    )


def contents(hdus: Sequence[Hdu]) -> str:
    """One line that lists the HDUs of a file.

    Parameters
    ----------
    hdus : list of Hdu
    """
    return ", ".join(f"{hdu.index} {hdu.name or '(no name)'}" for hdu in hdus)


def _quoted(hdu: Hdu) -> str:
    return repr(hdu.name) if hdu.name else str(hdu.index)

"""FITS, WCS, units, byte order: what every byte passes on its way in, and atomic writing for its way out.

The layout of what appulse writes is in `appulse.products`.
"""

import json
import math
import os
import re
import secrets
import warnings
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

ROWS_AT_ONCE = 512  # a mosaic is converted in strips, so that only its float32 copy is held whole

# WCS keywords of FITS papers I, II and IV, their older spellings, SIP, and the dates they refer to.
# Look-up-table distortions (CPDIS, D2IM) stay out: their tables are not in our products.
_WCS_KEYWORD = re.compile(
    r"""(CTYPE|CRVAL|CRPIX|CDELT|CUNIT|CNAME|CRDER|CSYER)(?P<axis>\d+)[A-Z]?
      | CROTA(?P<rotated>\d+)
      | (CD|PC)(?P<row>\d+)_(?P<column>\d+)[A-Z]?
      | PC(?P<old_row>\d{3})(?P<old_column>\d{3})
      | (PV|PS)(?P<parameter_axis>\d+)_\d+[A-Z]?
      | (WCSAXES|WCSNAME|LONPOLE|LATPOLE|RADESYS|EQUINOX)[A-Z]?
      | WAT\d_\d{3} | RADECSYS | EPOCH | (MJD|DATE)-(OBS|AVG|BEG|END) | MJDREF[IF]? | TIMESYS
      | (A|B|AP|BP)_(ORDER|DMAX|\d+_\d+)""",
    re.VERBOSE,
)
_HDU_CHOICE = re.compile(r"(?P<hdu>[^\[\]]+?)\s*(\[(?P<plane>\s*\d+(\s*,\s*\d+)*\s*)\])?")
_UNREADABLE = (OSError, ValueError, TypeError, EOFError, KeyError, IndexError, RuntimeError, zlib.error)


class InputError(Exception):
    """A file or value that appulse cannot use. One line: what came, what was expected, what to do."""


class UsageError(InputError):
    """Options that contradict each other, or what a directory already holds."""


@dataclass(frozen=True)
class Image:
    """One 2-D image as the program sees it.

    Attributes
    ----------
    data : (height, width) float32 array, native byte order, units of the file
        BSCALE, BZERO and BLANK applied; NaN where not finite.
    header : astropy.io.fits.Header
        Of the HDU read, without the BSCALE, BZERO and BLANK that `data` no longer needs.
    path : Path
    hdu_name : str
        The HDU's name, or its number where it has none.
    unit : astropy.units.UnitBase or None
        BUNIT; None where absent or not understood.
    wcs : astropy.wcs.WCS or None
        Two-dimensional and celestial; None where the header has no usable one.
    """

    data: np.ndarray
    header: fits.Header
    path: Path
    hdu_name: str
    unit: u.UnitBase | None
    wcs: WCS | None


def stem(path):
    """Name of a file without its folder and without .fits, .fit or .fts, and .gz or .fz."""
    name = Path(path).name
    return re.sub(r"(?<=.)(\.(fits|fit|fts))?(\.(gz|fz))?$", "", name, count=1, flags=re.IGNORECASE) or name


def read_image(path, hdu=None):
    """Read one 2-D image from .fits, .fits.gz or .fits.fz.

    Parameters
    ----------
    path : str or Path
    hdu : str or int, optional
        'NAME', 'NAME,VERSION' or a number counted from 0; 'SCI[0]' picks a plane of a cube, counted from 0.
        By default the HDU called SCI, else the first 2-D image. Axes of length 1 beyond two do not count.

    Returns
    -------
    Image

    Raises
    ------
    InputError
        No such file, not FITS, truncated, no such HDU, no image, or not two-dimensional.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a directory; appulse needs a FITS file.")
    if not path.exists():
        raise InputError(f"{path}: no such file.")
    try:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            # Raw values: astropy's own scaling ignores BLANK in unsigned integers and works in float32.
            with fits.open(path, mode="readonly", do_not_scale_image_data=True) as hdus:
                len(hdus)  # reads every header
                if any("truncated" in str(w.message) for w in caught):
                    raise InputError(f"{path}: the file is truncated; copy or download it again.")
                index, plane = _choose_hdu(path, hdus, hdu)
                chosen = hdus[index]
                data = _native_float32(chosen, plane)
                header = chosen.header.copy()
                wcs = celestial_wcs(header, hdus)
                name = chosen.name or str(index)
    except InputError:
        raise
    except _UNREADABLE as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: cannot be read as FITS ({reason}).") from error
    for keyword in ("BSCALE", "BZERO", "BLANK"):
        header.remove(keyword, ignore_missing=True)
    return Image(data, header, path, name, _unit(header), wcs)


def split_hdu(name):
    """Split ``field.fits[ERR]`` into file and HDU.

    Parameters
    ----------
    name : str or Path
        A file that exists under its whole name has no HDU in it.

    Returns
    -------
    path : Path
    hdu : str or None
    """
    match = re.fullmatch(r"(?P<path>.+)\[(?P<hdu>[^\[\]]+)\]", str(name))
    if match is None or Path(name).exists():
        return Path(name), None
    return Path(match["path"]), match["hdu"]


def read_map(path, shape, hdu=None):
    """Read an RMS, variance, weight or mask map that belongs to an image.

    Parameters
    ----------
    path : str or Path
    shape : (height, width)
        Of the image.
    hdu : str or int, optional
        As in `read_image`.

    Returns
    -------
    (height, width) float32 array, native byte order; NaN where not finite

    Raises
    ------
    InputError
        As `read_image`, and where the shapes differ.
    """
    data = read_image(path, hdu).data
    if data.shape != tuple(shape):
        raise InputError(
            f"{path}: its shape {data.shape} is not the image's {tuple(shape)}; "
            "appulse needs maps on the image's own pixel grid."
        )
    return data


def _choose_hdu(path, hdus, choice):
    """Index of the HDU to read, and the plane of a cube as a tuple of numbers."""
    images = [i for i, one in enumerate(hdus) if _is_image(one)]
    if choice is None:
        if not images:
            raise InputError(f"{path}: holds no image; its HDUs are {_contents(hdus)}.")
        flat = [i for i in images if _is_flat(hdus[i].shape)]
        science = [i for i in images if hdus[i].name == "SCI"]
        index, plane = (science or flat or images)[0], ()
    else:
        match = _HDU_CHOICE.fullmatch(str(choice).strip())
        if not match:
            raise InputError(
                f"{path}: --hdu {choice!r} is not understood; "
                "give a name, 'NAME,VERSION', a number, or 'SCI[0]'."
            )
        index = _find_hdu(path, hdus, match["hdu"])
        plane = tuple(int(n) for n in match["plane"].split(",")) if match["plane"] else ()
        if index not in images:
            raise InputError(
                f"{path}: HDU {_label(hdus, index)} is not an image with data; "
                f"its HDUs are {_contents(hdus)}."
            )
    shape, label = hdus[index].shape, _label(hdus, index)
    extra = shape[: max(len(shape) - 2, 0)]
    if plane:
        if len(plane) != len(extra) or any(p >= n for p, n in zip(plane, extra, strict=True)):
            raise InputError(f"{path}: HDU {label} has axes {shape}; there is no plane {list(plane)} in it.")
    elif _is_flat(shape):
        plane = (0,) * len(extra)
    else:
        advice = ""
        if len(shape) > 2:
            name = (hdus[index].name or str(index)) + (f",{hdus[index].ver}" if hdus[index].ver > 1 else "")
            advice = f" Choose a plane with --hdu '{name}[{','.join('0' * len(extra))}]'."
        axes = "axis" if len(shape) == 1 else "axes"
        raise InputError(
            f"{path}: HDU {label} has {len(shape)} {axes} {shape}; appulse needs a 2-D image.{advice}"
        )
    return index, plane


def _find_hdu(path, hdus, wanted):
    if re.fullmatch(r"\d+", wanted):
        if int(wanted) < len(hdus):
            return int(wanted)
    else:
        name, _, version = (part.strip() for part in wanted.partition(","))
        try:
            return hdus.index_of((name, int(version)) if version else name)
        except (KeyError, ValueError):
            pass
    raise InputError(f"{path}: there is no HDU {wanted!r}; its HDUs are {_contents(hdus)}.")


def _is_image(hdu):
    if isinstance(hdu, fits.GroupsHDU) or not isinstance(
        hdu, fits.PrimaryHDU | fits.ImageHDU | fits.CompImageHDU
    ):
        return False
    return bool(hdu.shape) and math.prod(hdu.shape) > 0


def _is_flat(shape):
    return len(shape) >= 2 and all(n == 1 for n in shape[:-2])


def _label(hdus, index):
    return repr(hdus[index].name) if hdus[index].name else str(index)


def _contents(hdus):
    return ", ".join(f"{i} {hdu.name or '(no name)'}" for i, hdu in enumerate(hdus))


def _native_float32(hdu, plane):
    """Scaled pixels of one plane, converted in strips; the arithmetic is done in float64."""
    scale, zero = float(hdu.header.get("BSCALE", 1.0)), float(hdu.header.get("BZERO", 0.0))
    height, width = hdu.shape[-2:]
    data = np.empty((height, width), np.float32)
    for top in range(0, height, ROWS_AT_ONCE):
        rows = slice(top, min(top + ROWS_AT_ONCE, height))
        raw = hdu.section[(*plane, rows, slice(None))]
        if (scale, zero) == (1.0, 0.0):
            values = raw
        elif (scale, zero, raw.dtype.itemsize) == (1.0, 2.0**63, 8):  # unsigned, too long for float64
            values = (raw.astype(np.int64) ^ np.iinfo(np.int64).min).view(np.uint64)
        else:
            values = raw.astype(np.float64) * scale + zero
        with np.errstate(over="ignore"):
            data[rows] = values
        if raw.dtype.kind in "iu" and "BLANK" in hdu.header:  # the standard defines BLANK for integers only
            data[rows][raw == hdu.header["BLANK"]] = np.nan
    data[~np.isfinite(data)] = np.nan
    return data


def _unit(header):
    text = header.get("BUNIT")
    if not isinstance(text, str) or not text.strip():
        return None
    try:
        unit = u.Unit(text, parse_strict="silent")
    except (ValueError, TypeError):
        return None
    return None if isinstance(unit, u.UnrecognizedUnit) else unit


def celestial_wcs(header, hdus=None):
    """Celestial WCS of the first two axes of a header, or None where there is none that works.

    Parameters
    ----------
    header : astropy.io.fits.Header
    hdus : astropy.io.fits.HDUList, optional
        The file, which holds the tables of look-up distortions.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            wcs = WCS(wcs_cards(header) if header.get("NAXIS", 2) > 2 else header, fobj=hdus)
            if wcs.naxis > 2:  # axes beyond the image's own
                wcs = wcs.sub([1, 2])
            if wcs.naxis != 2 or not wcs.has_celestial:
                return None
            wcs.wcs.set()
            height, width = header.get("NAXIS2", 1), header.get("NAXIS1", 1)
            centre = wcs.all_pix2world([[(width - 1) / 2, (height - 1) / 2]], 0)
            usable = np.isfinite(centre).all() and pixel_scale(wcs) > 0  # 0 where the matrix is singular
        except Exception:  # wcslib, astropy and malformed cards raise some fifteen unrelated classes
            return None
    return wcs if usable else None


def pixel_scale(wcs):
    """Side of a square with the area of one pixel, in arcsec, at the reference pixel; None without a WCS."""
    return None if wcs is None else float(np.sqrt(wcs.proj_plane_pixel_area()).to_value(u.arcsec))


def wcs_cards(header):
    """WCS cards of a header, copied to the byte: celestial, SIP, alternates and dates of observation.

    They are never parsed and written anew, because astropy's `to_header` loses distortions (ccdproc issue
    457). Of a cube, the cards of axes 3 and up are left out, since our products are 2-D.

    Parameters
    ----------
    header : astropy.io.fits.Header

    Returns
    -------
    astropy.io.fits.Header
    """
    cards = fits.Header()
    is_cube = header.get("NAXIS", 2) > 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cards are parsed only now, and astropy remarks on odd ones
        keywords = [card.keyword for card in header.cards]
    for keyword, card in zip(keywords, header.cards, strict=True):
        match = _WCS_KEYWORD.fullmatch(keyword)
        if not match:
            continue
        if is_cube:
            if any(int(axis) > 2 for axis in match.groupdict().values() if axis):
                continue
            if keyword.startswith("WCSAXES"):
                cards.append((keyword, 2, card.comment), end=True)
                continue
        cards.append(fits.Card.fromstring(str(card)), end=True)
    return cards


def cutout_header(cards, x0, y0):
    """WCS cards of a cutout whose first pixel is (x0, y0) of the parent: CRPIX is shifted, nothing else.

    Parameters
    ----------
    cards : astropy.io.fits.Header
        From `wcs_cards`.
    x0, y0 : int
        0-based pixel of the parent.

    Returns
    -------
    astropy.io.fits.Header
    """
    cutout = fits.Header([fits.Card.fromstring(str(card)) for card in cards.cards])
    systems = re.findall(r"^C(?:TYPE|RVAL|RPIX)\d+([A-Z]?)$", "\n".join(cards), re.MULTILINE)
    for system in sorted(set(systems)):
        for axis, shift in ((1, x0), (2, y0)):
            keyword = f"CRPIX{axis}{system}"
            cutout[keyword] = cards.get(keyword, 0.0) - shift  # FITS paper I: CRPIX is 0 where absent
    return cutout


def atomic_write(path, write: Callable[[Path], object]):
    """Write a file that appears under its name only when complete, and survives a power cut from then on.

    Parameters
    ----------
    path : str or Path
        Its folder is made where missing.
    write : callable
        Takes the path of a temporary file in the same folder, with the same suffix, and creates it.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(8)}.part{path.suffix}")
    try:
        write(temporary)
        with open(temporary, "rb+") as file:
            os.fsync(file.fileno())
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def write_json(path, content):
    """Write JSON, atomically. NumPy numbers and arrays become plain ones; what is not finite becomes null."""
    text = json.dumps(_plain(content), indent=2, allow_nan=False) + "\n"
    atomic_write(path, lambda temporary: temporary.write_text(text, encoding="utf-8"))


def _plain(value):
    if isinstance(value, dict):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return str(value) if isinstance(value, Path) else value

"""Opening images: described at once, their pixels read window by window."""

import errno
import gzip
import os
import re
import shutil
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO, Self

import astropy.units as u
import numpy as np
from astropy.io import fits
from astropy.wcs import WCS

from appulse.files.errors import InputError
from appulse.files.hdus import choose_hdu, contents, flat_plane, label, list_hdus
from appulse.files.instruments import NO_WEIGHT, recognise
from appulse.files.pixels import UNREADABLE, Pixels, unreadable
from appulse.files.units import read_unit
from appulse.files.wcs import usable_wcs

NOISE_KINDS = ("rms", "variance", "weight")
_GZIP_MAGIC = b"\x1f\x8b"


@dataclass(frozen=True)
class Plane:
    """Noise or mask that came in the file of an image, on its pixel grid.

    Attributes
    ----------
    kind : {"rms", "variance", "mask"}
    hdu_name : str
    bad : int or None
        Of a mask: the bits that make a pixel bad; None where zero does (a weight or an exposure time).
    """

    kind: str
    hdu_name: str
    bad: int | None = field(repr=False)
    _pixels: Pixels = field(repr=False)

    def window(self, y: slice, x: slice) -> np.ndarray:
        """Pixels of a window.

        Parameters
        ----------
        y, x : slice
            Rows and columns of the image.

        Returns
        -------
        (height, width) float array, or bool array for a mask
            A mask is True where bad. Noise is NaN where not finite, and float64 where the file has that.
        """
        if self.kind != "mask":
            return self._pixels.window(y, x)
        if self.bad is NO_WEIGHT:
            return ~(self._pixels.window(y, x) > 0)  # NaN is bad as well
        return self._pixels.any_bit(y, x, self.bad)


@dataclass(frozen=True)
class ImageSource:
    """An open image, of which only the windows asked for are read. Close it, or use it in a ``with``.

    Attributes
    ----------
    shape : (height, width)
    header : astropy.io.fits.Header
        Of the HDU read, without the BSCALE, BZERO and BLANK that its pixels no longer need.
    path : Path
    hdu_name : str
        The HDU's name, with its version where others share the name, or its number where it has none.
    unit : astropy.units.UnitBase or None
        BUNIT; None where absent or not understood.
    wcs : astropy.wcs.WCS or None
        Two-dimensional and celestial; None where the header has no usable one.
    recognised : str
        What the file is, in words: instrument, image, noise and mask.
    companions : dict of str to Plane
        Noise (``rms`` or ``variance``) and ``mask`` found beside the image.
    warnings : tuple of str
        What in the file is not used, and why; one sentence each.
    temporary : int, bytes
        Of the unpacked copy of a gzipped file.
    images : tuple of str
        All HDUs of the file that are images, as ``--hdu`` takes them.
    primary : astropy.io.fits.Header
        Of the file's first HDU.
    unused_maps : tuple of str
        A sentence on those that may be the noise or the mask that the image lacks, if there are any.
    """

    shape: tuple[int, int]
    header: fits.Header
    path: Path
    hdu_name: str
    unit: u.UnitBase | None
    wcs: WCS | None
    recognised: str
    companions: dict[str, Plane]
    warnings: tuple[str, ...]
    temporary: int
    images: tuple[str, ...]
    primary: fits.Header
    unused_maps: tuple[str, ...]
    _pixels: Pixels = field(repr=False)
    _hdus: fits.HDUList = field(repr=False)

    def window(self, y: slice, x: slice) -> np.ndarray:
        """Pixels of a window.

        Parameters
        ----------
        y, x : slice
            Rows and columns, as numpy takes them; no steps.

        Returns
        -------
        (height, width) float32 array, native byte order, units of the file
            BSCALE, BZERO and BLANK applied; NaN where not finite. float64 where opened as ``wide`` and the
            file has that.

        Raises
        ------
        InputError
            The file is damaged there.
        """
        return self._pixels.window(y, x)

    def companions_beside(self, given: Mapping[str, object]) -> dict[str, Plane]:
        """Companions that no map of the user replaces: any noise map replaces the noise, a mask the mask.

        Parameters
        ----------
        given : dict
            The user's ``rms``, ``variance``, ``weight`` and ``mask``; None where not given.

        Returns
        -------
        dict of str to Plane
        """
        has_noise = any(given.get(kind) is not None for kind in NOISE_KINDS)
        has_mask = given.get("mask") is not None
        return {
            kind: plane
            for kind, plane in self.companions.items()
            if not (has_mask if kind == "mask" else has_noise)
        }

    def close(self) -> None:
        """Close the file; windows cannot be read any more."""
        self._hdus.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def open_image(path: str | Path, hdu: str | int | None = None, *, wide: bool = False) -> ImageSource:
    """Open one 2-D image in .fits, .fits.gz or .fits.fz without reading its pixels.

    Uncompressed files are memory-mapped; of tile-compressed ones only the tiles of a window are unpacked; a
    gzipped file is first unpacked into a temporary one without a name (in ``TMPDIR``), which vanishes with
    the process.

    Parameters
    ----------
    path : str or Path
    hdu : str or int, optional
        'NAME', 'NAME,VERSION' or a number counted from 0; 'SCI[0]' picks a plane of a cube, counted from 0.
        By default the image of a layout that `recognise` knows, else the HDU called SCI, else the first 2-D
        image. Axes of length 1 beyond two do not count.
    wide : bool
        Keep the double precision, and the range, of pixels that have it: an inverse variance may be beyond
        single precision where a flux is not.

    Returns
    -------
    ImageSource

    Raises
    ------
    InputError
        No such file, not FITS, truncated, no such HDU, no image, or not two-dimensional.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a directory; appulse needs a FITS file.")
    if not path.exists():
        raise InputError(f"{path}: no such file.{_advice(path)}")
    opened = None
    try:
        opened, truncated, temporary = _open_hdus(path)
        if truncated:
            raise InputError(f"{path}: the file is truncated; copy or download it again.")
        return _source(path, opened, hdu, wide, temporary)
    except BaseException as error:
        if opened is not None:
            opened.close()
        if isinstance(error, UNREADABLE):
            raise unreadable(path, error) from error
        raise


def _advice(path: Path) -> str:
    file, hdu = split_hdu(path)
    if hdu is None or not file.exists():
        return ""
    return f" {file} is there; choose its HDU with --hdu {hdu} (in Python, hdu={hdu!r})."


def _open_hdus(path: Path) -> tuple[fits.HDUList, bool, int]:
    """The file, every header read, whether it ends too soon, and bytes of its unpacked copy."""
    with open(path, "rb") as file:
        is_gzipped = file.read(2) == _GZIP_MAGIC
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # Raw values: astropy's own scaling ignores BLANK in unsigned integers and works in float32.
        options = {"mode": "readonly", "memmap": True, "do_not_scale_image_data": True}
        unpacked = _unpacked(path) if is_gzipped else None
        temporary = 0 if unpacked is None else os.fstat(unpacked.fileno()).st_size
        hdus = fits.open(path if unpacked is None else unpacked, **options)
        try:
            for one in hdus:
                one.header  # noqa: B018 - parsed now, and astropy's remarks on odd cards are caught
        except BaseException:
            hdus.close()
            raise
    return hdus, any("truncated" in str(warning.message) for warning in caught), temporary


def _unpacked(path: Path) -> BinaryIO:
    """Open file of the unpacked bytes; nothing else knows it, so that no crash leaves it behind."""
    try:
        with tempfile.NamedTemporaryFile(prefix="appulse-", suffix=".fits") as temporary:
            with gzip.open(path) as packed:
                shutil.copyfileobj(packed, temporary, 2**20)
            temporary.flush()
            return open(temporary.name, "rb")
    except OSError as error:
        if error.errno == errno.ENOSPC:
            raise InputError(
                f"{path}: no room to unpack it in {tempfile.gettempdir()}; set TMPDIR to a larger disk, "
                "or unpack it with gunzip."
            ) from error
        raise


def _source(
    path: Path, opened: fits.HDUList, choice: str | int | None, wide: bool, temporary: int
) -> ImageSource:
    headers = [one.header for one in opened]
    hdus = list_hdus(headers)
    index, plane = (None, ()) if choice is None else choose_hdu(path, hdus, choice)
    layout = recognise(headers, index)
    if layout is None:
        raise InputError(f"{path}: holds no image; its HDUs are {contents(hdus)}.")
    plane = flat_plane(path, hdus, layout.image, plane)
    height, width = hdus[layout.image].shape[-2:]
    header = headers[layout.image].copy()
    wcs, reason = usable_wcs(header, opened)
    inherits = "BUNIT" not in header and header.get("INHERIT", False)  # as files of Rubin did until 2025
    unit, no_unit = read_unit(headers[0] if inherits else header)
    lost = (f"no sky positions: the WCS of the image cannot be used ({reason})" if reason else "", no_unit)
    for keyword in ("BSCALE", "BZERO", "BLANK"):
        header.remove(keyword, ignore_missing=True)
    companions = {
        one.kind: Plane(
            one.kind,
            label(hdus, one.index),
            one.bad,
            Pixels(path, opened[one.index], flat_plane(path, hdus, one.index, ()), wide=True),
        )
        for one in layout.companions
    }
    return ImageSource(
        shape=(height, width),
        header=header,
        path=path,
        hdu_name=label(hdus, layout.image),
        unit=unit,
        wcs=wcs,
        recognised=layout.description,
        companions=companions,
        warnings=tuple(filter(None, lost)),
        temporary=temporary,
        images=tuple(label(hdus, one.index) for one in hdus if one.shape),
        primary=headers[0],
        unused_maps=_of_unused([label(hdus, one) for one in layout.unused]),
        _pixels=Pixels(path, opened[layout.image], plane, wide),
        _hdus=opened,
    )


def _of_unused(names: Sequence[str]) -> tuple[str, ...]:
    if not names:
        return ()
    options = "--rms, --variance, --weight or --mask"
    told = f"not used unless given to segment as {options} 'FILE[{names[0]}]'"
    return (f"{', '.join(names)} of the file: {told}, or left with --rms none",)


def stem(path: str | Path) -> str:
    """Name of a file without its folder and without .fits, .fit or .fts, and .gz or .fz."""
    name = Path(path).name
    return re.sub(r"(?<=.)(\.(fits|fit|fts))?(\.(gz|fz))?$", "", name, count=1, flags=re.IGNORECASE) or name


def split_hdu(name: str | Path) -> tuple[Path, str | None]:
    """Split ``field.fits[ERR]``, or ``cube.fits[ERR[0]]`` with a plane, into file and HDU.

    Parameters
    ----------
    name : str or Path
        A file that exists under its whole name has no HDU in it.

    Returns
    -------
    path : Path
    hdu : str or None
    """
    match = re.fullmatch(r"(?P<path>.+?)\[(?P<hdu>[^\[\]]+(\[[\d,\s]+\])?)\]", str(name))
    if match is None or Path(name).exists():
        return Path(name), None
    return Path(match["path"]), match["hdu"]

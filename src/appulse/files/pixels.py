"""Pixels of one HDU, read window by window."""

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

from appulse.files.errors import InputError

STRIP = 2**22  # pixels converted at a time, so that only the result is held whole
# What astropy and zlib raise on damaged files.
UNREADABLE = (OSError, ValueError, TypeError, EOFError, KeyError, IndexError, RuntimeError, zlib.error)


def unreadable(path, error):
    """What to tell the user of a file that broke a reader.

    Parameters
    ----------
    path : Path
    error : Exception
        One of `UNREADABLE`.

    Returns
    -------
    InputError
    """
    reason = " ".join(str(error).split()) or type(error).__name__
    return InputError(f"{path}: cannot be read as FITS ({reason}).")


@dataclass(frozen=True)
class Pixels:
    """Pixels of one plane of one HDU."""

    path: Path
    hdu: fits.PrimaryHDU | fits.ImageHDU | fits.CompImageHDU
    plane: tuple[int, ...]

    def window(self, y, x):
        """Scaled pixels, float32; the arithmetic is done in float64."""
        header = self.hdu.header
        scale, zero = float(header.get("BSCALE", 1.0)), float(header.get("BZERO", 0.0))
        data, strips = self._prepare(y, x, np.float32)
        for out, raw in strips:
            if (scale, zero) == (1.0, 0.0):
                values = raw
            elif (scale, zero, raw.dtype.itemsize) == (1.0, 2.0**63, 8):  # unsigned, too long for float64
                values = _flip_sign_bit(raw).view(np.uint64)
            else:
                values = raw.astype(np.float64) * scale + zero
            with np.errstate(over="ignore"):
                out[...] = values
            if raw.dtype.kind in "iu" and "BLANK" in header:  # the standard defines BLANK for integers only
                out[raw == header["BLANK"]] = np.nan
            out[~np.isfinite(out)] = np.nan
        return data

    def any_bit(self, y, x, bits):
        """Where any of ``bits`` is set, or the value is not an integer at all."""
        header = self.hdu.header
        scale, zero = float(header.get("BSCALE", 1.0)), float(header.get("BZERO", 0.0))
        wanted = np.uint64(bits & 0xFFFF_FFFF_FFFF_FFFF)
        found, strips = self._prepare(y, x, bool)
        for out, raw in strips:
            lost = False
            if raw.dtype.kind in "iu" and scale == 1.0 and zero == 2.0**63:
                values = _flip_sign_bit(raw)
            elif raw.dtype.kind in "iu" and scale == 1.0:
                values = raw.astype(np.int64) + int(zero)
            else:
                stored = raw.astype(np.float64) * scale + zero
                lost = ~(np.abs(stored) < 2.0**62)  # NaN as well
                values = np.where(lost, 0, stored).astype(np.int64)
            out[...] = (values.view(np.uint64) & wanted != 0) | lost
        return found

    def _prepare(self, y, x, dtype):
        """Array for the result, and pairs of a strip of it and the stored values that belong there."""
        (height, width), rows, columns = self.hdu.shape[-2:], y, x
        top, bottom, row_step = rows.indices(height)
        left, right, column_step = columns.indices(width)
        if (row_step, column_step) != (1, 1):
            raise ValueError("a window has no steps")
        bottom, right = max(top, bottom), max(left, right)
        result = np.empty((bottom - top, right - left), dtype)
        return result, self._strips(result, top, bottom, left, right)

    def _strips(self, result, top, bottom, left, right):
        if not result.size:
            return
        tiles = isinstance(self.hdu, fits.CompImageHDU)
        tile_height, tile_width = self.hdu.tile_shape[-2:] if tiles else (1, 1)
        # Strips end between rows of tiles, so that no tile is unpacked twice.
        reach = (right - 1) // tile_width * tile_width + tile_width - left // tile_width * tile_width
        step = int(max(1, STRIP // (reach * tile_height)) * tile_height)
        start = top
        while start < bottom:
            stop = min(start // step * step + step, bottom)
            place = (*self.plane, slice(start, stop), slice(left, right))
            try:
                raw = (self.hdu.section if tiles else self.hdu.data)[place]
            except UNREADABLE as error:
                raise unreadable(self.path, error) from error
            yield result[start - top : stop - top], raw
            start = stop


def _flip_sign_bit(raw):
    return raw.astype(np.int64) ^ np.iinfo(np.int64).min

"""Pixels of one HDU, read window by window."""

import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import numpy as np
from astropy.io import fits

from appulse.files.errors import InputError

STRIP = 2**22  # pixels converted at a time, so that only the result is held whole
KEPT = 2**26  # pixels of whole rows that may be kept: 2,600 rows of a mosaic 25,000 pixels wide
MARGIN = 96  # rows around a window that are kept with it: the noise of a block is measured a little beyond it
# What astropy and zlib raise on damaged files.
UNREADABLE = (OSError, ValueError, TypeError, EOFError, KeyError, IndexError, RuntimeError, zlib.error)
_Strip = tuple[np.ndarray, np.ndarray]  # of the result, and the stored values that belong there


def unreadable(path: str | Path, error: BaseException) -> InputError:
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
    """Pixels of one plane of one HDU; ``wide``: float64 where they are more than float32."""

    path: Path
    hdu: fits.PrimaryHDU | fits.ImageHDU | fits.CompImageHDU
    plane: tuple[int, ...]
    wide: bool = False
    _kept: dict = field(default_factory=dict, repr=False, compare=False)

    def window(self, y: slice, x: slice) -> np.ndarray:
        """Scaled pixels; the arithmetic is done in float64."""
        return self._cut(self._scaled, y, x)

    def any_bit(self, y: slice, x: slice, bits: int) -> np.ndarray:
        """Where any of ``bits`` is set, or the value is not an integer at all."""
        return self._cut(partial(self._any_bit, bits), y, x)

    def _cut(self, read: Callable[[range, range], np.ndarray], y: slice, x: slice) -> np.ndarray:
        """Read a window; where tiles are whole rows, as fpack makes them, keep these for the next window."""
        height, width = self.hdu.shape[-2:]
        rows, columns = range(*y.indices(height)), range(*x.indices(width))
        if (rows.step, columns.step) != (1, 1):
            raise ValueError("a window has no steps")
        in_rows = isinstance(self.hdu, fits.CompImageHDU) and self.hdu.tile_shape[-1] == width
        around = range(max(rows.start - MARGIN, 0), min(rows.stop + MARGIN, height))
        fitting = [some for some in (around, rows) if len(some) * width <= KEPT]
        if not in_rows or not 0 < len(columns) < width or not fitting:
            return read(rows, columns)
        kept = next(iter(self._kept), None)
        if kept is None or not kept.start <= rows.start <= rows.stop <= kept.stop:
            kept = fitting[0]
            self._kept.clear()
            self._kept[kept] = read(kept, range(width))
        own = slice(rows.start - kept.start, rows.stop - kept.start)
        return self._kept[kept][own, columns.start : columns.stop].copy()

    def _scaled(self, rows: range, columns: range) -> np.ndarray:
        header = self.hdu.header
        scale, zero = float(header.get("BSCALE", 1.0)), float(header.get("BZERO", 0.0))
        is_more = header["BITPIX"] == -64 or (scale, zero) != (1.0, 0.0)
        data, strips = self._prepare(rows, columns, np.float64 if self.wide and is_more else np.float32)
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

    def _any_bit(self, bits: int, rows: range, columns: range) -> np.ndarray:
        header = self.hdu.header
        scale, zero = float(header.get("BSCALE", 1.0)), float(header.get("BZERO", 0.0))
        wanted = np.uint64(bits & 0xFFFF_FFFF_FFFF_FFFF)
        found, strips = self._prepare(rows, columns, bool)
        for out, raw in strips:
            lost: bool | np.ndarray = False
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

    def _prepare(self, rows: range, columns: range, dtype: type) -> tuple[np.ndarray, Iterator[_Strip]]:
        """Array for the result, and its strips."""
        result: np.ndarray = np.empty((len(rows), len(columns)), dtype)
        return result, self._strips(result, rows, columns)

    def _strips(self, result: np.ndarray, rows: range, columns: range) -> Iterator[_Strip]:
        if not result.size:
            return
        packed = isinstance(self.hdu, fits.CompImageHDU)
        tile_height, tile_width = self.hdu.tile_shape[-2:] if packed else (1, 1)
        # Strips end between rows of tiles, so that no tile is unpacked twice.
        reach = (columns[-1] // tile_width + 1 - columns[0] // tile_width) * tile_width
        step = int(max(1, STRIP // (reach * tile_height)) * tile_height)
        start = rows.start
        while start < rows.stop:
            stop = min(start // step * step + step, rows.stop)
            place = (*self.plane, slice(start, stop), slice(columns.start, columns.stop))
            try:
                raw = (self.hdu.section if packed else self.hdu.data)[place]
            except UNREADABLE as error:
                raise unreadable(self.path, error) from error
            yield result[start - rows.start : stop - rows.start], raw
            start = stop


def _flip_sign_bit(raw: np.ndarray) -> np.ndarray:
    return raw.astype(np.int64) ^ np.iinfo(np.int64).min

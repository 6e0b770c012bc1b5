"""Fields on disk: written whole, read window by window, and found by their names and headers."""

from __future__ import annotations

import functools
import json
import zlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from astropy.io import fits
from astropy.table import Table

from appulse.files import InputError, any_unit
from appulse.sky.counts import SkyCounts, count_strip, merge
from appulse.sky.field import Field, cut_tables, on_field
from appulse.sky.field_file import (
    COUNTS_CARD,
    FIELD_LAYERS,
    IMAGE,
    LAYERS,
    ON_SKY,
    SURVEY_CARD,
    TABLES,
    FieldInfo,
    Layer,
    pack_strip,
    write_field_file,
)
from appulse.sky.strips import STRIP_ROWS
from appulse.sky.survey import Survey
from appulse.windows import Window, whole


def field_name(seed: int, index: int) -> str:
    """File name of a field.

    Parameters
    ----------
    seed, index : int
        Of the field.
    """
    return f"field_{seed:04d}_{index:02d}.fits"


def field_info(path: str | Path) -> FieldInfo:
    """What the headers of a field's file say: nothing but them is read.

    Parameters
    ----------
    path : str or Path
        A ``field_SSSS_FF.fits``.

    Returns
    -------
    FieldInfo

    Raises
    ------
    InputError
        Not a field of appulse's, or not all of one.
    """
    with open_field(path) as file:
        return file.info


def seeds_of(paths: Iterable[Path]) -> set[int]:
    """Seeds of fields, by their headers: a file's name says what its owner likes.

    Parameters
    ----------
    paths : iterable of Path

    Returns
    -------
    set of int

    Raises
    ------
    InputError
        As of `field_info`.
    """
    return {field_info(path).seed for path in paths}


def write_field(field: Field, path: str | Path) -> None:
    """Write a field as a FITS file that any reader opens; layers are compressed without loss.

    Parameters
    ----------
    field : Field
        What `simulate_field` returned.
    path : str or Path
        Where to; written whole or not at all.
    """
    arrays = field.layers() | {"ternary": field.ternary()}
    strips = [
        pack_strip({name: array[y0 : y0 + STRIP_ROWS] for name, array in arrays.items()})
        for y0 in range(0, len(field.image), STRIP_ROWS)
    ]
    info = FieldInfo(field.survey, field.image.shape, field.seed, field.index)
    counts = merge([count_strip(arrays["ternary"], field.id1, field.id2, 0)])
    write_field_file(path, info, strips, field.deeper, field.catalog, counts)


class OpenField:
    """A field's file, of which windows are read; use it in a ``with`` statement. See `open_field`."""

    def __init__(self, path: str | Path):
        self.path = Path(path)
        try:
            self._hdus = fits.open(self.path)
        except (OSError, TypeError, ValueError) as error:
            raise self._not_a_field(error) from None
        try:
            header, shape = self._hdus[0].header, tuple(self._hdus[IMAGE.name].shape)
            survey = Survey.from_dict(json.loads(header[SURVEY_CARD]))
            self.info = FieldInfo(survey, shape, header["SEED"], header["INDEX"])
            self.counts = SkyCounts(**_with_tuples(json.loads(header[COUNTS_CARD])))
            self._refuse_incomplete()
        except (KeyError, OSError, TypeError, ValueError, InputError) as error:
            self._hdus.close()
            raise self._not_a_field(error) from None
        self.survey, self.shape = self.info.survey, self.info.shape
        self.seed, self.index = self.info.seed, self.info.index

    def _refuse_incomplete(self) -> None:
        # Here, and not after minutes of work on what can be read of it.
        needed = {layer.name for layer in (IMAGE, *LAYERS) if not layer.optional} | {*TABLES}
        missing = sorted(needed - {hdu.name for hdu in self._hdus})
        if missing:
            raise ValueError(f"it has no {', '.join(missing)}")
        # Of a compressed file astropy says no size.
        last = self._hdus[-1].fileinfo()
        size, end = last["file"].size, last["datLoc"] + last["datSpan"]
        if size and size < end:
            raise ValueError(f"cut short: {size} of {end} bytes")

    def _not_a_field(self, error: Exception) -> InputError:
        return InputError(f"{self.path}: not a field made by this version of appulse simulate ({error}).")

    @property
    def sigma(self) -> float:
        """Background noise per pixel, flux units."""
        return self.survey.sigma

    @functools.cached_property
    def catalog(self) -> Table:
        """All galaxies of the field; see `simulate_field`. Read when first asked for.

        Their ``ra`` and ``dec``, by the header of the image, are in the file alone.
        """
        table = self._table("CATALOG")
        table.remove_columns([name for name in ON_SKY if name in table.colnames])
        return table

    @functools.cached_property
    def _deeper(self) -> Table:
        return self._table("DEEPER")

    def _table(self, name: str) -> Table:
        try:
            return native_table(self._hdus[name])
        except (OSError, TypeError, ValueError) as error:
            raise self._not_a_field(error) from None

    def read(self, window: Window | None = None) -> Field:
        """Read a window; only the tiles that it needs are unpacked.

        Parameters
        ----------
        window : (slice, slice), optional
            Rows and columns, without a step; the whole field by default. What reaches past the field is cut.

        Returns
        -------
        Field
            As `Field.cut` of the whole field.

        Raises
        ------
        InputError
            A window without a pixel of the field, or a damaged file.
        """
        try:
            inside = on_field(window or whole(self.shape), self.shape)
        except InputError as error:
            raise InputError(f"{self.path}: {error}") from None
        present = (layer for layer in FIELD_LAYERS if layer.name in self._hdus)
        arrays = {layer.attribute: self._plane(layer, inside) for layer in present}
        deeper, catalog = self._deeper, self.catalog
        if window is not None:
            deeper, catalog = cut_tables(deeper, catalog, inside, arrays["id1"], arrays["id2"])
        return Field(
            **arrays,
            deeper=deeper,
            catalog=catalog,
            survey=self.survey,
            seed=self.seed,
            index=self.index,
        )

    def _plane(self, layer: Layer, window: Window) -> np.ndarray:
        try:
            data = self._hdus[layer.name].section[window]
        except (KeyError, OSError, TypeError, ValueError, zlib.error) as error:
            raise self._not_a_field(error) from None
        return np.asarray(data, dtype=data.dtype.newbyteorder("="))

    def __enter__(self) -> OpenField:
        return self

    def __exit__(self, *error: object) -> None:
        self._hdus.close()


def _with_tuples(content: dict) -> dict:
    return {name: tuple(value) if isinstance(value, list) else value for name, value in content.items()}


def native_table(hdu: fits.BinTableHDU) -> Table:
    """A table of a FITS file in the byte order of this machine.

    Parameters
    ----------
    hdu : BinTableHDU
    """
    with any_unit():
        table = Table.read(hdu)
    for name in table.colnames:
        table.replace_column(name, table[name].astype(table[name].dtype.newbyteorder("=")))
    return table


def open_field(path: str | Path) -> OpenField:
    """Open a field's file to read windows of it: fields may be larger than memory.

    Parameters
    ----------
    path : str or Path
        A ``field_SSSS_FF.fits``.

    Returns
    -------
    OpenField
        With ``survey``, ``shape``, ``seed`` and ``index``, together ``info``; ``sigma``; ``counts``, what the
        class map holds at 1 sigma; ``catalog``; and ``read(window)``.

    Raises
    ------
    InputError
        Not a field of appulse's.
    """
    return OpenField(path)


def read_field(path: str | Path) -> Field:
    """Read a whole field.

    Parameters
    ----------
    path : str or Path
        A ``field_SSSS_FF.fits``.

    Returns
    -------
    Field

    Raises
    ------
    InputError
        Not a field of appulse's.
    """
    with open_field(path) as file:
        return file.read()


def field_paths(directory: str | Path) -> list[Path]:
    """The fields of a directory, in order.

    Parameters
    ----------
    directory : str or Path
        Where `appulse simulate` wrote.

    Returns
    -------
    list of Path

    Raises
    ------
    InputError
        There are none.
    """
    paths = sorted(Path(directory).glob("field_[0-9]*_[0-9]*.fits"))
    if not paths:
        raise InputError(
            f"{directory}: no simulated fields (field_SSSS_FF.fits); make some with appulse simulate."
        )
    return paths

"""Fields on disk: written whole, read window by window, and found by their names and headers."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable
from pathlib import Path

from astropy.table import Table

from appulse.files import InputError
from appulse.sky.counts import SkyCounts, count_strip, merge
from appulse.sky.field import Field, cut_tables, on_field
from appulse.sky.field_file import FieldFile, FieldInfo, pack_strip, write_field_file
from appulse.sky.strips import STRIP_ROWS
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
    with contextlib.closing(FieldFile(path)) as file:
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
        self._file = FieldFile(path)
        info = self._file.info
        self.survey, self.shape, self.seed, self.index = info.survey, info.shape, info.seed, info.index

    @property
    def sigma(self) -> float:
        """Background noise per pixel, flux units."""
        return self.survey.sigma

    @property
    def counts(self) -> SkyCounts:
        """What the class map holds at 1 sigma: pixels, stamps, objects and galaxies."""
        return self._file.counts

    @property
    def catalog(self) -> Table:
        """All galaxies of the field; see `simulate_field`. Read when first asked for."""
        return self._file.catalog

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
        file = self._file
        try:
            inside = on_field(window or whole(self.shape), self.shape)
        except InputError as error:
            raise InputError(f"{file.path}: {error}") from None
        arrays = {layer.attribute: file.layer(layer, inside) for layer in file.layers}
        deeper, catalog = file.deeper, file.catalog
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

    def __enter__(self) -> OpenField:
        return self

    def __exit__(self, *error: object) -> None:
        self._file.close()


def open_field(path: str | Path) -> OpenField:
    """Open a field's file to read windows of it: fields may be larger than memory.

    Parameters
    ----------
    path : str or Path
        A ``field_SSSS_FF.fits``.

    Returns
    -------
    OpenField
        With ``survey``, ``seed``, ``index``, ``shape``, ``catalog`` and ``read(window)``.

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

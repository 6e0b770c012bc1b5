"""The files that appulse writes: their layout, declared once, and their writers and readers."""

import io
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import QTable, Table
from astropy.table.meta import get_header_from_yaml

from appulse.files import InputError, any_unit, atomic_write, wcs_cards
from appulse.windows import Window


@dataclass(frozen=True)
class Item:
    """One HDU or table column: its name, dtype, unit and meaning."""

    name: str
    dtype: str
    unit: str
    description: str


MAPS = (
    Item("TERNARY", "uint8", "", "0 background, 1 one galaxy, 2 overlap"),
    Item("MEAN", "float32", "", "mean class over the realisations"),
    Item("STD", "float32", "", "its standard deviation (ddof 0)"),
    Item("P_GALAXY", "float32", "", "probability of one galaxy or more"),
    Item("P_OVERLAP", "float32", "", "probability of two galaxies or more"),
    Item("SEGM", "int32", "", "label of the (likelier) galaxy, 0 none"),
    Item("SEGM2", "int32", "", "label of the second galaxy, 0 none"),
    Item("FLAGS", "uint8", "", "sum of the bits of PixelFlag"),
)
# With a unit of their own: the image's.
SKY = (
    Item("BACKGROUND", "float32", "", "level of the sky that was subtracted"),
    Item("BACKGROUND_RMS", "float32", "", "noise of the sky that was divided by"),
)
REALISATIONS = Item("REALISATIONS", "uint8", "", "ternary maps (sample, y, x)")
PAIRS = (
    Item("label_a", "int32", "", "label of one galaxy"),
    Item("label_b", "int32", "", "label of the other"),
    Item("overlap_area", "float32", "pix", "pixels that both claim"),
    Item("p_blend", "float32", "", "share of realisations with both in which they overlap"),
    Item("border_area", "float32", "pix", "pixels of their border bright enough for both"),
)
# Cards of the primary HDU. No comment: a SHA-256 fills its card.
PROVENANCE = {
    "version": "APPULSE",
    "model": "MODEL",
    "sha256": "MODELSHA",
    "seed": "SEED",
    "samples": "SAMPLES",
    "method": "METHOD",
}
_FITS_BLOCK = 2880
# A window of the image, and its maps by name.
_Part = tuple[Window, Mapping[str, np.ndarray]]
CATALOG_FORMATS = {"fits": "fits", "ecsv": "ascii.ecsv", "parquet": "parquet"}


def write_by_windows(
    path: str | Path,
    windows: Iterable[_Part],
    *,
    shape: tuple[int, int],
    pairs: Table | np.ndarray | Mapping[str, Any] | None,
    header: fits.Header | None,
    provenance: Mapping[str, Any],
    samples: int = 0,
    sky: bool = False,
) -> None:
    """Write a segmentation file part by part, atomically; the bytes do not depend on the parts.

    Parameters
    ----------
    path : str or Path
    windows : iterable of ((slice, slice), dict of str to array)
        Parts that make up the image, each with its maps by the names of `MAPS`.
    shape : (height, width), pixels
        Of the image.
    pairs : Table, structured array, dict of columns, or None
        The columns of `PAIRS`, one row per pair of galaxies that overlap.
    header : astropy.io.fits.Header or None
        The input image's; its WCS cards go into each image HDU, unchanged; its unit into those of the sky.
    provenance : dict
        Every key of `PROVENANCE`; others are kept under their own names, in capitals.
    samples : int
        Realisations in each part, under the name of `REALISATIONS`; 0 for none.
    sky : bool
        Whether each part holds the maps of `SKY`.

    Raises
    ------
    ValueError
        A key of the provenance is missing.
    """
    if missing := PROVENANCE.keys() - provenance.keys():
        raise ValueError(f"provenance lacks {sorted(missing)}")
    primary = fits.PrimaryHDU()
    for key, value in cards_of(provenance).items():
        primary.header[key if key in PROVENANCE.values() else f"HIERARCH {key}"] = value
    header = fits.Header() if header is None else header
    cards = wcs_cards(header)
    # Empty arrays of the right shape: only their headers are used.
    hdus = fits.HDUList([primary, *(_image_hdu(item, _blank(item, shape), cards) for item in MAPS)])
    hdus.append(fits.BinTableHDU(pairs_table(pairs), name="PAIRS"))
    for item in SKY if sky else ():
        of_image = replace(item, unit=str(header.get("BUNIT", "")).strip())
        hdus.append(_image_hdu(of_image, _blank(item, shape), cards))
    if samples:
        hdus.append(_image_hdu(REALISATIONS, _blank(REALISATIONS, (samples, *shape)), cards))
    hdus.update_extend()
    atomic_write(path, lambda temporary: _write_parts(temporary, hdus, windows, shape))


def tells_of_appulse(primary: fits.Header) -> bool:
    """Whether the header of a file's first HDU is that of a segmentation.

    Parameters
    ----------
    primary : astropy.io.fits.Header
    """
    return PROVENANCE["version"] in primary and PROVENANCE["sha256"] in primary


def cards_of(provenance: Mapping[str, Any]) -> dict[str, Any]:
    """What produced a result, as cards of a header.

    Parameters
    ----------
    provenance : dict
        Names as in `PROVENANCE`, or others, and their values.

    Returns
    -------
    dict of str to value
        By keyword, in capitals. Text is ASCII, as a header wants it; a model may be named after any folder.
    """
    return {
        PROVENANCE.get(key, key.upper()): value.encode("ascii", "backslashreplace").decode()
        if isinstance(value, str)
        else value
        for key, value in provenance.items()
    }


def _blank(item: Item, shape: tuple[int, ...]) -> np.ndarray:
    return np.broadcast_to(np.zeros((), item.dtype), shape)


def _write_parts(path: Path, hdus: fits.HDUList, windows: Iterable[_Part], shape: tuple[int, int]) -> None:
    images = {item.name: np.dtype(item.dtype).newbyteorder(">") for item in (*MAPS, *SKY, REALISATIONS)}
    starts = {}
    with open(path, "wb") as file:
        for hdu in hdus:
            if hdu.name in images:
                file.write(hdu.header.tostring().encode("ascii"))
                starts[hdu.name] = file.tell()
                file.seek(-(-hdu.data.size * images[hdu.name].itemsize // _FITS_BLOCK) * _FITS_BLOCK, 1)
            else:
                part = io.BytesIO()
                # Cards that bend the standard came from the user's file and go out as they came.
                hdu.writeto(part, output_verify="ignore") if hdu is hdus[0] else fits.HDUList(
                    [fits.PrimaryHDU(), hdu]
                ).writeto(part, output_verify="ignore")
                file.write(part.getvalue()[0 if hdu is hdus[0] else _FITS_BLOCK :])
        file.truncate(file.tell())
        file.flush()
        for (rows, columns), maps in windows:
            for name, start in starts.items():
                _write_rows(file.fileno(), start, images[name], maps[name], rows.start, columns.start, shape)


def _write_rows(
    file: int, start: int, dtype: np.dtype, values: np.ndarray, top: int, left: int, shape: tuple[int, int]
) -> None:
    """Put a window of an image, or of each plane of a cube, where it belongs in a file."""
    planes = np.ascontiguousarray(values, dtype).reshape(-1, *np.shape(values)[-2:])
    for number, plane in enumerate(planes):
        pixel = (number * shape[0] + top) * shape[1] + left
        rows = [plane] if plane.shape[1] == shape[1] else plane
        for row, content in enumerate(rows):
            _write_at(file, content.tobytes(), start + (pixel + row * shape[1]) * dtype.itemsize)


def _write_at(file: int, content: bytes, place: int) -> None:
    """Write every byte: one call takes 2 GiB at most, and fewer as a disk fills or a signal comes."""
    left = memoryview(content)
    while left:
        written = os.pwrite(file, left, place)
        left, place = left[written:], place + written


def _image_hdu(item: Item, values: np.ndarray, cards: fits.Header) -> fits.ImageHDU:
    hdu = fits.ImageHDU(np.asarray(values).astype(item.dtype, copy=False))
    hdu.header["EXTNAME"] = (item.name, item.description)
    if item.unit:
        hdu.header["BUNIT"] = item.unit
    hdu.header.extend(cards, unique=False, update=False, end=True)
    return hdu


def pairs_table(pairs: Table | np.ndarray | Mapping[str, Any] | None) -> Table:
    """Pairs of galaxies that overlap, in the types and units of `PAIRS`.

    Parameters
    ----------
    pairs : Table, structured array, dict of columns, or None
        Its columns; None for no pairs.

    Raises
    ------
    ValueError
        A column is missing.
    """
    given = Table() if pairs is None else Table(pairs)
    if len(given) and (missing := {item.name for item in PAIRS} - set(given.colnames)):
        raise ValueError(f"pairs lacks the columns {sorted(missing)}")
    table = Table()
    for item in PAIRS:
        values = given[item.name] if item.name in given.colnames else []
        table[item.name] = np.asarray(values, item.dtype)
        table[item.name].unit = item.unit or None
    return table


def read_segmentation(path: str | Path) -> dict[str, Any]:
    """Read what `write_by_windows` wrote.

    Parameters
    ----------
    path : str or Path

    Returns
    -------
    dict
        'ternary', 'mean', ... : arrays in native byte order; 'pairs': Table; 'header': the WCS cards;
        'provenance': dict; 'realisations': (samples, height, width) uint8 array or None; 'background',
        'background_rms': arrays or None.

    Raises
    ------
    InputError
        Missing, unreadable, or not a segmentation file.
    """
    path = Path(path)
    try:
        with fits.open(path) as hdus:
            missing = [item.name for item in MAPS if item.name not in hdus]
            if missing or "PAIRS" not in hdus:
                lacks = ", ".join(missing or ["PAIRS"])
                raise InputError(f"{path}: not a segmentation file of appulse; it lacks {lacks}.")
            result: dict[str, Any] = {
                item.name.lower(): np.array(hdus[item.name].data, dtype=item.dtype)
                if item.name in hdus
                else None
                for item in (*MAPS, *SKY, REALISATIONS)
            }
            result["pairs"] = pairs_table(Table(np.asarray(hdus["PAIRS"].data)))
            result["header"] = wcs_cards(hdus["TERNARY"].header)
            result["provenance"] = _provenance(hdus[0].header)
    except FileNotFoundError:
        raise InputError(f"{path}: no such file.") from None
    except (OSError, ValueError, TypeError) as error:
        raise InputError(f"{path}: cannot be read as a segmentation file ({error}).") from error
    return result


def _provenance(header: fits.Header) -> dict[str, Any]:
    names = {keyword: key for key, keyword in PROVENANCE.items()}
    structural = {"SIMPLE", "BITPIX", "NAXIS", "EXTEND", ""}
    return {names.get(key, key.lower()): value for key, value in header.items() if key not in structural}


def catalog_path(path: str | Path, format: str) -> Path:
    """``path`` with the format's suffix, which is added unless it is there."""
    if format not in CATALOG_FORMATS:
        raise InputError(f"catalogue format {format!r} is unknown; choose from {', '.join(CATALOG_FORMATS)}.")
    path = Path(path)
    return path if path.suffix == f".{format}" else path.with_name(f"{path.name}.{format}")


def write_catalog(table: QTable, path: str | Path, format: str = "fits") -> Path:
    """Write a catalogue, atomically, with its units and descriptions; the same table gives the same bytes.

    Parameters
    ----------
    table : astropy.table.QTable
    path : str or Path
        With or without the format's suffix.
    format : {'fits', 'ecsv', 'parquet'}
        In FITS a unit with a number before it, as 3.631e-9 Jy, loses it to the values; one that the standard
        does not know, as electron / s, has no TUNIT and is read by astropy alone.

    Returns
    -------
    Path
        Of the file written.
    """
    path = catalog_path(path, format)
    if format == "fits":
        table = _for_fits(table)
    with any_unit():
        atomic_write(path, lambda temporary: table.write(temporary, format=CATALOG_FORMATS[format]))
    return path


def _for_fits(table: QTable) -> QTable:
    """The same quantities: FITS knows no unit with a number before it but powers of ten (3.631e-9 Jy).

    Keywords of more than eight letters say themselves that they are of ESO's convention, of which astropy
    would warn; a filter of warnings does not hold while other threads set theirs.
    """
    odd = [name for name in table.colnames if table[name].unit and np.log10(table[name].unit.scale) % 1]
    table = table.copy(copy_data=False)
    table.meta = {key if len(key) <= 8 else f"HIERARCH {key}": value for key, value in table.meta.items()}
    for name in odd:
        about = table[name].info.description
        table[name] = table[name].to(table[name].unit / table[name].unit.scale)
        table[name].info.description = about
    return table


def read_catalog(path: str | Path) -> QTable:
    """Read a catalogue in any format of `CATALOG_FORMATS`, told by its suffix, as a QTable.

    Raises
    ------
    InputError
        Missing, or of another kind.
    """
    path = Path(path)
    format = re.sub(r"^\.", "", path.suffix)
    catalog_path(path, format)
    if not path.exists():
        raise InputError(f"{path}: no such file.")
    try:
        table = _read_parquet(path) if format == "parquet" else _read_table(path, format)
    except Exception as error:  # the three readers share no class of error
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{path}: cannot be read as a {format} catalogue ({reason}).") from error
    if missing := {"label", "area", "flux"} - set(table.colnames):  # as the table of pairs does
        raise InputError(f"{path}: is no catalogue of appulse; it lacks {', '.join(sorted(missing))}.")
    return table


def _read_table(path: Path, format: str) -> QTable:
    options = {"unit_parse_strict": "silent"} if format == "fits" else {}
    table = QTable.read(path, format=CATALOG_FORMATS[format], **options)
    for name in table.colnames:  # FITS is big-endian
        if not table[name].dtype.isnative:
            table.replace_column(name, table[name].astype(table[name].dtype.newbyteorder("="), copy=False))
    return table


def _read_parquet(path: Path) -> QTable:
    """Read without pandas, which astropy needs for reading only; units come from the header that it left."""
    from pyarrow import parquet  # slow to import, and seldom needed

    content = parquet.read_table(path)
    header = get_header_from_yaml(content.schema.metadata[b"table_meta_yaml"].decode().split("\n"))
    described = {column["name"]: column for column in header["datatype"]}
    table = Table({name: content[name].to_numpy() for name in content.column_names})
    for name, column in table.columns.items():
        column.unit, column.description = described[name].get("unit"), described[name].get("description")
    hidden = "__serialized_columns__"
    table.meta = {key: value for key, value in header.get("meta", {}).items() if key != hidden}
    return QTable(table)


def write_regions(table: QTable, path: str | Path) -> Path:
    """Write a catalogue as ellipses for SAOImage DS9, in image coordinates (1-based), atomically.

    Parameters
    ----------
    table : astropy.table.QTable
        A catalogue.
    path : str or Path

    Returns
    -------
    Path
        Of the file written.

    Notes
    -----
    An ellipse has the galaxy's area and shape, a circle where that is not known; galaxies in blends are drawn
    in magenta.
    """
    lines = ["# Region file format: DS9", "image"]
    for row in table:
        known = np.isfinite(row["ellipticity"]) and np.isfinite(row["orientation"])
        flatness = min(max(1.0 - float(row["ellipticity"]), 0.1), 1.0) if known else 1.0
        major = np.sqrt(row["area"].value / (np.pi * flatness))
        x, y = row["x_centroid"].value + 1, row["y_centroid"].value + 1
        colour = "magenta" if row["blend_id"] else "green"
        angle = row["orientation"].value if known else 0.0
        lines.append(
            f"ellipse({x:.2f},{y:.2f},{major:.2f},{major * flatness:.2f},{angle:.1f}) "
            f"# color={colour} text={{{row['label']}}}"
        )
    atomic_write(path, lambda temporary: temporary.write_text("\n".join(lines) + "\n"))
    return Path(path)

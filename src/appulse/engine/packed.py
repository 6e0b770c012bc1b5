"""Described objects as plain arrays, as blocks keep them on disk, and the catalogue that they make."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import astropy.units as u
import numpy as np
from astropy.table import QTable, Table
from astropy.wcs import WCS
from numpy.typing import DTypeLike

from appulse.engine.describe import Described
from appulse.files import of_flux, pixel_scale
from appulse.objects.catalog import COLUMNS, FLUX, build_catalog
from appulse.products import pairs_table
from appulse.windows import Window, shape_of

_FLUXES = tuple(column.name for column in COLUMNS if column.unit is FLUX)


def pack(objects: Iterable[Described]) -> dict[str, np.ndarray]:
    """Described objects as plain arrays: those of the catalogue and of the pairs by column.

    Parameters
    ----------
    objects : iterable of Described
        By ascending number.

    Returns
    -------
    dict of str to array
        For `unpack` and `catalogue_of`.
    """
    objects = list(objects)
    rows = [row | {"object": each.number} for each in objects for row in each.rows]
    pairs = [pair | {"object": each.number} for each in objects for pair in each.pairs]
    packed: dict[str, np.ndarray] = {
        "number": np.array([each.number for each in objects], np.int64),
        "galaxies": np.array([len(each.rows) for each in objects], np.int64),
        "whole": np.array([each.masks is None for each in objects], bool),
        "windows": np.array([(w.start, w.stop) for each in objects for w in each.window], np.int64),
        "masks": np.packbits(_joined([each.masks for each in objects if each.masks is not None], bool)),
        "owners": _joined([each.owners for each in objects if each.owners is not None], np.uint8),
    }
    for kind, found in (("row", rows), ("pair", pairs)):
        names = found[0] if found else ()
        packed |= {f"{kind}.{name}": np.array([each[name] for each in found]) for name in names}
    return packed


def _joined(arrays: list[np.ndarray], dtype: DTypeLike) -> np.ndarray:
    return np.concatenate([np.empty(0, dtype), *(each.ravel() for each in arrays)], dtype=dtype)


def unpack(
    packed: dict[str, np.ndarray],
) -> Iterator[tuple[int, Window, np.ndarray | None, np.ndarray | None]]:
    """What lies where, of described objects.

    Parameters
    ----------
    packed : dict of str to array
        From `pack`.

    Yields
    ------
    number : int
    window : (slice, slice)
    masks : (n_galaxies, height, width) bool array or None
    owners : (2, height, width) uint8 array or None
        As in `Described`.
    """
    masks, owners = np.unpackbits(packed["masks"]).view(bool), packed["owners"]
    windows = packed["windows"].reshape(-1, 2, 2)
    at_mask = at_owner = 0
    for number, galaxies, is_whole, sides in zip(
        packed["number"], packed["galaxies"], packed["whole"], windows, strict=True
    ):
        rows, columns = (slice(int(start), int(stop)) for start, stop in sides)
        if is_whole:
            yield int(number), (rows, columns), None, None
            continue
        shape = shape_of((rows, columns))
        pixels = shape[0] * shape[1]
        yield (
            int(number),
            (rows, columns),
            masks[at_mask : at_mask + galaxies * pixels].reshape(-1, *shape),
            owners[at_owner : at_owner + 2 * pixels].reshape(2, *shape),
        )
        at_mask += galaxies * pixels
        at_owner += 2 * pixels


def catalogue_of(
    packed: Sequence[dict[str, np.ndarray]], unit: u.UnitBase | None, wcs: WCS | None
) -> tuple[QTable, Table, np.ndarray]:
    """Catalogue and pairs of a field; galaxies are labelled in the order of their objects.

    Parameters
    ----------
    packed : sequence of dict of str to array
        From `pack`, of all blocks, in any order.
    unit : astropy unit or None
        Of the image.
    wcs : WCS or None
        Of the image.

    Returns
    -------
    catalog : QTable
    pairs : Table
    first_labels : (n_objects + 1,) int64 array
        Label of the first galaxy of each object, by the object's number; 0 at 0.
    """
    numbers = _joined([each["number"] for each in packed], np.int64)
    galaxies = np.zeros(len(numbers) + 1, np.int64)
    galaxies[numbers] = _joined([each["galaxies"] for each in packed], np.int64)
    first_labels = 1 + np.cumsum(galaxies) - galaxies
    first_labels[0] = 0

    rows, pairs = _columns(packed, "row."), _columns(packed, "pair.")
    if rows:
        blended = galaxies[rows.pop("object")] > 1
        rows["label"] = 1 + np.arange(len(blended))
        rows["blend_id"] = np.where(blended, np.repeat(np.arange(len(galaxies)), galaxies), 0)
        _add_sky_positions(rows, wcs)
    scale = pixel_scale(wcs)
    unit, factor = of_flux(unit, scale)
    if factor != 1.0:
        rows |= {name: rows[name] * factor for name in _FLUXES if name in rows}
    catalog = build_catalog(rows, flux_unit=unit, pixel_scale_arcsec=scale)
    if pairs:
        offset = first_labels[pairs.pop("object")] - 1
        pairs |= {name: pairs[name] + offset for name in ("label_a", "label_b")}
    return catalog, pairs_table(pairs or None), first_labels


def _columns(packed: Sequence[dict[str, np.ndarray]], prefix: str) -> dict[str, np.ndarray]:
    """Columns of all blocks, by ascending number of the object."""
    filled = [each for each in packed if f"{prefix}object" in each]
    if not filled:
        return {}
    order = np.argsort(np.concatenate([each[f"{prefix}object"] for each in filled]), kind="stable")
    names = [name for name in filled[0] if name.startswith(prefix)]
    return {
        name.removeprefix(prefix): np.concatenate([each[name] for each in filled])[order] for name in names
    }


def _add_sky_positions(rows: dict[str, np.ndarray], wcs: WCS | None) -> None:
    if wcs is None:
        return
    # Whatever the frame and order of the image's axes: galactic, FK5, declination first.
    sky = wcs.pixel_to_world(rows["x_centroid"], rows["y_centroid"]).icrs
    rows |= {"ra": sky.ra.deg, "dec": sky.dec.deg}

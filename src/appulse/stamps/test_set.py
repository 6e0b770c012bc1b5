"""The paper's test set: isolated and blended objects, chosen at random, each in a stamp of its own."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from astropy.io import fits
from astropy.table import Table, vstack
from scipy.ndimage import find_objects

from appulse.files import InputError, atomic_write
from appulse.inference.tiles import centred_origin, fits_stamp
from appulse.progress import Progress
from appulse.sky.field import galaxies_of
from appulse.sky.stored_field import field_paths, native_table, open_field
from appulse.sky.survey import Survey
from appulse.sky.true_objects import Kind, galaxy_pixels, true_objects
from appulse.streams import OfStamps, stamp_stream

# Pixels kept free between an object and each side of its stamp, so that its outskirts lie in it.
MARGIN = 4
# Rows of a field looked at together, besides what objects reach over: bounds the memory.
_ROWS = 1024
_SURVEY = "SURVJSON"  # card of the primary header
_CUBES = (
    ("images", "IMAGE", np.float32, "Observed stamps, units of the noise"),
    ("ternary", "TERNARY", np.uint8, "True class maps: 0 background, 1 galaxy, 2 overlap"),
    ("id1", "NUMBER1", np.uint8, "Brightest galaxy: its number in the stamp; 0 none"),
    ("id2", "NUMBER2", np.uint8, "Second-brightest galaxy: its number in the stamp; 0 none"),
)


@dataclass(frozen=True)
class ObjectStamps:
    """Stamps centred on true objects.

    Parameters
    ----------
    images : (n, size, size) float32 array, units of the noise
        Observed stamps.
    ternary : (n, size, size) uint8 array
        True class maps at one sigma.
    id1, id2 : (n, size, size) uint8 array
        Number, within the stamp, of the brightest and second-brightest galaxy of each pixel; 0 none.
    objects : astropy.table.Table
        One row per stamp: ``label`` of the central object in
        ``true_objects(ternary[i], id1[i], id2[i]).labels``, its ``kind`` (a `Kind`), ``area`` (pixels) and
        ``n_galaxies``; ``seed`` and ``index`` of its field, and the stamp's first row and column there, ``y``
        and ``x``.
    galaxies : astropy.table.Table
        One row per galaxy of a central object: ``stamp``, ``number`` within it, and the columns of the
        field's catalogue, ``x`` and ``y`` counted from the stamp's first pixel.
    survey : Survey
        Of the first field.
    """

    images: np.ndarray
    ternary: np.ndarray
    id1: np.ndarray
    id2: np.ndarray
    objects: Table
    galaxies: Table
    survey: Survey

    def __len__(self) -> int:
        return len(self.images)


@dataclass(frozen=True)
class _Candidate:
    # A true object that fits a stamp: its field, the strip that holds it, the stamp's first row and column
    # there, and one of its own pixels, counted from these.
    path: Path
    strip: int
    y: int
    x: int
    pixel: tuple[int, int]
    kind: int


def build_test_set(
    output: str | Path,
    fields: str | Path,
    *,
    isolated: int = 3000,
    blended: int = 3000,
    size: int = 128,
    seed: int = 0,
    progress: Progress | None = None,
) -> ObjectStamps:
    """Choose objects at random among all that fit a stamp, and write them, centred, into one FITS file.

    Objects of fewer than 10 pixels, cut by the border of the field, or so large or so near the border that
    their stamp does not hold them are left out. The paper tests on about 3000 of either kind (section 3).

    Parameters
    ----------
    output : str or Path
        FITS file; written whole or not at all.
    fields : str or Path
        Directory of ``appulse simulate``, of seeds that nothing was trained on (9000s).
    isolated, blended : int
        Objects of either kind.
    size : int, pixels
        Width of a stamp.
    seed : int
        Of the choice.
    progress : callable, optional
        Called with the stage, strips done and their total.

    Returns
    -------
    ObjectStamps
        Isolated ones first, each kind in the order of the fields.

    Raises
    ------
    InputError
        Fields without so many objects.
    """
    paths = field_paths(fields)
    candidates = [one for path in paths for one in _candidates(path, size, progress)]
    rng = stamp_stream(seed, OfStamps.TEST_SET)
    chosen = []
    for kind, number in ((Kind.ISOLATED, isolated), (Kind.BLENDED, blended)):
        of_kind = [one for one in candidates if one.kind == kind]
        if len(of_kind) < number:
            raise InputError(
                f"{fields}: {len(of_kind)} {kind.name.lower()} objects fit a stamp, {number} asked for; "
                "simulate more fields, or ask for fewer."
            )
        chosen += [of_kind[place] for place in np.sort(rng.choice(len(of_kind), number, replace=False))]
    with open_field(paths[0]) as field:
        survey = field.survey
    stamps = _cut(chosen, size, survey, progress)
    write_test_set(stamps, output)
    return stamps


def _strips(height: int, size: int) -> Iterator[tuple[int, slice, slice]]:
    # Number, rows whose objects belong to it, and rows that their stamps reach.
    for number, first in enumerate(range(0, height, _ROWS)):
        end = min(first + _ROWS, height)
        yield number, slice(first, end), slice(max(0, first - size), min(height, end + size))


def _candidates(path: Path, size: int, progress: Progress | None) -> Iterator[_Candidate]:
    with open_field(path) as field:
        height, width = field.shape
        strips = list(_strips(height, size))
        for number, core, rows in strips:
            window = field.read((rows, slice(0, width)))
            ternary = window.ternary()
            objects = true_objects(ternary, window.id1, window.id2)
            for label, box in enumerate(find_objects(objects.labels), start=1):
                # One cut by the strip's end and not the field's is too large: `size` rows lie beyond.
                top = box[0].start + rows.start
                y, x = centred_origin(box, size)
                y += rows.start
                if (
                    core.start <= top < core.stop
                    and objects.kind[label] in (Kind.ISOLATED, Kind.BLENDED)
                    and not objects.ignored[label]
                    and fits_stamp(box, size, MARGIN)
                    and 0 <= y <= height - size
                    and 0 <= x <= width - size
                ):
                    lit = np.flatnonzero(objects.labels[box[0].start, box[1]] == label)[0] + box[1].start
                    pixel = (top - y, int(lit) - x)
                    yield _Candidate(path, number, y, x, pixel, int(objects.kind[label]))
            if progress:
                progress(f"objects of {path.name}", number + 1, len(strips))


def _cut(chosen: list[_Candidate], size: int, survey: Survey, progress: Progress | None) -> ObjectStamps:
    shape = (len(chosen), size, size)
    images = np.zeros(shape, np.float32)
    ternary, id1, id2 = (np.zeros(shape, np.uint8) for _ in range(3))
    objects: list[dict] = [{}] * len(chosen)
    galaxies: list[Table] = [Table()] * len(chosen)
    places: dict[tuple[Path, int], list[int]] = {}
    for place, one in enumerate(chosen):
        places.setdefault((one.path, one.strip), []).append(place)
    for done, ((path, strip), in_strip) in enumerate(places.items(), start=1):
        with open_field(path) as field:
            height, width = field.shape
            _, _, rows = list(_strips(height, size))[strip]
            window, catalog = field.read((rows, slice(0, width))), field.catalog
        classes = window.ternary()
        for place in in_strip:
            one = chosen[place]
            top = one.y - rows.start
            box = (slice(top, top + size), slice(one.x, one.x + size))
            images[place] = window.image[box] / np.float32(window.sigma)
            ternary[place] = classes[box]
            id1[place], id2[place], names = _numbered(window.id1[box], window.id2[box], path)
            about, numbers = _central((ternary[place], id1[place], id2[place]), one.pixel)
            objects[place] = about | {"seed": window.seed, "index": window.index, "y": one.y, "x": one.x}
            galaxies[place] = _galaxies(catalog, place, one, numbers, names)
        if progress:
            progress("cutting objects", done, len(places))
    members = vstack(galaxies, metadata_conflicts="silent")
    return ObjectStamps(images, ternary, id1, id2, Table(rows=objects), members, survey)


def _numbered(id1: np.ndarray, id2: np.ndarray, path: Path) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    names = np.union1d(np.union1d(id1, id2), [0])
    if len(names) > 256:
        raise InputError(f"{path}: {len(names) - 1} galaxies in one stamp; at most 255 can be told apart.")
    numbers = [np.searchsorted(names, ids).astype(np.uint8) for ids in (id1, id2)]
    return numbers[0], numbers[1], names


def _central(
    stamp: tuple[np.ndarray, np.ndarray, np.ndarray], pixel: tuple[int, int]
) -> tuple[dict, np.ndarray]:
    objects = true_objects(*stamp)
    label = objects.labels[pixel]
    pixels, numbers = galaxy_pixels(*stamp)
    inside = objects.labels.ravel()[pixels] == label
    about = {
        "label": int(label),
        "kind": int(objects.kind[label]),
        "area": int(objects.area[label]),
        "n_galaxies": int(objects.n_galaxies[label]),
    }
    return about, np.unique(numbers[inside])


def _galaxies(catalog: Table, place: int, one: _Candidate, numbers: np.ndarray, names: np.ndarray) -> Table:
    rows = galaxies_of(catalog, names[numbers])
    rows["x"] -= one.x
    rows["y"] -= one.y
    rows.add_columns(
        [np.full(len(rows), place, np.int32), numbers.astype(np.int32)], [0, 0], ["stamp", "number"]
    )
    return rows


def write_test_set(stamps: ObjectStamps, path: str | Path) -> None:
    """Write a test set as one FITS file.

    Parameters
    ----------
    stamps : ObjectStamps
        What to write.
    path : str or Path
        Where to; written whole or not at all.
    """
    hdus = fits.HDUList([fits.PrimaryHDU()])
    hdus[0].header[_SURVEY] = json.dumps(stamps.survey.to_dict())
    for attribute, name, _, meaning in _CUBES:
        cube = getattr(stamps, attribute)
        header = fits.Header([("COMMENT", meaning)])
        if attribute == "images":  # noise does not compress
            hdus.append(fits.ImageHDU(cube, header, name=name))
        else:
            tile = (1, *cube.shape[1:])
            hdus.append(
                fits.CompImageHDU(cube, header, name=name, compression_type="RICE_1", tile_shape=tile)
            )
    hdus.append(fits.BinTableHDU(stamps.objects, name="OBJECTS"))
    hdus.append(fits.BinTableHDU(stamps.galaxies, name="GALAXIES"))
    atomic_write(path, hdus.writeto)


def read_test_set(path: str | Path, places: Sequence[int] | None = None) -> ObjectStamps:
    """Read what `build_test_set` wrote.

    Parameters
    ----------
    path : str or Path
        FITS file.
    places : sequence of int, optional
        Which stamps, counted from 0; by default all. In the table of galaxies, ``stamp`` counts along these.

    Returns
    -------
    ObjectStamps

    Raises
    ------
    InputError
        Not a test set.
    """
    objects, galaxies, survey = _read(path, _tables)
    chosen = np.arange(len(objects)) if places is None else np.asarray(places, int)

    def cubes(hdus: fits.HDUList) -> dict[str, np.ndarray]:
        # A stamp at a time: of a few, the others are neither read nor unpacked.
        return {
            name: np.array([hdus[hdu].section[place] for place in chosen], dtype)
            for name, hdu, dtype, _ in _CUBES
        }

    new_place = np.full(len(objects), -1, np.int32)
    new_place[chosen] = np.arange(len(chosen))
    galaxies["stamp"] = new_place[galaxies["stamp"]]
    galaxies = galaxies[galaxies["stamp"] >= 0]
    galaxies.sort(["stamp", "number"])
    return ObjectStamps(**_read(path, cubes), objects=objects[chosen], galaxies=galaxies, survey=survey)


def list_test_set(path: str | Path) -> tuple[Table, Survey]:
    """What a test set holds, without its pixels.

    Parameters
    ----------
    path : str or Path
        FITS file.

    Returns
    -------
    objects : astropy.table.Table
        As in `ObjectStamps`.
    survey : Survey

    Raises
    ------
    InputError
        Not a test set.
    """
    objects, _, survey = _read(path, _tables)
    return objects, survey


def _read(path: str | Path, part: Callable[[fits.HDUList], Any]) -> Any:
    try:
        with fits.open(path) as hdus:
            return part(hdus)
    except (KeyError, OSError, TypeError, ValueError, IndexError) as error:
        raise InputError(f"{path}: not a test set made by appulse ({error}).") from None


def _tables(hdus: fits.HDUList) -> tuple[Table, Table, Survey]:
    survey = Survey.from_dict(json.loads(hdus[0].header[_SURVEY]))
    objects, galaxies = (native_table(hdus[name]) for name in ("OBJECTS", "GALAXIES"))
    return objects, galaxies, survey

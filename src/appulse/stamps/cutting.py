"""Cutting the stamps of a store from simulated fields, strip by strip."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import secrets
import shutil
import zipfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy import ndimage

from appulse.files import InputError, atomic_write, remove_folder, sync_folder, write_json
from appulse.inference.tiles import fits_stamp
from appulse.objects.components import label_connected
from appulse.progress import Progress
from appulse.sky.stored_field import field_paths, open_field
from appulse.stamps.config import StampConfig
from appulse.stamps.store import ABOUT, FORMAT, LAYERS, StampStore, array_names
from appulse.streams import OfStamps, stamp_stream
from appulse.tasks import run_tasks, usable_cpus

# Stamps that a sky yields for each stamp's area: each galaxy is then seen in several places. The paper cuts
# 150,000 from four fields of 25,000^2 pixels, one per area (section 3).
PER_AREA = 8
LARGEST_COUNT = 150_000
# Layers are kept as float16 in units of the field's noise; this is just under its largest value.
_BRIGHTEST = 6.0e4
# Light of third and later galaxies, in units of the noise; what is less is rounding of the sum.
_FAINTEST_REST = 0.01
# Pixels of a strip of a field, which is cut at a time: bounds the memory. Measured: 36 bytes for each
# pixel of a strip's window (6.6 million of them, with 2180 stamps). In a field 25,000 wide the window has 26
# million: 1.1 GB with the 0.2 GB of the process itself.
_STRIP_PIXELS = 1 << 24
# A process takes seconds to start; these many stamps take longer.
_STAMPS_PER_WORKER = 10_000


@dataclass(frozen=True)
class _Strip:
    # Part of a field cut at a time: the stamps whose first rows lie in [first, end), written to `part`.
    path: Path
    field: int
    first: int
    end: int
    part: Path
    stamps: int
    size: int
    overlap_share: float
    giant_share: float
    seed: int


def stored_stamps(
    fields: str | Path,
    config: StampConfig,
    *,
    elsewhere: str | Path | None = None,
    workers: int | None = None,
    progress: Progress | None = None,
) -> StampStore:
    """The store of a directory of fields: opened where there is one, else built.

    Its name depends on the fields and on how stamps are cut, so recipes that cut alike share one.

    Parameters
    ----------
    fields : str or Path
        Directory of ``appulse simulate``, or a store itself.
    config : StampConfig
        Gives the size and where stamps are placed.
    elsewhere : str or Path, optional
        Directory for the store where that of the fields cannot be written to.
    workers : int, optional
        Processes that cut; by default as many as there are cores and work for.
    progress : callable, optional
        Called with the stage, strips cut and their total.

    Returns
    -------
    StampStore

    Raises
    ------
    InputError
        No fields, or fields smaller than a stamp or less deep than asked.
    """
    fields = Path(fields)
    if (fields / ABOUT).is_file():
        return StampStore.open(fields)
    paths = field_paths(fields)
    about = _about(paths, config, _count(paths, config.size), seed=0)
    # Here, and not after minutes of cutting.
    config.refuse_shallow(min(field["noise"] for field in about["fields"]))
    name = f"stamps-{_digest(about)[:8]}"
    homes = [fields] if elsewhere is None else [fields, Path(elsewhere)]
    for home in homes:
        if (home / name / ABOUT).is_file():
            with contextlib.suppress(OSError):  # read-only
                remove_folder(_unfinished(home / name, about))  # of a run killed at its very end
            return StampStore.open(home / name)
    home = next((home for home in homes if os.access(home, os.W_OK)), homes[-1])
    return _build(home / name, paths, config, about, workers=workers, progress=progress)


def _count(paths: Sequence[Path], size: int) -> int:
    area = 0
    for path in paths:
        with open_field(path) as field:
            area += field.shape[0] * field.shape[1]
    return min(LARGEST_COUNT, max(256, PER_AREA * area // size**2))


def build_store(
    output: str | Path,
    fields: str | Path,
    config: StampConfig,
    *,
    count: int | None = None,
    seed: int = 0,
    workers: int | None = None,
    progress: Progress | None = None,
) -> StampStore:
    """Cut stamps from simulated fields, at random places, into a store.

    The bytes depend on the fields, ``count``, ``seed``, and the config's ``size``, ``overlap_share`` and
    ``giant_share`` alone. A build that was stopped goes on where it was.

    Parameters
    ----------
    output : str or Path
        Folder of the store; appears when it is complete.
    fields : str or Path
        Directory of ``appulse simulate``.
    config : StampConfig
        Gives the size and where stamps are placed.
    count : int, optional
        Stamps; every field gives its share by area. By default eight for the area of each on the sky, at
        least 256 and at most 150,000.
    seed : int
        Of the places.
    workers : int, optional
        Processes; by default as many as there are cores and work for.
    progress : callable, optional
        Called with the stage, strips cut and their total.

    Returns
    -------
    StampStore

    Raises
    ------
    InputError
        No fields, fields smaller than a stamp, or an output that exists.
    """
    output = Path(output)
    if output.exists():
        raise InputError(f"{output} is there already; delete it, or choose another name.")
    paths = field_paths(fields)
    about = _about(paths, config, _count(paths, config.size) if count is None else count, seed)
    return _build(output, paths, config, about, workers=workers, progress=progress)


def _build(
    output: Path,
    paths: Sequence[Path],
    config: StampConfig,
    about: dict,
    *,
    workers: int | None = None,
    progress: Progress | None = None,
) -> StampStore:
    # Runs that build one store at a time share the finished parts. Each joins them into a folder of its own;
    # the first to be done gives the store, and clears the parts away from under the others.
    unfinished = _unfinished(output, about)
    own = unfinished / f"joined-{secrets.token_hex(8)}"
    strips = _strips(paths, config, about["count"], about["seed"], unfinished)
    try:
        _cut(strips, workers, progress)
        write_json(own / ABOUT, about)
        _join(own, [strip.part for strip in strips])
        os.replace(own, output)
    except OSError:
        if not (output / ABOUT).is_file():
            raise
    finally:
        shutil.rmtree(own, ignore_errors=True)
    sync_folder(output.parent)  # the store is in its place on the disk before its parts go
    remove_folder(unfinished)
    return StampStore.open(output)


def _unfinished(output: Path, about: dict) -> Path:
    return output.with_name(f".{output.name}-{_digest(about)[:8]}.part")


def _cut(strips: Sequence[_Strip], workers: int | None, progress: Progress | None) -> None:
    to_do = [strip for strip in strips if not _is_whole(strip.part)]
    if workers is None:
        count = sum(strip.stamps for strip in strips)
        workers = min(usable_cpus(), 1 + count // _STAMPS_PER_WORKER)
    done = len(strips) - len(to_do)
    if progress:
        progress("cutting stamps", done, len(strips))
    for _ in run_tasks(_cut_strip, to_do, workers=workers):
        done += 1
        if progress:
            progress("cutting stamps", done, len(strips))


def _is_whole(part: Path) -> bool:
    # What a disk has spoilt is cut again.
    try:
        with zipfile.ZipFile(part) as arrays:
            return arrays.testzip() is None
    except (OSError, EOFError, ValueError, RuntimeError, zipfile.BadZipFile):
        return False


def _about(paths: Sequence[Path], config: StampConfig, count: int, seed: int) -> dict:
    fields, widths = [], []
    for path in paths:
        with open_field(path) as field:
            config.refuse_small(field.shape, path)
            widths.append(field.survey.psf.fwhm / field.survey.pixel_scale)
            fields.append(
                {
                    "survey": field.survey.name,
                    "digest": field.survey.digest(),
                    "seed": int(field.seed),
                    "index": int(field.index),
                    "shape": [int(side) for side in field.shape],
                    "noise": float(field.survey.noise),
                    "correlation": field.survey.correlation or 0.0,
                }
            )
            # Only where there is one, so that stores of other fields keep their names.
            if field.survey.gain is not None:
                fields[-1]["gain"] = field.survey.gain * field.sigma
    return {
        "format": FORMAT,
        "size": config.size,
        "overlap_share": config.overlap_share,
        "giant_share": config.giant_share,
        "count": count,
        "seed": seed,
        "psf_fwhm_pixels": [min(widths), max(widths)],
        "fields": fields,
    }


def _digest(about: dict) -> str:
    return hashlib.sha256(json.dumps(about, sort_keys=True).encode()).hexdigest()


def _strips(paths: Sequence[Path], config: StampConfig, count: int, seed: int, folder: Path) -> list[_Strip]:
    size = config.size
    places: list[tuple[Path, int, int, int, Path]] = []
    areas: list[int] = []
    for number, path in enumerate(paths):
        with open_field(path) as field:
            height, width = field.shape
        rows = max(size, _STRIP_PIXELS // width)
        for first in range(0, height - size + 1, rows):
            end = min(first + rows, height - size + 1)
            places.append((path, number, first, end, folder / f"part_{len(places):05d}.npz"))
            areas.append((end - first) * (width - size + 1))
    ends = np.round(count * np.cumsum(areas) / sum(areas)).astype(int)
    shares = np.diff(ends, prepend=0)
    return [
        _Strip(
            path, number, first, end, part, int(share), size, config.overlap_share, config.giant_share, seed
        )
        for (path, number, first, end, part), share in zip(places, shares, strict=True)
    ]


def _cut_strip(strip: _Strip) -> None:
    size = strip.size
    with open_field(strip.path) as field:
        height, width = field.shape
        first_row, end_row = max(0, strip.first - size), min(height, strip.end + 2 * size)
        window = field.read((slice(first_row, end_row), slice(0, width)))
        rng = stamp_stream(strip.seed, OfStamps.CORNERS, field.seed, field.index, strip.first)
    scale = np.float32(1.0 / window.sigma)
    layers = [window.first * scale, window.second * scale]
    layers.append(window.light * scale - layers[0] - layers[1])
    del window
    lures = (layers[1] > 1.0, strip.overlap_share), (_giants(layers[0] > 1.0, size), strip.giant_share)
    corners = _corners(lures, strip, first_row, (height, width), rng)

    arrays: dict[str, np.ndarray] = {
        "field": np.full(strip.stamps, strip.field, np.int32),
        "corner": np.asarray(corners, np.int32).reshape(-1, 2),
    }
    for name, layer in zip(LAYERS, layers, strict=True):
        faintest = _FAINTEST_REST if name == "rest" else 0.0
        runs: list[np.ndarray] = [np.zeros((0, 2), _place_type(size))]
        values: list[np.ndarray] = [np.zeros(0, np.float16)]
        # Stamp by stamp: all of a strip's, dense, would take half a gigabyte.
        for y, x in corners:
            cut = layer[y - first_row :, x:][:size, :size].ravel()
            places = np.flatnonzero(cut > faintest)
            runs.append(_runs(places).astype(runs[0].dtype))
            values.append(np.minimum(cut[places], _BRIGHTEST).astype(np.float16))
        for part, of_stamps in (("runs", runs), ("values", values)):
            arrays[f"{name}_{part}"] = np.concatenate(of_stamps)
            arrays[f"{name}_{part}_start"] = np.array([len(one) for one in of_stamps[1:]], np.int64)
    # Its bytes hold no date: NumPy's archives are all of 1980.
    atomic_write(strip.part, lambda temporary: np.savez(temporary, allow_pickle=False, **arrays))


def _runs(places: np.ndarray) -> np.ndarray:
    # First place and length of each run of consecutive ones, (n, 2).
    begins = np.flatnonzero(np.diff(places, prepend=-2) != 1)
    return np.stack([places[begins], np.diff(begins, append=len(places))], axis=1)


def _place_type(size: int) -> type:
    return np.uint16 if size**2 < 1 << 16 else np.uint32


def _giants(foreground: np.ndarray, size: int) -> np.ndarray:
    # Pixels of the objects that no stamp holds.
    labels, _ = label_connected(foreground)
    boxes = ndimage.find_objects(labels)
    giant = np.array([False, *(not fits_stamp(box, size, margin=0) for box in boxes)])
    return giant[labels]


def _corners(
    lures: Sequence[tuple[np.ndarray, float]],
    strip: _Strip,
    first_row: int,
    shape: tuple[int, int],
    rng: np.random.Generator,
) -> list[tuple[int, int]]:
    size = strip.size
    highest = np.array(shape) - size
    # Each strip takes the lures that lie in the middle of its stamps; the outer ones, to the border too.
    low = 0 if strip.first == 0 else strip.first + size // 2
    high = shape[0] if strip.end > highest[0] else strip.end + size // 2
    rows = slice(low - first_row, high - first_row)
    centres = [np.argwhere(where[rows]) + np.array([low, 0]) for where, _ in lures]
    shares = np.cumsum([share for _, share in lures])
    corners = []
    for _ in range(strip.stamps):
        kind = int(np.searchsorted(shares, rng.random(), side="right"))
        if kind < len(lures) and len(centres[kind]):
            # Anywhere in the stamp's inner part, so that its position teaches nothing.
            centre = centres[kind][rng.integers(len(centres[kind]))]
            corner = np.clip(centre - rng.integers(size // 8, size - size // 8, 2), 0, highest)
        else:
            corner = rng.integers((strip.first, 0), (strip.end, highest[1] + 1))
        corners.append((int(corner[0]), int(corner[1])))
    return corners


def _join(folder: Path, parts: Sequence[Path]) -> None:
    for name in array_names():
        # A power cut must not leave an empty file in a folder that is a store by its name.
        atomic_write(folder / f"{name}.npy", functools.partial(_join_array, parts, name))


def _join_array(parts: Sequence[Path], name: str, path: Path) -> None:
    if name.endswith("_start"):  # the parts hold the numbers per stamp
        np.save(path, np.cumsum(np.concatenate([[0], *(_load(part, name) for part in parts)])))
        return
    lengths = [_length(part, name) for part in parts]
    like = _load(parts[0], name)
    # One part in memory at a time.
    whole = np.lib.format.open_memmap(path, "w+", like.dtype, (sum(lengths), *like.shape[1:]))
    at = 0
    for part, length in zip(parts, lengths, strict=True):
        whole[at : at + length] = _load(part, name)
        at += length
    whole.flush()


def _load(part: Path, name: str) -> np.ndarray:
    with np.load(part) as arrays:
        return arrays[name]


def _length(part: Path, name: str) -> int:
    if name in ("field", "corner"):
        return len(_load(part, name))
    return int(_load(part, f"{name}_start").sum())

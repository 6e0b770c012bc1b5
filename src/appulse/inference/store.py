"""Where the work on a field is kept while it grows: in memory, or on disk and resumable.

Both hold arrays as large as the image, and records: what one stage of the work found in one block. A record
is written last and at once, so that its presence says that the block is finished.
"""

from __future__ import annotations

import itertools
import math
import os
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from appulse.files import temporary_for
from appulse.windows import Window, cells_met

if TYPE_CHECKING:
    import zarr

# Axes before those of the image, and dtype, of each array; "bytes" is one per eight realisations. Each is
# written by one stage, so that who does a block a second time, late, writes what is there already.
ARRAYS: dict[str, tuple[tuple[int | str, ...], str]] = {
    "first_p_galaxy": ((), "float32"),  # of the first pass, as are the next three
    "first_p_overlap": ((), "float32"),
    "first_planes": ((2, "bytes"), "uint8"),  # as Realisations.planes
    "detected": ((), "int32"),  # pieces of objects, numbered in each block
    "p_galaxy": ((), "float32"),  # rebuilt from objects' own stamps, as are the next four
    "p_overlap": ((), "float32"),
    "planes": ((2, "bytes"), "uint8"),
    "rebuilt": ((), "int32"),  # pieces of objects
    "state": ((), "uint8"),  # bits CENTRED and BAD
    "pieces": ((), "int32"),  # of the final maps
}
# Stages that in memory share an array with a later one: nobody is late there.
_SHARED = {"first_p_galaxy": "p_galaxy", "first_p_overlap": "p_overlap", "rebuilt": "pieces"}
CENTRED, BAD = 1, 2
# Width of a chunk on disk; a block is a multiple of it, or it of the block, so that a chunk has one writer.
_CHUNK = 512


class MemoryStore:
    """Arrays and records in memory.

    Parameters
    ----------
    shape : (height, width), pixels
        Of the image.
    samples : int
        Realisations.
    """

    def __init__(self, shape: tuple[int, int], samples: int):
        self._arrays = {
            name: np.zeros((*_leading(axes, samples), *shape), dtype)
            for name, (axes, dtype) in ARRAYS.items()
            if name not in _SHARED
        }
        self._records: dict[tuple[str, int], dict[str, np.ndarray]] = {}

    def array(self, name: str) -> np.ndarray:
        """An array of `ARRAYS`, to be read and written by windows.

        Parameters
        ----------
        name : str
            Of the array.
        """
        return self._arrays[_SHARED.get(name, name)]

    def sync(self, names: tuple[str, ...], window: Window) -> None:
        """Nothing: memory does not survive a power cut, from which `DiskStore.sync` guards.

        Parameters
        ----------
        names : tuple of str
            Arrays.
        window : (slice, slice)
            Of the image.
        """

    def has(self, kind: str, number: int = 0) -> bool:
        """Whether a record is there.

        Parameters
        ----------
        kind : str
            Stage that made it.
        number : int
            Of the block.
        """
        return (kind, number) in self._records

    def put(self, kind: str, record: dict[str, np.ndarray], number: int = 0) -> None:
        """Keep a record.

        Parameters
        ----------
        kind : str
            Stage that made it.
        record : dict of str to array
            What it found.
        number : int
            Of the block.
        """
        self._records[kind, number] = record

    def get(self, kind: str, number: int = 0, omit: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
        """A record.

        Parameters
        ----------
        kind : str
            Stage that made it.
        number : int
            Of the block.
        omit : tuple of str
            Parts that are not wanted.
        """
        record = self._records[kind, number]
        return {name: values for name, values in record.items() if name not in omit}


class DiskStore:
    """Arrays in zarr and records in files, in one directory; survives the death of any process.

    Parameters
    ----------
    path : Path
        Of the directory, in which there is a folder ``records``.
    shape : (height, width), pixels
        Of the image.
    samples : int
        Realisations.
    block : int, pixels
        Width of the blocks that write.
    """

    def __init__(self, path: Path, shape: tuple[int, int], samples: int, block: int):
        self.path, self.shape, self.samples = Path(path), shape, samples
        self.chunk = math.gcd(block, _CHUNK)
        self._arrays: dict[str, zarr.Array] = {}

    def array(self, name: str) -> zarr.Array:
        """An array of `ARRAYS`, to be read and written by windows.

        Parameters
        ----------
        name : str
            Of the array.
        """
        if name not in self._arrays:
            self._arrays[name] = self._opened(name)
        return self._arrays[name]

    def _opened(self, name: str) -> zarr.Array:
        import zarr  # slow to import, and of no use to what fits into memory
        from zarr.codecs import BloscCodec

        axes, dtype = ARRAYS[name]
        leading = _leading(axes, self.samples)
        try:
            return zarr.create_array(
                store=self.path / name,
                shape=(*leading, *self.shape),
                chunks=(*leading, *(min(self.chunk, side) for side in self.shape)),
                dtype=dtype,
                fill_value=0,
                compressors=BloscCodec(cname="zstd", clevel=1),
            )
        except zarr.errors.ContainsArrayError:  # of an earlier run, or made by another worker just now
            return zarr.open_array(self.path / name, mode="r+")

    def sync(self, names: tuple[str, ...], window: Window) -> None:
        """Make sure that what was written into a window survives a power cut; call it before `put`.

        Parameters
        ----------
        names : tuple of str
            Arrays.
        window : (slice, slice)
            Of the image.
        """
        for name in names:
            leading = [0] * len(ARRAYS[name][0])
            *_, height, width = self.array(name).chunks
            spans = (range(side.start, side.stop) for side in cells_met(window, (height, width)))
            for row, column in itertools.product(*spans):
                chunk = self.path / name / "c" / "/".join(map(str, [*leading, row, column]))
                if chunk.exists():  # an empty one is not written
                    with open(chunk, "rb") as file:
                        os.fsync(file.fileno())

    def has(self, kind: str, number: int = 0) -> bool:
        """Whether a record is there.

        Parameters
        ----------
        kind : str
            Stage that made it.
        number : int
            Of the block.
        """
        return self._record(kind, number).exists()

    def put(self, kind: str, record: dict[str, np.ndarray], number: int = 0) -> None:
        """Write a record; from then on its block counts as finished. A store that was removed stays so.

        Parameters
        ----------
        kind : str
            Stage that made it.
        record : dict of str to array
            What it found.
        number : int
            Of the block.

        Raises
        ------
        FileNotFoundError
            The store was removed.
        """
        path = self._record(kind, number)
        # mypy takes the arrays for `allow_pickle`.
        with temporary_for(path, lambda part: np.savez_compressed(part, **record)) as part:  # type: ignore[arg-type]
            os.replace(part, path)

    def get(self, kind: str, number: int = 0, omit: tuple[str, ...] = ()) -> dict[str, np.ndarray]:
        """Read a record.

        Parameters
        ----------
        kind : str
            Stage that made it.
        number : int
            Of the block.
        omit : tuple of str
            Parts that are not wanted.
        """
        with np.load(self._record(kind, number), allow_pickle=False) as record:
            return {name: record[name] for name in record.files if name not in omit}

    def _record(self, kind: str, number: int) -> Path:
        return self.path / "records" / f"{kind.replace(' ', '-')}-{number:06d}.npz"


Store = MemoryStore | DiskStore


def is_there(path: Path) -> bool:
    """Whether a store has not been removed.

    Parameters
    ----------
    path : Path
        Of its directory.
    """
    try:  # opening asks the server of a shared file system; what is known here may be old
        os.close(os.open(Path(path) / "records", os.O_RDONLY))
    except OSError:
        return False
    return True


def _leading(axes: tuple[int | str, ...], samples: int) -> tuple[int, ...]:
    return tuple(axis if isinstance(axis, int) else -(-samples // 8) for axis in axes)

"""Where the work on a field is kept while it grows: in memory, or on disk and resumable.

Both hold arrays as large as the image, and records: what one stage of the work found in one block. A record
is written last and at once, so that its presence says that the block is finished.
"""

from __future__ import annotations

import functools
import math
import os
import shutil
from pathlib import Path

import numpy as np

from appulse.files import atomic_write

# Axes before those of the image, and dtype, of each array; "bytes" is one per eight realisations.
ARRAYS = {
    "p_galaxy": ((), "float32"),
    "p_overlap": ((), "float32"),
    "planes": ((2, "bytes"), "uint8"),  # as Realisations.planes
    "detections": (("bytes",), "uint8"),  # class >= 1 in the first pass
    "detected": ((), "int32"),  # pieces of objects in the first pass, numbered in each block
    "pieces": ((), "int32"),  # the same of the final maps
    "state": ((), "uint8"),  # bits CENTRED and BAD
}
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
        }
        self._records: dict[tuple[str, int], dict[str, np.ndarray]] = {}

    def array(self, name: str):
        """An array of `ARRAYS`, to be read and written by windows.

        Parameters
        ----------
        name : str
            Of the array.
        """
        return self._arrays[name]

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
        Of the directory; made where missing.
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
        (self.path / "records").mkdir(parents=True, exist_ok=True)

    @functools.lru_cache(maxsize=len(ARRAYS))  # noqa: B019  (a store lives as long as its process)
    def array(self, name: str):
        """An array of `ARRAYS`, to be read and written by windows.

        Parameters
        ----------
        name : str
            Of the array.
        """
        import zarr  # slow to import, and of no use to what fits into memory

        axes, dtype = ARRAYS[name]
        leading = _leading(axes, self.samples)
        try:
            return zarr.create_array(
                store=self.path / name,
                shape=(*leading, *self.shape),
                chunks=(*leading, *(min(self.chunk, side) for side in self.shape)),
                dtype=dtype,
                fill_value=0,
                compressors=zarr.codecs.BloscCodec(cname="zstd", clevel=1),
            )
        except zarr.errors.ContainsArrayError:  # of an earlier run, or made by another worker just now
            return zarr.open_array(self.path / name, mode="r+")

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
        """Write a record; from then on its block counts as finished.

        Parameters
        ----------
        kind : str
            Stage that made it.
        record : dict of str to array
            What it found.
        number : int
            Of the block.
        """
        atomic_write(self._record(kind, number), lambda path: np.savez_compressed(path, **record))

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

    @property
    def is_there(self) -> bool:
        """Whether it has not been removed."""
        return (self.path / "records").exists()

    @staticmethod
    def remove(path: Path) -> None:
        """Delete a store and its folder; records go first, so that no half of it looks like a whole.

        Parameters
        ----------
        path : Path
            Of the folder.
        """
        shutil.rmtree(path / "records", ignore_errors=True)
        for name in ARRAYS:
            shutil.rmtree(path / name, ignore_errors=True)
        shutil.rmtree(path, ignore_errors=True)

    def _record(self, kind, number):
        return self.path / "records" / f"{kind.replace(' ', '-')}-{number:06d}.npz"


Store = MemoryStore | DiskStore


def _leading(axes, samples):
    return tuple(-(-samples // 8) if axis == "bytes" else axis for axis in axes)


def sync_chunks(store: Store, names: tuple[str, ...], window: tuple[slice, slice]) -> None:
    """Make sure that what was written into a window survives a power cut; call it before `put`.

    Parameters
    ----------
    store : MemoryStore or DiskStore
        Where it was written.
    names : tuple of str
        Arrays.
    window : (slice, slice)
        Of the image.
    """
    if isinstance(store, MemoryStore):
        return
    for name in names:
        leading = [0] * len(ARRAYS[name][0])
        chunks = store.array(name).chunks[-2:]
        places = [range(side.start // n, -(-side.stop // n)) for side, n in zip(window, chunks, strict=True)]
        for row in places[0]:
            for column in places[1]:
                chunk = store.path / name / "c" / "/".join(map(str, [*leading, row, column]))
                if chunk.exists():  # an empty one is not written
                    with open(chunk, "rb") as file:
                        os.fsync(file.fileno())

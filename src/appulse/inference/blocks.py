"""Blocks of an image, the unit of work and of retry; and objects that are the same whatever the blocks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage, sparse

from appulse.objects.components import label_connected
from appulse.windows import Window, cells_met, common, cropped, shape_of

if TYPE_CHECKING:
    import zarr


@dataclass(frozen=True)
class Blocks:
    """An image divided into squares on a grid that begins at its first pixel.

    Parameters
    ----------
    shape : (height, width), pixels
        Of the image.
    size : int, pixels
        Of a block; those at the far sides are smaller.
    """

    shape: tuple[int, int]
    size: int

    @property
    def grid(self) -> tuple[int, int]:
        """Rows and columns of blocks."""
        return -(-self.shape[0] // self.size), -(-self.shape[1] // self.size)

    def __len__(self) -> int:
        return self.grid[0] * self.grid[1]

    def core(self, number: int) -> Window:
        """The pixels that a block owns.

        Parameters
        ----------
        number : int
            Of the block, in raster order from 0.
        """
        rows, columns = (
            slice(place * self.size, min((place + 1) * self.size, length))
            for place, length in zip(divmod(number, self.grid[1]), self.shape, strict=True)
        )
        return rows, columns

    def meeting(self, window: Window) -> list[int]:
        """Blocks that a window of the image meets.

        Parameters
        ----------
        window : (slice, slice)
            Of the image.
        """
        rows, columns = (range(side.start, side.stop) for side in cells_met(window, (self.size, self.size)))
        return [row * self.grid[1] + column for row in rows for column in columns]

    def owner(self, y: np.ndarray, x: np.ndarray) -> np.ndarray:
        """Block that owns each pixel.

        Parameters
        ----------
        y, x : (n,) int array
            Pixels of the image.
        """
        return np.asarray(y) // self.size * self.grid[1] + np.asarray(x) // self.size


@dataclass(frozen=True)
class Pieces:
    """The connected pieces of one block, as much of them as a neighbour needs to know.

    Parameters
    ----------
    area : (n,) int64 array, pixels
        Of each piece.
    first : (n,) int64 array
        Place of its first pixel in the image in raster order.
    boxes : (n, 4) int64 array
        First row, last row + 1, first column, last column + 1, in the image.
    top, bottom, left, right : (length,) int32 array
        Labels along the sides of the block.
    """

    area: np.ndarray
    first: np.ndarray
    boxes: np.ndarray
    top: np.ndarray
    bottom: np.ndarray
    left: np.ndarray
    right: np.ndarray

    @classmethod
    def of(cls, mask: np.ndarray, core: Window, width: int) -> tuple[np.ndarray, Pieces]:
        """Label a block.

        Parameters
        ----------
        mask : (height, width) bool array
            Pixels of objects.
        core : (slice, slice)
            Of the block in the image.
        width : int, pixels
            Of the image.

        Returns
        -------
        labels : (height, width) int32 array
            8-connected pieces, from 1 in raster order.
        pieces : Pieces
        """
        labels, count = label_connected(np.ascontiguousarray(mask))
        area = np.bincount(labels.ravel(), minlength=count + 1)[1:]
        top, left = core[0].start, core[1].start
        boxes = np.array(
            [
                (rows.start + top, rows.stop + top, columns.start + left, columns.stop + left)
                for rows, columns in ndimage.find_objects(labels)
            ],
            np.int64,
        ).reshape(-1, 4)
        # Pieces are numbered in raster order: the first pixel of each is where its number first comes.
        places = np.flatnonzero(labels)
        _, where = np.unique(labels.ravel()[places], return_index=True)
        y, x = np.divmod(places[where], labels.shape[1])
        first = (y + top) * width + x + left
        return labels, cls(area, first, boxes, labels[0], labels[-1], labels[:, 0], labels[:, -1])


@dataclass(frozen=True)
class Objects:
    """The objects of an image: pieces of its blocks joined across the seams, and numbered.

    Parameters
    ----------
    boxes : (n, 4) int64 array
        As in `Pieces`; object i, which counts from 1 in raster order of first pixels, has row i - 1.
    numbers : (total,) int64 array
        Object of each piece, block after block, with a 0 before each block's first; 0 for what is too small.
    starts : (blocks + 1,) int64 array
        Where each block begins in `numbers`.
    """

    boxes: np.ndarray
    numbers: np.ndarray
    starts: np.ndarray

    def __len__(self) -> int:
        return len(self.boxes)

    def box(self, number: int) -> Window:
        """Bounding box of an object.

        Parameters
        ----------
        number : int
            Of the object, from 1.
        """
        y0, y1, x0, x1 = (int(side) for side in self.boxes[number - 1])
        return slice(y0, y1), slice(x0, x1)

    def owned_by(self, block: int, blocks: Blocks) -> np.ndarray:
        """Objects whose centre a block owns.

        Parameters
        ----------
        block : int
            Number of the block.
        blocks : Blocks
            Division of the image.

        Returns
        -------
        (n,) int array
            Numbers of the objects, ascending.
        """
        y0, y1, x0, x1 = self.boxes.T
        return 1 + np.flatnonzero(blocks.owner((y0 + y1) // 2, (x0 + x1) // 2) == block)

    def meeting(self, window: Window) -> np.ndarray:
        """Objects whose boxes meet a window.

        Parameters
        ----------
        window : (slice, slice)
            Of the image.

        Returns
        -------
        (n,) int array
            Numbers of the objects, ascending.
        """
        y0, y1, x0, x1 = self.boxes.T
        rows, columns = window
        return 1 + np.flatnonzero(
            (y0 < rows.stop) & (y1 > rows.start) & (x0 < columns.stop) & (x1 > columns.start)
        )

    def label(self, labels: np.ndarray | zarr.Array, window: Window, blocks: Blocks) -> np.ndarray:
        """Objects of a window.

        Parameters
        ----------
        labels : (height, width) int array of the image
            Pieces, numbered block by block.
        window : (slice, slice)
            Of the image.
        blocks : Blocks
            Division of the image.

        Returns
        -------
        (height, width) int32 array
            Number of each pixel's object; 0 none.
        """
        found = np.empty(shape_of(window), np.int32)
        pieces = np.asarray(labels[window])
        for block in blocks.meeting(window):
            shared = common(blocks.core(block), window)
            assert shared is not None  # it meets the window
            part = cropped(shared, window)
            numbers = self.numbers[self.starts[block] : self.starts[block + 1]].astype(np.int32)
            found[part] = numbers[pieces[part]]
        return found


def join_pieces(pieces: list[Pieces], blocks: Blocks, min_area: int) -> Objects:
    """Objects of an image from the pieces of its blocks, by one union over all seams.

    Parameters
    ----------
    pieces : list of Pieces
        Of every block, in order.
    blocks : Blocks
        Division of the image.
    min_area : int, pixels
        Objects with fewer pixels are none.

    Returns
    -------
    Objects
        The same whatever the blocks, but for `Objects.numbers`.
    """
    counts = np.array([len(each.area) for each in pieces])
    offsets = np.concatenate([[0], np.cumsum(counts)])
    n_rows, n_columns = blocks.grid

    def along(numbers: np.ndarray, side: str) -> np.ndarray:
        """Labels along the sides of a row or column of blocks, made unique in the image; 0 stays 0."""
        lines = []
        for number in numbers:
            line = getattr(pieces[number], side).astype(np.int64)
            lines.append(np.where(line > 0, line + offsets[number], 0))
        return np.concatenate(lines)

    seams = []
    for row in range(n_rows - 1):
        numbers = np.arange(n_columns) + row * n_columns
        seams.append((along(numbers, "bottom"), along(numbers + n_columns, "top")))
    for column in range(n_columns - 1):
        numbers = np.arange(n_rows) * n_columns + column
        seams.append((along(numbers, "right"), along(numbers + 1, "left")))
    links = [np.empty((0, 2), np.int64)]
    for one, other in seams:
        for a, b in ((one, other), (one[1:], other[:-1]), (one[:-1], other[1:])):  # 8 neighbours
            both = (a > 0) & (b > 0)
            links.append(np.unique(np.stack([a[both], b[both]], axis=1), axis=0))
    a, b = (np.concatenate(links) - 1).T
    total = int(offsets[-1])
    graph = sparse.coo_matrix((np.ones(len(a), bool), (a, b)), shape=(total, total))
    count, group = sparse.csgraph.connected_components(graph, directed=False)

    area, first = np.zeros(count, np.int64), np.full(count, np.iinfo(np.int64).max)
    boxes = np.tile(np.array([first.max() if count else 0, 0] * 2, np.int64), (count, 1))
    every = [np.concatenate([getattr(each, name) for each in pieces]) for name in ("area", "first", "boxes")]
    np.add.at(area, group, every[0])
    np.minimum.at(first, group, every[1])
    for side, reduce in enumerate((np.minimum, np.maximum) * 2):
        reduce.at(boxes[:, side], group, every[2][:, side])
    kept = area >= min_area
    order = np.argsort(np.where(kept, first, np.iinfo(np.int64).max), kind="stable")[: np.count_nonzero(kept)]
    number = np.zeros(count, np.int64)
    number[order] = 1 + np.arange(len(order))
    by_block = [np.concatenate([[0], number[group[offsets[i] : offsets[i + 1]]]]) for i in range(len(pieces))]
    starts = np.concatenate([[0], np.cumsum(counts + 1)])
    return Objects(boxes[order], np.concatenate(by_block), starts)

"""Galaxies as masks that may overlap, and their one-to-one matching."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy import optimize, sparse, spatial

from appulse.windows import Window

# Bounding box in the common image, and boolean mask within it.
Mask = tuple[Window, np.ndarray]


@dataclass(frozen=True)
class GalaxyMatch:
    """One-to-one pairs of true and predicted galaxies.

    Parameters
    ----------
    true, predicted : (k,) int arrays
        Indices of the partners, ordered by ``true``.
    score : (k,) float array
        IoU of the masks, or distance of the centroids in pixels.
    """

    true: np.ndarray
    predicted: np.ndarray
    score: np.ndarray


def match_galaxies(
    true_masks: Sequence[Mask], predicted_masks: Sequence[Mask], iou_min: float = 0.5
) -> GalaxyMatch:
    """Match galaxies, whose masks may overlap, one to one by the IoU of their masks.

    Parameters
    ----------
    true_masks, predicted_masks : sequences of (slices, mask)
        Bounding box in the common image (a pair of slices: y, x) and the boolean mask within it.
    iou_min : float
        Pairs below this never match.

    Returns
    -------
    GalaxyMatch
        The pairing with the largest sum of IoU; ``score`` is IoU.
    """
    width = max((box[1].stop for box, _ in (*true_masks, *predicted_masks)), default=0)
    true_pixels, predicted_pixels = _mask_matrix(true_masks, width), _mask_matrix(predicted_masks, width)
    n_columns = max(true_pixels.shape[1], predicted_pixels.shape[1])
    true_pixels.resize(true_pixels.shape[0], n_columns)
    predicted_pixels.resize(predicted_pixels.shape[0], n_columns)
    shared = (true_pixels @ predicted_pixels.T).tocoo()
    true_area = np.asarray(true_pixels.sum(axis=1)).ravel()
    predicted_area = np.asarray(predicted_pixels.sum(axis=1)).ravel()
    iou = shared.data / (true_area[shared.row] + predicted_area[shared.col] - shared.data)
    possible = iou >= iou_min
    return _assign(shared.row[possible], shared.col[possible], iou[possible], iou[possible])


def _mask_matrix(masks: Sequence[Mask], width: int) -> sparse.csr_array:
    """Sparse (masks, pixels) matrix of ones."""
    each = [np.empty(0, dtype=np.int64)]
    for box, mask in masks:
        y, x = np.nonzero(mask)
        each.append((y + box[0].start) * width + x + box[1].start)
    n_pixels = [len(column) for column in each]
    columns = np.concatenate(each)
    ones = np.ones(len(columns), dtype=np.int64)
    shape = len(masks), int(columns.max(initial=-1)) + 1
    return sparse.csr_array((ones, columns, np.cumsum(n_pixels)), shape=shape)


def match_centroids(true_xy: np.ndarray, predicted_xy: np.ndarray, radius: float) -> GalaxyMatch:
    """Match galaxies one to one by the distance of their centroids.

    Parameters
    ----------
    true_xy : (n, 2) float array, pixels
    predicted_xy : (m, 2) float array, pixels
    radius : float, pixels
        Pairs farther apart never match. The BlendingToolKit takes 5, BLISS 1.

    Returns
    -------
    GalaxyMatch
        As many pairs as possible, and among those pairings the closest; ``score`` is the distance in pixels.
    """
    true_xy, predicted_xy = np.reshape(true_xy, (-1, 2)), np.reshape(predicted_xy, (-1, 2))
    if not len(true_xy) or not len(predicted_xy):
        return _assign(np.empty(0, int), np.empty(0, int), np.empty(0), np.empty(0))
    near = spatial.KDTree(true_xy).query_ball_tree(spatial.KDTree(predicted_xy), radius)
    true = np.repeat(np.arange(len(true_xy)), [len(partners) for partners in near])
    predicted = np.array([j for partners in near for j in partners], dtype=int)
    distance = np.linalg.norm(true_xy[true] - predicted_xy[predicted], axis=1)
    # One more pair outweighs any gain in distance.
    gain = 1 + min(len(true_xy), len(predicted_xy)) - distance / max(radius, np.finfo(float).tiny)
    return _assign(true, predicted, gain, distance)


def _assign(rows: np.ndarray, columns: np.ndarray, gain: np.ndarray, score: np.ndarray) -> GalaxyMatch:
    """One-to-one pairing of largest total gain; the Hungarian method on each connected block of pairs."""
    if not len(rows):
        return GalaxyMatch(np.empty(0, int), np.empty(0, int), np.empty(0))
    n_rows = int(rows.max()) + 1
    n_nodes = n_rows + int(columns.max()) + 1
    graph = sparse.coo_array((np.ones(len(rows)), (rows, columns + n_rows)), shape=(n_nodes, n_nodes))
    _, block_of_node = sparse.csgraph.connected_components(graph, directed=False)
    block = block_of_node[rows]
    order = np.argsort(block, kind="stable")
    picked = []
    for pairs in np.split(order, np.flatnonzero(np.diff(block[order])) + 1):
        if len(pairs) == 1:
            picked.append(pairs)
            continue
        block_rows, i = np.unique(rows[pairs], return_inverse=True)
        block_columns, j = np.unique(columns[pairs], return_inverse=True)
        gains = np.zeros((len(block_rows), len(block_columns)))
        pair_at = np.full(gains.shape, -1)
        gains[i, j], pair_at[i, j] = gain[pairs], pairs
        assigned = pair_at[optimize.linear_sum_assignment(gains, maximize=True)]
        picked.append(assigned[assigned >= 0])  # the others are cells without a possible pair
    chosen = np.concatenate(picked)
    chosen = chosen[np.argsort(rows[chosen])]
    return GalaxyMatch(rows[chosen], columns[chosen], score[chosen])

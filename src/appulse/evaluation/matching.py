"""Which predicted object belongs to which true one."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from appulse.sky.true_objects import TrueObjects, touches_border

# Below a half the match would not be one to one.
_IOU_MIN = 0.5


@dataclass(frozen=True)
class ObjectMatch:
    """Which predicted object is which true object, from :func:`match_objects`.

    Parameters
    ----------
    predicted : (n_true + 1,) int array
        Matched predicted label of each true object, or 0.
    true : (n_predicted + 1,) int array
        Matched true label of each predicted object, or 0.
    iou : (n_true + 1,) float array
        Highest IoU of each true object with any predicted one, matched or not.
    overlaps : (k, 3) int array
        Every overlapping pair: true label, predicted label, shared pixels.
    predicted_area : (n_predicted + 1,) int array, pixels
        Index 0 is not used.
    """

    predicted: np.ndarray
    true: np.ndarray
    iou: np.ndarray
    overlaps: np.ndarray
    predicted_area: np.ndarray

    @property
    def best_true(self) -> np.ndarray:
        """(n_predicted + 1,) int array: true object that shares most pixels with each predicted one, or 0."""
        true, predicted, shared = self.overlaps.T
        best = np.zeros(len(self.predicted_area), dtype=np.int64)
        ascending = np.argsort(shared, kind="stable")
        best[predicted[ascending]] = true[ascending]
        return best


def match_objects(true_labels: np.ndarray, predicted_labels: np.ndarray) -> ObjectMatch:
    """Match each true object with the predicted object that overlaps it best, by an IoU of 0.5 or more.

    Parameters
    ----------
    true_labels, predicted_labels : (height, width) int arrays
        Label images of 8-connected objects, 0 background.

    Returns
    -------
    ObjectMatch

    Raises
    ------
    ValueError
        If the shapes differ.

    Notes
    -----
    At IoU >= 0.5 the match is one to one by itself. If a prediction P overlapped two disjoint truths so, each
    would hold at least half of P, hence exactly half, and each union would be P: P would be the two truths
    glued together. Separate 8-connected components have a gap between them, so their union is no
    8-connected P. (Labels that are not components can tie at exactly 0.5; the lower true label wins.)
    """
    true_labels, predicted_labels = np.asarray(true_labels), np.asarray(predicted_labels)
    if true_labels.shape != predicted_labels.shape:
        raise ValueError(
            f"match_objects: truth {true_labels.shape}, prediction {predicted_labels.shape}; "
            "expected equal shapes."
        )
    true_area = np.bincount(true_labels.ravel())
    predicted_area = np.bincount(predicted_labels.ravel())
    overlaps = _shared_pixels(true_labels, predicted_labels, len(predicted_area))
    true, predicted, shared = overlaps.T
    iou = shared / (true_area[true] + predicted_area[predicted] - shared)

    best_iou = np.zeros(len(true_area))
    np.maximum.at(best_iou, true, iou)
    matched = iou >= _IOU_MIN
    # At exactly 0.5 one true object can tie between two predictions; np.unique keeps the lower label.
    first_true, first = np.unique(true[matched], return_index=True)
    first_predicted = predicted[matched][first]
    first_predicted, kept = np.unique(first_predicted, return_index=True)
    first_true = first_true[kept]
    to_predicted = np.zeros(len(true_area), dtype=np.int64)
    to_predicted[first_true] = first_predicted
    to_true = np.zeros(len(predicted_area), dtype=np.int64)
    to_true[first_predicted] = first_true
    return ObjectMatch(to_predicted, to_true, best_iou, overlaps, predicted_area)


def _shared_pixels(true_labels: np.ndarray, predicted_labels: np.ndarray, n_predicted: int) -> np.ndarray:
    both = np.flatnonzero((true_labels > 0) & (predicted_labels > 0))
    codes = true_labels.ravel()[both].astype(np.int64) * n_predicted + predicted_labels.ravel()[both]
    pairs, shared = np.unique(codes, return_counts=True)
    return np.column_stack([pairs // n_predicted, pairs % n_predicted, shared])


def excluded_predictions(truth: TrueObjects, predicted_labels: np.ndarray, match: ObjectMatch) -> np.ndarray:
    """Predicted objects that are neither right nor false, because the truth there is ignored.

    These are the ones matched to an ignored true object, and, of those matched to nothing, the ones with more
    than half of their pixels on ignored true objects, or a pixel on the image border. Where the truth has
    ``only_targets``, also those that share no pixel with an object that counts.

    Parameters
    ----------
    truth : TrueObjects
    predicted_labels : (height, width) int array
    match : ObjectMatch
        Of ``truth.labels`` and ``predicted_labels``.

    Returns
    -------
    (n_predicted + 1,) bool array
    """
    true, predicted, shared = match.overlaps.T
    n_predicted = len(match.predicted_area)
    on_ignored = np.bincount(predicted, weights=shared * truth.ignored[true], minlength=n_predicted)
    tied = (2 * on_ignored > match.predicted_area) | touches_border(predicted_labels, n_predicted)
    excluded = np.where(match.true > 0, truth.ignored[match.true], tied)
    if truth.only_targets:
        on_targets = np.bincount(predicted, weights=~truth.ignored[true], minlength=n_predicted)
        excluded |= on_targets == 0
    excluded[0] = False
    return excluded

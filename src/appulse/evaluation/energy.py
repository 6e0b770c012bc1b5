"""The energy score of a set of realisations: close to the truth, and as varied as they should be."""

from __future__ import annotations

import numpy as np


def energy_score(realisations: np.ndarray, truth: np.ndarray) -> float:
    """2 E d(S, Y) - E d(S, S') with d = 1 - IoU; smaller is better.

    The realisations S, S' are independent and Y is the truth, so over many truths the score is smallest, on
    average, for realisations drawn as the truth is: it is the squared generalised energy distance
    (Kohl et al. 2018, arXiv:1806.05034) less the term E d(Y, Y'), which is 0 for a single truth.

    Parameters
    ----------
    realisations : (samples, height, width) bool array
        At least two maps of one class: ``ternary >= 1``, or ``ternary == 2``.
    truth : (height, width) bool array

    Returns
    -------
    float
        Unbiased: the second mean runs over pairs of *different* realisations. It can be negative.

    Raises
    ------
    ValueError
        With fewer than two realisations, or if the shapes differ.
    """
    to_truth, between = energy_terms(realisations, truth)
    return 2 * to_truth - between


def energy_terms(realisations: np.ndarray, truth: np.ndarray) -> tuple[float, float]:
    """The two means of the energy score: E d(S, Y), the error, and E d(S, S'), the diversity.

    Parameters
    ----------
    realisations : (samples, height, width) bool array
        At least two maps of one class.
    truth : (height, width) bool array

    Returns
    -------
    error, diversity : float
        Mean distance 1 - IoU of the realisations from the truth, and of different ones from each other.

    Raises
    ------
    ValueError
        With fewer than two realisations, or if the shapes differ.
    """
    realisations, truth = np.asarray(realisations, dtype=bool), np.asarray(truth, dtype=bool)
    n_samples = len(realisations)
    if realisations.shape[1:] != truth.shape:
        raise ValueError(
            f"energy_score: realisations of {realisations.shape[1:]}, truth {truth.shape}; "
            "expected equal shapes."
        )
    if n_samples < 2:
        raise ValueError(f"energy_score: {n_samples} realisation(s); the spread needs at least 2.")
    maps = np.concatenate([realisations, truth[None]]).reshape(n_samples + 1, -1)
    maps = maps[:, maps.any(axis=0)]
    distance = 1 - _iou_matrix(maps)
    to_truth = distance[-1, :-1].mean()
    # The diagonal is 0, so the sum over all pairs is the sum over different ones.
    between = distance[:-1, :-1].sum() / (n_samples * (n_samples - 1))
    return float(to_truth), float(between)


def _iou_matrix(maps: np.ndarray) -> np.ndarray:
    """IoU of every pair of rows of a (maps, pixels) bool array; 1 for two empty ones."""
    # A float matrix product runs in BLAS, an integer one does not; float32 counts exactly up to 2^24 pixels.
    dtype = np.float32 if maps.shape[1] <= 2**24 else np.float64
    pixels: np.ndarray = maps.astype(dtype)
    shared = (pixels @ pixels.T).astype(np.float64)
    area = np.diagonal(shared)
    union = area[:, None] + area[None, :] - shared
    return np.divide(shared, union, out=np.ones_like(union), where=union > 0)

"""Scores of probability maps, pixel by pixel, and of the spreads that go with them."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from astropy.table import Table
from scipy import stats

from appulse.evaluation.intervals import Interval, bootstrap, bootstrap_mean

# Calibration is judged where the model hesitates; else background pixels swamp it.
UNCERTAIN = (0.02, 0.98)
N_BINS = 15
_FLOOR = 1e-7


@dataclass(frozen=True)
class Reliability:
    """Points of a reliability diagram.

    Parameters
    ----------
    probability : (bins,) float array
        Mean predicted probability of the pixels in a bin.
    frequency : (bins,) float array
        Share of them in which the event is true.
    n_pixels : (bins,) int array
    """

    probability: np.ndarray
    frequency: np.ndarray
    n_pixels: np.ndarray


def brier_score(probability: np.ndarray, truth: np.ndarray) -> float:
    """Mean squared difference of probability and event (Brier 1950); 0 is perfect, smaller is better.

    Parameters
    ----------
    probability : float array
    truth : bool array of the same shape
        NaN probabilities (bad pixels) are left out, here and below.

    Returns
    -------
    float
    """
    probability, truth = _finite(probability, truth)
    return float(np.mean((probability - truth) ** 2)) if probability.size else np.nan


def negative_log_likelihood(probability: np.ndarray, truth: np.ndarray) -> float:
    """Mean of -log of the probability given to what is true, in nats per pixel.

    Parameters
    ----------
    probability : float array
    truth : bool array of the same shape

    Returns
    -------
    float
        Finite in spite of certain mistakes: probabilities are kept 1e-7 from 0 and 1, about float32's
        resolution next to 1.
    """
    probability, truth = _finite(probability, truth)
    probability = np.clip(probability, _FLOOR, 1 - _FLOOR)
    return float(-np.mean(np.log(np.where(truth, probability, 1 - probability)))) if truth.size else np.nan


def reliability(probability: np.ndarray, truth: np.ndarray) -> Reliability:
    """Compare predicted probabilities with frequencies, in bins of equal numbers of uncertain pixels.

    Parameters
    ----------
    probability : float array
    truth : bool array of the same shape

    Returns
    -------
    Reliability
        Of `N_BINS` bins of the pixels with a probability strictly between those of `UNCERTAIN`. Equal
        probabilities always share a bin, so fewer and unequal bins may result; none without such a pixel.
    """
    probability, truth = _finite(probability, truth)
    uncertain = (probability > UNCERTAIN[0]) & (probability < UNCERTAIN[1])
    probability, truth = probability[uncertain], truth[uncertain]
    if not probability.size:
        return Reliability(np.empty(0), np.empty(0), np.empty(0, dtype=np.int64))
    edges = np.quantile(probability, np.linspace(0, 1, N_BINS + 1)[1:-1])
    bin_of = np.searchsorted(edges, probability)
    n_pixels = np.bincount(bin_of)
    filled = n_pixels > 0
    n_pixels = n_pixels[filled]
    mean_probability = np.bincount(bin_of, weights=probability)[filled] / n_pixels
    frequency = np.bincount(bin_of, weights=truth)[filled] / n_pixels
    return Reliability(mean_probability, frequency, n_pixels)


def expected_calibration_error(probability: np.ndarray, truth: np.ndarray) -> float:
    """Mean over pixels of ``|frequency - probability|`` in the bins of :func:`reliability`.

    Parameters
    ----------
    probability, truth
        As for :func:`reliability`.

    Returns
    -------
    float
        NaN if no pixel is uncertain. Even for perfect probabilities it is about
        ``0.8 sqrt(p (1 - p) N_BINS / n_pixels)``, not 0.
    """
    points = reliability(probability, truth)
    if not len(points.n_pixels):
        return np.nan
    return float(np.average(np.abs(points.frequency - points.probability), weights=points.n_pixels))


def _finite(probability: np.ndarray, truth: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Flat float64 probabilities and bool events of the pixels that are not NaN."""
    probability, truth = np.asarray(probability), np.asarray(truth, dtype=bool)
    if probability.shape != truth.shape:
        raise ValueError(f"probability {probability.shape}, truth {truth.shape}; expected equal shapes.")
    finite = np.isfinite(probability)
    return probability[finite].astype(np.float64), truth[finite]


def mean_in_bins(
    x: np.ndarray, values: np.ndarray, edges: np.ndarray, *, groups: np.ndarray | None = None
) -> Table:
    """Mean of a score in bins of another quantity: IoU by magnitude (paper, Figures 2 and 3), say.

    Parameters
    ----------
    x : (n,) float array
        The quantity that is binned, in any unit.
    values : (n,) float array
        The score; entries with a NaN in ``x`` or ``values`` are left out.
    edges : (bins + 1,) float array
        Ascending; a bin holds its lower edge.
    groups : (n,) array, optional
        What is resampled together, as for :func:`bootstrap_mean`.

    Returns
    -------
    astropy.table.Table
        Columns low_edge, high_edge, n, mean, mean_low, mean_high (bootstrap), std; NaN in empty bins.
    """
    x, values = np.asarray(x, dtype=np.float64), np.asarray(values, dtype=np.float64)
    groups = np.arange(len(x)) if groups is None else np.asarray(groups)
    good = np.isfinite(x) & np.isfinite(values)
    x, values, groups = (each[good] for each in (x, values, groups))
    bin_of = np.searchsorted(edges, x, side="right") - 1
    rows = []
    for i, (low_edge, high_edge) in enumerate(pairwise(edges)):
        inside, their_groups = values[bin_of == i], groups[bin_of == i]
        mean = bootstrap_mean(inside, groups=their_groups)
        spread = float(inside.std()) if inside.size else np.nan
        rows.append((float(low_edge), float(high_edge), inside.size, mean.value, mean.low, mean.high, spread))
    names = ("low_edge", "high_edge", "n", "mean", "mean_low", "mean_high", "std")
    return Table(rows=rows, names=names)


def rank_correlation(
    spread: np.ndarray, error: np.ndarray, given: np.ndarray | None = None, *, n_resamples: int = 1000
) -> Interval:
    """Spearman's correlation of a predicted spread with the size of the error actually made.

    Both grow with a galaxy's size, which alone correlates them. ``given`` takes that out, as a partial
    correlation of ranks: what the spread tells beyond it.

    Parameters
    ----------
    spread : (n,) float array
        Predicted standard deviation, or 1 - mean IoU between realisations; any unit.
    error : (n,) float array
        Absolute error; any unit. Rows with a NaN are left out.
    given : (n,) float array, optional
        What both depend on; any unit.
    n_resamples : int
        Of the bootstrap.

    Returns
    -------
    Interval
        NaN with fewer than 3 rows, or if a column is constant.
    """
    columns = [np.asarray(each, dtype=np.float64) for each in (spread, error, given) if each is not None]
    good = np.isfinite(columns).all(axis=0)
    statistic = _spearman if given is None else _partial_spearman
    return bootstrap(statistic, *(each[good] for each in columns), n_resamples=n_resamples)


def _spearman(first: np.ndarray, second: np.ndarray) -> float:
    if len(first) < 3 or np.ptp(first) == 0 or np.ptp(second) == 0:
        return np.nan
    return np.corrcoef(stats.rankdata(first), stats.rankdata(second))[0, 1]


def _partial_spearman(first: np.ndarray, second: np.ndarray, given: np.ndarray) -> float:
    direct, of_first, of_second = (
        _spearman(*pair) for pair in ((first, second), (first, given), (second, given))
    )
    left = (1.0 - of_first**2) * (1.0 - of_second**2)
    return (direct - of_first * of_second) / np.sqrt(left) if left > 0.0 else np.nan

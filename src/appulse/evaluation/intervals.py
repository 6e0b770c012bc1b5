"""Confidence intervals, so that no score stands alone."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy import special

DEFAULT_CONFIDENCE = 0.95
# Fewer groups than these do not tell how much they scatter: resampled, they seem to agree.
_FEWEST = 5
# Numbers drawn at once for the bootstrap of a mean.
_AT_ONCE = 1_000_000


@dataclass(frozen=True)
class Interval:
    """A score with the bounds of its confidence interval; NaN where there was nothing to score."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.3f} ({self.low:.3f} to {self.high:.3f})"


def bounded(name: str, interval: Interval) -> dict[str, float]:
    """Three columns of a table row: the value, and its bounds as ``name_low`` and ``name_high``.

    Parameters
    ----------
    name : str
    interval : Interval

    Returns
    -------
    dict of str to float
    """
    return {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}


def wilson(k: int, n: int, confidence: float = DEFAULT_CONFIDENCE) -> Interval:
    """Proportion ``k / n`` with Wilson's score interval.

    Parameters
    ----------
    k, n : int
        Successes and trials.
    confidence : float
        Coverage, between 0 and 1.

    Returns
    -------
    Interval
        With ``n = 0`` the value is NaN and the bounds 0 and 1: nothing is known.

    Raises
    ------
    ValueError
        Unless ``0 <= k <= n``.

    Notes
    -----
    Wilson 1927, J. Am. Stat. Assoc. 22, 209; it keeps its coverage near 0 and 1, where our scores lie.
    """
    if not 0 <= k <= n:
        raise ValueError(f"wilson: {k} successes in {n} trials; expected 0 <= k <= n.")
    if n == 0:
        return Interval(np.nan, 0.0, 1.0)
    share = k / n
    z = special.ndtri(0.5 + confidence / 2)
    scale = 1 / (1 + z**2 / n)
    centre = scale * (share + z**2 / (2 * n))
    half = scale * z * np.sqrt(share * (1 - share) / n + z**2 / (4 * n**2))
    # At k = 0 and k = n one bound equals the value exactly; rounding must not move it past.
    low = 0.0 if k == 0 else centre - half
    high = 1.0 if k == n else centre + half
    return Interval(share, float(low), float(high))


def difference(first: Interval, second: Interval) -> Interval:
    """First score less the second, with the interval that follows from both.

    Parameters
    ----------
    first, second : Interval
        Of two independent scores; of two on the same objects the interval is too wide, never too narrow, as
        long as the scores do not pull against each other.

    Returns
    -------
    Interval

    Notes
    -----
    Newcombe 1998, Stat. Med. 17, 873, method 10: each side adds in quadrature what the two intervals allow.
    """
    value = first.value - second.value
    low = value - np.hypot(first.value - first.low, second.high - second.value)
    high = value + np.hypot(first.high - first.value, second.value - second.low)
    return Interval(float(value), float(low), float(high))


def bootstrap(
    statistic: Callable[..., float],
    *columns: np.ndarray,
    n_resamples: int = 1000,
    seed: int = 0,
) -> Interval:
    """Value of a statistic with its percentile-bootstrap interval, resampling rows.

    Parameters
    ----------
    statistic : callable
        Takes the columns, returns a float.
    *columns : (n, ...) arrays
        Rows are resampled together.
    n_resamples : int
    seed : int

    Returns
    -------
    Interval
        NaN with no rows, bounds NaN with fewer than 5. Resamples on which the statistic is NaN do not count.

    Raises
    ------
    ValueError
        If the columns differ in length.
    """
    columns = tuple(np.asarray(column) for column in columns)
    n_rows = _equal_length(*columns)
    if not n_rows:
        return Interval(np.nan, np.nan, np.nan)
    value = float(statistic(*columns))
    if n_rows < _FEWEST:
        return Interval(value, np.nan, np.nan)
    values = np.empty(n_resamples)
    rng = np.random.default_rng(seed)
    for number in range(n_resamples):
        rows = rng.integers(n_rows, size=n_rows)
        values[number] = statistic(*(column[rows] for column in columns))
    return _percentiles(value, values)


def bootstrap_mean(
    values: np.ndarray, *, groups: np.ndarray | None = None, n_resamples: int = 1000, seed: int = 0
) -> Interval:
    """`bootstrap` of a mean, of which an evaluation takes hundreds: the same draws, many at a time.

    Parameters
    ----------
    values : (n,) float array
    groups : (n,) array, optional
        Rows with the same value here are drawn together, because they share their luck: the galaxies of one
        blend, say. By default every row stands for itself.
    n_resamples, seed
        As for `bootstrap`.

    Returns
    -------
    Interval
        As of `bootstrap`, with groups for rows.

    Raises
    ------
    ValueError
        If there are not as many groups as values.
    """
    values = np.asarray(values)
    groups = np.arange(len(values)) if groups is None else np.asarray(groups)
    if not _equal_length(values, groups):
        return Interval(np.nan, np.nan, np.nan)
    group_of = np.unique(groups, return_inverse=True)[1]
    mean, sizes = float(np.mean(values)), np.bincount(group_of)
    if len(sizes) < _FEWEST:
        return Interval(mean, np.nan, np.nan)
    sums = np.bincount(group_of, weights=values)
    means = np.empty(n_resamples)
    rng = np.random.default_rng(seed)
    step = max(_AT_ONCE // len(sizes), 1)
    for start in range(0, n_resamples, step):
        part = means[start : start + step]
        drawn = rng.integers(len(sizes), size=(len(part), len(sizes)))
        part[:] = sums[drawn].sum(axis=1) / sizes[drawn].sum(axis=1)
    return _percentiles(mean, means)


def _equal_length(*columns: np.ndarray) -> int:
    lengths = [len(column) for column in columns]
    if len(set(lengths)) > 1:
        raise ValueError(f"bootstrap: columns of {lengths} rows; expected equal lengths.")
    return lengths[0]


def _percentiles(value: float, resampled: np.ndarray) -> Interval:
    resampled = resampled[np.isfinite(resampled)]
    if len(resampled) == 0:
        return Interval(value, np.nan, np.nan)
    tail = (1 - DEFAULT_CONFIDENCE) / 2
    low, high = np.quantile(resampled, [tail, 1 - tail])
    return Interval(value, float(low), float(high))

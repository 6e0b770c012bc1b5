"""Error bars that hold the truth as often as they say: shifts, factors and quantiles, fitted."""

from __future__ import annotations

import numpy as np
from astropy.table import Table

from appulse.evaluation.interval_coverage import LEVEL_95
from appulse.evaluation.measured import deviations, snr
from appulse.network.calibration import ErrorBars

# A Gaussian's share within one standard deviation: what the 68 % interval is fitted to hold.
ONE_SIGMA = 0.683
# Factors on the spreads, ratios of the two intervals and shifts in spreads are kept within these.
_FACTOR_RANGE = (0.1, 10.0)
_RATIO_RANGE = (1.0, 10.0)
_SHIFT_RANGE = (-3.0, 3.0)
# Galaxies in a bin of signal-to-noise ratio, and bins at most: 150 know a coverage to 0.04.
_PER_BIN, _MOST_BINS = 150, 5


def needed_factors(table: Table, quantity: str, shift: float = 0.0) -> np.ndarray:
    """Factor on each galaxy's spread with which its interval just reaches the truth.

    Parameters
    ----------
    table : Table
        From `matched_galaxies`, its spreads uncalibrated.
    quantity : str
        One of `appulse.objects.MEASURED`.
    shift : float
        Of the middle of the interval, in spreads.

    Returns
    -------
    (n,) float64 array
        0 where the pixel noise alone covers the truth, infinite where there is no spread to multiply; NaN
        where something is unknown.
    """
    error, spread, noise = deviations(table, quantity)
    error = error - shift * spread
    beyond = np.sqrt(np.maximum(error**2 - noise**2, 0.0))
    beyond[np.isnan(error)] = np.nan
    with np.errstate(divide="ignore", invalid="ignore"):
        return np.where(beyond == 0, 0.0, beyond / spread)


def conformal_quantile(values: np.ndarray, level: float) -> float:
    """Bound that a new value stays below with at least a given probability.

    Parameters
    ----------
    values : (n,) float array
        Of exchangeable cases; NaN are left out.
    level : float
        Probability.

    Returns
    -------
    float
        The ceil((n + 1) level)-th smallest value; infinite where n is too small for the level.

    Notes
    -----
    Split conformal prediction (Vovk et al. 2005; Lei et al. 2018): valid whatever the distribution.
    """
    values = np.sort(values[~np.isnan(values)])
    rank = int(np.ceil((len(values) + 1) * level))
    return float(values[rank - 1]) if 0 < rank <= len(values) else np.inf


def median_shift(table: Table, quantity: str) -> float:
    """How many spreads the truth lies, in the median, above the middle of its interval.

    Realisations of most galaxies are larger and brighter than these are: what they add around one may belong
    to a neighbour, or to nobody.

    Parameters
    ----------
    table : Table
        From `matched_galaxies`, its spreads uncalibrated.
    quantity : str
        One of `appulse.objects.MEASURED`.

    Returns
    -------
    float
        0 for an orientation, by symmetry, and where no galaxy has a spread.
    """
    error, spread, _ = deviations(table, quantity)
    known = spread > 0
    if quantity == "orientation" or not known.any():
        return 0.0
    return float(np.clip(np.median(error[known] / spread[known]), *_SHIFT_RANGE))


def fit_error_bars(table: Table, quantity: str) -> ErrorBars:
    """Shifts and factors for the 68 % interval and ratios for the 95 % one, by signal-to-noise ratio.

    Parameters
    ----------
    table : Table
        From `matched_galaxies`, its spreads uncalibrated; not empty.
    quantity : str
        One of `appulse.objects.MEASURED`.

    Returns
    -------
    ErrorBars
        With up to 5 bins of equal numbers of galaxies, at least 150 each.
    """
    ratio = snr(table)
    n_bins = int(np.clip(len(table) // _PER_BIN, 1, _MOST_BINS))
    edges = np.nanquantile(ratio, np.linspace(0, 1, n_bins + 1)[1:-1])
    edges = np.unique(np.round(edges, 2))
    bin_of = np.searchsorted(edges, ratio, side="right")
    shifts, factors, ratios = [], [], []
    for k in range(len(edges) + 1):
        here = table[bin_of == k]
        shift = round(median_shift(here, quantity), 4)
        needed = needed_factors(here, quantity, shift)
        factor = float(np.clip(conformal_quantile(needed, ONE_SIGMA), *_FACTOR_RANGE))
        error, spread, noise = deviations(here, quantity)
        error = np.abs(error - shift * spread)
        with np.errstate(divide="ignore", invalid="ignore"):
            reached = np.where(error == 0, 0.0, error / np.hypot(factor * spread, noise))
        shifts.append(shift)
        factors.append(round(factor, 4))
        ratios.append(round(float(np.clip(conformal_quantile(reached, LEVEL_95), *_RATIO_RANGE)), 4))
    return ErrorBars(tuple(float(edge) for edge in edges), tuple(factors), tuple(ratios), tuple(shifts))

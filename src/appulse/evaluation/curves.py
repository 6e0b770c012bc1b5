"""Calibration curves: the logit that a network should have given, as an increasing function of its own."""

from __future__ import annotations

import numpy as np
from scipy import optimize, special

from appulse.network.calibration import IDENTITY, LOGIT_REACH

# Pixels are pooled in bins of their logit: with this width a bin's logits are one.
_BIN = 0.05
_REACH = 16.0
# What a bend of one unit between knots, and a slope one off, cost in nats: the data decide where
# there are some hundred pixels, and the curve goes straight on where there are none.
_STIFFNESS = 4.0
_TO_IDENTITY = 0.1
_LEAST_SLOPE = 0.05


def fit_curve(logits, truth):
    """Curve through the integer logits that maximises the likelihood of the truth.

    Parameters
    ----------
    logits : (n,) float array
        What was predicted.
    truth : (n,) bool array
        What is.

    Returns
    -------
    (2 LOGIT_REACH + 1,) tuple of float
        As `appulse.network.calibration.Calibration` holds it.
    """
    edges = np.arange(-_REACH, _REACH + _BIN / 2, _BIN)
    place = np.clip(np.digitize(logits, edges) - 1, 0, len(edges) - 2)
    counts = np.bincount(place, minlength=len(edges) - 1).astype(np.float64)
    hits = np.bincount(place, np.asarray(truth, np.float64), minlength=len(edges) - 1)
    centres = 0.5 * (edges[:-1] + edges[1:])
    used = counts > 0
    counts, hits = counts[used], hits[used]

    n = len(IDENTITY)
    # Column k: the value at each bin of the curve that is 1 at knot k and 0 at the others.
    basis = np.stack([along(knot, centres[used]) for knot in np.eye(n)], axis=1)
    # Values from the first one and the steps between them: increasing where the steps are positive.
    to_values = np.tril(np.ones((n, n)))
    bends = np.diff(np.eye(n), 2, axis=0) @ to_values

    def loss(parameters):
        values = to_values @ parameters
        calibrated = basis @ values
        likelihood = np.sum(counts * np.logaddexp(0.0, calibrated) - hits * calibrated)
        gradient = to_values.T @ (basis.T @ (counts * special.expit(calibrated) - hits))
        bend, away = bends @ parameters, parameters[1:] - 1.0
        gradient += 2 * _STIFFNESS * bends.T @ bend
        gradient[1:] += 2 * _TO_IDENTITY * away
        return likelihood + _STIFFNESS * bend @ bend + _TO_IDENTITY * away @ away, gradient

    start = np.concatenate(([IDENTITY[0]], np.ones(n - 1)))
    bounds = [(None, None), *[(_LEAST_SLOPE, None)] * (n - 1)]
    options = {"maxiter": 2000, "maxfun": 20_000, "ftol": 1e-13, "gtol": 1e-6}
    fitted = optimize.minimize(loss, start, jac=True, bounds=bounds, method="L-BFGS-B", options=options)
    return tuple(round(float(value), 4) for value in to_values @ fitted.x)


def along(curve, logits):
    """Calibrated logits.

    Parameters
    ----------
    curve : (2 LOGIT_REACH + 1,) sequence of float
        Calibration curve.
    logits : float array
        To correct.

    Returns
    -------
    float array of the same shape
    """
    curve, logits = np.asarray(curve), np.asarray(logits)
    index = np.clip(np.floor(logits + LOGIT_REACH).astype(int), 0, 2 * LOGIT_REACH - 1)
    return curve[index] + (logits + LOGIT_REACH - index) * (curve[index + 1] - curve[index])


def compose(first, then):
    """One curve in place of two.

    Parameters
    ----------
    first, then : (2 LOGIT_REACH + 1,) sequence of float
        Curves, in the order in which they were applied.

    Returns
    -------
    (2 LOGIT_REACH + 1,) tuple of float
        Exact at the integer logits.
    """
    return tuple(round(float(value), 4) for value in along(then, first))

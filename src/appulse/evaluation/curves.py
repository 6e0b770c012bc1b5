"""Calibration curves: the logit that a network should have given, as an increasing function of its own."""

from __future__ import annotations

import numpy as np
from scipy import optimize, special

from appulse.network.calibration import IDENTITY, LOGIT_REACH

# What a bend of one unit between knots, and a slope one off, cost in nats: the data decide where
# there are some hundred pixels, and the curve goes straight on where there are none.
_STIFFNESS = 4.0
_TO_IDENTITY = 0.1
_LEAST_SLOPE = 0.05
# Keeps the logarithm of a certain mistake finite.
_FLOOR = 1e-9


def fit_curve(logits, truth, *, within=1.0):
    """Curve through the integer logits that maximises the likelihood of the truth.

    The curve acts on every realisation, and the map is the mean of these: ``within * expit(curve(logit))``
    averaged over the draws. A curve fitted to the mean's own logit would be another one, because the mean of
    a steep function is not the function of the mean.

    Parameters
    ----------
    logits : (draws, n) float array
        What was predicted in each draw of the latent.
    truth : (n,) bool array
        What is.
    within : (draws, n) float array or 1, optional
        Probability, in each draw, of what the predicted event is a part of.

    Returns
    -------
    (2 LOGIT_REACH + 1,) tuple of float
        As `appulse.network.calibration.Calibration` holds it.
    """
    n = len(IDENTITY)
    index, share = _places(np.asarray(logits))
    # Values from the first one and the steps between them: increasing where the steps are positive.
    to_values = np.tril(np.ones((n, n)))
    bends = np.diff(np.eye(n), 2, axis=0) @ to_values
    sign = np.where(truth, 1.0, -1.0)

    def loss(parameters):
        curve = to_values @ parameters
        given = special.expit(curve[index] + share * (curve[index + 1] - curve[index]))
        probability = np.mean(within * given, axis=0)
        likely = np.clip(np.where(truth, probability, 1.0 - probability), _FLOOR, None)
        slope = within * given * (1.0 - given) * (-sign / likely / len(index))
        of_values = np.bincount(index.ravel(), (slope * (1.0 - share)).ravel(), minlength=n)
        of_values += np.bincount(index.ravel() + 1, (slope * share).ravel(), minlength=n)
        gradient = to_values.T @ of_values
        bend, away = bends @ parameters, parameters[1:] - 1.0
        gradient += 2 * _STIFFNESS * bends.T @ bend
        gradient[1:] += 2 * _TO_IDENTITY * away
        cost = -np.log(likely).sum()
        return cost + _STIFFNESS * bend @ bend + _TO_IDENTITY * away @ away, gradient

    start = np.concatenate(([IDENTITY[0]], np.ones(n - 1)))
    bounds = [(None, None), *[(_LEAST_SLOPE, None)] * (n - 1)]
    options = {"maxiter": 500, "maxfun": 2000, "ftol": 1e-11, "gtol": 1e-6}
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
    curve = np.asarray(curve)
    index, share = _places(np.asarray(logits))
    return curve[index] + share * (curve[index + 1] - curve[index])


def _places(logits):
    index = np.clip(np.floor(logits + LOGIT_REACH).astype(np.intp), 0, 2 * LOGIT_REACH - 1)
    return index, logits + LOGIT_REACH - index

"""Calibration curves: the logit that a network should have given, as an increasing function of its own."""

from __future__ import annotations

import numpy as np
from scipy import optimize, sparse, special

from appulse.network.calibration import IDENTITY, between_knots, curve_places

# What a bend of one unit between knots, and a slope one off, cost in nats: the data decide where
# there are some hundred pixels, and the curve goes straight on where there are none.
_STIFFNESS = 4.0
_TO_IDENTITY = 0.1
_LEAST_SLOPE = 0.05
# Keeps certain mistakes finite.
_FLOOR = 1e-9
_MOST_STEPS = 50
# The fit ends where a step gains less, in nats.
_PRECISION = 1e-6


def fit_curve(
    logits: np.ndarray,
    truth: np.ndarray,
    *,
    within: np.ndarray | float = 1.0,
    weights: np.ndarray | float = 1.0,
) -> tuple[float, ...]:
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
    weights : (n,) float array or 1, optional
        How many pixels each of these stands for.

    Returns
    -------
    (knots,) tuple of float
        As `appulse.network.calibration.Calibration` holds it.
    """
    n = len(IDENTITY)
    index, share = curve_places(np.asarray(logits, np.float64), n)
    # From the curve's first value and the steps between its values: it increases where these are positive.
    to_values = np.tril(np.ones((n, n)))
    bends = np.diff(np.eye(n), 2, axis=0) @ to_values
    slopes = np.eye(n)[1:]
    penalty = 2 * _STIFFNESS * bends.T @ bends + 2 * _TO_IDENTITY * slopes.T @ slopes
    least = np.append(-np.inf, np.full(n - 1, _LEAST_SLOPE))

    def cost(parameters: np.ndarray) -> float:
        probability, _ = _mean(to_values @ parameters, index, share, within)
        likely = np.where(truth, probability, 1.0 - probability)
        bend, away = bends @ parameters, slopes @ parameters - 1.0
        return -(weights * np.log(likely)).sum() + _STIFFNESS * bend @ bend + _TO_IDENTITY * away @ away

    parameters = np.append(IDENTITY[0], np.ones(n - 1))
    lowest = cost(parameters)
    for _ in range(_MOST_STEPS):  # Fisher's scoring, within the bounds
        probability, of_values = _mean(to_values @ parameters, index, share, within)
        information = weights / (probability * (1.0 - probability))
        curvature = (
            to_values.T @ (of_values.T @ of_values.multiply(information[:, None])) @ to_values + penalty
        )
        downhill = to_values.T @ (of_values.T @ ((truth - probability) * information))
        downhill -= 2 * _STIFFNESS * bends.T @ (bends @ parameters)
        downhill -= 2 * _TO_IDENTITY * slopes.T @ (slopes @ parameters - 1.0)
        root = np.linalg.cholesky(curvature + 1e-9 * np.eye(n))
        target = np.linalg.solve(root, downhill + curvature @ parameters)
        step = optimize.lsq_linear(root.T, target, (least, np.inf)).x - parameters
        reached = cost(parameters + step)
        while reached > lowest and np.abs(step).max() > _PRECISION:
            step *= 0.5
            reached = cost(parameters + step)
        if reached > lowest - _PRECISION:
            break
        parameters, lowest = parameters + step, reached
    return tuple(round(float(value), 4) for value in to_values @ parameters)


def _mean(
    curve: np.ndarray, index: np.ndarray, share: np.ndarray, within: np.ndarray | float
) -> tuple[np.ndarray, sparse.csr_array]:
    """Mean probability of the draws, (n,), and how it changes with the curve's values, sparse (n, knots)."""
    given = special.expit(between_knots(curve, index, share))
    slope = within * given * (1.0 - given) / len(index)
    of_values = sparse.csr_array((index.shape[1], len(curve)))
    for knots, parts, slopes in zip(index, share, slope, strict=True):
        # Each draw changes with the two values that it lies between.
        columns = np.stack([knots, knots + 1], axis=1).ravel()
        values = np.stack([slopes * (1.0 - parts), slopes * parts], axis=1).ravel()
        starts = 2 * np.arange(len(knots) + 1)
        of_values = of_values + sparse.csr_array((values, columns, starts), shape=of_values.shape)
    probability = np.clip(np.mean(within * given, axis=0), _FLOOR, 1.0 - _FLOOR)
    return probability, of_values

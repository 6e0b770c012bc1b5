"""Realisations of one stamp from its encoded features: a fused CPU kernel and its plain torch twin.

Both compute, per pixel and realisation, the combiner's remaining layers and then the class. The kernel
keeps a row of features in cache and streams the realisations over it, so fifty of them cost little more than
the network and memory does not grow with them. It serves combiners of one hidden layer; the twin serves any.
"""

from __future__ import annotations

import math

import numba
import numpy as np
import torch

from appulse.network.calibration import LOGIT_REACH

# log(2): the logit of P(class >= 1) lies between the larger of the two class scores and this much above it.
_LOG_TWO = math.log(2.0)
# Calibrated probabilities below exp(_NEGLIGIBLE) = 4.5e-5 count as 0 in the kernel's mean probabilities.
_NEGLIGIBLE = -10.0
# The kernel reads exp and log from tables, interpolated linearly: with this step the error is below 1e-6, and
# a table costs a fraction of the functions.
_STEPS = 256.0
_REACH = 16.0
_GRID = np.arange(0.0, _REACH + 1.5 / _STEPS, 1.0 / _STEPS)
_SIGMOID = (1.0 / (1.0 + np.exp(-np.concatenate((-_GRID[:0:-1], _GRID))))).astype(np.float32)
_SOFTPLUS = np.log1p(np.exp(-_GRID)).astype(np.float32)  # log(1 + exp(-x)), x >= 0


@numba.njit(inline="always")
def _sigmoid(x):
    place = min(
        max((x + np.float32(_REACH)) * np.float32(_STEPS), np.float32(0.0)), np.float32(2 * _REACH * _STEPS)
    )
    index = int(place)
    low = _SIGMOID[index + 1]
    return low + (place - np.float32(index)) * (_SIGMOID[index + 2] - low)


@numba.njit(inline="always")
def _softplus_of_minus(x):
    place = min(x, np.float32(_REACH)) * np.float32(_STEPS)
    index = int(place)
    low = _SOFTPLUS[index]
    return low + (place - np.float32(index)) * (_SOFTPLUS[index + 1] - low)


@numba.njit(inline="always")
def _calibrate(curve, x):
    place = x + np.float32(LOGIT_REACH)
    index = min(max(int(place), 0), 2 * LOGIT_REACH - 1)
    low = curve[index]
    return low + (place - np.float32(index)) * (curve[index + 1] - low)


@numba.njit(parallel=True, cache=True, error_model="numpy")
def _sample(joined, biases, weights, offsets, galaxy, overlap, thresholds, y0, x0, copula, classes, sums):
    """Fill ``classes`` (samples, height, width) and ``sums`` (2, height, width); see `sample_fused`."""
    n_channels, height, width = joined.shape
    n_samples = biases.shape[0]
    period = thresholds.shape[1]
    for y in numba.prange(height):
        one = np.empty(width, np.float32)  # score of class 1 over that of class 0
        two = np.empty(width, np.float32)  # score of class 2 over that of class 0
        row = (y0 + y) % period
        for x in range(width):
            sums[0, y, x] = 0.0
            sums[1, y, x] = 0.0
        for s in range(n_samples):
            for x in range(width):
                one[x] = offsets[0]
                two[x] = offsets[1]
            for c in range(n_channels):
                bias = biases[s, c]
                w_one = weights[0, c]
                w_two = weights[1, c]
                for x in range(width):
                    hidden = max(joined[c, y, x] + bias, np.float32(0.0))
                    one[x] += hidden * w_one
                    two[x] += hidden * w_two
            for x in range(width):
                classes[s, y, x] = 0
                top = max(one[x], two[x])
                threshold = thresholds[s, row, (x0 + x) % period]
                bound = _calibrate(galaxy, top + np.float32(_LOG_TWO))
                if copula and bound < np.float32(_NEGLIGIBLE) and bound < threshold:
                    continue
                # logit P(>= 1) = log(e^one + e^two); logit P(2 | >= 1) = two - one; both calibrated.
                score = top + _softplus_of_minus(top - min(one[x], two[x]))
                logit = _calibrate(galaxy, score)
                p_galaxy = _sigmoid(logit)
                p_overlap = p_galaxy * _sigmoid(_calibrate(overlap, two[x] - one[x]))
                sums[0, y, x] += p_galaxy
                sums[1, y, x] += p_overlap
                if copula:
                    if threshold < logit:
                        classes[s, y, x] = 2 if _sigmoid(threshold) < p_overlap else 1
                elif top > 0.0:
                    classes[s, y, x] = 2 if two[x] > one[x] else 1


@numba.njit(cache=True)
def pack_classes(classes):
    """Two bits per pixel and realisation; several times faster than ``np.packbits`` along the first axis.

    Parameters
    ----------
    classes : (samples, height, width) uint8 array
        Realisations.

    Returns
    -------
    (2, bytes, height, width) uint8 array
        Class >= 1, and class 2; bit k of the bytes (most significant first) is realisation k.
    """
    n_samples, height, width = classes.shape
    packed = np.zeros((2, (n_samples + 7) // 8, height, width), np.uint8)
    for s in range(n_samples):
        byte, bit = s >> 3, np.uint8(128 >> (s & 7))
        for y in range(height):
            for x in range(width):
                packed[0, byte, y, x] |= bit if classes[s, y, x] > 0 else np.uint8(0)
                packed[1, byte, y, x] |= bit if classes[s, y, x] > 1 else np.uint8(0)
    return packed


def sample_fused(joined_chw, latent_biases, combiner, calibration, thresholds, origin, mode):
    """Realisations of one stamp on the CPU.

    Parameters
    ----------
    joined_chw : (width, height, width) float32 array
        The combiner's first layer applied to the features.
    latent_biases : (samples, width) float32 array
        Its latent part, per realisation.
    combiner : Combiner
        With one hidden layer.
    calibration : Calibration
        Of the probabilities.
    thresholds : (samples, period, period) float32 array
        `random_sky.copula_field`.
    origin : (y0, x0)
        Of the stamp on the global grid.
    mode : {"copula", "latent"}
        How a realisation becomes classes.

    Returns
    -------
    classes : (samples, height, width) uint8 array
        Realisations.
    sums : (2, height, width) float32 array
        Calibrated P(class >= 1) and P(class 2), summed over the realisations.
    """
    last = combiner.rest[0]
    weight = last.weight.detach().float().reshape(3, -1).numpy()
    bias = last.bias.detach().float().numpy()
    n_samples = len(latent_biases)
    classes = np.empty((n_samples, *joined_chw.shape[1:]), np.uint8)
    sums = np.empty((2, *joined_chw.shape[1:]), np.float32)
    _sample(
        joined_chw,
        latent_biases,
        np.ascontiguousarray(weight[1:] - weight[0]),
        bias[1:] - bias[0],
        np.array(calibration.galaxy, np.float32),
        np.array(calibration.overlap, np.float32),
        thresholds,
        int(origin[0]),
        int(origin[1]),
        mode == "copula",
        classes,
        sums,
    )
    return classes, sums


def sample_torch(joined_bchw, latent_biases, combiner, calibration, thresholds, mode):
    """Realisations of a batch of stamps in plain torch: any combiner, any device.

    Parameters
    ----------
    joined_bchw : (batch, width, height, width) float tensor
        The combiner's first layer applied to the features.
    latent_biases : (samples, batch, width) float tensor
        Its latent part, per realisation.
    combiner : Combiner
        Any.
    calibration : Calibration
        Of the probabilities.
    thresholds : (samples, batch, height, width) float tensor
        `random_sky.copula_field`, looked at where each stamp lies.
    mode : {"copula", "latent"}
        How a realisation becomes classes.

    Returns
    -------
    classes : (samples, batch, height, width) uint8 tensor
        Realisations.
    sums : (2, batch, height, width) float32 tensor
        Calibrated P(class >= 1) and P(class 2), summed over the realisations.
    """
    batch, _, height, width = joined_bchw.shape
    device = joined_bchw.device
    classes = torch.empty((len(latent_biases), batch, height, width), dtype=torch.uint8, device=device)
    sums = torch.zeros((2, batch, height, width), device=device)
    for sample, bias in enumerate(latent_biases):
        logits = combiner(joined_bchw, bias).float()
        one, two = logits[:, 1] - logits[:, 0], logits[:, 2] - logits[:, 0]
        p_galaxy, p_overlap = calibrated(one, two, calibration)
        sums[0] += p_galaxy
        sums[1] += p_overlap
        if mode == "copula":
            uniform = torch.sigmoid(thresholds[sample])
            classes[sample] = (uniform < p_galaxy).to(torch.uint8) + (uniform < p_overlap)
        else:
            classes[sample] = logits.argmax(dim=1)
    return classes, sums


def calibrated(one, two, calibration):
    """Calibrated probabilities from the scores of classes 1 and 2 over class 0.

    Parameters
    ----------
    one, two : float tensor
        Logits of the two classes minus that of the background.
    calibration : Calibration
        Curves of the two logits.

    Returns
    -------
    p_galaxy, p_overlap : float tensor
        P(class >= 1), and P(class 2), which is never larger.
    """
    p_galaxy = torch.sigmoid(_along_curve(calibration.galaxy, torch.logaddexp(one, two)))
    p_given = torch.sigmoid(_along_curve(calibration.overlap, two - one))
    return p_galaxy, p_galaxy * p_given


def _along_curve(curve, logits):
    place = logits + LOGIT_REACH
    index = place.floor().clamp(0, 2 * LOGIT_REACH - 1).long()
    values = torch.tensor(curve, dtype=logits.dtype, device=logits.device)
    return torch.lerp(values[index], values[index + 1], place - index)


def latent_biases(combiner, latents):
    """The latent part of the combiner's first layer.

    Parameters
    ----------
    combiner : Combiner
        Of the network.
    latents : (..., latent) float tensor
        Draws.

    Returns
    -------
    (..., width) float tensor
    """
    weight = combiner.of_latent.weight
    # Not a matrix product: BLAS may round a row differently where it stands elsewhere in the batch.
    return (latents.to(weight.dtype)[..., None, :] * weight).sum(-1)

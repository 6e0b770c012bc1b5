"""Losses: weighted Dice, cross-entropy and the divergence of the two latent Gaussians."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F


def dice_coefficients(
    probabilities_bchw: torch.Tensor,
    ternary_bhw: torch.Tensor,
    *,
    smooth: float = 1.0,
    squared: bool = False,
) -> torch.Tensor:
    """Soft Dice coefficient of each class, reduced over the whole batch.

    ``D_c = (2 sum p y + s) / (sum p + sum y + s)``. Reducing over the batch keeps a gradient for classes that
    are absent from a single stamp, where Dice per image is a constant and then a cliff.

    Parameters
    ----------
    probabilities_bchw : (batch, classes, height, width) float tensor
        Softmax output.
    ternary_bhw : (batch, height, width) integer tensor
        Truth.
    smooth : float
        ``s``.
    squared : bool
        Squared denominators, as in Li et al. 2019 (arXiv:1911.02855).

    Returns
    -------
    (classes,) float32 tensor
    """
    p = probabilities_bchw.float()
    y = F.one_hot(ternary_bhw.long(), p.shape[1]).permute(0, 3, 1, 2).to(p.dtype)
    axes = (0, 2, 3)
    size = (p.square() if squared else p).sum(axes) + y.sum(axes)
    return (2.0 * (p * y).sum(axes) + smooth) / (size + smooth)


def weighted_dice(
    probabilities_bchw: torch.Tensor,
    ternary_bhw: torch.Tensor,
    weights: Sequence[float] = (0.4, 0.5, 0.9),
    *,
    smooth: float = 1.0,
    squared: bool = False,
    log_scales: torch.Tensor | None = None,
) -> torch.Tensor:
    """Weighted Dice loss of the paper: ``sum_c w_c (1 - D_c) / sum_c w_c``.

    With trainable scales ``s_c``, the loss of a class is ``exp(-s_c) (1 - D_c) + s_c`` instead (Kendall et
    al. 2018, arXiv:1705.07115): least where ``exp(s_c)`` is ``1 - D_c``, so that a class weighs the more the
    better it is already.

    Parameters
    ----------
    probabilities_bchw : (batch, classes, height, width) float tensor
        Softmax output.
    ternary_bhw : (batch, height, width) integer tensor
        Truth.
    weights : sequence of float
        Of background, isolated and blended pixels (paper, appendix A). All 0, there is no such loss.
    smooth, squared
        As `dice_coefficients` takes them.
    log_scales : (classes,) float32 tensor, optional
        ``s_c``.

    Returns
    -------
    float32 scalar tensor
        0 for a perfect prediction, towards 1 for a useless one; with scales it may fall below 0.
    """
    loss = 1.0 - dice_coefficients(probabilities_bchw, ternary_bhw, smooth=smooth, squared=squared)
    if log_scales is not None:
        loss = torch.exp(-log_scales) * loss + log_scales
    w = torch.as_tensor(weights, dtype=loss.dtype, device=loss.device)
    return (w * loss).sum() / w.sum().clamp(min=torch.finfo(w.dtype).tiny)

"""What `kernels` computes, in plain torch: any combiner, any device."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import torch

from appulse.inference.kernels import Mode
from appulse.inference.tiles import overlap
from appulse.network.calibration import Calibration, curve_end

if TYPE_CHECKING:
    from appulse.network.punet import Combiner


@torch.inference_mode()
def blend_torch(
    joined_chw: torch.Tensor,
    latent_biases: torch.Tensor,
    combiner: Combiner,
    calibration: Calibration,
    mode: Mode,
    shares: np.ndarray,
    corner: tuple[int, int],
    blended: np.ndarray,
    sums: np.ndarray,
) -> None:
    """`blend_fused` in plain torch: any combiner, any device.

    Parameters
    ----------
    joined_chw : (width, height, width) float tensor
        The combiner's first layer applied to the features.
    latent_biases : (latents, width) float tensor
        Its latent part, of each.
    combiner, calibration, mode, shares, corner, blended, sums
        As `blend_fused` takes them.
    """
    of_part, of_stamp = overlap(corner, len(shares), blended.shape[2:])
    share = (shares[:, None] * shares)[of_stamp]
    for latent, bias in enumerate(latent_biases):
        logits = combiner(joined_chw[None], bias[None]).float()[0]
        one, two = logits[1] - logits[0], logits[2] - logits[0]
        probabilities = [part.cpu().numpy()[of_stamp] for part in calibrated(one, two, calibration)]
        for total, part in zip(sums, probabilities, strict=True):
            total[of_part] += share * part
        if mode == "latent":
            p_galaxy = torch.sigmoid(torch.logaddexp(one, two))
            probabilities = [
                part.cpu().numpy()[of_stamp] for part in (p_galaxy, p_galaxy * torch.sigmoid(two - one))
            ]
        for total, part in zip(blended[:, latent], probabilities, strict=True):
            total[of_part] += share * part


def sample_torch(
    joined_bchw: torch.Tensor,
    latent_biases: torch.Tensor,
    combiner: Combiner,
    calibration: Calibration,
    uniform: torch.Tensor,
    mode: Mode,
) -> tuple[torch.Tensor, torch.Tensor]:
    """Realisations of a batch of stamps in plain torch: any combiner, any device.

    Parameters
    ----------
    joined_bchw : (batch, width, height, width) float tensor
        The combiner's first layer applied to the features.
    latent_biases : (samples or 1, batch, width) float tensor
        Its latent part, per realisation or for all.
    combiner : Combiner
        Any.
    calibration : Calibration
        Of the probabilities.
    uniform : (samples, batch, height, width) float tensor
        Phi(g) of the copula's fields where each stamp lies.
    mode : {"copula", "latent"}
        How a realisation becomes classes.

    Returns
    -------
    classes : (samples, batch, height, width) uint8 tensor
        Realisations.
    means : (2, batch, height, width) float32 tensor
        Calibrated P(class >= 1) and P(class 2), averaged over the latents.
    """
    batch, _, height, width = joined_bchw.shape
    device = joined_bchw.device
    classes = torch.empty((len(uniform), batch, height, width), dtype=torch.uint8, device=device)
    sums = torch.zeros((2, batch, height, width), device=device)
    for sample, drawn in enumerate(uniform):
        if sample < len(latent_biases):  # else the latent is the one before
            logits = combiner(joined_bchw, latent_biases[sample]).float()
            one, two = logits[:, 1] - logits[:, 0], logits[:, 2] - logits[:, 0]
            p_galaxy, p_overlap = calibrated(one, two, calibration)
            sums[0] += p_galaxy
            sums[1] += p_overlap
        if mode == "copula":
            classes[sample] = (drawn < p_galaxy).to(torch.uint8) + (drawn < p_overlap)
        else:
            classes[sample] = logits.argmax(dim=1)
    return classes, sums / len(latent_biases)


def calibrated(
    one: torch.Tensor, two: torch.Tensor, calibration: Calibration
) -> tuple[torch.Tensor, torch.Tensor]:
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


def _along_curve(curve: tuple[float, ...], logits: torch.Tensor) -> torch.Tensor:
    # `calibrated_logit` in torch, on the device where the logits are.
    end = curve_end(len(curve))
    place = logits.clamp(-end, end) + len(curve) // 2
    index = place.floor().clamp(0, len(curve) - 2).long()
    values = torch.tensor(curve, dtype=logits.dtype, device=logits.device)
    return torch.lerp(values[index], values[index + 1], place - index)


def latent_biases(combiner: Combiner, latents: torch.Tensor) -> torch.Tensor:
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

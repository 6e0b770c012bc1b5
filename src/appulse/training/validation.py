"""Scores on fixed stamps, with the latent drawn from the prior.

With the posterior's latent the truth leaks into the prediction and every score is too good: measured, a soft
Dice of the overlap class of 0.54 from the posterior where the prior gives 0.1.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from appulse.evaluation.detection import detection_from_ternary
from appulse.evaluation.scores import count_objects
from appulse.inference.two_step import class_map
from appulse.network.calibration import OperatingPoint
from appulse.network.config import N_CLASSES
from appulse.network.gaussian import kl_divergence
from appulse.network.punet import ProbabilisticUNet
from appulse.sky.field import Field
from appulse.sky.stored_field import read_field
from appulse.sky.true_objects import Kind, TrueObjects, true_objects
from appulse.stamps import StampConfig, grid_stamps
from appulse.stamps.grid import join_grid

# A latent dimension that carries less than this, in nats, is counted as empty.
ACTIVE_KL = 0.01
_CLASS_NAMES = ("background", "isolated", "overlap")
_HALF = OperatingPoint(0.5, 0.5)


@dataclass(frozen=True)
class ValidationStamps:
    """The fixed grid of one field of the selection seeds, with the noise of the field.

    Parameters
    ----------
    images : (n, size, size) float32 array, units of the noise
        Stamps in raster order.
    ternary : (n, size, size) uint8 array
        Truth.
    rows : int
        Rows of the grid.
    objects : TrueObjects
        Of the mosaic.
    """

    images: np.ndarray
    ternary: np.ndarray
    rows: int
    objects: TrueObjects

    @classmethod
    def of(cls, field: Field, config: StampConfig) -> ValidationStamps:
        """Cut a field.

        Parameters
        ----------
        field : Field
            At its own depth.
        config : StampConfig
            Gives size and threshold.
        """
        batch = grid_stamps(field, config)
        rows = field.image.shape[0] // config.size
        mosaic = join_grid(batch.ternary, rows)
        window = tuple(slice(0, side) for side in mosaic.shape)
        return cls(
            batch.images, batch.ternary, rows, true_objects(mosaic, field.id1[window], field.id2[window])
        )

    @classmethod
    def read(cls, path: str | Path, config: StampConfig) -> ValidationStamps:
        """Cut the field in a file.

        Parameters
        ----------
        path : str or Path
            A file of ``appulse simulate``.
        config : StampConfig
            Gives size and threshold.
        """
        return cls.of(read_field(path), config)


def validate(
    network: ProbabilisticUNet, stamps: ValidationStamps, *, samples: int = 8, batch_size: int = 32
) -> dict[str, float]:
    """Score a network.

    Parameters
    ----------
    network : ProbabilisticUNet
        With its posterior, for the divergence.
    stamps : ValidationStamps
        The fixed stamps.
    samples : int
        Latents per stamp, from the prior; the same at every call.
    batch_size : int
        Stamps per forward pass.

    Returns
    -------
    dict of str to float
        Per class Dice and IoU, and strict completeness and purity of objects, of the classes at thresholds of
        0.5; mean cross-entropy; divergence per latent dimension (nats) and the number of active ones;
        diversity (pixels in which two realisations differ, over pixels called galaxy); share of empty stamps
        with a false galaxy or a false overlap.
    """
    training = network.training
    network.eval()
    try:
        return _scores(network, stamps, samples, batch_size)
    finally:
        network.train(training)


@torch.inference_mode()
def _scores(
    network: ProbabilisticUNet, stamps: ValidationStamps, samples: int, batch_size: int
) -> dict[str, float]:
    device = next(network.parameters()).device
    dimensions = network.config.latent_dimensions
    generator = torch.Generator().manual_seed(0)
    n_stamps = len(stamps.images)
    predicted = np.zeros(stamps.ternary.shape, np.uint8)
    confusion = np.zeros((N_CLASSES, N_CLASSES))
    kl, cross_entropy, differing, lit = np.zeros(dimensions), 0.0, 0.0, 0.0
    for start in range(0, n_stamps, batch_size):
        part = slice(start, min(start + batch_size, n_stamps))
        images = torch.from_numpy(stamps.images[part])[:, None].to(device)
        truth = torch.from_numpy(stamps.ternary[part]).to(device)
        joined, prior = network.encode(images.contiguous(memory_format=torch.channels_last))
        kl += kl_divergence(network.encode_truth(images, truth), prior).sum(dim=0).cpu().numpy()
        draws = torch.randn(samples, len(images), dimensions, generator=generator).to(device)
        mean = torch.zeros(len(images), N_CLASSES, *images.shape[2:], device=device)
        votes = torch.zeros_like(mean)
        for draw in draws:
            probabilities = network.realise(joined, prior.at(draw)).float().softmax(dim=1)
            mean += probabilities / samples
            votes.scatter_add_(1, probabilities.argmax(dim=1, keepdim=True), torch.ones_like(mean[:, :1]))
        agreeing = (votes * (votes - 1)).sum(dim=1) / (samples * (samples - 1))
        differing += float((1.0 - agreeing).sum())
        of_truth = mean.gather(1, truth[:, None].long())
        cross_entropy -= float(of_truth.clamp_min(1e-9).log().mean()) * len(images) / n_stamps
        classes = class_map((1.0 - mean[:, 0]).cpu().numpy(), mean[:, 2].cpu().numpy(), _HALF)
        predicted[part] = classes
        lit += np.count_nonzero(classes)
        pairs = stamps.ternary[part].astype(np.int64) * N_CLASSES + classes
        confusion += np.bincount(pairs.ravel(), minlength=N_CLASSES**2).reshape(N_CLASSES, N_CLASSES)
    kl /= n_stamps
    return {
        **_class_scores(confusion),
        **_object_scores(predicted, stamps),
        **_empty_scores(predicted, stamps.ternary),
        "cross_entropy": cross_entropy,
        "diversity": differing / max(lit, 1.0),
        "active_dimensions": float((kl > ACTIVE_KL).sum()),
        "kl": float(kl.sum()),
        **{f"kl_{dimension}": float(value) for dimension, value in enumerate(kl)},
    }


def _class_scores(confusion: np.ndarray) -> dict[str, float]:
    both = np.diag(confusion)
    sizes = confusion.sum(axis=0) + confusion.sum(axis=1)
    scores = {}
    for name, shared, size in zip(_CLASS_NAMES, both, sizes, strict=True):
        scores[f"dice_{name}"] = float(2.0 * shared / size) if size else float("nan")
        scores[f"iou_{name}"] = float(shared / (size - shared)) if size else float("nan")
    return scores


def _object_scores(predicted: np.ndarray, stamps: ValidationStamps) -> dict[str, float]:
    counts = count_objects(stamps.objects, detection_from_ternary(join_grid(predicted, stamps.rows)))
    scores = {}
    for name, kind in (("isolated", Kind.ISOLATED), ("blended", Kind.BLENDED)):
        scores[f"completeness_{name}"] = counts.completeness(kind).value
        scores[f"purity_{name}"] = counts.purity(kind).value
    return scores


def _empty_scores(predicted: np.ndarray, truth: np.ndarray) -> dict[str, float]:
    empty = ~truth.any(axis=(1, 2))
    if not empty.any():
        return {"false_galaxy_on_empty": float("nan"), "false_overlap_on_empty": float("nan")}
    highest = predicted[empty].max(axis=(1, 2))
    return {
        "false_galaxy_on_empty": float((highest > 0).mean()),
        "false_overlap_on_empty": float((highest > 1).mean()),
    }

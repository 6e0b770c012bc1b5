"""What is found where there is nothing: images of pure noise."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from appulse.evaluation.detector import Detector
from appulse.evaluation.intervals import Interval, wilson
from appulse.inference.sampler import Sampler
from appulse.inference.two_step import draw_maps
from appulse.network.weights import Model
from appulse.objects.components import label_objects
from appulse.progress import Progress
from appulse.stamps.grid import cut_grid

# Width and number of the fields, and the first one's seed. In 4096 stamps nothing may be found if the
# interval is to begin at 0.999.
NOISE_SIDE, NOISE_FIELDS, _SEED = 4096, 4, 9900


def clean_stamps(
    model: Model,
    detectors: Sequence[Detector] = (),
    *,
    method: str = "two-step",
    samples: int = 50,
    side: int = NOISE_SIDE,
    fields: int = NOISE_FIELDS,
    progress: Progress | None = None,
) -> dict[str, Interval]:
    """Share of pure-noise stamps in which nothing is found.

    Parameters
    ----------
    model : Model
        To test, at its own thresholds.
    detectors : sequence of Detector
        To stand beside it.
    method : {"two-step", "grid"}
        As `appulse.segment` takes it.
    samples : int
        Realisations.
    side, fields : int
        Width, pixels, and number of the fields of noise.
    progress : callable, optional
        Called with the name of a stage, steps done and their total.

    Returns
    -------
    dict of str to Interval
        By detector, the model first.
    """
    clean: dict[str, list[np.ndarray]] = {}
    size = model.network.config.stamp_size
    for seed in range(_SEED, _SEED + fields):
        noise = np.random.default_rng(seed).standard_normal((side, side), dtype=np.float32)
        ours = objects_in_noise(model, noise, method=method, samples=samples, progress=progress)
        found = {model.name: ours}
        found |= {detector.name: detector.detect(noise).objects for detector in detectors}
        for name, labels in found.items():
            clean.setdefault(name, []).append(np.logical_not(cut_grid(labels, size).any(axis=(1, 2))))
    return {name: wilson(int(np.sum(stamps)), np.size(stamps)) for name, stamps in clean.items()}


def objects_in_noise(
    model: Model,
    noise: np.ndarray,
    *,
    method: str = "two-step",
    samples: int = 50,
    progress: Progress | None = None,
) -> np.ndarray:
    """What a model finds in pure noise, at its own thresholds.

    Parameters
    ----------
    model : Model
        To test.
    noise : (height, width) float32 array
        Unit noise.
    method : {"two-step", "grid"}
        As `appulse.segment` takes it.
    samples : int
        Realisations.
    progress : callable, optional
        Called with the name of a stage, steps done and their total.

    Returns
    -------
    (height, width) int array
        Labels; 0 where nothing is found.
    """
    point = model.operating_point("balanced")
    maps = draw_maps(noise, Sampler(model, samples, _SEED), method=method, progress=progress)
    return label_objects(maps.ternary(point), point.min_area)[0]

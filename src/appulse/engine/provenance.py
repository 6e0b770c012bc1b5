"""What a result says of itself: how it was made, and what in the image the model does not know."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from appulse.engine.describe import calibration_warnings, fitted_for
from appulse.engine.job import Job
from appulse.engine.observation import Observation
from appulse.inference.crowding import SAMPLING, measure_crowding
from appulse.network.bundled import range_warnings
from appulse.version import __version__
from appulse.words import counted

# With fewer realisations intervals are too narrow: of five, 68 % ones of areas held 0.44 where of fifty 0.56.
FEWEST_SAMPLES = 10


def provenance_of(job: Job, observation: Observation, operating_point: str) -> dict:
    """What produced a result, for headers and summary.

    Parameters
    ----------
    job : Job
        Of the field.
    observation : Observation
        The input.
    operating_point : str
        Name of the thresholds.
    """
    sampler = job.sampler
    return {
        "version": __version__,
        "model": sampler.model.name,
        "sha256": sampler.model.sha256,
        "seed": sampler.seed,
        "samples": sampler.samples,
        "method": job.method,
        "mode": sampler.mode,
        "operating_point": operating_point,
        "t_galaxy": job.point.t_galaxy,
        "t_overlap": job.point.t_overlap,
        **observation.origin,
        **({"origin": "{},{}".format(*sampler.origin)} if any(sampler.origin) else {}),
        "noise_ratio": round(job.noise.noise_ratio, 4),
        "noise_correlation": round(job.noise.correlation, 4),
    }


def warnings_of(job: Job) -> tuple[str, ...]:
    """What in an image is unlike what the model was trained for; one sentence each.

    Parameters
    ----------
    job : Job
        Of the field.
    """
    model = job.sampler.model
    # Sky that is left in has a warning of its own, and is no crowd.
    noise = replace(job.noise, subtract_background=True) if job.noise.leaves_sky else job.noise
    windows = SAMPLING.windows(job.blocks.shape)
    sample = [[noise.scale(job.exposure, window) for window in row] for row in windows]
    scaled, bad = (
        np.block([[getattr(part, name) for part in row] for row in sample]) for name in ("scaled", "bad")
    )
    crowding = measure_crowding(scaled, bad)
    return (
        *job.noise.warnings,
        *range_warnings(
            model.validity,
            job.noise.correlation,
            *crowding,
            noise_given=job.exposure.kind is not None,
            subtracted=job.noise.subtract_background,
        ),
        *calibration_warnings(fitted_for(model.calibration, job.sampler.mode)),
        *_few_realisations(job.sampler.samples),
    )


def _few_realisations(samples: int) -> list[str]:
    if samples >= FEWEST_SAMPLES:
        return []
    return [f"{counted(samples, 'realisation')}: too few for error bars, which want 20 or more"]

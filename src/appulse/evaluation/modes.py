"""The two ways of drawing realisations, side by side on one part of the sky."""

from __future__ import annotations

import numpy as np
from astropy.table import Table

from appulse.evaluation.ensembles import energy_columns
from appulse.evaluation.evidence import EVENTS, frequency
from appulse.evaluation.interval_coverage import LEVEL_68, covered
from appulse.evaluation.intervals import bootstrap_mean, bounded
from appulse.evaluation.measured import matched_galaxies
from appulse.evaluation.pixels import PixelTally
from appulse.evaluation.probabilities import drawn_logits, mean_probabilities
from appulse.inference.sampler import Mode
from appulse.network.calibration import Calibration
from appulse.network.weights import Model
from appulse.progress import Progress
from appulse.segmentation import segment
from appulse.sky.field import Field
from appulse.sky.true_objects import true_objects

MODES: tuple[Mode, ...] = ("copula", "latent")


def mode_table(model: Model, field: Field, *, samples: int = 50, progress: Progress | None = None) -> Table:
    """Calibration, coverage and liveliness of the realisations in each mode.

    Parameters
    ----------
    model : Model
    field : Field
        A part of a test field.
    samples : int
        Realisations.
    progress : callable, optional
        Called with the name of a stage, steps done and their total.

    Returns
    -------
    astropy.table.Table
        ``mode``; ``error_galaxy``, ``error_overlap``: calibration error of the frequencies over realisations;
        ``coverage_area``, ``coverage_flux``: of the 68 % intervals; ``energy`` and ``diversity`` of true
        objects (class >= 1), all with bounds. The intervals of mode ``latent`` are not calibrated.
    """
    ternary = field.ternary()
    truth = true_objects(ternary, field.id1, field.id2)
    labels = np.flatnonzero(~truth.ignored & (truth.kind > 0))
    rows = []
    for mode in MODES:
        result = segment(
            field.image, model=model, samples=samples, seed=field.seed, mode=mode, progress=progress
        )
        row: dict[str, object] = {"mode": mode}
        for event, level in EVENTS.items():
            tally = PixelTally.of(frequency(result, level), ternary >= level)
            row |= bounded(f"error_{event}", tally.calibration_error())
        measured = matched_galaxies(field, result)
        for quantity in ("area", "flux"):
            row |= bounded(f"coverage_{quantity}", covered(measured, quantity, model.calibration, LEVEL_68))
        columns = energy_columns(truth, ternary, result, labels)
        for column in ("energy", "diversity"):
            row |= bounded(column, bootstrap_mean(columns[column]))
        rows.append(row)
    return Table(rows=rows)


def calibration_gain(model: Model, field: Field, *, progress: Progress | None = None) -> Table:
    """What the calibration of the probabilities gains: the maps of both passes with and without it.

    Parameters
    ----------
    model : Model
    field : Field
        A test field.
    progress : callable, optional
        Called with the name of a stage, steps done and their total.

    Returns
    -------
    astropy.table.Table
        ``map``, ``calibrated``, and ``brier``, ``log_loss``, ``calibration_error`` with their bounds.
    """
    drawn = drawn_logits(model, field, latent_scale=model.calibration.latent_scale, progress=progress)
    galaxy, overlap = np.stack(list(drawn), axis=1)
    ternary = field.ternary()
    rows = []
    for calibrated, calibration in ((False, Calibration()), (True, model.calibration)):
        probabilities = mean_probabilities(galaxy, overlap, calibration)
        for (event, level), probability in zip(EVENTS.items(), probabilities, strict=True):
            tally = PixelTally.of(probability, ternary >= level)
            row = {"map": f"P_{event.upper()}", "calibrated": calibrated}
            row |= bounded("brier", tally.brier()) | bounded("log_loss", tally.log_loss())
            rows.append(row | bounded("calibration_error", tally.calibration_error()))
    table = Table(rows=rows)
    table.sort(["map", "calibrated"])
    return table

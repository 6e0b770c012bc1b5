"""Calibrated probabilities: how far the latent is drawn, and the curves of the two logits."""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from appulse.evaluation.curves import fit_curve
from appulse.inference.background import scale_to_noise
from appulse.inference.sampler import Sampler
from appulse.inference.two_step import draw_maps
from appulse.network.calibration import IDENTITY, Calibration, calibrated_logit
from appulse.network.weights import Model
from appulse.progress import Progress
from appulse.sky.field import Field
from appulse.tasks import gathered

# Factors on the prior's spread that are tried.
LATENT_SCALES = (0.0, 0.5, 1.0)
# Losses this close are equal. A field's own error is larger; the smaller scale costs less time.
_EQUAL = 0.01
# Draws of the latent to which the curves are fitted. Each costs a run of the network, because its logits are
# read from a map of that draw alone.
_DRAWS = 4
# Pixels to which a curve is fitted; of more, evenly spaced ones. Their neighbours would tell the same.
_MOST_PIXELS = 4_000_000
# Below lies nine tenths of the sky, of which one pixel in so many stands for the others: an odd number, so
# that it keeps to no columns. A curve that has not seen them goes on as it began: empty sky was given 5e-4,
# and 2e-4 is what fits.
LEAST_PROBABILITY = 1e-4
BACKGROUND_STRIDE = 31
_TINY = 1e-7
# Single precision rounds probabilities near 1, and with them every logit above 16; those of a quarter of the
# logits it keeps.
_QUARTERED = tuple(0.25 * logit for logit in IDENTITY)


@dataclass(frozen=True)
class Draws:
    """What the network says of a field in a few draws of the latent.

    All uncertain pixels are held, and of the others every so many.

    Parameters
    ----------
    pixels : (n,) int64 array
        Their places in the flat field.
    galaxy, overlap : (draws, n) float32 arrays
        Logits of P(class >= 1) and of P(class 2 | class >= 1), not calibrated.
    truth : (n,) uint8 array
        True classes.
    weights : (n,) float32 array
        How many pixels of the field each stands for.
    shape : (height, width), pixels
        Of the field.
    """

    pixels: np.ndarray
    galaxy: np.ndarray
    overlap: np.ndarray
    truth: np.ndarray
    weights: np.ndarray
    shape: tuple[int, int]

    @classmethod
    def of(
        cls,
        model: Model,
        field: Field,
        *,
        latent_scale: float,
        centred: bool = True,
        progress: Progress | None = None,
    ) -> Draws:
        """Look at a field.

        Parameters
        ----------
        model : Model
            Its calibration is put aside.
        field : Field
            An unseen one.
        latent_scale : float
            Factor on the prior's spread; at 0 there is one draw only.
        centred : bool
            Whether objects are drawn again in stamps of their own.
        progress : callable, optional
            Called with the name of a pass, stamps done and their total.
        """
        drawn = drawn_logits(model, field, latent_scale=latent_scale, centred=centred, progress=progress)
        logits = np.stack([both.reshape(2, -1) for both in drawn])
        ternary = field.ternary()
        # Chosen by what is predicted alone: a choice by the truth would bias the curves.
        uncertain = logits[:, 0].max(axis=0) > special.logit(LEAST_PROBABILITY)
        weights = np.zeros(uncertain.size, np.float32)
        weights[::BACKGROUND_STRIDE] = BACKGROUND_STRIDE
        weights[uncertain] = 1.0
        pixels = np.flatnonzero(weights)
        galaxy, overlap = logits[:, :, pixels].swapaxes(0, 1)
        return cls(pixels, galaxy, overlap, ternary.ravel()[pixels], weights[pixels], ternary.shape)

    def probabilities(self, calibration: Calibration) -> tuple[np.ndarray, np.ndarray]:
        """Calibrated P(class >= 1) and P(class 2) of the pixels, (n,) each.

        Parameters
        ----------
        calibration : Calibration
            Gives the curves.
        """
        return mean_probabilities(self.galaxy, self.overlap, calibration)

    def maps(self, calibration: Calibration) -> np.ndarray:
        """The same as maps, 0 in the background that was not looked at.

        Parameters
        ----------
        calibration : Calibration
            Gives the curves.

        Returns
        -------
        (2, height, width) float32 array
        """
        maps = np.zeros((2, self.shape[0] * self.shape[1]), np.float32)
        maps[:, self.pixels] = self.probabilities(calibration)
        return maps.reshape(2, *self.shape)


def drawn_logits(
    model: Model,
    field: Field,
    *,
    latent_scale: float,
    centred: bool = True,
    progress: Progress | None = None,
) -> Iterator[np.ndarray]:
    """Logits of a field in some draws of the latent, not calibrated.

    Parameters
    ----------
    model, field, latent_scale, centred, progress
        As for `Draws.of`.

    Yields
    ------
    (2, height, width) float32 array
        Those of P(class >= 1) and of P(class 2 | class >= 1).
    """
    plain = Calibration(galaxy=_QUARTERED, overlap=_QUARTERED, latent_scale=latent_scale)
    scaled = scale_to_noise(field.image).scaled
    for draw in range(_DRAWS if latent_scale else 1):
        sampler = Sampler(model.calibrated(plain), 1, field.seed + draw)
        maps = draw_maps(scaled, sampler, method="two-step" if centred else "grid", progress=progress)
        probability = np.stack([maps.p_galaxy, maps.p_overlap / np.maximum(maps.p_galaxy, _TINY)])
        quartered = special.logit(np.clip(probability.astype(np.float64), _TINY, 1.0 - _TINY))
        yield (4.0 * quartered).astype(np.float32)


def mean_probabilities(
    galaxy: np.ndarray, overlap: np.ndarray, calibration: Calibration
) -> tuple[np.ndarray, np.ndarray]:
    """Calibrated P(class >= 1) and P(class 2), the means over draws.

    Parameters
    ----------
    galaxy, overlap : (draws, ...) float arrays
        Logits, as `drawn_logits` gives them.
    calibration : Calibration
        Gives the curves.

    Returns
    -------
    p_galaxy, p_overlap : float arrays without the first axis
    """
    p_galaxy = special.expit(calibrated_logit(calibration.galaxy, galaxy))
    p_overlap = p_galaxy * special.expit(calibrated_logit(calibration.overlap, overlap))
    return p_galaxy.mean(axis=0), p_overlap.mean(axis=0)


def with_curves(calibration: Calibration, drawn: Sequence[Draws]) -> Calibration:
    """Calibration with the curves that make the truth of these pixels most likely.

    Parameters
    ----------
    calibration : Calibration
        Everything else.
    drawn : sequence of Draws
        One per field.

    Returns
    -------
    Calibration
    """
    step = max(1, sum(len(draws.pixels) for draws in drawn) // _MOST_PIXELS)
    galaxy, overlap = (
        np.concatenate([getattr(draws, name)[:, ::step] for draws in drawn], axis=1)
        for name in ("galaxy", "overlap")
    )
    truth, weights = (
        np.concatenate([getattr(draws, name)[::step] for draws in drawn]) for name in ("truth", "weights")
    )
    curve = fit_curve(galaxy, truth >= 1, weights=weights)
    within = special.expit(calibrated_logit(curve, galaxy))
    given = fit_curve(overlap, truth == 2, within=within, weights=weights)
    return dataclasses.replace(calibration, galaxy=curve, overlap=given)


def log_loss(drawn: Draws, calibration: Calibration) -> float:
    """Negative log likelihood of the true classes of a field, in nats.

    Parameters
    ----------
    drawn : Draws
        Of a field.
    calibration : Calibration
        Gives the curves.
    """
    galaxy, overlap = drawn.probabilities(calibration)
    classes = np.stack([1.0 - galaxy, galaxy - overlap, overlap])
    likely = np.take_along_axis(classes, drawn.truth[None].astype(np.intp), axis=0)
    return float(-(drawn.weights * np.log(np.clip(likely[0], _TINY, None))).sum())


def fit_latent_scale(
    model: Model, fields: Sequence[Field], *, workers: int = 1, progress: Progress | None = None
) -> float:
    """How far the latent should be drawn: the scale whose calibrated first pass makes the truth likeliest.

    Parameters
    ----------
    model : Model
        Trained.
    fields : sequence of Field
        Unseen ones, which count alike.
    workers : int
        Processes that share the scales.
    progress : callable, optional
        Called with the name of a pass or stage, steps done and their total.

    Returns
    -------
    float
        One of `LATENT_SCALES`.
    """
    job = functools.partial(_calibrated_loss, model=model, fields=fields)
    losses = list(gathered(job, LATENT_SCALES, "scales of the latent", workers, progress))
    good = (1.0 + _EQUAL) * min(losses)
    return min(scale for scale, loss in zip(LATENT_SCALES, losses, strict=True) if loss <= good)


def _calibrated_loss(scale: float, model: Model, fields: Sequence[Field], progress: Progress | None) -> float:
    drawn = [Draws.of(model, field, latent_scale=scale, centred=False, progress=progress) for field in fields]
    calibration = with_curves(Calibration(latent_scale=scale), drawn)
    return float(np.mean([log_loss(each, calibration) for each in drawn]))

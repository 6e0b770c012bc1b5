"""Calibrated probabilities: how far the latent is drawn, and the curves of the two logits."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special

from appulse.evaluation.curves import along, fit_curve
from appulse.inference.background import scale_to_noise
from appulse.inference.realisations import Sampler
from appulse.inference.two_step import first_pass, second_pass
from appulse.network.calibration import Calibration
from appulse.network.weights import Model
from appulse.sky.field import Field

Progress = Callable[[str, int, int], None]
# Factors on the prior's spread that are tried.
LATENT_SCALES = (0.0, 0.5, 1.0)
# Losses this close are equal. A field's own error is larger; the smaller scale costs less time.
_EQUAL = 0.01
# Draws of the latent to which the curves are fitted. Each costs a run of the network, because its logits are
# read from a map of that draw alone.
_DRAWS = 4
# Pixels to which a curve is fitted; of more, evenly spaced ones. Their neighbours would tell the same.
_MOST_PIXELS = 500_000
# The rest is background beyond doubt: it would only drown what can be learnt.
_LEAST_PROBABILITY = 1e-3
_TINY = 1e-7


@dataclass(frozen=True)
class Draws:
    """What the network says of the uncertain pixels of a field in a few draws of the latent.

    Parameters
    ----------
    pixels : (n,) int64 array
        Their places in the flat field.
    galaxy, overlap : (draws, n) float32 arrays
        Logits of P(class >= 1) and of P(class 2 | class >= 1), not calibrated.
    truth : (n,) uint8 array
        True classes.
    shape : (height, width), pixels
        Of the field.
    """

    pixels: np.ndarray
    galaxy: np.ndarray
    overlap: np.ndarray
    truth: np.ndarray
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
        calibration = Calibration(latent_scale=latent_scale)
        point = calibration.operating_points["balanced"]
        scaled = scale_to_noise(field.image).scaled
        maps = []
        for draw in range(_DRAWS if latent_scale else 1):
            sampler = Sampler(model.calibrated(calibration), 1, field.seed + draw)
            one = first_pass(scaled, sampler, progress)
            if centred:
                second_pass(scaled, one, sampler, point, progress)
            maps.append(np.stack([one.p_galaxy.ravel(), one.p_overlap.ravel()]))
        truth = field.ternary().ravel()
        # Chosen by what is predicted alone: a choice by the truth would bias the curves.
        pixels = np.flatnonzero(np.max([p_galaxy for p_galaxy, _ in maps], axis=0) > _LEAST_PROBABILITY)
        galaxy, overlap = np.stack([each[:, pixels] for each in maps], axis=1)
        given = overlap / np.maximum(galaxy, _TINY)
        return cls(pixels, _logit(galaxy), _logit(given), truth[pixels], field.image.shape)

    def probabilities(self, calibration: Calibration) -> tuple[np.ndarray, np.ndarray]:
        """Calibrated P(class >= 1) and P(class 2) of the pixels, (n,) each.

        Parameters
        ----------
        calibration : Calibration
            Gives the curves.
        """
        galaxy = special.expit(along(calibration.galaxy, self.galaxy))
        overlap = galaxy * special.expit(along(calibration.overlap, self.overlap))
        return galaxy.mean(axis=0), overlap.mean(axis=0)

    def maps(self, calibration: Calibration) -> np.ndarray:
        """The same as maps, 0 where background is beyond doubt.

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


def _logit(probability: np.ndarray) -> np.ndarray:
    return special.logit(np.clip(probability.astype(np.float64), _TINY, 1.0 - _TINY)).astype(np.float32)


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
    truth = np.concatenate([draws.truth[::step] for draws in drawn])
    curve = fit_curve(galaxy, truth >= 1)
    within = special.expit(along(curve, galaxy))
    given = fit_curve(overlap, truth == 2, within=within)
    return dataclasses.replace(calibration, galaxy=curve, overlap=given)


def log_loss(drawn: Draws, calibration: Calibration) -> float:
    """Negative log likelihood of the true classes of the uncertain pixels, in nats.

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
    return float(-np.log(np.clip(likely, _TINY, None)).sum())


def fit_latent_scale(model: Model, field: Field, progress: Progress | None = None) -> float:
    """How far the latent should be drawn: the scale whose calibrated first pass makes the truth likeliest.

    Parameters
    ----------
    model : Model
        Trained.
    field : Field
        An unseen one.
    progress : callable, optional
        Called with the name of a pass, stamps done and their total.

    Returns
    -------
    float
        One of `LATENT_SCALES`.
    """
    losses = {}
    for scale in LATENT_SCALES:
        drawn = Draws.of(model, field, latent_scale=scale, centred=False, progress=progress)
        losses[scale] = log_loss(drawn, with_curves(Calibration(latent_scale=scale), [drawn]))
    return min(scale for scale, loss in losses.items() if loss <= (1.0 + _EQUAL) * min(losses.values()))

"""Random fields that depend on the seed and on where one looks, never on who looks or in what order.

Each is made once, for a square of sky that repeats; a stamp reads the part at its own position. Stamps that
overlap see the same draws there, so nothing shrinks or shows a seam where they meet.
"""

from __future__ import annotations

import numpy as np
from scipy import fft, special

from appulse.inference.tiles import wrapped
from appulse.streams import OfSky, sky_stream

# Width of the repeating square, pixels: four stamps, so that no stamp sees a draw twice.
PERIOD = 512
# Stamp origins may be negative, and SeedSequence takes no negative number.
_OFFSET = 1 << 30


def empty_sky(seed: int) -> np.ndarray:
    """White unit noise that stands in for bad pixels and for the sky outside the image.

    Parameters
    ----------
    seed : int
        Of the run.

    Returns
    -------
    (PERIOD, PERIOD) float32 array, units of the noise
    """
    return sky_stream(seed, OfSky.EMPTY).standard_normal((PERIOD, PERIOD), dtype=np.float32)


def copula_field(seed: int, samples: int, correlation_length: float) -> np.ndarray:
    """Thresholds of the copula: ``logit(Phi(g))`` for a smooth Gaussian field g of mean 0 and variance 1.

    A class probability P is exceeded where ``logit(Phi(g)) < logit(P)``; Phi(g) is uniform, so that happens
    with probability P exactly, and neighbours within the correlation length decide alike.

    Parameters
    ----------
    seed : int
        Of the run.
    samples : int
        Realisations; the first ones do not depend on how many follow.
    correlation_length : float, pixels
        Standard deviation of the Gaussian that white noise is smoothed with; 0 leaves pixels independent.

    Returns
    -------
    (samples, PERIOD, PERIOD) float32 array
    """
    response = _response(PERIOD, correlation_length)
    field = np.empty((samples, PERIOD, PERIOD), np.float32)
    for sample in range(samples):
        white = sky_stream(seed, OfSky.COPULA, sample).standard_normal((PERIOD, PERIOD), dtype=np.float32)
        smooth = fft.irfft2(fft.rfft2(white) * response, s=(PERIOD, PERIOD))
        # log Phi(g) - log Phi(-g) keeps its precision in both tails.
        field[sample] = special.log_ndtr(smooth) - special.log_ndtr(-smooth)
    return field


def latent_draws(seed: int, samples: int, dimensions: int, origin: tuple[int, int]) -> np.ndarray:
    """Standard-normal draws of a stamp's latent.

    Parameters
    ----------
    seed : int
        Of the run.
    samples, dimensions : int
        Realisations, the first ones independent of how many follow; latent dimensions.
    origin : (y0, x0)
        Of the stamp on the global grid.

    Returns
    -------
    (samples, dimensions) float32 array
    """
    rng = sky_stream(seed, OfSky.LATENT, origin[0] + _OFFSET, origin[1] + _OFFSET)
    return rng.standard_normal((samples, dimensions), dtype=np.float32)


def smooth_latents(seed: int, samples: int, dimensions: int, nodes: int, smoothing: float) -> np.ndarray:
    """Draws of the latent that vary smoothly from stamp to stamp, so that neighbours may be blended.

    Parameters
    ----------
    seed : int
        Of the run.
    samples, dimensions : int
        Realisations, the first ones independent of how many follow; latent dimensions.
    nodes : int
        Stamps along either side of the square of sky that repeats.
    smoothing : float, nodes
        Standard deviation of the Gaussian that white noise is smoothed with.

    Returns
    -------
    (samples, dimensions, nodes, nodes) float32 array
        Of mean 0 and variance 1 in each stamp.
    """
    response = _response(nodes, smoothing)
    drawn = np.empty((samples, dimensions, nodes, nodes), np.float32)
    for sample in range(samples):
        white = sky_stream(seed, OfSky.SMOOTH_LATENT, sample).standard_normal((dimensions, nodes, nodes))
        drawn[sample] = fft.irfft2(fft.rfft2(white) * response, s=(nodes, nodes))
    return drawn


def _response(period: int, smoothing: float) -> np.ndarray:
    """What a Gaussian does to the frequencies of a periodic field, scaled so that its variance stays 1."""
    frequency_y, frequency_x = fft.fftfreq(period)[:, None], fft.rfftfreq(period)[None, :]
    response = np.exp(-2.0 * (np.pi * smoothing) ** 2 * (frequency_y**2 + frequency_x**2))
    # Unit variance: mean square of the response over all frequencies of the full (not the half) plane.
    twice = np.where((frequency_x == 0) | (frequency_x == 0.5), 1.0, 2.0)
    return response / np.sqrt(np.sum(twice * response**2) / period**2)


def look_at(field: np.ndarray, origin: tuple[int, int], shape: tuple[int, int]) -> np.ndarray:
    """The part of a repeating field at a position.

    Parameters
    ----------
    field : (..., PERIOD, PERIOD) array
        `empty_sky` or `copula_field`.
    origin : (y0, x0)
        Of the window on the global grid.
    shape : (height, width), pixels
        Of the window.

    Returns
    -------
    (..., height, width) array
    """
    rows, columns = wrapped(origin, shape, field.shape[-1])
    return field[..., rows, columns]

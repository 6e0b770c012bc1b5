"""What an ideal fit could tell of a blend: whether two galaxies, rather than one, explain its light.

The observer knows the PSF, the noise and the family of profiles (one sheared Sérsic galaxy), and claims a
blend where a second galaxy improves the fit by more than noise alone does, at a rate of false claims of its
choice. The second galaxy of a false claim may lie anywhere on the first, so the limit is that of the largest
of many chances. No bound in the strict sense: who knows how sizes and shapes are distributed may tell more.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from scipy import ndimage, optimize, stats

from appulse.sky.noise import whiten
from appulse.sky.oracle import half_width, model_image
from appulse.sky.rendering import Renderer

# How far the fit's parameters go: logarithms of flux and size, pixels, shear.
_SCALES = (1.0, 1.0, 1.0, 1.0, 0.3, 0.3)
_LARGEST_SHEAR = 0.8
_LARGEST_HALF_WIDTH = 64
# The Sérsic index is looked for in these steps of its logarithm, within what GalSim draws.
_INDEX_STEPS, _INDEX_RANGE = (0.3, 0.1), (0.3, 6.2)
# Half-light radii of the second galaxies that noise is searched for, over that of the first.
_SIZES = (0.25, 0.5, 1.0)
_BATCH = 64


def single_galaxy_misfit(renderer: Renderer, galaxies: np.ndarray) -> float:
    """Chi squared that the best single galaxy leaves of the noise-free light of several.

    Parameters
    ----------
    renderer : Renderer
        Of the survey; its background noise is what is divided by.
    galaxies : (n, 7) float array
        Of each galaxy, as `appulse.sky.oracle.model_image` takes them, and its Sérsic index: flux,
        half-light radius (arcsec), x, y (pixels, from a common pixel), two components of the shear, index.

    Returns
    -------
    float
        0 where one galaxy looks exactly like them; within a tenth of a step of the index.
    """
    galaxies = np.atleast_2d(np.asarray(galaxies, np.float64)).copy()
    galaxies[:, 2:4] -= np.round(np.average(galaxies[:, 2:4], axis=0, weights=galaxies[:, 0]))
    half = max(half_width(renderer, each[:6], each[6]) for each in galaxies)
    half = min(half + int(np.ceil(np.abs(galaxies[:, 2:4]).max())), _LARGEST_HALF_WIDTH)
    light = sum(model_image(renderer, each[:6], each[6], half) for each in galaxies)

    def fit(start: Sequence[float], index: float) -> optimize.OptimizeResult:
        # The logarithms of flux and size, so that neither becomes negative.
        def residuals(parameters: np.ndarray) -> np.ndarray:
            flux, radius, x, y, g1, g2 = parameters
            shrink = min(1.0, _LARGEST_SHEAR / max(np.hypot(g1, g2), 1e-9))
            drawn = np.array([np.exp(flux), np.exp(np.clip(radius, -5, 3)), x, y, shrink * g1, shrink * g2])
            left = (model_image(renderer, drawn, index, half) - light) / renderer.survey.sigma
            return whiten(left, renderer.survey.correlation).ravel()

        return optimize.least_squares(residuals, start, x_scale=_SCALES, ftol=1e-3, xtol=1e-4)

    brightest = galaxies[np.argmax(galaxies[:, 0])]
    reach = renderer.survey.pixel_scale * np.abs(galaxies[:, 2:4]).max()
    starts = [
        # The brightest alone, and one galaxy that covers them all.
        (*np.log(brightest[:2]), *brightest[2:6]),
        (np.log(galaxies[:, 0].sum()), np.log(brightest[1] + reach), 0.0, 0.0, 0.0, 0.0),
    ]
    index = brightest[6]
    best = min((fit(start, index) for start in starts), key=lambda found: found.cost)
    for step in _INDEX_STEPS:
        for direction in (step, -step):
            while best.cost > 1e-3:
                moved = float(np.clip(index * np.exp(direction), *_INDEX_RANGE))
                found = fit(best.x, moved)
                if found.cost > 0.999 * best.cost:
                    break
                best, index = found, moved
    return 2.0 * float(best.cost)


def claim_limit(
    renderer: Renderer, galaxy: np.ndarray, false_claims: float, *, draws: int = 20_000, seed: int = 0
) -> float:
    """Improvement of chi squared past which a second galaxy is claimed beside a single one.

    To first order: the noise, without what the single galaxy's parameters take up, is searched for round
    exponential galaxies of three sizes, of positive flux, centred on any pixel of the galaxy or its rim.

    Parameters
    ----------
    renderer : Renderer
        Of the survey.
    galaxy : (7,) float array
        A single galaxy, as in `single_galaxy_misfit`.
    false_claims : float
        Share of such galaxies that may be taken for a blend.
    draws, seed : int
        Of the noise.

    Returns
    -------
    float
    """
    galaxy = np.array(galaxy, np.float64)
    galaxy[2:4] = 0.0
    half = min(half_width(renderer, galaxy[:6], galaxy[6]), _LARGEST_HALF_WIDTH)
    known = _tangent(renderer, galaxy, half)
    templates = second_galaxies(renderer, galaxy, half)
    shape = known.shape[1:]
    spectra = [np.conj(np.fft.rfft2(template)) for template in templates]

    def correlated(images: np.ndarray, spectrum: np.ndarray) -> np.ndarray:
        return np.fft.irfft2(np.fft.rfft2(images) * spectrum, s=shape)

    lit = model_image(renderer, galaxy[:6], galaxy[6], half) > renderer.survey.sigma
    lit[half, half] = True
    lit = ndimage.binary_dilation(lit, iterations=2)
    # The templates' centre is the middle pixel, that of a correlation the first.
    lit = np.fft.ifftshift(lit)
    norms = [
        np.maximum((template**2).sum() - (correlated(known, spectrum) ** 2).sum(axis=0), 1e-9)[lit]
        for template, spectrum in zip(templates, spectra, strict=True)
    ]
    rng = np.random.default_rng(seed)
    flat = known.reshape(len(known), -1)
    gains: list[float] = []
    while len(gains) < draws:
        noise = rng.standard_normal((_BATCH, flat.shape[1]))
        noise = (noise - (noise @ flat.T) @ flat).reshape(-1, *shape)
        best = np.zeros(_BATCH)
        for spectrum, norm in zip(spectra, norms, strict=True):
            found = np.maximum(correlated(noise, spectrum)[:, lit], 0.0) ** 2 / norm
            best = np.maximum(best, found.max(axis=1))
        gains += best.tolist()
    return float(np.quantile(gains, 1.0 - false_claims))


def second_galaxies(renderer: Renderer, galaxy: np.ndarray, half: int) -> list[np.ndarray]:
    """What noise is searched for beside a single galaxy.

    Parameters
    ----------
    renderer : Renderer
        Of the survey.
    galaxy : (7,) float array
        The single one.
    half : int, pixels
        Images are ``2 * half + 1`` wide.

    Returns
    -------
    list of (side, side) float64 array
        Whitened, of unit sum of squares, centred on the middle pixel.
    """
    drawn = [
        model_image(renderer, np.array([1.0, size * galaxy[1], 0, 0, 0, 0]), 1.0, half) for size in _SIZES
    ]
    images = [whiten(image, renderer.survey.correlation) for image in drawn]
    return [image / np.sqrt((image**2).sum()) for image in images]


def _tangent(renderer: Renderer, galaxy: np.ndarray, half: int) -> np.ndarray:
    """Orthonormal whitened images that small changes of a galaxy's parameters, its index among them, span."""
    steps = np.array([0.02 * galaxy[0], 0.02 * galaxy[1], 0.05, 0.05, 0.01, 0.01, 0.03 * galaxy[6]])
    derivatives = []
    for k, step in enumerate(steps):
        up, down = galaxy.copy(), galaxy.copy()
        up[k] += step
        down[k] -= step
        drawn = [model_image(renderer, each[:6], each[6], half) for each in (up, down)]
        change = whiten((drawn[0] - drawn[1]) / step, renderer.survey.correlation)
        derivatives.append(change.ravel())
    matrix = np.array(derivatives).T
    q, _ = np.linalg.qr(matrix / np.sqrt((matrix**2).sum(axis=0)))
    return q.T.reshape(len(steps), 2 * half + 1, 2 * half + 1)


def recognised(misfit: np.ndarray, limit: float) -> np.ndarray:
    """Share of such blends that are claimed.

    Parameters
    ----------
    misfit : float array
        From `single_galaxy_misfit`.
    limit : float
        From `claim_limit`.

    Returns
    -------
    float array
    """
    # Along the second galaxy's own light, noise adds a number of unit variance to the root of the misfit.
    return stats.norm.cdf(np.sqrt(misfit) - np.sqrt(limit))

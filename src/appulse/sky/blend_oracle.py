"""What an ideal observer can know of a blend: whether two galaxies, rather than one, explain its light.

The observer knows the PSF, the noise and the family of profiles (one Sérsic galaxy, sheared), fits one galaxy
and two, and claims a blend where two fit better than noise would let them. For two true galaxies the gain in
chi squared follows a noncentral distribution, whose noncentrality is the chi squared that the best single
galaxy leaves of the noise-free light. No detector with the same rate of false claims can find more in such
light, whatever it was trained on, but for what the distributions of sizes and shapes tell beforehand.
"""

from __future__ import annotations

import numpy as np
from scipy import optimize, stats

from appulse.sky.oracle import half_width, model_image
from appulse.sky.rendering import Renderer

# Flux, size, place and shear of the second galaxy; its Sérsic index is not counted.
FREEDOM = 6
# Sérsic indices that the single galaxy tries; the fit moves all else.
_INDICES = (1.0, 0.5, 2.0, 4.0)
_LARGEST_SHEAR = 0.8
# How far the fit's parameters go: logarithms of flux and size, pixels, shear.
_SCALES = (1.0, 1.0, 1.0, 1.0, 0.3, 0.3)
# Where a single galaxy of the first index fails by this much, the other indices are not tried: every observer
# sees that there are two.
_HOPELESS = 3000.0
_LARGEST_HALF_WIDTH = 64


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
        0 where one galaxy looks exactly like them; an upper bound where it is in the thousands.
    """
    galaxies = np.atleast_2d(np.asarray(galaxies, np.float64))
    centre = np.round(np.average(galaxies[:, 2:4], axis=0, weights=galaxies[:, 0]))
    galaxies = galaxies.copy()
    galaxies[:, 2:4] -= centre
    half = max(half_width(renderer, each[:6], each[6]) for each in galaxies)
    half = min(half + int(np.ceil(np.abs(galaxies[:, 2:4]).max())), _LARGEST_HALF_WIDTH)
    light = sum(model_image(renderer, each[:6], each[6], half) for each in galaxies)
    sigma = renderer.survey.sigma
    scale = renderer.survey.pixel_scale

    def fit(start, index):
        # The logarithm of flux and size, so that neither becomes negative.
        def residuals(parameters):
            flux, radius, x, y, g1, g2 = parameters
            shrink = min(1.0, _LARGEST_SHEAR / max(np.hypot(g1, g2), 1e-9))
            drawn = (np.exp(flux), np.exp(np.clip(radius, -5, 3)), x, y, shrink * g1, shrink * g2)
            return ((model_image(renderer, drawn, index, half) - light) / sigma).ravel()

        return optimize.least_squares(residuals, start, x_scale=_SCALES, ftol=1e-3, xtol=1e-4)

    brightest = galaxies[np.argmax(galaxies[:, 0])]
    total = galaxies[:, 0].sum()
    starts = [
        # The brightest alone, and one galaxy that covers them all.
        (np.log(brightest[0]), np.log(brightest[1]), *brightest[2:6]),
        (np.log(total), np.log(brightest[1] + scale * np.abs(galaxies[:, 2:4]).max()), 0.0, 0.0, 0.0, 0.0),
    ]
    best = min((fit(start, _INDICES[0]) for start in starts), key=lambda found: found.cost)
    cost = best.cost
    if 2.0 * cost > _HOPELESS:
        return 2.0 * float(cost)
    for index in _INDICES[1:]:
        cost = min(cost, fit(best.x, index).cost)
    return 2.0 * float(cost)


def ideal_recognition(misfit: np.ndarray, false_claims: float) -> np.ndarray:
    """Share of such blends that the ideal observer recognises.

    Parameters
    ----------
    misfit : float array
        From `single_galaxy_misfit`.
    false_claims : float
        Share of single galaxies that it may take for a blend.

    Returns
    -------
    float array
    """
    limit = stats.chi2.isf(false_claims, FREEDOM)
    return stats.ncx2.sf(limit, FREEDOM, np.maximum(misfit, 1e-9))

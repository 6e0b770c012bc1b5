"""What no detector can pass: an ideal fit to each galaxy, limited by the background noise alone.

The oracle knows that there is one galaxy, its Sérsic index and the PSF, and fits the other six numbers: flux,
half-light radius, centre and the two components of the shear. Its errors are those of the Cramér-Rao bound;
its mask is the isophote of the fitted profile.
"""

from __future__ import annotations

import itertools

import numpy as np
from astropy.table import Table

from appulse.sky.rendering import Renderer
from appulse.sky.survey import Survey

# Steps of the numerical derivatives: relative in flux and size, pixels in position, absolute in shear.
_STEPS = np.array([0.02, 0.02, 0.05, 0.05, 0.01, 0.01])
_LARGEST_SHEAR = 0.8
_HALF_WIDTH = 40


def oracle_scores(
    survey: Survey, edges: np.ndarray, *, galaxies: int = 100, draws: int = 4, seed: int = 0
) -> Table:
    """Completeness and IoU that an ideal fit reaches, per magnitude bin.

    Parameters
    ----------
    survey : Survey
        Telescope, depth and population.
    edges : (n + 1,) float array, mag
        Of the bins.
    galaxies, draws : int
        Galaxies per bin, and noise realisations of the fit for each.
    seed : int
        Of the galaxies and fits.

    Returns
    -------
    astropy.table.Table
        ``magnitude_low``, ``magnitude_high``; ``visible``: share of galaxies with at least 10 pixels above
        the noise; of those, ``completeness``: share of fits with IoU of 0.5 and more, and ``iou``: mean IoU.
    """
    rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, 7])))
    renderer = Renderer(survey)
    rows = []
    for low, high in itertools.pairwise(edges):
        truths = _draw_bin(survey, low, high, galaxies, rng)
        scores = [_fit_ious(renderer, truth, draws, rng) for truth in truths]
        seen = [score for score in scores if score is not None]
        ious = np.concatenate(seen) if seen else np.full(1, np.nan)
        rows.append((low, high, len(seen) / galaxies, float(np.mean(ious >= 0.5)), float(ious.mean())))
    return Table(rows=rows, names=("magnitude_low", "magnitude_high", "visible", "completeness", "iou"))


def _draw_bin(survey, low, high, n, rng):
    # Many draws of the whole population would be wasted on the bright end: magnitudes are drawn in the bin.
    population = survey.population
    truths = []
    while len(truths) < n:
        drawn = population.draw(40.0 / population.density, rng)
        for i in range(len(drawn["magnitude"])):
            magnitude = rng.uniform(low, high)
            shift = np.exp(-0.269 * (magnitude - drawn["magnitude"][i]))
            e, angle = drawn["ellipticity"][i], np.deg2rad(drawn["orientation"][i])
            shear = e / (2.0 - e)  # (a - b) / (a + b)
            truths.append(
                (
                    10.0 ** (-0.4 * (magnitude - survey.zero_point)),
                    drawn["half_light_radius"][i] * shift,
                    *rng.uniform(-0.5, 0.5, 2),
                    shear * np.cos(2 * angle),
                    shear * np.sin(2 * angle),
                    drawn["sersic_index"][i],
                )
            )
    return np.array(truths[:n])


def _image(renderer: Renderer, parameters: np.ndarray, index: float) -> np.ndarray:
    flux, radius, x, y, g1, g2 = parameters
    size = np.hypot(g1, g2)
    if size > _LARGEST_SHEAR:
        g1, g2 = g1 * _LARGEST_SHEAR / size, g2 * _LARGEST_SHEAR / size
        size = _LARGEST_SHEAR
    stamp = renderer.draw(
        {
            "flux": flux,
            "half_light_radius": radius,
            "x": _HALF_WIDTH + x,
            "y": _HALF_WIDTH + y,
            "sersic_index": index,
            "ellipticity": 2.0 * size / (1.0 + size),
            "orientation": np.rad2deg(0.5 * np.arctan2(g2, g1)) % 180.0,
        }
    )
    image = np.zeros((2 * _HALF_WIDTH + 1,) * 2)
    if stamp is not None:
        rows = np.arange(stamp.image.shape[0]) + stamp.y0
        columns = np.arange(stamp.image.shape[1]) + stamp.x0
        inside_y, inside_x = (rows >= 0) & (rows < len(image)), (columns >= 0) & (columns < len(image))
        image[np.ix_(rows[inside_y], columns[inside_x])] = stamp.image[np.ix_(inside_y, inside_x)]
    return image


def _fit_ious(renderer, truth, draws, rng):
    parameters, index = truth[:6], truth[6]
    sigma = renderer.survey.sigma
    mask = _image(renderer, parameters, index) > sigma
    if np.count_nonzero(mask) < 10:
        return None
    steps = _STEPS * np.array([parameters[0], parameters[1], 1, 1, 1, 1])
    derivatives = []
    for k, step in enumerate(steps):
        moved = np.zeros(6)
        moved[k] = step
        up, down = _image(renderer, parameters + moved, index), _image(renderer, parameters - moved, index)
        derivatives.append((up - down).ravel() / (2 * step * sigma))
    information = np.array(derivatives) @ np.array(derivatives).T
    # A weak prior of the order of the parameters themselves keeps the faintest fits finite.
    information += np.diag(1.0 / np.array([parameters[0], parameters[1], 2.0, 2.0, 0.3, 0.3]) ** 2)
    root = np.linalg.cholesky(np.linalg.inv(information))
    ious = []
    for _ in range(draws):
        fitted = parameters + root @ rng.standard_normal(6)
        fitted[:2] = np.maximum(fitted[:2], 0.02 * parameters[:2])
        found = _image(renderer, fitted, index) > sigma
        ious.append(np.count_nonzero(found & mask) / np.count_nonzero(found | mask))
    return np.array(ious)

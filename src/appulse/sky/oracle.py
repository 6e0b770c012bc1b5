"""An ideal fit to each galaxy, limited by the background noise alone, to hold detectors against.

The oracle knows that there is one galaxy, its Sérsic index and the PSF, and fits the other six numbers:
flux, half-light radius, centre and the two components of the shear. Its errors are those of the Cramér-Rao
bound, of noise as correlated as the survey's; its mask is the isophote of the fitted profile. It does not
know the priors of the population, with which a detector might do better. Bulges, clumps and real galaxies of
a survey are left out: its galaxies have one Sérsic profile each.
"""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
from astropy.table import Table

from appulse.files import atomic_write
from appulse.progress import Progress
from appulse.sky.noise import whiten
from appulse.sky.population import SIZE_SLOPE
from appulse.sky.profiles import isophotal_radius, psf_radius
from appulse.sky.rendering import Renderer
from appulse.sky.survey import Survey
from appulse.streams import oracle_stream

ORACLE_FILE = "oracle.ecsv"
_STAGE = "limit of an ideal fit"
# Galaxies fainter than this many pixels above the noise are not asked for.
MIN_VISIBLE_AREA = 10
# Width of the magnitude bins of a survey's oracle.
_BIN = 0.5
# Raised when the numbers change, so that tables of an older appulse are not read again.
_VERSION = 3
# A bin is done when, after a round of galaxies, the standard error of its IoU is below the precision.
_ROUND, _PRECISION = 8, 0.004
# Steps of the numerical derivatives: relative in flux and size, pixels in position, absolute in shear.
_STEPS = np.array([0.02, 0.02, 0.05, 0.05, 0.01, 0.01])
_LARGEST_SHEAR = 0.8
# Images reach to where the profile falls to this share of the noise, but no further than so many pixels.
_REACH = 0.2
_LARGEST_HALF_WIDTH = 160


def survey_oracle(survey: Survey, directory: str | Path, *, progress: Progress | None = None) -> Table:
    """The oracle of a survey, computed once and kept beside its fields.

    Parameters
    ----------
    survey : Survey
        Telescope, depth and population.
    directory : str or Path
        ``oracle.ecsv`` is read there, or written where it is missing or of another survey.
    progress : callable, optional
        Called with a stage, magnitude bins done and their total, where there is something to compute.

    Returns
    -------
    astropy.table.Table
        As `oracle_scores`, in half magnitudes over the population's range.
    """
    path = Path(directory) / ORACLE_FILE
    identity = {"survey_digest": survey.digest(), "oracle_version": _VERSION}
    if path.is_file():
        try:
            table = Table.read(path, format="ascii.ecsv")
        except (OSError, ValueError):
            table = Table()  # cut off or written by something else: computed again
        if all(table.meta.get(key) == value for key, value in identity.items()):
            return table
    table = oracle_scores(survey, survey.population.magnitude_edges(_BIN), progress=progress)
    table.meta = identity
    atomic_write(path, lambda temporary: table.write(temporary, format="ascii.ecsv", overwrite=True))
    return table


def oracle_scores(
    survey: Survey,
    edges: np.ndarray,
    *,
    galaxies: int = 64,
    draws: int = 4,
    seed: int = 0,
    progress: Progress | None = None,
) -> Table:
    """Completeness and IoU that an ideal fit reaches, per magnitude bin.

    Parameters
    ----------
    survey : Survey
        Telescope, depth and population.
    edges : (n + 1,) float array, mag
        Of the bins.
    galaxies, draws : int
        At most so many galaxies per bin, fewer where all are visible and fits scatter little (bright ones);
        and noise realisations of the fit for each.
    seed : int
        Of the galaxies and fits.
    progress : callable, optional
        Called with a stage, bins done and their total.

    Returns
    -------
    astropy.table.Table
        ``magnitude_low``, ``magnitude_high``; ``visible``: share of galaxies with at least 10 pixels above
        the noise; of those, ``completeness``: share of fits with IoU of 0.5 and more, and ``iou``: mean IoU,
        each NaN where none is visible. ``iou_error``: standard error of ``iou`` over galaxies.
    """
    rng = oracle_stream(seed)
    renderer = Renderer(survey)
    rows = []
    for low, high in itertools.pairwise(edges):
        rows.append(
            (low, high, *_bin_scores(renderer, _draw_bin(survey, low, high, galaxies, rng), draws, rng))
        )
        if progress:
            progress(_STAGE, len(rows), len(edges) - 1)
    names = ("magnitude_low", "magnitude_high", "visible", "completeness", "iou", "iou_error")
    table = Table(np.array(rows, dtype=np.float64).reshape(-1, len(names)), names=names)
    table["magnitude_low"].unit = table["magnitude_high"].unit = "mag"
    return table


def _bin_scores(
    renderer: Renderer, truths: np.ndarray, draws: int, rng: np.random.Generator
) -> tuple[float, float, float, float]:
    # (visible, completeness, iou, iou_error)
    seen: list[np.ndarray] = []
    for number, truth in enumerate(truths, start=1):
        ious = _fit_ious(renderer, truth, draws, rng)
        if ious is not None:
            seen.append(ious)
        error = np.std(np.mean(seen, axis=1), ddof=1) / np.sqrt(len(seen)) if len(seen) > 1 else np.nan
        if number % _ROUND == 0 and len(seen) == number and error < _PRECISION:
            break
    scores = np.array(seen) if seen else np.full((1, draws), np.nan)
    complete = float(np.mean(scores >= 0.5)) if seen else np.nan
    return len(seen) / number, complete, float(scores.mean()), float(error)


def _draw_bin(survey: Survey, low: float, high: float, n: int, rng: np.random.Generator) -> np.ndarray:
    # Many draws of the whole population would be wasted on the bright end: magnitudes are drawn in the bin.
    population = survey.population
    truths: list[tuple[float, ...]] = []
    while len(truths) < n:
        drawn = population.draw_number(rng.poisson(40.0), rng)
        for i in range(len(drawn["magnitude"])):
            magnitude = rng.uniform(low, high)
            shift = np.exp(SIZE_SLOPE * (magnitude - drawn["magnitude"][i]))
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


def model_image(renderer: Renderer, parameters: np.ndarray, sersic_index: float, half: int) -> np.ndarray:
    """Noise-free image of a galaxy, untrimmed, so that it is smooth in its parameters.

    Parameters
    ----------
    renderer : Renderer
        Of the survey.
    parameters : (6,) float array
        Flux; half-light radius (arcsec); x, y from the central pixel (pixels); the two components of the
        shear ``(a - b) / (a + b)``. A shear above 0.8 is drawn as 0.8.
    sersic_index : float
        Known to the oracle.
    half : int
        The image is ``2 * half + 1`` pixels wide.

    Returns
    -------
    (2 * half + 1, 2 * half + 1) float64 array, flux per pixel
    """
    import galsim

    flux, radius, x, y, g1, g2 = parameters
    shear = min(np.hypot(g1, g2), _LARGEST_SHEAR)
    galaxy = {
        "flux": flux,
        "half_light_radius": radius,
        "sersic_index": sersic_index,
        "ellipticity": 2.0 * shear / (1.0 + shear),
        "orientation": np.rad2deg(0.5 * np.arctan2(g2, g1)) % 180.0,
    }
    side = 2 * half + 1
    drawn = galsim.Convolve(renderer.profile(galaxy), renderer.psf).drawImage(
        nx=side, ny=side, scale=renderer.survey.pixel_scale, offset=(x, y), dtype=np.float64
    )
    return drawn.array


def fit_covariance(renderer: Renderer, parameters: np.ndarray, sersic_index: float, half: int) -> np.ndarray:
    """Covariance of the best possible fit (the Cramér-Rao bound), with a prior as wide as the parameters.

    Parameters
    ----------
    renderer, parameters, sersic_index, half
        As for `model_image`.

    Returns
    -------
    (6, 6) float array
        The inverse of the Fisher information in background noise of the survey.
    """
    derivatives = []
    for k, step in enumerate(_STEPS * np.array([parameters[0], parameters[1], 1, 1, 1, 1])):
        moved = np.zeros(6)
        moved[k] = step
        up, down = (
            model_image(renderer, parameters + sign * moved, sersic_index, half) for sign in (1.0, -1.0)
        )
        change = (up - down) / (2 * step * renderer.survey.sigma)
        derivatives.append(whiten(change, renderer.survey.correlation).ravel())
    information = np.array(derivatives) @ np.array(derivatives).T
    # Keeps the faintest fits finite.
    information += np.diag(1.0 / np.array([parameters[0], parameters[1], 2.0, 2.0, 0.3, 0.3]) ** 2)
    return np.linalg.inv(information)


def half_width(renderer: Renderer, parameters: np.ndarray, sersic_index: float) -> int:
    """Half the width, in pixels, of an image that holds a galaxy down to a fifth of the noise.

    Parameters
    ----------
    renderer, parameters, sersic_index
        As for `model_image`.
    """
    survey = renderer.survey
    flux, radius, *_, g1, g2 = parameters
    shear = np.hypot(g1, g2)
    level = _REACH * survey.sigma / survey.pixel_scale**2
    reach = isophotal_radius(flux, radius, sersic_index, 2.0 * shear / (1.0 + shear), level)
    reach += psf_radius(survey.psf, flux, level)
    return int(np.clip(np.ceil(reach / survey.pixel_scale) + 3, 12, _LARGEST_HALF_WIDTH))


def _fit_ious(
    renderer: Renderer, truth: np.ndarray, draws: int, rng: np.random.Generator
) -> np.ndarray | None:
    parameters, index = truth[:6], truth[6]
    sigma = renderer.survey.sigma
    half = half_width(renderer, parameters, index)
    mask = model_image(renderer, parameters, index, half) > sigma
    if np.count_nonzero(mask) < MIN_VISIBLE_AREA:
        return None
    root = np.linalg.cholesky(fit_covariance(renderer, parameters, index, half))
    ious = []
    for _ in range(draws):
        fitted = parameters + root @ rng.standard_normal(6)
        fitted[:2] = np.maximum(fitted[:2], 0.02 * parameters[:2])
        found = model_image(renderer, fitted, index, half) > sigma
        ious.append(np.count_nonzero(found & mask) / np.count_nonzero(found | mask))
    return np.array(ious)

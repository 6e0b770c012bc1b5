"""What pencil and paper say about a sky: isophotes, Poisson overlap, the laws of a population.

The simulator is held against these in tests, and `appulse simulate` prints them beside what it counted.
"""

from __future__ import annotations

import numpy as np
from scipy.optimize import brentq
from scipy.special import ellipe
from scipy.stats import gamma

from appulse.sky.population import Population

# An exponential disc holds half its light within this many scale lengths: 1 - (1 + x) exp(-x) = 1/2.
DISC_HALF_LIGHT = brentq(lambda x: 1.0 - (1.0 + x) * np.exp(-x) - 0.5, 1.0, 3.0)


def gaussian_isophote(flux: float, sigma: float, level: float) -> tuple[float, float, float]:
    """Isophote of an elliptical Gaussian, ``I = F / (2 pi s^2) exp(-r^2 / 2 s^2)``.

    Parameters
    ----------
    flux : float
        Total flux.
    sigma : float
        Circularised width, ``sqrt(a b)``; half-light radius over ``sqrt(2 ln 2)``.
    level : float
        Surface brightness, flux per squared unit of ``sigma``.

    Returns
    -------
    area, flux_inside, half_light_radius : float
        Area above the level, flux there, and the circularised radius that holds half of that flux. Zeros
        where the centre is fainter. With ``I_0 = F / (2 pi s^2)``: area ``2 pi s^2 ln(I_0 / level)``, flux
        ``F (1 - level / I_0)``.
    """
    centre = flux / (2.0 * np.pi * sigma**2)
    if centre <= level:
        return 0.0, 0.0, 0.0
    inside = 1.0 - level / centre
    half = sigma * np.sqrt(-2.0 * np.log1p(-0.5 * inside))
    return 2.0 * np.pi * sigma**2 * np.log(centre / level), flux * inside, half


def disc_isophote(flux: float, scale_length: float, level: float) -> tuple[float, float, float]:
    """Isophote of an inclined exponential disc, ``I = F / (2 pi h^2) exp(-r / h)``.

    Parameters
    ----------
    flux : float
        Total flux.
    scale_length : float
        Circularised scale length; half-light radius over `DISC_HALF_LIGHT`.
    level : float
        Surface brightness, flux per squared unit of ``scale_length``.

    Returns
    -------
    area, flux_inside, half_light_radius : float
        As `gaussian_isophote`. With ``x = ln(I_0 / level)``: area ``pi h^2 x^2``, flux
        ``F (1 - (1 + x) exp(-x))`` (Freeman 1970, ApJ 160, 811).
    """
    centre = flux / (2.0 * np.pi * scale_length**2)
    if centre <= level:
        return 0.0, 0.0, 0.0
    edge = np.log(centre / level)
    inside = _disc_within(edge)
    half = brentq(lambda x: _disc_within(x) - 0.5 * inside, 0.0, edge)
    return np.pi * (scale_length * edge) ** 2, flux * inside, half * scale_length


def _disc_within(x: float) -> float:
    return 1.0 - (1.0 + x) * np.exp(-x)


def poisson_shares(coverage: float) -> tuple[float, float, float]:
    """Class shares of a sky on which galaxies fall independently of each other.

    A pixel lies inside the isophotes of a Poisson number of galaxies of mean ``mu``, whatever their shapes
    (a Boolean model; Chiu et al. 2013, Stochastic Geometry and its Applications, section 3.1). It is exact
    under three conditions, which simulated fields meet unless a survey asks for clustering or close pairs:
    positions are uniform; a galaxy's pixels depend on its own light alone, not on the sum of several (the
    truth of `ternary_map`); galaxies outside the field are drawn as far as their isophotes reach.

    Parameters
    ----------
    coverage : float
        ``mu``: galaxies per pixel times their mean isophotal area in pixels.

    Returns
    -------
    background, single, overlap : float
        ``exp(-mu)``, ``mu exp(-mu)`` and the rest.
    """
    background = np.exp(-coverage)
    single = coverage * background
    return float(background), float(single), float(-np.expm1(-coverage) - single)


def overlap_deviation(areas: np.ndarray, pixels: int) -> float:
    """Standard deviation of the overlap's share of the pixels, over where galaxies of given areas fall.

    Two discs dropped on ``N`` pixels share ``O`` of them, with the mean of ``O^2`` equal to
    ``c A_1 A_2 min(A_1, A_2) / N``; ``c = 1 - 0.58 r + 0.04 r^2`` is the integral over the area of their
    lens, with ``r`` the ratio of the smaller radius to the larger, to 1 %. Pairs fall nearly independently
    where few overlap. The deviation of class 1 is twice as large and that of the background the same, since
    the areas add up.

    Parameters
    ----------
    areas : (n,) float array, pixels
        Isophotal areas of the galaxies.
    pixels : int
        Of the sky they fall on.

    Returns
    -------
    float
    """
    areas = np.asarray(areas, float)
    areas = areas[areas > 0]
    if len(areas) < 2:
        return 0.0
    # Pairs of bins of areas instead of pairs of galaxies.
    number, edges = np.histogram(np.log(areas), 64)
    total, _ = np.histogram(np.log(areas), edges, weights=areas)
    number, mean = number[number > 0], total[number > 0] / number[number > 0]
    smaller, larger = np.minimum.outer(mean, mean), np.maximum.outer(mean, mean)
    ratio = np.sqrt(smaller / larger)
    square = (1.0 - 0.58 * ratio + 0.04 * ratio**2) * smaller**2 * larger / pixels
    pairs = 0.5 * (np.outer(number, number) - np.diag(number))
    return float(np.sqrt(np.sum(pairs * square)) / pixels)


def empty_share(
    density: float, areas: np.ndarray, ellipticities: np.ndarray, orientations: np.ndarray, side: int
) -> float:
    """Share of square stamps that no galaxy reaches, for galaxies placed independently.

    A galaxy reaches the stamp when its centre falls into the stamp dilated by its mask:
    ``A + (s - 1)(w + h) + (s - 1)^2`` positions for a convex mask of ``A`` pixels, ``w`` wide and ``h`` high.

    Parameters
    ----------
    density : float
        Galaxies per pixel.
    areas, ellipticities, orientations : (n,) float arrays
        Of their isophotes: pixels, 1 - b/a, degrees. Ellipses give their widths and heights.
    side : int
        Of the stamps, pixels.

    Returns
    -------
    float
        ``exp(-density * mean positions)``; galaxies without a pixel reach none.
    """
    areas, ellipticities = np.asarray(areas, float), np.asarray(ellipticities, float)
    seen = areas > 0
    axis_ratio, angle = 1.0 - ellipticities[seen], np.deg2rad(np.asarray(orientations, float)[seen])
    major = np.sqrt(areas[seen] / (np.pi * axis_ratio))
    width = 2.0 * major * np.hypot(np.cos(angle), axis_ratio * np.sin(angle))
    height = 2.0 * major * np.hypot(np.sin(angle), axis_ratio * np.cos(angle))
    positions = areas[seen] + (side - 1) * (width + height) + (side - 1) ** 2
    return float(np.exp(-density * positions.sum() / max(len(areas), 1)))


def blended_share(density: float, areas: np.ndarray, ellipticities: np.ndarray) -> float:
    """Share of visible galaxies that share a pixel with another, for galaxies placed independently.

    Two convex sets of pixels, turned at random, share one over ``A_1 + A_2 - 1 + P_1 P_2 / 2 pi`` of relative
    positions: Blaschke's kinematic formula (Santalo 2004, Integral Geometry and Geometric Probability, I.7.1)
    for the hulls of their pixel centres, with Pick's theorem to count pixels. The hull of the centres within
    an ellipse is smaller than it by ``1 + b / 2`` pixels, with ``b = 3.45 r^(2/3)`` centres on the border
    (Balog and Deshouillers 1999, for discs).

    Parameters
    ----------
    density : float
        Galaxies per pixel.
    areas, ellipticities : (n,) float arrays
        Of their isophotes: pixels, 1 - b/a.

    Returns
    -------
    float
        NaN without visible galaxies.
    """
    areas, ellipticities = np.asarray(areas, float), np.asarray(ellipticities, float)
    seen = areas > 0
    if not seen.any():
        return float("nan")
    a, axis_ratio = areas[seen], 1.0 - ellipticities[seen]
    hull = np.maximum(a - 1.0 - 0.5 * 3.45 * (a / np.pi) ** (1.0 / 3.0), 0.0)
    perimeter = 4.0 * np.sqrt(hull / (np.pi * axis_ratio)) * ellipe(1.0 - axis_ratio**2)
    visible = density * np.count_nonzero(seen) / len(seen)
    positions = a + a.mean() - 1.0 + perimeter * perimeter.mean() / (2.0 * np.pi)
    return float(np.mean(-np.expm1(-visible * positions)))


def number_counts(population: Population, edges: np.ndarray) -> np.ndarray:
    """Galaxies per arcmin^2 in bins of magnitude, by the population's law.

    Parameters
    ----------
    population : Population
        ``N(<m)`` grows as ``10**(count_slope * m)`` between its limits and reaches ``density``.
    edges : (n + 1,) float array, mag
        Of the bins.

    Returns
    -------
    (n,) float array
    """
    slope, faint = population.count_slope, population.magnitude_faint
    cumulated = 10.0 ** (slope * (np.clip(edges, population.magnitude_bright, faint) - faint))
    brightest = 10.0 ** (slope * (population.magnitude_bright - faint))
    return population.density * np.diff(cumulated) / (1.0 - brightest)


def size_quantiles(population: Population, magnitude: float | np.ndarray, share: float) -> np.ndarray:
    """Quantile of the half-light radius along the major axis at a magnitude, by the population's law.

    Parameters
    ----------
    population : Population
        Sizes of Miller et al. 2013 (arXiv:1210.8201) times ``size_factor``.
    magnitude : float or array, mag
        Where.
    share : float
        0.5 is the median.

    Returns
    -------
    float array, arcsec
    """
    median = population.size_factor * np.exp(-1.145 - 0.269 * (np.asarray(magnitude, float) - 23.0))
    # p(r) ~ r exp(-(r/a)^(4/3)): (r/a)^(4/3) follows a Gamma(3/2) law.
    return median * (gamma.ppf(share, 1.5) / gamma.ppf(0.5, 1.5)) ** 0.75


def ellipticity_density(population: Population, ellipticity: float | np.ndarray) -> np.ndarray:
    """Probability density of 1 - b/a, by the population's law: Rayleigh, cut at 0.9.

    Parameters
    ----------
    population : Population
        Gives the scale.
    ellipticity : float or array
        Where.

    Returns
    -------
    float array
    """
    e, scale = np.asarray(ellipticity, float), population.ellipticity_scale
    inside = -np.expm1(-0.5 * (0.9 / scale) ** 2)
    return np.where(e <= 0.9, e / scale**2 * np.exp(-0.5 * (e / scale) ** 2) / inside, 0.0)


def ellipticity_median(population: Population) -> float:
    """Median of 1 - b/a, by the population's law.

    Parameters
    ----------
    population : Population
        Gives the scale.
    """
    scale = population.ellipticity_scale
    inside = -np.expm1(-0.5 * (0.9 / scale) ** 2)
    return float(scale * np.sqrt(-2.0 * np.log1p(-0.5 * inside)))

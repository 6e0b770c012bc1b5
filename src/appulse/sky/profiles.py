"""What light a galaxy is made of: Sérsic profiles in one plane, and how far each of them reaches."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.special import gamma, gammainc, gammaincinv

from appulse.sky.population import BULGE_INDEX, BULGE_SIZE, DISC_SCALE, Properties
from appulse.sky.psf import PSF
from appulse.streams import clump_stream

# A clump is a Gaussian, which is the Sérsic profile of this index.
CLUMP_INDEX = 0.5
# Clumps per galaxy, drawn uniformly in its logarithm; our choice. Galaxies at 0.5 < z < 1.5 show two on
# average and eight at most (arXiv:1702.03038); of fewer than these, each would hold as much light as a
# companion and look like one, which teaches a network what it cannot know.
_CLUMPS = (5, 48)
# Flux of a clump over that of the average one of its galaxy.
_CLUMP_FLUX = (0.5, 1.5)
# Half-light radius of the clumps of one galaxy over that of its disc; our choice.
_CLUMP_SIZE = (0.04, 0.16)
# Clumps lie within so many half-light radii of the disc, where it outshines companions of their brightness.
_CLUMP_REACH = 1.7
# Of two spiral arms: their pitch, degrees (nearly all observed ones lie here), and the scatter about them,
# radians, drawn in its logarithm: from narrow arms to none at all.
_PITCH, _SCATTER = (8.0, 35.0), (0.15, 3.0)


class Part(NamedTuple):
    """One Sérsic profile of a galaxy, as it is before the galaxy is tilted.

    Parameters
    ----------
    flux : float
    half_light_radius : float, arcsec
        0 is a point.
    sersic_index : float
    x, y : float, arcsec
        Of its centre from the galaxy's, before the tilt.
    """

    flux: float
    half_light_radius: float
    sersic_index: float
    x: float = 0.0
    y: float = 0.0


def option(source: Properties, name: str, default: float) -> float:
    """A property that not every table of sources has.

    Parameters
    ----------
    source : mapping
        A row of `draw_sources`, or a galaxy of other origin.
    name : str
        Of the property.
    default : float
        Where it is missing.
    """
    # Rows of a table have no `get`.
    try:
        return source[name]
    except KeyError:
        return default


def smooth_parts(source: Properties) -> list[Part]:
    """The profiles of a galaxy around its centre: one, or a disc and a bulge.

    Parameters
    ----------
    source : mapping
        A row of `draw_sources`: ``flux``, ``half_light_radius`` (arcsec), ``sersic_index``, and where there
        are such, ``bulge_fraction`` and ``clump_fraction``.

    Returns
    -------
    list of Part
    """
    flux, radius, index = (float(source[name]) for name in ("flux", "half_light_radius", "sersic_index"))
    bulge = float(option(source, "bulge_fraction", 0.0))
    clumps = float(option(source, "clump_fraction", 0.0))
    if clumps > 0.0:
        flux *= 1.0 - clumps
    if bulge == 0.0:
        return [Part(flux, radius, index)]
    parts = [
        Part((1.0 - bulge) * flux, radius, index),
        Part(bulge * flux, BULGE_SIZE * radius, BULGE_INDEX),
    ]
    return [part for part in parts if part.flux > 0.0]


def clump_parts(source: Properties) -> list[Part]:
    """The clumps of a galaxy's disc, scattered about two spiral arms.

    Parameters
    ----------
    source : mapping
        A row of `draw_sources`: ``flux``, ``half_light_radius`` (arcsec), ``clump_fraction`` of the flux, and
        ``clump_seed``, of which number, places, sizes and fluxes follow.

    Returns
    -------
    list of Part
        Empty without clumps. Each Gaussian, within 1.7 half-light radii before the tilt.
    """
    fraction = float(option(source, "clump_fraction", 0.0))
    if fraction <= 0.0:
        return []
    rng = clump_stream(int(source["clump_seed"]))
    disc = float(source["half_light_radius"])
    n = round(np.exp(rng.uniform(*np.log(_CLUMPS))))
    size = disc * rng.uniform(*_CLUMP_SIZE)
    pitch = np.deg2rad(rng.uniform(*_PITCH))
    turn = rng.choice([-1.0, 1.0]) / np.tan(pitch)
    scatter = np.exp(rng.uniform(*np.log(_SCATTER)))
    start = rng.uniform(0.0, 2.0 * np.pi)
    # The light of an exponential disc within r scale lengths is a Gamma(2) law.
    reach = _CLUMP_REACH * DISC_SCALE
    radius = gammaincinv(2.0, rng.random(n) * gammainc(2.0, reach)) / DISC_SCALE
    angle = start + np.pi * (np.arange(n) % 2) + turn * np.log(radius) + scatter * rng.standard_normal(n)
    share = rng.uniform(*_CLUMP_FLUX, n)
    flux = float(source["flux"]) * fraction * share / share.sum()
    x, y = disc * radius * np.cos(angle), disc * radius * np.sin(angle)
    return [Part(*each) for each in zip(flux, [size] * n, [CLUMP_INDEX] * n, x, y, strict=True)]


def reach_of(source: Properties, level: float) -> float:
    """Radius past which a galaxy stays below a surface brightness, before the PSF.

    Parameters
    ----------
    source : mapping
        As for `smooth_parts` and `clump_parts`, with ``ellipticity``.
    level : float
        Surface brightness, flux per arcsec^2.

    Returns
    -------
    float, arcsec
    """
    smooth, clumps = smooth_parts(source), clump_parts(source)
    ellipticity = source["ellipticity"]
    # Where the sum reaches the level, one of its terms reaches its share.
    level /= len(smooth) + bool(clumps)
    reaches = [
        isophotal_radius(part.flux, part.half_light_radius, part.sersic_index, ellipticity, level)
        for part in smooth
    ]
    if clumps:
        # All of them at the place of the farthest, nearest to where one looks, would be brighter.
        farthest = max(np.hypot(part.x, part.y) for part in clumps) / np.sqrt(1.0 - ellipticity)
        total, size = sum(part.flux for part in clumps), clumps[0].half_light_radius
        reaches.append(farthest + isophotal_radius(total, size, CLUMP_INDEX, ellipticity, level))
    return max(reaches)


def isophotal_radius(
    flux: float, half_light_radius: float, sersic_index: float, ellipticity: float, level: float
) -> float:
    """Semi-major axis at which a Sérsic profile falls to a surface brightness.

    Parameters
    ----------
    flux : float
        Total flux.
    half_light_radius : float
        Circularised half-light radius; its unit is the result's.
    sersic_index : float
        Sérsic index.
    ellipticity : float
        1 - b/a.
    level : float
        Surface brightness, flux per squared unit of the radius.

    Returns
    -------
    float
        0 where even the centre is fainter.
    """
    b = gammaincinv(2.0 * sersic_index, 0.5)
    effective = flux / (
        2.0
        * np.pi
        * sersic_index
        * half_light_radius**2
        * np.exp(b)
        * b ** (-2.0 * sersic_index)
        * gamma(2.0 * sersic_index)
    )
    reach = 1.0 + np.log(effective / level) / b
    major = half_light_radius / np.sqrt(1.0 - ellipticity)
    return major * max(reach, 0.0) ** sersic_index


def psf_radius(psf: PSF, flux: float, level: float) -> float:
    """Radius at which a point source falls to a surface brightness.

    Parameters
    ----------
    psf : PSF
        Point-spread function.
    flux : float
        Flux of the source.
    level : float
        Surface brightness, flux per arcsec^2.

    Returns
    -------
    float, arcsec
        0 where even the centre is fainter.
    """
    if psf.model == "gaussian":
        variance = (psf.fwhm / 2.3548) ** 2
        return np.sqrt(max(2.0 * variance * np.log(flux / (2.0 * np.pi * variance) / level), 0.0))
    alpha = 0.5 * psf.fwhm / np.sqrt(2.0 ** (1.0 / psf.beta) - 1.0)
    contrast = flux * (psf.beta - 1.0) / (np.pi * alpha**2) / level
    return alpha * np.sqrt(max(contrast ** (1.0 / psf.beta) - 1.0, 0.0))

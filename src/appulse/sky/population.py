"""Which galaxies there are: number counts, sizes, Sérsic indices and shapes."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Protocol

import numpy as np

# GalSim accepts 0.3 to 6.2 and caches the profiles of 100 distinct Sérsic indices; a step of 0.06 keeps
# every index that can occur in its cache.
SERSIC_INDEX_RANGE = (0.3, 6.2)
SERSIC_INDEX_STEP = 0.06
# Of the two parts of a galaxy with a bulge: an exponential disc and a de Vaucouleurs bulge, on the same grid.
DISC_INDEX = SERSIC_INDEX_RANGE[0] + 12 * SERSIC_INDEX_STEP
BULGE_INDEX = SERSIC_INDEX_RANGE[0] + 62 * SERSIC_INDEX_STEP
# Natural logarithm of a size per magnitude (Miller et al. 2013).
SIZE_SLOPE = -0.269
# Half-light radius of an exponential disc over its scale length.
DISC_SCALE = 1.678
# Half-light radius of a bulge over that of its disc: 0.6 disc scale lengths (Miller et al. 2013).
BULGE_SIZE = 0.6 / DISC_SCALE
# Galaxies of a larger Sérsic index, or with a larger bulge, are no discs, and have no clumps.
LARGEST_DISC_INDEX, LARGEST_DISC_BULGE = 2.0, 0.5


class Properties(Protocol):
    """The properties of one source by their names: a row of a table, or a dict."""

    def __getitem__(self, name: str, /) -> float: ...


@dataclass(frozen=True)
class Population:
    """The galaxies of a sky, by their distributions.

    Parameters
    ----------
    density : float, galaxies per arcmin^2
        Surface density down to ``magnitude_faint``.
    magnitude_bright, magnitude_faint : float, mag
        Range of total magnitudes; the paper's limit is 25.2 (section 4.2).
    count_slope : float, dex per mag
        ``N(<m)`` grows as ``10**(count_slope * m)``; 0.31 in the LSST Science Book (arXiv:0912.0201).
    size_factor : float
        Median half-light radius along the major axis over the disc scale length of Miller et al. 2013
        (arXiv:1210.8201); 1.678 for exponential discs.
    sersic_index, sersic_scatter : float
        Median and natural-log scatter of the Sérsic index, before it is rounded *down* to the grid of
        ``SERSIC_INDEX_STEP``: 1.3 becomes 1.26, and the median of the drawn indices lies half a step lower.
    ellipticity_scale : float
        Scale of the Rayleigh distribution of ``1 - b/a``, cut at 0.9.
    """

    density: float = 53.0
    magnitude_bright: float = 18.0
    magnitude_faint: float = 25.2
    count_slope: float = 0.31
    size_factor: float = DISC_SCALE
    sersic_index: float = 1.3
    sersic_scatter: float = 0.35
    ellipticity_scale: float = 0.25

    def draw(self, area: float, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw the galaxies of a patch of sky.

        Parameters
        ----------
        area : float, arcmin^2
            Size of the patch; the number of galaxies is Poisson.
        rng : numpy.random.Generator
            Source of randomness.

        Returns
        -------
        dict of (n,) float64 arrays
            As `draw_number` returns.
        """
        return self.draw_number(rng.poisson(self.density * area), rng)

    def draw_number(self, n: int, rng: np.random.Generator) -> dict[str, np.ndarray]:
        """Draw so many galaxies.

        Parameters
        ----------
        n : int
            How many.
        rng : numpy.random.Generator
            Source of randomness.

        Returns
        -------
        dict of (n,) float64 arrays
            ``magnitude`` (mag), ``half_light_radius`` (arcsec, circularised), ``sersic_index``,
            ``ellipticity`` (1 - b/a), ``orientation`` (degrees from +x, counter-clockwise, [0, 180)).
        """
        magnitude = draw_magnitudes(n, self.magnitude_bright, self.magnitude_faint, self.count_slope, rng)
        index = self.sersic_index * np.exp(self.sersic_scatter * rng.standard_normal(n))
        index = np.clip(index, *SERSIC_INDEX_RANGE)
        index = SERSIC_INDEX_RANGE[0] + SERSIC_INDEX_STEP * np.floor(
            (index - SERSIC_INDEX_RANGE[0]) / SERSIC_INDEX_STEP
        )
        # A Rayleigh law cut at 0.9, by inversion of its distribution function.
        cut = -np.expm1(-0.5 * (0.9 / self.ellipticity_scale) ** 2)
        ellipticity = self.ellipticity_scale * np.sqrt(-2.0 * np.log1p(-cut * rng.random(n)))
        major = self._draw_sizes(magnitude, rng)
        return {
            "magnitude": magnitude,
            "half_light_radius": major * np.sqrt(1.0 - ellipticity),
            "sersic_index": index,
            "ellipticity": ellipticity,
            "orientation": 180.0 * rng.random(n),
        }

    def magnitude_edges(self, step: float) -> np.ndarray:
        """Edges of bins over the range of magnitudes.

        Parameters
        ----------
        step : float, mag
            Width of the bins; the last is what remains, and one narrower than a tenth of a magnitude joins
            the one before it.

        Returns
        -------
        (n + 1,) float64 array, mag
            Of at least one bin.
        """
        inner = np.arange(self.magnitude_bright, self.magnitude_faint - 0.1, step)[1:]
        return np.array([self.magnitude_bright, *inner, self.magnitude_faint])

    def fainter(self, magnitude_limit: float) -> Population:
        """The galaxies beyond the faint end: the same laws, the counts continued.

        Parameters
        ----------
        magnitude_limit : float, mag
            Their faint end; above ``magnitude_faint``.

        Returns
        -------
        Population
            Of the galaxies from ``magnitude_faint`` to ``magnitude_limit``.
        """
        bright, faint, limit = (
            10.0 ** (self.count_slope * (magnitude - self.magnitude_faint))
            for magnitude in (self.magnitude_bright, self.magnitude_faint, magnitude_limit)
        )
        return dataclasses.replace(
            self,
            density=self.density * (limit - faint) / (faint - bright),
            magnitude_bright=self.magnitude_faint,
            magnitude_faint=magnitude_limit,
        )

    def _draw_sizes(self, magnitude: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        # p(r) ~ r exp(-(r/a)^(4/3)): (r/a)^(4/3) follows a Gamma(3/2) law, whose median puts that of r at r_d
        # for a = r_d / 1.134 (the 0.833 that Miller et al. print contradicts r_d being the median).
        scale_length = np.exp(-1.145 + SIZE_SLOPE * (magnitude - 23.0))
        return self.size_factor * scale_length / 1.134 * rng.gamma(1.5, size=len(magnitude)) ** 0.75


def draw_magnitudes(
    n: int, bright: float, faint: float, slope: float, rng: np.random.Generator
) -> np.ndarray:
    """Draw magnitudes whose cumulative counts grow as ``10**(slope * m)``.

    Parameters
    ----------
    n : int
        How many.
    bright, faint : float, mag
        Their range.
    slope : float, dex per mag
        Of the counts.
    rng : numpy.random.Generator
        Source of randomness.

    Returns
    -------
    (n,) float64 array, mag
    """
    lowest = 10.0 ** (slope * (bright - faint))
    return faint + np.log10(lowest + (1.0 - lowest) * rng.random(n)) / slope


@dataclass(frozen=True)
class Bulges:
    """Galaxies of two parts: an exponential disc and a de Vaucouleurs bulge of the same shape.

    The bulge's half-light radius is ``BULGE_SIZE`` of the disc's, which the catalogue gives.

    Parameters
    ----------
    share : float
        Of the galaxies that have a bulge; the others keep their one Sérsic profile.
    scale : float
        Bulge-to-total ratios follow a half-normal law of this scale, those above 1 made 1; 0.1 is that of the
        discs of Miller et al. 2013 (arXiv:1210.8201).
    """

    share: float
    scale: float = 0.1


@dataclass(frozen=True)
class Clumps:
    """Star-forming clumps in discs, scattered about two spiral arms: Gaussians that are part of their galaxy.

    How many, where and how large is drawn for each galaxy: `appulse.sky.profiles.clump_parts`.

    Parameters
    ----------
    share : float
        Of the galaxies of a Sérsic index up to 2, and a bulge of up to half of their light, that have clumps;
        0.6 of the star-forming galaxies of low mass at 0.5 < z < 3 have (arXiv:1410.7398).
    light : float
        The clumps of a galaxy hold a share of its flux that is uniform from 0 to this: with 0.4 a fifth on
        average, as of the far ultraviolet (19 %, arXiv:1702.03038). A single one holds at most 0.43 of that.
    """

    share: float
    light: float = 0.4


@dataclass(frozen=True)
class Stars:
    """Point sources without a label: light in the image, background in the truth. They never saturate.

    Parameters
    ----------
    density : float, stars per arcmin^2
        Between the two magnitudes.
    magnitude_bright, magnitude_faint : float, mag
        Their range.
    count_slope : float, dex per mag
        ``N(<m)`` grows as ``10**(count_slope * m)``.
    """

    density: float
    magnitude_bright: float = 18.0
    magnitude_faint: float = 25.0
    count_slope: float = 0.1


@dataclass(frozen=True)
class Faint:
    """Galaxies beyond the population's faint end, without a label: light in the image only.

    Parameters
    ----------
    magnitude_limit : float, mag
        The counts continue to here.
    """

    magnitude_limit: float


@dataclass(frozen=True)
class Pairs:
    """Close companions, given to some galaxies on top of the others. A sky with them is for training only.

    Parameters
    ----------
    share : float
        Of the galaxies that are given a companion, drawn from the same population.
    separation : float, arcsec
        Companions are uniform over the disc of this radius around their galaxy.
    """

    share: float
    separation: float = 1.0

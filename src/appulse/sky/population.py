"""Which galaxies there are: number counts, sizes, Sérsic indices and shapes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

# GalSim accepts 0.3 to 6.2 and caches the profiles of 100 distinct Sérsic indices; a step of 0.06 keeps
# every index that can occur in its cache.
SERSIC_INDEX_RANGE = (0.3, 6.2)
SERSIC_INDEX_STEP = 0.06


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
        Median and natural-log scatter of the Sérsic index.
    ellipticity_scale : float
        Scale of the Rayleigh distribution of ``1 - b/a``, cut at 0.9.
    """

    density: float = 53.0
    magnitude_bright: float = 18.0
    magnitude_faint: float = 25.2
    count_slope: float = 0.31
    size_factor: float = 1.678
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
            ``magnitude`` (mag), ``half_light_radius`` (arcsec, circularised), ``sersic_index``,
            ``ellipticity`` (1 - b/a), ``orientation`` (degrees from +x, counter-clockwise, [0, 180)).
        """
        n = rng.poisson(self.density * area)
        magnitude = self._draw_magnitudes(n, rng)
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

    def _draw_magnitudes(self, n, rng):
        lowest = 10.0 ** (self.count_slope * (self.magnitude_bright - self.magnitude_faint))
        share = lowest + (1.0 - lowest) * rng.random(n)
        return self.magnitude_faint + np.log10(share) / self.count_slope

    def _draw_sizes(self, magnitude, rng):
        # p(r) ~ r exp(-(r/a)^(4/3)): (r/a)^(4/3) follows a Gamma(3/2) law, whose median puts that of r at r_d
        # for a = r_d / 1.134 (the 0.833 that Miller et al. print contradicts r_d being the median).
        scale_length = np.exp(-1.145 - 0.269 * (magnitude - 23.0))
        return self.size_factor * scale_length / 1.134 * rng.gamma(1.5, size=len(magnitude)) ** 0.75

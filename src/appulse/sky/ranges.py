"""What differs from field to field of a survey."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Ranges:
    """What differs from field to field, drawn uniformly in its logarithm; None keeps the survey's value.

    Parameters
    ----------
    pixel_scale : (float, float) or None, arcsec
        Width of a pixel. The noise goes with it as that of one sky does that is sampled otherwise: twice the
        width, half the noise in surface brightness.
    fwhm_pixels : (float, float) or None, pixels
        Full width of the PSF at half maximum.
    density : (float, float) or None, galaxies per arcmin^2
        Of the population.
    """

    pixel_scale: tuple[float, float] | None = None
    fwhm_pixels: tuple[float, float] | None = None
    density: tuple[float, float] | None = None

    def draw(self, rng: np.random.Generator) -> dict[str, float | None]:
        """Draw a value from each range.

        Parameters
        ----------
        rng : numpy.random.Generator
            Source of randomness.

        Returns
        -------
        dict of str to float or None
            By the names above; None where there is no range.
        """
        # One number for each, given or not: a further range leaves the others' values alone.
        return {
            name: None
            if limits is None
            else float(np.clip(np.exp(np.log(limits[0]) + u * np.log(limits[1] / limits[0])), *limits))
            for (name, limits), u in zip(vars(self).items(), rng.random(3), strict=True)
        }

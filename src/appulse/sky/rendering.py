"""Galaxies drawn with GalSim, each on the smallest stamp that holds it down to the rendering limit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import gamma, gammaincinv

from appulse.sky.survey import PSF, Survey

# Profiles are drawn down to this surface brightness, in units of the survey's noise: deep enough that the
# summed light of the outskirts of many galaxies is right to a few hundredths of sigma.
RENDER_LIMIT = 0.05
# Half-width, pixels, past which no stamp grows (the outskirts of the few brightest galaxies with n > 4).
LARGEST_HALF_WIDTH = 384


@dataclass(frozen=True)
class Stamp:
    """The noise-free image of one galaxy.

    Parameters
    ----------
    y0, x0 : int
        Position of ``image[0, 0]`` in the field; may be negative.
    image : (height, width) float32 array
        Flux per pixel; exactly 0 below the rendering limit.
    """

    y0: int
    x0: int
    image: np.ndarray


def isophotal_radius(flux, half_light_radius, sersic_index, ellipticity, level):
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


class Renderer:
    """Draws galaxies of one survey; holds the PSF so that it is set up once.

    Parameters
    ----------
    survey : Survey
        Gives pixel scale, zero-point, PSF and noise.
    """

    def __init__(self, survey: Survey):
        import galsim

        # An FFT that grows past GalSim's limit shall raise and name the galaxy, not exhaust the memory.
        galsim.errors.raise_fft_size_error = True
        self._galsim = galsim
        self.survey = survey
        self.level = RENDER_LIMIT * survey.sigma
        if survey.psf.model == "gaussian":
            self.psf = galsim.Gaussian(fwhm=survey.psf.fwhm)
        else:
            self.psf = galsim.Moffat(beta=survey.psf.beta, fwhm=survey.psf.fwhm)

    def profile(self, galaxy) -> object:
        """GalSim profile of a galaxy, before the PSF.

        Parameters
        ----------
        galaxy : mapping
            A row of `Population.draw` with ``flux``.

        Returns
        -------
        galsim.GSObject
        """
        galsim = self._galsim
        sersic = galsim.Sersic(
            n=float(galaxy["sersic_index"]),
            half_light_radius=float(galaxy["half_light_radius"]),
            flux=float(galaxy["flux"]),
        )
        shear = galsim.Shear(
            q=1.0 - float(galaxy["ellipticity"]), beta=float(galaxy["orientation"]) * galsim.degrees
        )
        return sersic.shear(shear)

    def box(self, galaxy) -> tuple[int, int, int, int]:
        """Rows and columns outside which a galaxy has no light, known before it is drawn.

        Parameters
        ----------
        galaxy : mapping
            As for `draw`.

        Returns
        -------
        y_low, y_high, x_low, x_high : int
            Half-open; may reach beyond the field.
        """
        half = self._half_width(galaxy)
        x, y = int(np.floor(galaxy["x"] + 0.5)), int(np.floor(galaxy["y"] + 0.5))
        return y - half, y + half + 1, x - half, x + half + 1

    def _half_width(self, galaxy) -> int:
        scale = self.survey.pixel_scale
        level = self.level / scale**2
        radius = isophotal_radius(
            galaxy["flux"], galaxy["half_light_radius"], galaxy["sersic_index"], galaxy["ellipticity"], level
        )
        radius += psf_radius(self.survey.psf, galaxy["flux"], level)
        return int(np.clip(np.ceil(radius / scale) + 2, 4, LARGEST_HALF_WIDTH))

    def draw(self, galaxy) -> Stamp | None:
        """Draw one galaxy.

        Parameters
        ----------
        galaxy : mapping
            ``x``, ``y`` (0-based pixels), ``flux``, ``half_light_radius`` (arcsec), ``sersic_index``,
            ``ellipticity``, ``orientation`` (degrees).

        Returns
        -------
        Stamp or None
            None where no pixel reaches the rendering limit.
        """
        half, scale = self._half_width(galaxy), self.survey.pixel_scale
        x, y = float(galaxy["x"]), float(galaxy["y"])
        x_pixel, y_pixel = int(np.floor(x + 0.5)), int(np.floor(y + 0.5))
        drawn = self._galsim.Convolve(self.profile(galaxy), self.psf).drawImage(
            nx=2 * half + 1,
            ny=2 * half + 1,
            scale=scale,
            offset=(x - x_pixel, y - y_pixel),
            dtype=np.float32,
        )
        return _trimmed(drawn.array, y_pixel - half, x_pixel - half, self.level)


def _trimmed(image: np.ndarray, y0: int, x0: int, level: float) -> Stamp | None:
    lit = image >= level
    rows, columns = np.flatnonzero(lit.any(axis=1)), np.flatnonzero(lit.any(axis=0))
    if rows.size == 0:
        return None
    window = (slice(rows[0], rows[-1] + 1), slice(columns[0], columns[-1] + 1))
    return Stamp(y0 + int(rows[0]), x0 + int(columns[0]), np.where(lit[window], image[window], np.float32(0)))

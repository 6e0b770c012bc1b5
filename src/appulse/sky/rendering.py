"""Sources as GalSim draws them, each on the smallest image that holds it down to the rendering limit."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np
from numba import njit
from scipy.special import gamma, gammaincinv

from appulse.files import InputError
from appulse.sky.fourier import fourier_drawer
from appulse.sky.population import BULGE_INDEX, BULGE_SIZE, Properties
from appulse.sky.psf import PSF
from appulse.sky.real_galaxies import RealGalaxies
from appulse.sky.sources import GALAXY, STAR
from appulse.sky.survey import Survey

# Profiles are drawn down to this surface brightness, in units of the survey's noise: deep enough that the
# summed light of the outskirts of many galaxies is right to a few hundredths of sigma.
RENDER_LIMIT = 0.05
# Half-width, pixels, past which no image grows (the outskirts of the few brightest galaxies with n > 4).
LARGEST_HALF_WIDTH = 384
# Of GalSim's transforms: light that may be folded in from outside, and share of the largest amplitude at
# which they are cut. First GalSim's own; the last change a flux by up to 4 %.
_THRESHOLDS = ((5e-3, 1e-3), (2e-2, 2e-3), (5e-2, 1e-2), (0.1, 2e-2))


@dataclass(frozen=True)
class SourceImage:
    """The noise-free image of one source.

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


class Renderer:
    """Draws the sources of one survey; holds the PSF so that it is set up once.

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

    def profile(self, source: Properties) -> object:
        """GalSim profile of a galaxy, before the PSF.

        Parameters
        ----------
        source : mapping
            A row of `draw_sources`, not a star.

        Returns
        -------
        galsim.GSObject
        """
        galsim = self._galsim
        real = self._real_galaxies(source)
        if real is not None:
            return real.profile(source)[0]
        shear = galsim.Shear(
            q=1.0 - float(source["ellipticity"]), beta=float(source["orientation"]) * galsim.degrees
        )
        parts = [
            galsim.Sersic(n=index, half_light_radius=radius, flux=flux)
            for flux, radius, index in _components(source)
        ]
        return (parts[0] if len(parts) == 1 else galsim.Sum(parts)).shear(shear)

    def box(self, source: Properties) -> tuple[int, int, int, int]:
        """Pixels that hold a source down to the rendering limit, without drawing it.

        Parameters
        ----------
        source : mapping
            A row of `draw_sources`.

        Returns
        -------
        y0, y1, x0, x1 : int
            Half-open ranges of field pixels, square and centred on the source; `draw` stays inside them.
        """
        scale = self.survey.pixel_scale
        level = self.level / scale**2
        radius = psf_radius(self.survey.psf, source["flux"], level)
        real = self._real_galaxies(source)
        if real is not None:
            radius += real.profile(source)[1]
        elif _option(source, "kind", GALAXY) != STAR:
            parts = _components(source)
            # Where the sum of two parts reaches the level, one of them reaches its half.
            radius += max(
                isophotal_radius(flux, half_light, index, source["ellipticity"], level / len(parts))
                for flux, half_light, index in parts
            )
        half = int(np.clip(np.ceil(radius / scale) + 2, 4, LARGEST_HALF_WIDTH))
        x, y = (int(np.floor(float(source[axis]) + 0.5)) for axis in ("x", "y"))
        return y - half, y + half + 1, x - half, x + half + 1

    def draw(self, source: Properties) -> SourceImage | None:
        """Draw one source.

        Parameters
        ----------
        source : mapping
            A row of `draw_sources`: ``x``, ``y`` (0-based pixels), ``flux``, ``half_light_radius`` (arcsec),
            ``sersic_index``, ``ellipticity``, ``orientation`` (degrees). Without ``kind``,
            ``bulge_fraction`` and ``real_index`` it is a galaxy of one Sérsic profile.

        Returns
        -------
        SourceImage or None
            None where no pixel reaches the rendering limit.
        """
        y0, y1, x0, x1 = self.box(source)
        image = self._through_fourier(source, (y1 - y0) // 2, (y0 + y1) // 2, (x0 + x1) // 2)
        if image is None:
            image = self.reference_image(source)
        return _trimmed(image, y0, x0, self.level)

    def reference_image(self, source: Properties) -> np.ndarray:
        """A source in its `box`, drawn by GalSim alone: slower, and what `draw` is tested against.

        Parameters
        ----------
        source : mapping
            A row of `draw_sources`.

        Returns
        -------
        (height, width) float64 array
            Flux per pixel.

        Raises
        ------
        InputError
            A galaxy too wide and cuspy for any transform.
        """
        y0, y1, x0, x1 = self.box(source)
        galsim = self._galsim
        # A wide galaxy with a cusp, under a PSF narrower than a pixel, needs a larger transform than fits:
        # then its far wings are folded into the image, and its cusp is cut.
        for folding, cut in _THRESHOLDS:
            # Made anew each time: GalSim's copies with other parameters keep what they have worked out.
            if _option(source, "kind", GALAXY) == STAR:
                profile = self.psf.withFlux(float(source["flux"]))
            else:
                profile = galsim.Convolve(self.profile(source), self.psf)
            with contextlib.suppress(galsim.GalSimFFTSizeError):
                return (
                    profile.withGSParams(folding_threshold=folding, maxk_threshold=cut)
                    .drawImage(
                        nx=x1 - x0,
                        ny=y1 - y0,
                        scale=self.survey.pixel_scale,
                        offset=(float(source["x"]) - (x0 + x1) // 2, float(source["y"]) - (y0 + y1) // 2),
                        dtype=np.float64,
                    )
                    .array
                )
        raise InputError(
            f"survey {self.survey.name!r}: a galaxy of half-light radius "
            f"{float(source['half_light_radius']):.2f} arcsec and Sérsic index "
            f"{float(source['sersic_index']):.2f} is too wide and cuspy to draw under so narrow a PSF; widen "
            "the PSF or lower the index."
        )

    def _through_fourier(self, source: Properties, half: int, y: int, x: int) -> np.ndarray | None:
        if self._real_galaxies(source) is not None:
            return None
        parts, ellipticity, orientation = [(float(source["flux"]), 0.0, 1.0)], 0.0, 0.0
        if _option(source, "kind", GALAXY) != STAR:
            parts = _components(source)
            ellipticity, orientation = float(source["ellipticity"]), float(source["orientation"])
        offset = (float(source["y"]) - y, float(source["x"]) - x)
        return fourier_drawer(self.psf, self.survey.pixel_scale).draw(
            parts, ellipticity, orientation, offset, half
        )

    def _real_galaxies(self, source: Properties) -> RealGalaxies | None:
        return self.survey.real_galaxies if _option(source, "real_index", -1) >= 0 else None


def _option(source: Properties, name: str, default: float) -> float:
    # Rows of a table have no `get`; galaxies that did not come from `draw_sources` lack the options' columns.
    try:
        return source[name]
    except KeyError:
        return default


def _components(source: Properties) -> list[tuple[float, float, float]]:
    # Flux, half-light radius and Sérsic index of each part of a galaxy.
    flux, radius, index = (float(source[name]) for name in ("flux", "half_light_radius", "sersic_index"))
    bulge = float(_option(source, "bulge_fraction", 0.0))
    if bulge == 0.0:
        return [(flux, radius, index)]
    parts = [((1.0 - bulge) * flux, radius, index), (bulge * flux, BULGE_SIZE * radius, BULGE_INDEX)]
    return [part for part in parts if part[0] > 0.0]


def _trimmed(image: np.ndarray, y0: int, x0: int, level: float) -> SourceImage | None:
    top, bottom, left, right = _lit_window(image, level)
    if top == bottom:
        return None
    return SourceImage(y0 + top, x0 + left, _above(image[top:bottom, left:right], level))


@njit(cache=True, nogil=True)
def _lit_window(image: np.ndarray, level: float) -> tuple[int, int, int, int]:  # pragma: no cover
    height, width = image.shape
    top, bottom, left, right = height, 0, width, 0
    for y in range(height):
        for x in range(width):
            if image[y, x] >= level:
                top, bottom = min(top, y), y + 1
                left, right = min(left, x), max(right, x + 1)
    return min(top, bottom), bottom, left, right


@njit(cache=True, nogil=True)
def _above(image: np.ndarray, level: float) -> np.ndarray:  # pragma: no cover
    light = np.zeros(image.shape, np.float32)
    for y in range(image.shape[0]):
        for x in range(image.shape[1]):
            if image[y, x] >= level:
                light[y, x] = image[y, x]
    return light

"""Sources as GalSim draws them, each on the smallest image that holds it down to the rendering limit."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

import numpy as np
from numba import njit

from appulse.files import InputError
from appulse.sky.fourier import fourier_drawer
from appulse.sky.population import Properties
from appulse.sky.profiles import Part, clump_parts, option, psf_radius, reach_of, smooth_parts
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
            galsim.Sersic(n=part.sersic_index, half_light_radius=part.half_light_radius, flux=part.flux)
            for part in smooth_parts(source)
        ]
        parts += [
            galsim.Sersic(part.sersic_index, part.half_light_radius, flux=part.flux).shift(part.x, part.y)
            for part in clump_parts(source)
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
        elif option(source, "kind", GALAXY) != STAR:
            radius += reach_of(source, level)
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
            ``bulge_fraction``, ``clump_fraction`` and ``real_index`` it is a galaxy of one Sérsic profile.

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
            if option(source, "kind", GALAXY) == STAR:
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
        parts, ellipticity, orientation = [Part(float(source["flux"]), 0.0, 1.0)], 0.0, 0.0
        if option(source, "kind", GALAXY) != STAR:
            parts = smooth_parts(source) + clump_parts(source)
            ellipticity, orientation = float(source["ellipticity"]), float(source["orientation"])
        offset = (float(source["y"]) - y, float(source["x"]) - x)
        return fourier_drawer(self.psf, self.survey.pixel_scale).draw(
            parts, ellipticity, orientation, offset, half
        )

    def _real_galaxies(self, source: Properties) -> RealGalaxies | None:
        return self.survey.real_galaxies if option(source, "real_index", -1) >= 0 else None


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

"""Galaxies drawn through their Fourier transforms, as GalSim draws them, without what it does anew for each.

GalSim evaluates, for every galaxy, the transforms of the Sérsic profile, the PSF and the pixel on a grid of
wavenumbers, multiplies them, folds the product to the sampling of the image, and transforms back. So does
this; but the transform of PSF and pixel is kept per grid, and that of a Sérsic profile read from a table.
`tests/unit/sky/test_fourier.py` compares the images with GalSim's, source by source.
"""

from __future__ import annotations

import functools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import scipy.fft
from numba import njit
from scipy.interpolate import CubicSpline
from scipy.special import gamma, gammaincinv

from appulse.sky.profiles import Part

if TYPE_CHECKING:
    import galsim

# Wavenumbers are left out where the PSF has less of its amplitude than this; GalSim's limit is 100 times it.
_CUT = 1e-5
# Tables have even steps in the root of (wavenumber x half-light radius), in which all profiles are smooth.
# Past their end a disc has less than 1e-7 of its amplitude, a de Vaucouleurs profile 1e-4.
_TABLE_END, _TABLE_CELLS = 24.0, 2048
# Sides of grids: the next period's copy of a galaxy is at least two half-widths away from the image's border.
_SIDES = np.array(sorted(2**a * b for a in range(4, 10) for b in (2, 3)))
# Wavenumbers, over the image's highest, past which GalSim draws: a PSF much narrower than a pixel.
_LARGEST_FOLD = 6
_POINT = np.array([[1.0, 0.0, 0.0, 0.0]])


@functools.cache
def sersic_transform(index: float) -> np.ndarray:
    """Fourier transform of a Sérsic profile of unit flux and half-light radius.

    It is a Hankel transform, taken on logarithmic axes (Hamilton 2000, MNRAS 312, 257: SciPy's `fht`) over 50
    e-foldings with bias -0.5, which gives 2e-10 for the exponential disc, whose transform is known.

    Parameters
    ----------
    index : float
        Sérsic index.

    Returns
    -------
    (n, 4) float64 array
        At wavenumbers ``q**2``: coefficients of a cubic in the place in a cell of q, for even cells from 0.
    """
    log_radius, step = np.linspace(-30.0, 20.0, 4096, retstep=True)
    radius = np.exp(log_radius)
    b = gammaincinv(2.0 * index, 0.5)
    flux = 2.0 * np.pi * index * gamma(2.0 * index) * b ** (-2.0 * index)
    profile = np.exp(-b * radius ** (1.0 / index)) / flux
    offset = scipy.fft.fhtoffset(step, 0.0, bias=-0.5)
    transform = scipy.fft.fht(2.0 * np.pi * radius * profile, step, 0.0, offset, -0.5)
    log_k = offset - log_radius[::-1]
    used = (log_k > -9.0) & (log_k < 8.0)
    spline = CubicSpline(log_k[used], (transform * np.exp(-log_k))[used])

    q = np.arange(_TABLE_CELLS + 3) * (_TABLE_END / _TABLE_CELLS)
    values = np.ones_like(q)
    values[1:] = spline(2.0 * np.log(q[1:]))
    # Even in q.
    before, start, end, after = (
        np.concatenate([values[1:2], values])[i : i + _TABLE_CELLS + 1] for i in range(4)
    )
    slope, end_slope = 0.5 * (end - before), 0.5 * (after - start)
    rise = end - start
    return np.stack([start, slope, 3 * rise - 2 * slope - end_slope, slope + end_slope - 2 * rise], axis=1)


@dataclass(frozen=True)
class _Grid:
    """Wavenumbers of one size of image.

    Parameters
    ----------
    side : int, pixels
        Period of the image.
    transfer : (n, 2 n - 1) float32 array
        Transform of PSF and pixel at 0 to n - 1 cycles per period along y and 1 - n to n - 1 along x.
    """

    side: int
    transfer: np.ndarray


@functools.lru_cache(maxsize=1)
def fourier_drawer(psf: galsim.GSObject, pixel_scale: float) -> FourierDrawer:
    """A `FourierDrawer` and its grids, kept until another is asked for.

    Parameters
    ----------
    psf : galsim.GSObject
        Circular.
    pixel_scale : float, arcsec
        Width of a pixel.
    """
    return FourierDrawer(psf, pixel_scale)


class FourierDrawer:
    """Draws Sérsic galaxies and point sources through one PSF.

    Parameters
    ----------
    psf : galsim.GSObject
        Circular.
    pixel_scale : float, arcsec
        Width of a pixel.
    """

    def __init__(self, psf: galsim.GSObject, pixel_scale: float):
        import galsim

        self._scale = pixel_scale
        self._cut = psf.withGSParams(galsim.GSParams(maxk_threshold=_CUT)).maxk
        k = np.linspace(0.0, 2.0 * self._cut, 8192)
        self._psf = k, np.array([psf.kValue(each, 0.0).real for each in k]) / psf.flux
        self._grids: dict[int, _Grid] = {}

    def draw(
        self,
        parts: Sequence[Part],
        ellipticity: float,
        orientation: float,
        offset: tuple[float, float],
        half: int,
    ) -> np.ndarray | None:
        """Draw one source.

        Parameters
        ----------
        parts : sequence of Part
            Of a galaxy; a point source has radius 0.
        ellipticity, orientation : float, float in degrees
            The tilt of all parts and of their places.
        offset : (float, float), pixels
            Of the source's centre from that of the image: y, x.
        half : int, pixels
            The image's side is ``2 half + 1``.

        Returns
        -------
        (side, side) float64 array or None
            Flux per pixel; None where the image is too large for this, or the PSF too narrow.
        """
        if 3 * half + 1 > _SIDES[-1] or self._cut * self._scale > _LARGEST_FOLD * np.pi:
            return None
        side = int(_SIDES[np.searchsorted(_SIDES, 3 * half + 1)])
        grid = self._grids.get(side)
        if grid is None:
            grid = self._grids[side] = self._make_grid(side)
        n = len(grid.transfer)
        cycles = 2j * np.pi / side * np.arange(-n + 1, n)
        spectrum = np.zeros((side, side // 2 + 1), np.complex128)
        angle, q = np.deg2rad(orientation), 1.0 - ellipticity
        # Along the major axis a sheared profile's transform is narrower by sqrt(q).
        major, minor = 1.0 / q, q
        cosine, sine = np.cos(angle), np.sin(angle)
        for part in parts:
            along = (cosine * part.x + sine * part.y) / (np.sqrt(q) * self._scale)
            across = (cosine * part.y - sine * part.x) * np.sqrt(q) / self._scale
            place = (offset[0] + sine * along + cosine * across, offset[1] + cosine * along - sine * across)
            # Counted from the image's first pixel; its centre is `half` further.
            phase_y, phase_x = (np.exp(-cycles * (half + shift)) for shift in place)
            unit = (part.half_light_radius * 2.0 * np.pi / (side * self._scale)) ** 2
            _add_transform(
                spectrum,
                grid.transfer,
                phase_y,
                phase_x,
                part.flux,
                sersic_transform(part.sersic_index) if part.half_light_radius > 0 else _POINT,
                _TABLE_CELLS / _TABLE_END,
                unit * (major * cosine**2 + minor * sine**2),
                unit * (major - minor) * cosine * sine,
                unit * (major * sine**2 + minor * cosine**2),
            )
        image = scipy.fft.irfft2(spectrum, (side, side), overwrite_x=True)
        return image[: 2 * half + 1, : 2 * half + 1]

    def _make_grid(self, side: int) -> _Grid:
        unit = 2.0 * np.pi / (side * self._scale)
        n = int(np.ceil(self._cut / unit)) + 1
        k_y, k_x = unit * np.arange(n), unit * np.arange(-n + 1, n)
        pixel_y, pixel_x = (np.sinc(k * self._scale / (2.0 * np.pi)) for k in (k_y, k_x))
        # The PSF is circular.
        transfer = np.interp(np.hypot(k_y[:, None], k_x), *self._psf) * pixel_y[:, None] * pixel_x
        return _Grid(side, transfer.astype(np.float32))


@njit(cache=True, nogil=True)
def _add_transform(
    spectrum: np.ndarray,
    transfer: np.ndarray,
    phase_y: np.ndarray,
    phase_x: np.ndarray,
    flux: float,
    table: np.ndarray,
    per_unit: float,
    xx: float,
    xy: float,
    yy: float,
) -> None:  # pragma: no cover
    side, columns = spectrum.shape
    n = transfer.shape[0]
    last = table.shape[0] - 1
    value = np.empty(columns)
    place = np.empty(columns)
    cell = np.empty(columns, np.int32)
    for m_y in range(-n + 1, n):
        row = spectrum[m_y % side]
        along_y = flux * phase_y[m_y + n - 1]
        reach = int(np.sqrt((n - 1.0) ** 2 - m_y * m_y))
        # Every period of wavenumbers folds onto the same columns; the other half follows from symmetry.
        for period in range(-((reach + side - 1) // side), reach // side + 1):
            low = max(0, -reach - period * side)
            high = min(columns - 1, reach - period * side)
            size = high - low + 1
            if size <= 0:
                continue
            start = low + period * side
            # In passes that a compiler turns into vector instructions.
            for i in range(size):
                m_x = float(start + i)
                ksq = xx * m_x * m_x + (2.0 * xy * m_y) * m_x + yy * m_y * m_y
                place[i] = min(np.sqrt(np.sqrt(ksq)) * per_unit, last)
                cell[i] = np.int32(place[i])
            for i in range(size):
                t = place[i] - cell[i]
                c = table[cell[i]]
                value[i] = c[0] + t * (c[1] + t * (c[2] + t * c[3]))
            through = transfer[abs(m_y), start + n - 1 : start + n - 1 + size]
            along_x = phase_x[start + n - 1 : start + n - 1 + size]
            for i in range(size):
                row[low + i] += (through[i] * value[i]) * (along_y * along_x[i])

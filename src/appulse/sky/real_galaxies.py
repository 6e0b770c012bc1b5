"""Images of real galaxies in place of Sérsic profiles, from a COSMOS catalogue in GalSim's format."""

from __future__ import annotations

import functools
import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from scipy import ndimage

from appulse.files import InputError
from appulse.sky.population import SIZE_SLOPE, Properties

if TYPE_CHECKING:
    import galsim

# A drawn galaxy takes the image of one that is up to this much brighter, magnitudes: the noise of the image
# shrinks with its flux. Never that of a fainter one, whose noise would grow.
_BRIGHTER = 3.0
# Fewest images to choose from; a galaxy with fewer keeps its Sérsic profile.
_FEWEST = 5
# A galaxy's own pixels: connected to the centre above this many sigma of the image, smoothed by 2 pixels.
_SMOOTHING, _THRESHOLD = 2.0, 1.5


@dataclass(frozen=True)
class RealGalaxies:
    """A catalogue of real galaxies that ``galsim.RealGalaxyCatalog`` reads.

    Parameters
    ----------
    digest : str
        SHA-256 of the catalogue file; part of the survey's own digest.
    path : Path or None
        Of the catalogue file; None where a survey was read back from a field, and cannot be drawn again.
        Two surveys that differ in nothing else are equal.
    """

    digest: str
    path: Path | None = field(default=None, compare=False)

    @classmethod
    def open(cls, path: str | Path) -> RealGalaxies:
        """Find a catalogue.

        Parameters
        ----------
        path : str or Path
            Directory with one ``real_galaxy_catalog*.fits``, or that file.

        Returns
        -------
        RealGalaxies

        Raises
        ------
        InputError
            No catalogue there, or several.
        """
        path = Path(path)
        found = [path] if path.is_file() else sorted(path.glob("real_galaxy_catalog*.fits"))
        # Beside a catalogue lie parametric fits to it and selections from it.
        found = [each for each in found if not each.stem.endswith(("_fits", "_selection"))]
        if len(found) != 1:
            names = ", ".join(each.name for each in found) or "none"
            raise InputError(
                f"{path}: real_galaxies needs a directory with one real_galaxy_catalog*.fits "
                f"(found: {names}), or the path of that file."
            )
        return cls(hashlib.sha256(found[0].read_bytes()).hexdigest(), found[0].resolve())

    def assign(self, galaxies: dict[str, np.ndarray], rng: np.random.Generator) -> None:
        """Give each galaxy the image of a catalogued one up to 3 magnitudes brighter, turned at random.

        Galaxies brighter than all but a few of the catalogue keep their Sérsic profiles.

        Parameters
        ----------
        galaxies : dict of (n,) arrays
            ``magnitude`` in; of the galaxies with an image ``real_index`` and ``orientation`` (degrees,
            [0, 360), the turn) are set, and the Sérsic parameters become NaN.
        rng : numpy.random.Generator
            Source of randomness.
        """
        magnitudes = _catalog(self._path()).mag
        order = np.argsort(magnitudes, kind="stable")
        high = np.searchsorted(magnitudes[order], galaxies["magnitude"], side="right")
        low = np.searchsorted(magnitudes[order], galaxies["magnitude"] - _BRIGHTER)
        u, turn = rng.random((2, len(high)))
        chosen = high - low >= _FEWEST
        drawn = low + np.floor((high - low) * u).astype(int)
        galaxies["real_index"] = np.where(chosen, order[np.minimum(drawn, len(order) - 1)], -1)
        galaxies["orientation"] = np.where(chosen, 360.0 * turn, galaxies["orientation"])
        for name in galaxies.keys() & {"bulge_fraction", "clump_fraction"}:
            galaxies[name] = np.where(chosen, 0.0, galaxies[name])
        for name in ("half_light_radius", "sersic_index", "ellipticity"):
            galaxies[name] = np.where(chosen, np.nan, galaxies[name])

    def profile(self, galaxy: Properties) -> tuple[object, float]:
        """GalSim profile of a galaxy, its telescope's PSF removed, and the radius that holds it.

        Its flux is the drawn one, and its size follows from the catalogued galaxy's along the size-magnitude
        law of the population. Pixels that are not the galaxy's are 0: noise and neighbours stay out.

        Parameters
        ----------
        galaxy : mapping
            ``real_index``, ``magnitude``, ``flux``, ``orientation``.

        Returns
        -------
        profile : galsim.GSObject
        radius : float, arcsec
        """
        import galsim

        index = int(galaxy["real_index"])
        image, psf, radius = _cleaned(self._path(), index)
        factor = float(np.exp(SIZE_SLOPE * (float(galaxy["magnitude"]) - _catalog(self._path()).mag[index])))
        real = galsim.Convolve(image, galsim.Deconvolve(psf)).dilate(factor).withFlux(float(galaxy["flux"]))
        return real.rotate(float(galaxy["orientation"]) * galsim.degrees), radius * factor

    def _path(self) -> Path:
        if self.path is None:
            raise InputError(
                "the survey's real galaxies are not at hand; name their directory in its TOML file."
            )
        return self.path


@functools.cache
def _catalog(path: Path) -> galsim.RealGalaxyCatalog:
    import galsim

    return galsim.RealGalaxyCatalog(path.name, dir=str(path.parent))


@functools.lru_cache(maxsize=512)
def _cleaned(path: Path, index: int) -> tuple[galsim.InterpolatedImage, galsim.GSObject, float]:
    # The image without noise and neighbours, its PSF, and the radius in arcsec that holds it.
    import galsim

    catalog = _catalog(path)
    image, psf = catalog.getGalImage(index), catalog.getPSF(index)
    own = _own_pixels(image.array)
    image.array[~own] = 0.0
    y, x = np.nonzero(own)
    centre = (np.array(own.shape) - 1) / 2
    radius = (np.hypot(y - centre[0], x - centre[1]).max() + _SMOOTHING) * image.scale
    return galsim.InterpolatedImage(image), psf, radius


def _own_pixels(image: np.ndarray) -> np.ndarray:
    smooth = ndimage.gaussian_filter(image, _SMOOTHING)
    border = np.concatenate(
        [smooth[:5].ravel(), smooth[-5:].ravel(), smooth[:, :5].ravel(), smooth[:, -5:].ravel()]
    )
    sigma = 1.4826 * np.median(np.abs(border - np.median(border)))
    labels, _ = ndimage.label(smooth > _THRESHOLD * sigma)
    y, x = (np.array(image.shape) - 1) // 2
    # The brightest pixel near the centre is the galaxy's, whatever the exact position of its peak.
    near = np.zeros(image.shape, bool)
    near[max(y - 5, 0) : y + 7, max(x - 5, 0) : x + 7] = True
    label = labels.flat[np.argmax(np.where(near, smooth, -np.inf))]
    return ndimage.binary_dilation(labels == label, iterations=2) if label else near

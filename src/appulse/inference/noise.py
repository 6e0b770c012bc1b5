"""Background and noise of an image as numbers on a mesh, and the image in their units.

An image is scaled window by window (`Noise.scale`), so that nothing needs the whole of it, and no number
depends on the window. `background.measure_noise` finds the numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np
from scipy import ndimage

from appulse.inference.cells import SMOOTHING
from appulse.inference.exposure import Exposure
from appulse.inference.mesh import CELL, join_mesh, of_pixels
from appulse.inference.oddities import darkest, is_pedestal
from appulse.inference.padding import padding
from appulse.inference.photon_noise import within_sky
from appulse.network.validity import INDEPENDENT
from appulse.windows import Window, cropped, shape_of, whole

# Measured scatter over supplied noise outside which a map disagrees with its image.
RATIO_RANGE = (0.8, 1.25)
# And outside which it is probably a map of another kind.
ANOTHER_KIND = (0.1, 10.0)
# Pixels that the smoothing of a noise map reaches: SciPy cuts its Gaussian at four standard deviations.
_REACH = int(4 * SMOOTHING + 0.5)


@dataclass(frozen=True)
class NoiseQuality:
    """How the noise of an image compares with what the models know.

    Attributes
    ----------
    noise_ratio : float
        Measured scatter over supplied sigma, the median over the background; 1 where no map was supplied.
    correlation : float
        Correlation of neighbouring background pixels: 0 for white noise, more in drizzled images.
    empty : float
        Share of the mesh cells whose good pixels hold no sky: nearly all of one value, or only the noise of
        rounding with dither, as lossy compression makes of padding.
    oddities : tuple of str
        What else is odd about the image; one sentence each.
    """

    noise_ratio: float
    correlation: float
    empty: float
    oddities: tuple[str, ...]

    @property
    def noise_disagrees(self) -> bool:
        """Whether the supplied noise is not what the pixels scatter by."""
        return not RATIO_RANGE[0] <= self.noise_ratio <= RATIO_RANGE[1]

    @property
    def warnings(self) -> list[str]:
        """What is odd about the noise, whatever the model; one sentence each."""
        found = []
        if self.noise_disagrees:
            words = f"the scatter is {self.noise_ratio:.3g} times the supplied noise: every threshold moves"
            if not ANOTHER_KIND[0] <= self.noise_ratio <= ANOTHER_KIND[1]:
                words += "; is the map a weight, a variance or an rms, and was it given as such?"
            found.append(words)
        if self.empty:
            share = max(round(100 * self.empty), 1)
            found.append(
                f"{share} % of the image hold nearly one value, or only the noise of lossy compression: "
                "padding that is not 0? its pixels are not flagged; give a --mask or --weight"
            )
        return [*found, *self.oddities]


@dataclass(frozen=True)
class NoiseScaled(NoiseQuality):
    """A window of an image in units of its background noise. See `Noise.scale`.

    Attributes
    ----------
    scaled : (height, width) float32 array, units of the noise
        ``(image - background) / sigma``; NaN where `bad`.
    sigma, background : (height, width) float32 array, units of the image
        The noise of the empty sky, without the photon noise of sources, and its level.
    noise : (height, width) float32 array, units of the image
        The supplied map whole, with the sources' photon noise if it has it; else `sigma`. For flux errors.
    bad : (height, width) bool array
        Not finite, masked, without a positive and finite noise, or the zero padding of a mosaic.
    correlated : (height, width) bool array
        Where neighbouring sky pixels know of each other, more or less than was taken.
    """

    scaled: np.ndarray
    sigma: np.ndarray
    background: np.ndarray
    noise: np.ndarray
    bad: np.ndarray
    correlated: np.ndarray


@dataclass(frozen=True)
class Noise(NoiseQuality):
    """Background and noise of a whole image, in as many numbers as it has mesh cells.

    `background.measure_noise` makes it.

    Attributes
    ----------
    shape : (height, width), pixels
        Of the image.
    level, sigma : (rows, columns) float64 array, units of the image
        Background and measured noise per mesh cell, filtered.
    rounding : float, units of the image
        Noise of rounding, of a quantised image.
    padding_side : int, pixels
        A block of so many by so many exact zeros is pixels that no exposure reached; 0 where zeros are values
        like others.
    largest_variance : float, units of the image squared
        Where more is supplied, there is no data.
    subtract_background : bool
        Whether `level` is taken off.
    correlations : (rows, columns) float64 array
        Correlation of neighbouring sky pixels around each mesh cell.
    slopes : (rows, columns) float64 array or None
        What a supplied variance gains per unit of light around each mesh cell, the sources' photon noise; 0
        where it does not include that. None where no map was supplied.
    follows_pixels : (rows, columns) bool array or None
        Whether that photon noise was taken from the noisy pixels themselves, in the empty sky too (Rubin).
    sky_variance : (rows, columns) float64 array or None
        Median supplied variance of the sky per mesh cell, filtered; None where no map was supplied, or there
        is no sky.
    sources : (height, bytes) uint8 array or None
        A bit per pixel: whether it is near anything that stands out. None where no slope asks for it.
    """

    shape: tuple[int, int]
    level: np.ndarray
    sigma: np.ndarray
    rounding: float
    padding_side: int
    largest_variance: float
    subtract_background: bool
    correlations: np.ndarray
    slopes: np.ndarray | None
    follows_pixels: np.ndarray | None
    sky_variance: np.ndarray | None
    sources: np.ndarray | None

    @property
    def leaves_sky(self) -> bool:
        """Whether the sky is left in though it is far from 0."""
        return not self.subtract_background and is_pedestal(darkest(self.level, self.sigma))

    def record(self) -> dict[str, np.ndarray]:
        """All of it as plain arrays; None becomes NaN."""
        values = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: np.array(np.nan if value is None else value) for name, value in values.items()}

    @classmethod
    def from_record(cls, record: dict[str, np.ndarray]) -> Noise:
        """What `record` was made of.

        Parameters
        ----------
        record : dict of str to array
            Plain arrays.
        """
        plain: dict[str, Any] = {
            name: value.item() if value.ndim == 0 else value for name, value in record.items()
        }
        plain["oddities"] = tuple(record["oddities"].tolist())
        plain["shape"] = tuple(int(side) for side in record["shape"])
        for name in ("slopes", "follows_pixels", "sky_variance", "sources"):
            plain[name] = None if record[name].ndim == 0 and np.isnan(record[name]) else plain[name]
        return cls(**plain)

    def scale(
        self,
        exposure: Exposure,
        window: Window | None = None,
        correlations: tuple[float, float] = INDEPENDENT,
    ) -> NoiseScaled:
        """A window of the image in units of its noise.

        Parameters
        ----------
        exposure : Exposure
            What was measured.
        window : (slice, slice), optional
            By default the whole image.
        correlations : (float, float)
            Least and largest of neighbouring sky pixels; outside they are marked as `correlated`.

        Returns
        -------
        NoiseScaled
            The same numbers whatever the window.
        """
        window = window or whole(self.shape)
        image, variance, bad = self._read(exposure, window)
        background = join_mesh(self.level, self.shape, window, onwards=True)
        if variance is None:
            sigma = noise = join_mesh(self.sigma, self.shape, window)
        else:
            noise = np.sqrt(variance)
            removed = self.slopes is not None and of_pixels(self.slopes, window).any()
            sigma = np.sqrt(self._sky_variance(exposure, window)) if removed else noise
        light = image - background if self.subtract_background else image
        if not self.subtract_background:
            background = np.zeros(image.shape, np.float32)
        scaled = np.full(image.shape, np.nan, np.float32)
        np.divide(light, sigma, out=scaled, where=~bad, casting="same_kind")
        sigma, noise = sigma.astype(np.float32, copy=False), noise.astype(np.float32, copy=False)
        measured = of_pixels(self.correlations, window)
        correlated = (measured < correlations[0]) | (measured > correlations[1])
        return NoiseScaled(
            noise_ratio=self.noise_ratio,
            correlation=self.correlation,
            empty=self.empty,
            oddities=self.oddities,
            scaled=scaled,
            sigma=sigma,
            background=background,
            noise=noise,
            bad=bad,
            correlated=correlated,
        )

    def disagrees(self, window: Window) -> np.ndarray:
        """Where the supplied noise is not what the pixels scatter by.

        Parameters
        ----------
        window : (slice, slice)
            Of the image.

        Returns
        -------
        (height, width) bool array
        """
        if self.sky_variance is None:
            return np.full(shape_of(window), self.noise_disagrees)
        ratio = self.sigma / np.sqrt(self.sky_variance)
        return of_pixels((ratio < RATIO_RANGE[0]) | (ratio > RATIO_RANGE[1]), window)

    def bad(self, exposure: Exposure, window: Window) -> np.ndarray:
        """Bad pixels of a window, without the rest of `scale`.

        Parameters
        ----------
        exposure : Exposure
            What was measured.
        window : (slice, slice)
            Of the image.

        Returns
        -------
        (height, width) bool array
        """
        return self._read(exposure, window)[2]

    def _read(self, exposure: Exposure, window: Window) -> tuple[np.ndarray, np.ndarray | None, np.ndarray]:
        """Image, variance and bad pixels of a window, with what is known of the whole image."""
        image, variance, bad = replace(exposure, largest_variance=self.largest_variance).read(window)
        if self.padding_side:
            bad = bad | padding(exposure, window, image, self.padding_side)
        return image, variance, bad

    def _sky_variance(self, exposure: Exposure, window: Window) -> np.ndarray:
        """Supplied variance without what rises with the light of sources."""
        # There is a map, and it holds photon noise.
        assert self.slopes is not None and self.follows_pixels is not None
        assert self.sky_variance is not None and self.sources is not None
        rows, columns = outer = _whole_cells(window, self.shape)
        image, variance, bad = self._read(exposure, outer)
        assert variance is not None
        sources = self.sources[rows, columns.start // 8 : -(-columns.stop // 8)]
        sources = np.unpackbits(sources, axis=1, count=bad.shape[1]).astype(bool)
        light = (image - join_mesh(self.level, self.shape, outer, onwards=True)).astype(np.float64)
        level = join_mesh(self.sky_variance, self.shape, outer, np.float64)
        slope = of_pixels(self.slopes, outer)
        sky, sources = ~(bad | sources) & (slope > 0), sources & ~bad & (slope > 0)
        # The light's noise came in with it; what is left of the sources is flat and may be smoothed. Both
        # terms are, with the slope of the pixel they are for: slopes of neighbouring cells differ.
        coverage = np.maximum(ndimage.gaussian_filter((~bad).astype(np.float64), SMOOTHING), 1e-3)
        smooth_variance, smooth_light = (
            ndimage.gaussian_filter(np.where(bad, 0.0, values), SMOOTHING) / coverage
            for values in (variance, light)
        )
        left = smooth_variance - slope * smooth_light
        # Three times what the light's own noise leaves in it: less is no other depth than the sky's.
        doubt = 3 * slope * np.sqrt(smooth_variance) / (2 * np.sqrt(np.pi) * SMOOTHING)
        result = variance.copy()
        result[sources] = np.where(left > level + doubt, left, level)[sources]
        sky &= of_pixels(self.follows_pixels, outer)
        result[sky] = within_sky(variance[sky], level[sky], slope[sky] * light[sky])
        return result[cropped(window, outer)]


def _whole_cells(window: Window, shape: tuple[int, int]) -> Window:
    """The mesh cells that smoothing a window reaches, as far as the image goes."""
    rows, columns = (
        slice(max(side.start - _REACH, 0) // CELL * CELL, min(-(-(side.stop + _REACH) // CELL) * CELL, n))
        for side, n in zip(window, shape, strict=True)
    )
    return rows, columns

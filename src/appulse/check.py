"""``appulse check``: whether a model will work on an image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sep

from appulse.baselines.sep import with_growing_buffers
from appulse.files import ImageSource, open_image, pixel_scale
from appulse.inference.background import scale_to_noise
from appulse.inference.correlation import LARGEST_CORRELATION
from appulse.network.weights import Model, load_model

# Compact sources may be this much narrower or wider than the PSFs of a model's training: they are no point
# sources, and a galaxy's core is blurred by the pixels. On the default model's own training sky, without any
# star, they come out 1.4 to 1.7 times as wide as the PSF.
NARROWER, WIDER = 0.6, 1.8
# Share of the pixels above the noise past which hardly any sky is left to measure the noise on.
LARGEST_COVERAGE = 0.35
# An axis longer than this is measured in PARTS parts of PART pixels, spread evenly.
LARGEST_SIDE, PART, PARTS = 4096, 1024, 4
# Radii whose fluxes tell the width of a core up to 7 pixels: small, so that wings of a PSF or a galaxy, and
# neighbours, stay outside.
INNER, OUTER = 1.0, 2.0
FEWEST_COMPACT = 8


@dataclass(frozen=True)
class Check:
    """Measurements of an image beside what a model was trained for.

    Parameters
    ----------
    path : str
        Of the image.
    model : str
        Name.
    sigma : float
        Median background noise, in the image's units.
    correlation : float
        Of neighbouring background pixels.
    coverage : float
        Share of the good pixels above 1.5 sigma after light smoothing.
    width : float
        Full width at half maximum of the most compact bright sources, pixels; NaN where there are too few.
    scale : float
        Pixel scale, arcsec; NaN without WCS.
    of_noise : tuple of str
        Warnings that `appulse.segment` would give as well.
    trained_widths : tuple of float
        Narrowest and widest PSF of the model's training, pixels; empty where its header does not say.
    recognised : str
        What the file holds, in words.
    noise_map : str
        HDU of the noise in the image's file; empty where there is none.
    noise_ratio : float
        Measured scatter over the noise of that map.
    unit : str
        Of the image.
    size : tuple of int
        Height and width, pixels.
    bad : float
        Share of the pixels without a usable value.
    is_sampled : bool
        Whether only parts of the image were measured.
    """

    path: str
    model: str
    sigma: float
    correlation: float
    coverage: float
    width: float
    scale: float
    of_noise: tuple[str, ...] = ()
    trained_widths: tuple[float, ...] = ()
    recognised: str = "plain image"
    noise_map: str = ""
    noise_ratio: float = 1.0
    unit: str = ""
    size: tuple[int, int] = (0, 0)
    bad: float = 0.0
    is_sampled: bool = False

    @property
    def accepted_widths(self) -> tuple[float, float] | None:
        """Widths of compact sources that the model takes, pixels; None where its training is not known."""
        if not self.trained_widths:
            return None
        return NARROWER * min(self.trained_widths), WIDER * max(self.trained_widths)

    @property
    def warnings(self) -> list[str]:
        """What does not fit, one line each."""
        found = list(self.of_noise)
        if self.coverage > LARGEST_COVERAGE:
            found.append(f"{100 * self.coverage:.0f} % of the pixels hold sources; give the noise with --rms")
        if self.accepted_widths and np.isfinite(self.width):
            low, high = self.accepted_widths
            if self.width < low:
                found.append(
                    f"compact sources are only {self.width:.1f} pixels wide: cosmic rays, hot pixels, or "
                    "pixels too large for the model"
                )
            elif self.width > high:
                found.append(
                    f"compact sources are {self.width:.1f} pixels wide, more than the model knows: bin the "
                    "image, or train a model for its PSF"
                )
        return found

    @property
    def fits(self) -> bool:
        """Whether nothing stands against using the model."""
        return not self.warnings

    def __str__(self) -> str:
        rows = {
            "input": self.recognised,
            "size": self._size_in_words(),
            "background noise": self._noise_in_words(),
            "noise correlation": (
                f"{self.correlation:.3f} between neighbours (taken: up to {LARGEST_CORRELATION:g})"
            ),
            "pixels with sources": (
                f"{100 * self.coverage:.1f} % (taken: up to {100 * LARGEST_COVERAGE:.0f} %)"
            ),
            "compact sources": self._width_in_words(),
            "pixel scale": (
                f"{self.scale:.3f} arcsec" if np.isfinite(self.scale) else "unknown (no usable WCS)"
            ),
        }
        lines = [f"{self.path}, for model {self.model}:"]
        lines += [f"  {name:<19} {words}" for name, words in rows.items()]
        lines += [f"  WARNING: {warning}" for warning in self.warnings]
        lines.append("  the model fits this image" if self.fits else "  use with care")
        return "\n".join(lines)

    def _size_in_words(self) -> str:
        height, width = self.size
        sampled = f"; measured on parts of {PART} pixels" if self.is_sampled else ""
        return f"{width} x {height} pixels, {100 * self.bad:.1f} % of them bad{sampled}"

    def _noise_in_words(self) -> str:
        noise = f"{self.sigma:.4g} {self.unit}".rstrip() + " per pixel"
        if not self.noise_map:
            return f"{noise}, measured"
        return f"{noise}, from {self.noise_map}; the scatter is {self.noise_ratio:.2f} times that"

    def _width_in_words(self) -> str:
        if not np.isfinite(self.width):
            return f"unknown (fewer than {FEWEST_COMPACT} bright ones)"
        words = f"{self.width:.2f} pixels wide"
        if self.accepted_widths is None:
            return words
        low, high = self.accepted_widths
        psfs = " to ".join(f"{width:.2f}" for width in sorted(set(self.trained_widths)))
        return f"{words} (taken: {low:.1f} to {high:.1f}; trained for a PSF of {psfs})"


def check_image(
    path: str | Path, *, hdu: str | int | None = None, model: str | Path | Model = "euclid"
) -> Check:
    """Measure an image, with the noise and the mask in its file if there are any.

    Of an image longer than 4096 pixels, parts are measured that are spread evenly over it.

    Parameters
    ----------
    path : str or Path
        FITS file.
    hdu : str or int, optional
        HDU of the image.
    model : str, Path or Model
        Whose range it is held against.

    Returns
    -------
    Check

    Raises
    ------
    InputError
        The image cannot be read or has no noise to measure.
    """
    model = model if isinstance(model, Model) else load_model(model)
    with open_image(path, hdu) as source:
        image = _sampled(source, source.window)
        maps = {kind: _sampled(source, plane.window) for kind, plane in source.companions.items()}
    scaled = scale_to_noise(image, **maps)
    clean = np.where(scaled.bad, 0.0, scaled.scaled).astype(np.float32)
    sources = with_growing_buffers(lambda: sep.extract(clean, 1.5, minarea=5, mask=scaled.bad))
    scale = pixel_scale(source.wcs)
    noise = [plane.hdu_name for kind, plane in source.companions.items() if kind != "mask"]
    return Check(
        path=str(path),
        model=model.name,
        sigma=float(np.median(scaled.sigma[~scaled.bad])),
        correlation=float(scaled.correlation),
        coverage=float(sources["npix"].sum() / np.count_nonzero(~scaled.bad)),
        width=_compact_width(clean, scaled.bad, sources),
        scale=float("nan") if scale is None else scale,
        of_noise=tuple(scaled.warnings),
        trained_widths=tuple(model.training.get("psf_fwhm_pixels", ())),
        recognised=source.recognised,
        noise_map=noise[0] if noise else "",
        noise_ratio=float(scaled.noise_ratio),
        unit="" if source.unit is None else source.unit.to_string(),
        size=source.shape,
        bad=float(scaled.bad.mean()),
        is_sampled=image.shape != source.shape,
    )


def _sampled(source: ImageSource, window: Callable[[slice, slice], np.ndarray]) -> np.ndarray:
    # The parts begin on the noise mesh's grid, so that no cell of it straddles two of them.
    rows, columns = (_parts(length) for length in source.shape)
    return np.block([[window(y, x) for x in columns] for y in rows])


def _parts(length: int) -> list[slice]:
    if length <= LARGEST_SIDE:
        return [slice(0, length)]
    starts = np.linspace(0, length - PART, PARTS).astype(int)
    return [slice(start, start + PART) for start in starts]


def _compact_width(image: np.ndarray, bad: np.ndarray, sources: np.ndarray) -> float:
    # Sources well above the noise; stars, or else the most compact galaxies, bound the PSF.
    bright = sources[(sources["peak"] > 20) & (sources["flag"] == 0)]
    if len(bright) < FEWEST_COMPACT:
        return float("nan")
    inner, outer = (
        sep.sum_circle(image, bright["x"], bright["y"], radius, mask=bad, subpix=9)[0]
        for radius in (INNER, OUTER)
    )
    # The width of the Gaussian with that ratio: a circle holds 1 - exp(-radius^2 / 2 sigma^2) of its light.
    sigmas = np.linspace(0.3, 10, 2000)
    shares = np.expm1(-(INNER**2) / (2 * sigmas**2)) / np.expm1(-(OUTER**2) / (2 * sigmas**2))
    sigma = np.interp(-inner / outer, -shares, sigmas)
    return float(2 * np.sqrt(2 * np.log(2)) * np.percentile(sigma, 10))

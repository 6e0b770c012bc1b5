"""``appulse check``: whether a model will work on an image."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sep

from appulse.baselines.sep import with_growing_buffers
from appulse.files import pixel_scale, read_image
from appulse.inference.background import scale_to_noise
from appulse.network.weights import Model, load_model

# Compact sources may be this much narrower or wider than the PSFs of a model's training: they are no point
# sources, and a galaxy's core is blurred by the pixels.
NARROWER, WIDER = 0.6, 1.8
# Share of the pixels above the noise past which hardly any sky is left to measure the noise on.
LARGEST_COVERAGE = 0.35


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
        Share of the pixels above 1.5 sigma after light smoothing.
    width : float
        Full width at half maximum of the most compact bright sources, pixels; NaN where there are too few.
    scale : float
        Pixel scale, arcsec; NaN without WCS.
    of_noise : tuple of str
        Warnings that `appulse.segment` would give as well.
    trained_widths : tuple of float
        Narrowest and widest PSF of the model's training, pixels; empty where its header does not say.
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

    @property
    def warnings(self) -> list[str]:
        """What does not fit, one line each."""
        found = list(self.of_noise)
        if self.coverage > LARGEST_COVERAGE:
            found.append(f"{100 * self.coverage:.0f} % of the pixels hold sources; give the noise with --rms")
        if self.trained_widths and np.isfinite(self.width):
            low, high = self.trained_widths
            if not NARROWER * low <= self.width <= WIDER * high:
                found.append(
                    f"compact sources are {self.width:.1f} pixels wide; the model was trained for a PSF of "
                    f"{low:.1f} to {high:.1f}"
                )
        return found

    @property
    def fits(self) -> bool:
        """Whether nothing stands against using the model."""
        return not self.warnings

    def __str__(self) -> str:
        scale = f"{self.scale:.3f} arcsec" if np.isfinite(self.scale) else "unknown (no WCS)"
        width = f"{self.width:.2f} pixels" if np.isfinite(self.width) else "unknown (too few compact sources)"
        lines = [
            f"{self.path}, for model {self.model}:",
            f"  background noise    {self.sigma:.4g} per pixel",
            f"  noise correlation   {self.correlation:.3f} between neighbours",
            f"  pixels with sources {100 * self.coverage:.1f} %",
            f"  compact sources     {width}",
            f"  pixel scale         {scale}",
        ]
        lines += [f"  WARNING: {warning}" for warning in self.warnings]
        lines.append("  the model fits this image" if self.fits else "  use with care")
        return "\n".join(lines)


def check_image(
    path: str | Path, *, hdu: str | int | None = None, model: str | Path | Model = "euclid"
) -> Check:
    """Measure an image.

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
    image = read_image(path, hdu)
    scaled = scale_to_noise(image.data)
    clean = np.where(scaled.bad, 0.0, scaled.scaled).astype(np.float32)
    sources = with_growing_buffers(lambda: sep.extract(clean, 1.5, minarea=5, mask=scaled.bad))
    scale = pixel_scale(image.wcs)
    return Check(
        path=str(path),
        model=model.name,
        sigma=float(np.nanmedian(scaled.sigma)),
        correlation=float(scaled.correlation),
        coverage=float(sources["npix"].sum() / clean.size),
        width=_compact_width(clean, scaled.bad, sources),
        scale=float("nan") if scale is None else scale,
        of_noise=tuple(scaled.warnings),
        trained_widths=tuple(model.training.get("psf_fwhm_pixels", ())),
    )


def _compact_width(image: np.ndarray, bad: np.ndarray, sources: np.ndarray) -> float:
    # Half-light radius of sources well above the noise; stars and the most compact galaxies bound the PSF.
    bright = sources[(sources["peak"] > 20) & (sources["flag"] == 0)]
    if len(bright) < 8:
        return float("nan")
    reach = np.full(len(bright), 20.0)
    radius, flag = sep.flux_radius(image, bright["x"], bright["y"], reach, 0.5, mask=bad, subpix=5)
    good = radius[(flag == 0) & (radius > 0.3)]
    # A Gaussian's full width at half maximum is twice its half-light radius.
    return float(2.0 * np.percentile(good, 10)) if len(good) >= 8 else float("nan")

"""``appulse check``: whether a model will work on an image."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from appulse.files import open_image, pixel_scale, refuse_nonlinear
from appulse.inference.background import scale_to_noise
from appulse.inference.crowding import FEWEST_COMPACT, SAMPLING, measure_crowding
from appulse.inference.exposure import Readable
from appulse.network.bundled import range_warnings
from appulse.network.validity import LARGEST_COVERAGE, Validity
from appulse.network.weights import Model, load_model


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
        Share of the good pixels in sources: five or more connected ones above 1.5 sigma once smoothed.
    width : float
        Full width at half maximum of the most compact bright sources, pixels; NaN where there are too few.
    scale : float
        Pixel scale, arcsec; NaN without WCS.
    of_noise : tuple of str
        What is odd about the noise, whatever the model.
    notes : tuple of str
        What else of the file may matter; nothing against the model.
    taken : Validity
        What the model takes.
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
    notes: tuple[str, ...] = ()
    taken: Validity = field(default_factory=Validity)
    recognised: str = "plain image"
    noise_map: str = ""
    noise_ratio: float = 1.0
    unit: str = ""
    size: tuple[int, int] = (0, 0)
    bad: float = 0.0
    is_sampled: bool = False

    @property
    def warnings(self) -> list[str]:
        """What does not fit, one line each.

        `appulse.segment` warns of the same; of a large image it measures the noise in all of it, so that near
        a limit only one of them may warn.
        """
        given = bool(self.noise_map)
        return [
            *self.of_noise,
            *range_warnings(self.taken, self.correlation, self.coverage, self.width, noise_given=given),
        ]

    @property
    def fits(self) -> bool:
        """Whether nothing stands against using the model."""
        return not self.warnings

    @property
    def verdict(self) -> str:
        """What follows from the warnings, in a line; it names what could not be measured."""
        if not self.fits:
            return "use with care"
        if np.isfinite(self.width):
            return "the model fits this image"
        return "nothing measured stands against the model; the width of the PSF was not measured"

    def __str__(self) -> str:
        low, high = self.taken.correlations
        rows = {
            "input": self.recognised,
            "size": self._size_in_words(),
            "background noise": self._noise_in_words(),
            "noise correlation": (
                f"{self.correlation:.3f} between neighbours (taken: {low:.2f} to {high:.2f})"
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
        lines += [f"  note: {note}" for note in self.notes]
        lines += [f"  WARNING: {warning}" for warning in self.warnings]
        lines.append(f"  {self.verdict}")
        return "\n".join(lines)

    def _size_in_words(self) -> str:
        height, width = self.size
        sampled = f"; measured on parts of {SAMPLING.part} pixels" if self.is_sampled else ""
        return f"{width} x {height} pixels, {100 * self.bad:.1f} % of them bad{sampled}"

    def _noise_in_words(self) -> str:
        noise = f"{self.sigma:.4g} {self.unit}".rstrip() + " per pixel"
        if not self.noise_map:
            return f"{noise}, measured"
        return f"{noise}, from {self.noise_map}; the scatter is {self.noise_ratio:.3g} times that"

    def _width_in_words(self) -> str:
        if not np.isfinite(self.width):
            return f"unknown (fewer than {FEWEST_COMPACT} bright ones without bad pixels)"
        words = f"{self.width:.2f} pixels wide"
        if self.taken.widths is None:
            return words
        low, high = self.taken.widths
        psfs = " to ".join(f"{width:.2f}" for width in sorted(set(self.taken.psf_fwhm_pixels)))
        return f"{words} (taken: {low:.1f} to {high:.1f}; trained for a PSF of {psfs})"


def check_image(
    path: str | Path, *, hdu: str | int | None = None, model: str | Path | Model = "euclid"
) -> Check:
    """Measure an image, with the noise and the mask in its file if there are any.

    Of an image longer than 2048 pixels, parts are measured that are spread evenly over it.

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
        refuse_nonlinear(path, source.unit, source.header)
        # Side by side the parts begin on the noise mesh's grid: no cell of it straddles two of them.
        windows = SAMPLING.windows(source.shape)

        def sampled(plane: Readable) -> np.ndarray:
            return np.block([[plane.window(*window) for window in row] for row in windows])

        image = sampled(source)
        maps: dict[str, Any] = {kind: sampled(plane) for kind, plane in source.companions.items()}
    scaled = scale_to_noise(image, **maps)
    crowding = measure_crowding(scaled.scaled, scaled.bad)
    scale = pixel_scale(source.wcs)
    noise = [plane.hdu_name for kind, plane in source.companions.items() if kind != "mask"]
    return Check(
        path=str(path),
        model=model.name,
        sigma=float(np.median(scaled.sigma[~scaled.bad])),
        correlation=float(scaled.correlation),
        coverage=crowding.coverage,
        width=crowding.width,
        scale=float("nan") if scale is None else scale,
        of_noise=tuple(scaled.warnings),
        notes=(*source.warnings, *source.unused_maps),
        taken=model.validity,
        recognised=source.recognised,
        noise_map=noise[0] if noise else "",
        noise_ratio=float(scaled.noise_ratio),
        unit="" if source.unit is None else source.unit.to_string(),
        size=source.shape,
        bad=float(scaled.bad.mean()),
        is_sampled=image.shape != source.shape,
    )

"""What images a model is for, from the history in its header."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass

# Compact sources may be this much narrower or wider than the PSFs of a model's training: they are no point
# sources, and a galaxy's core is blurred by the pixels. On the default model's own training sky, without any
# star, they come out 1.4 to 1.7 times as wide as the PSF.
NARROWER, WIDER = 0.6, 1.8
# Correlation of neighbouring sky pixels past which an image is unlike independent noise, and how far past
# the most correlated noise of its training a model may go.
LARGEST_CORRELATION = 0.25
# Share of the pixels above the noise past which hardly any sky is left to measure the noise on.
LARGEST_COVERAGE = 0.35


@dataclass(frozen=True)
class Validity:
    """Range of images that a model knows.

    Parameters
    ----------
    psf_fwhm_pixels : tuple of float
        Narrowest and widest PSF of its training; empty where its header does not say.
    noise_correlation : float, pixels
        Standard deviation of the Gaussian that smoothed the most correlated noise of its training; 0 where
        all was independent.
    """

    psf_fwhm_pixels: tuple[float, ...] = ()
    noise_correlation: float = 0.0

    @classmethod
    def of(cls, training: dict) -> Validity:
        """Read it from the history of a model.

        Parameters
        ----------
        training : dict
            `Model.training`.
        """
        lengths = training.get("noise_correlation", (0.0,))
        return cls(tuple(training.get("psf_fwhm_pixels", ())), float(max(lengths)))

    @property
    def widths(self) -> tuple[float, float] | None:
        """Widths of compact sources that are taken, pixels; None where the training is not known."""
        if not self.psf_fwhm_pixels:
            return None
        return NARROWER * min(self.psf_fwhm_pixels), WIDER * max(self.psf_fwhm_pixels)

    @property
    def largest_correlation(self) -> float:
        """Correlation of neighbouring sky pixels up to which an image is taken."""
        if not self.noise_correlation:
            return LARGEST_CORRELATION
        reach = math.ceil(5 * self.noise_correlation) + 1
        kernel = [math.exp(-0.5 * (x / self.noise_correlation) ** 2) for x in range(-reach, reach + 1)]
        # Of white noise smoothed with that kernel; what is measured scatters about it.
        neighbours = sum(map(operator.mul, kernel[1:], kernel)) / sum(weight**2 for weight in kernel)
        return max(LARGEST_CORRELATION, neighbours + 0.05)

    def warnings(self, correlation: float, coverage: float, width: float) -> list[str]:
        """What of an image lies outside; one sentence each.

        Parameters
        ----------
        correlation : float
            Of neighbouring sky pixels.
        coverage : float
            Share of the good pixels that hold sources.
        width : float, pixels
            Of the most compact bright sources; NaN where there are too few.
        """
        found = []
        if abs(correlation) > self.largest_correlation:
            known = f"noise correlated up to {self.largest_correlation:.2f}"
            found.append(
                f"neighbouring sky pixels correlate by {correlation:.2f} (drizzled?); the model knows "
                f"{known if self.noise_correlation else 'independent noise'}, so expect false small objects "
                "and too small error bars"
            )
        if coverage > LARGEST_COVERAGE:
            found.append(f"{100 * coverage:.0f} % of the pixels hold sources; give the noise with --rms")
        if self.widths and math.isfinite(width):
            low, high = self.widths
            if width < low:
                found.append(
                    f"compact sources are only {width:.1f} pixels wide: cosmic rays, hot pixels, or "
                    "pixels too large for the model"
                )
            elif width > high:
                found.append(
                    f"compact sources are {width:.1f} pixels wide, more than the model knows: bin the "
                    "image, or take or train a model for its PSF"
                )
        return found

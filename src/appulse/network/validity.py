"""What images a model is for, from the history in its header."""

from __future__ import annotations

import math
import operator
from dataclasses import dataclass

# Compact sources may be this much narrower or wider than the PSFs of a model's training: they are no point
# sources, and a galaxy's core is blurred by the pixels. On the default model's own training sky, without any
# star, they come out 1.4 to 1.7 times as wide as the PSF.
NARROWER, WIDER = 0.6, 1.8
# Correlation of neighbouring sky pixels past which an image is unlike independent noise. What is measured
# scatters by less than SCATTER.
LARGEST_CORRELATION, SCATTER = 0.25, 0.05
# Share of the pixels above the noise past which hardly any sky is left to measure the noise on.
LARGEST_COVERAGE = 0.35
INDEPENDENT = (-LARGEST_CORRELATION, LARGEST_CORRELATION)


@dataclass(frozen=True)
class Validity:
    """Range of images that a model knows.

    Parameters
    ----------
    psf_fwhm_pixels : tuple of float
        Narrowest and widest PSF of its training; empty where its header does not say.
    noise_correlation : (float, float), pixels
        Standard deviations of the Gaussians that smoothed the least and the most correlated noise of its
        training; 0 is independent noise.
    """

    psf_fwhm_pixels: tuple[float, ...] = ()
    noise_correlation: tuple[float, float] = (0.0, 0.0)

    @classmethod
    def of(cls, training: dict) -> Validity:
        """Read it from the history of a model.

        Parameters
        ----------
        training : dict
            `appulse.network.weights.Model.training`.
        """
        least, most = training.get("noise_correlation", (0.0, 0.0))
        return cls(tuple(training.get("psf_fwhm_pixels", ())), (least, most))

    @property
    def widths(self) -> tuple[float, float] | None:
        """Widths of compact sources that are taken, pixels; None where the training is not known."""
        if not self.psf_fwhm_pixels:
            return None
        return NARROWER * min(self.psf_fwhm_pixels), WIDER * max(self.psf_fwhm_pixels)

    @property
    def correlations(self) -> tuple[float, float]:
        """Least and largest correlation of neighbouring sky pixels that are taken."""
        least, most = map(neighbour_correlation, self.noise_correlation)
        return least - LARGEST_CORRELATION, max(LARGEST_CORRELATION, most + SCATTER)

    def warnings(
        self,
        correlation: float,
        coverage: float,
        width: float,
        *,
        noise_given: bool = False,
        subtracted: bool = True,
    ) -> list[str]:
        """What of an image lies outside; one sentence each.

        Parameters
        ----------
        correlation : float
            Of neighbouring sky pixels.
        coverage : float
            Share of the good pixels that hold sources.
        width : float, pixels
            Of the most compact bright sources; NaN where there are too few.
        noise_given : bool
            Whether the noise was given, rather than measured between the sources.
        subtracted : bool
            Whether the background was measured between them and subtracted.
        """
        found = []
        low, high = self.correlations
        if not low <= correlation <= high:
            known = "independent noise" if (low, high) == INDEPENDENT else f"{low:.2f} to {high:.2f}"
            found.append(
                f"neighbouring sky pixels correlate by {correlation:.2f} (drizzled?); the model knows "
                f"{known}, so expect false small objects and too small error bars"
            )
        crowded = (
            f"{100 * coverage:.0f} % of the pixels hold sources, which leaves little sky to measure the "
        )
        if coverage > LARGEST_COVERAGE and not noise_given:
            found.append(crowded + "noise on: give a noise map (--rms)")
        elif coverage > LARGEST_COVERAGE and subtracted:
            found.append(
                crowded + "background on: it comes out too high, and so does the scatter that a noise map is "
                "held against; subtract the background yourself and use --no-background"
            )
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


def neighbour_correlation(length: float) -> float:
    """Correlation of neighbouring pixels of white noise that a Gaussian smoothed.

    Parameters
    ----------
    length : float, pixels
        Its standard deviation.
    """
    if not length:
        return 0.0
    reach = math.ceil(5 * length) + 1
    kernel = [math.exp(-0.5 * (x / length) ** 2) for x in range(-reach, reach + 1)]
    return sum(map(operator.mul, kernel[1:], kernel)) / sum(weight**2 for weight in kernel)

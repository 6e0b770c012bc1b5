"""SEP, the library form of SExtractor (Barbary 2016; Bertin & Arnouts 1996), as a detector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import sep

from appulse.baselines.segments import BORDER_LIGHTS, detection_from_segments
from appulse.evaluation.detection import Detection

# Detection kernels, in pixels. The pyramid is SExtractor's default.conv; "none" switches the filter off.
SMOOTHING = {
    "none": None,
    "pyramid": np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], dtype=np.float32),
    "gauss": np.exp(-(np.add.outer(np.arange(-2, 3) ** 2, np.arange(-2, 3) ** 2)) / 2).astype(np.float32),
}

# Deblending contrasts along which a curve is drawn; at 1 nothing is deblended.
CONTRASTS = (1e-5, 3e-5, 1e-4, 3e-4, 1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3)

# sep's buffers are process-wide and too small for dense fields; on overflow they grow by this factor.
_GROWTH = 4
_MAX_GROWTHS = 8


@dataclass(frozen=True)
class SepDetector:
    """``sep.extract`` on an image in units of the noise.

    Parameters
    ----------
    threshold : float, units of the noise
        A pixel is detected above this, after smoothing.
    min_area : int, pixels
        Smallest detection.
    deblend_nthresh : int
        Levels of the deblending tree.
    deblend_contrast : float
        Share of the light that a branch needs to be a galaxy of its own; 1 switches deblending off.
    smoothing : str
        Key of ``SMOOTHING``: none, pyramid (3x3), gauss (5x5, sigma 1 pixel).
    border_light : float, units of the noise
        As `detection_from_segments` takes it.
    """

    threshold: float = 1.2
    min_area: int = 8
    deblend_nthresh: int = 32
    deblend_contrast: float = 0.005
    smoothing: str = "pyramid"
    border_light: float = 0.0

    @property
    def name(self) -> str:
        """Name in tables."""
        return "SEP"

    @property
    def program(self) -> str:
        """What does the work, with its version."""
        return f"sep {sep.__version__}"

    @property
    def setting(self) -> float:
        """Where it stands among its `variants`: the deblending contrast."""
        return self.deblend_contrast

    def segments(self, image: np.ndarray) -> np.ndarray:
        """Segmentation map of one image.

        Parameters
        ----------
        image : (height, width) float array, units of the noise
            NaN where bad; those pixels are in no segment.

        Returns
        -------
        (height, width) int32 array
        """
        # sep reads C-ordered native floats, and smears a NaN over its neighbours. A zero is what its own mask
        # makes of a pixel when no error map is given.
        image = np.ascontiguousarray(image, dtype=np.float32)
        bad = ~np.isfinite(image)
        data = np.where(bad, np.float32(0), image)
        segments = with_growing_buffers(
            lambda: sep.extract(
                data,
                self.threshold,
                minarea=self.min_area,
                filter_kernel=SMOOTHING[self.smoothing],
                deblend_nthresh=self.deblend_nthresh,
                deblend_cont=self.deblend_contrast,
                segmentation_map=True,
            )[1]
        )
        segments[bad] = 0  # smoothing can lift a bad pixel over the threshold
        return segments

    def detect(self, image: np.ndarray) -> Detection:
        """Find objects; a blend has two segments that share at least 4 border pixels bright enough.

        Parameters
        ----------
        image : (height, width) float array, units of the noise

        Returns
        -------
        Detection
        """
        return detection_from_segments(self.segments(image), image, border_light=self.border_light)

    def variants(self) -> dict[float, SepDetector]:
        """The same settings at other deblending contrasts.

        Returns
        -------
        dict of float to SepDetector
            By contrast.
        """
        return {
            contrast: replace(self, deblend_contrast=contrast)
            for contrast in sorted({*CONTRASTS, self.deblend_contrast})
        }

    def drawn(self, rng: np.random.Generator) -> SepDetector:
        """Parameters drawn around the usual ones, log-uniform where only the ratio matters.

        Parameters
        ----------
        rng : numpy.random.Generator

        Returns
        -------
        SepDetector
        """
        return replace(
            self,
            threshold=float(rng.uniform(0.7, 2.5)),
            min_area=int(rng.integers(3, 16)),
            deblend_nthresh=int(rng.choice([16, 32, 64])),
            deblend_contrast=float(10 ** rng.uniform(-5, -1)),
            border_light=float(rng.choice(BORDER_LIGHTS)),
            smoothing=str(rng.choice(sorted(SMOOTHING))),
        )


def with_growing_buffers(extract: Callable[[], np.ndarray]) -> np.ndarray:
    """Call ``extract``; enlarge sep's buffers as long as it complains of them, then put them back.

    Parameters
    ----------
    extract : callable
        Calls ``sep.extract``.
    """
    pixstack, sub_objects = sep.get_extract_pixstack(), sep.get_sub_object_limit()
    try:
        for _ in range(_MAX_GROWTHS):
            try:
                return extract()
            except Exception as error:  # sep raises bare Exception
                message = str(error)
                if "pixel buffer full" in message:
                    sep.set_extract_pixstack(sep.get_extract_pixstack() * _GROWTH)
                elif "deblending overflow" in message:
                    sep.set_sub_object_limit(sep.get_sub_object_limit() * _GROWTH)
                else:
                    raise
        return extract()
    finally:
        sep.set_extract_pixstack(pixstack)
        sep.set_sub_object_limit(sub_objects)

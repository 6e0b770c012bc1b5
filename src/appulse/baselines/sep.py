"""SEP, the library form of SExtractor (Barbary 2016; Bertin & Arnouts 1996), as a detector."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Self

import numpy as np
import sep

from appulse.baselines.segments import SegmentDetector

# Detection kernels, in pixels. The pyramid is SExtractor's default.conv; "none" switches the filter off.
SMOOTHING = {
    "none": None,
    "pyramid": np.array([[1, 2, 1], [2, 4, 2], [1, 2, 1]], dtype=np.float32),
    "gauss": np.exp(-(np.add.outer(np.arange(-2, 3) ** 2, np.arange(-2, 3) ** 2)) / 2).astype(np.float32),
}

# sep's buffers are process-wide and too small for dense fields; on overflow they grow by this factor.
_GROWTH = 4
_MAX_GROWTHS = 8


@dataclass(frozen=True)
class SepDetector(SegmentDetector):
    """``sep.extract`` on an image in units of the noise.

    Parameters
    ----------
    threshold, min_area, deblend_nthresh, deblend_contrast, border_light
        As of `SegmentDetector`.
    smoothing : str
        Key of ``SMOOTHING``: none, pyramid (3x3), gauss (5x5, sigma 1 pixel).
    """

    smoothing: str = "pyramid"

    @property
    def name(self) -> str:
        """Name in tables."""
        return "SEP"

    @property
    def program(self) -> str:
        """What does the work, with its version."""
        return f"sep {sep.__version__}"

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

    def drawn(self, rng: np.random.Generator) -> Self:
        """As of `SegmentDetector`, and the smoothing.

        Parameters
        ----------
        rng : numpy.random.Generator

        Returns
        -------
        SepDetector
        """
        return replace(super().drawn(rng), smoothing=str(rng.choice(sorted(SMOOTHING))))


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

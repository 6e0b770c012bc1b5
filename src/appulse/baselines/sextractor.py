"""The SExtractor program (Bertin & Arnouts 1996) itself, where it is installed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from astropy.io import fits

from appulse.baselines.detector import DetectorUnavailable
from appulse.baselines.segments import BORDER_LIGHTS, detection_from_segments
from appulse.baselines.sep import CONTRASTS
from appulse.evaluation.detection import Detection

# Debian calls it source-extractor, upstream sex.
PROGRAMS = ("source-extractor", "sex", "sextractor")

_KERNEL = "CONV NORM\n1 2 1\n2 4 2\n1 2 1\n"


@dataclass(frozen=True)
class SextractorDetector:
    """SExtractor's segmentation map of an image in units of the noise.

    Parameters
    ----------
    threshold : float, units of the noise
    min_area : int, pixels
    deblend_nthresh : int
    deblend_contrast : float
    border_light : float, units of the noise
        As `detection_from_segments` takes it.
    """

    threshold: float = 1.2
    min_area: int = 8
    deblend_nthresh: int = 32
    deblend_contrast: float = 0.005
    border_light: float = 0.0

    @property
    def name(self) -> str:
        """Name in tables."""
        return "SExtractor"

    @property
    def program(self) -> str:
        """What does the work, with its version."""
        told = subprocess.run([find_program(), "--version"], capture_output=True, text=True)
        return told.stdout.strip()

    @property
    def setting(self) -> float:
        """Where it stands among its `variants`: the deblending contrast."""
        return self.deblend_contrast

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

    def variants(self) -> dict[float, SextractorDetector]:
        """The same settings at other deblending contrasts.

        Returns
        -------
        dict of float to SextractorDetector
            By contrast.
        """
        return {
            contrast: replace(self, deblend_contrast=contrast)
            for contrast in sorted({*CONTRASTS, self.deblend_contrast})
        }

    def drawn(self, rng: np.random.Generator) -> SextractorDetector:
        """Parameters drawn around the usual ones, log-uniform where only the ratio matters.

        Parameters
        ----------
        rng : numpy.random.Generator

        Returns
        -------
        SextractorDetector
        """
        return replace(
            self,
            threshold=float(rng.uniform(0.7, 2.5)),
            min_area=int(rng.integers(3, 16)),
            deblend_nthresh=int(rng.choice([16, 32, 64])),
            deblend_contrast=float(10 ** rng.uniform(-5, -1)),
            border_light=float(rng.choice(BORDER_LIGHTS)),
        )

    def segments(self, image: np.ndarray) -> np.ndarray:
        """Run the program in a temporary directory.

        Parameters
        ----------
        image : (height, width) float array, units of the noise
            NaN where bad; those pixels are in no segment.

        Returns
        -------
        (height, width) int32 array

        Raises
        ------
        DetectorUnavailable
            If no such program is on the PATH.
        RuntimeError
            If the program fails; the message ends with what it printed.
        """
        program = find_program()
        image = np.asarray(image)
        bad = ~np.isfinite(image)
        with tempfile.TemporaryDirectory(prefix="appulse-sextractor-") as made:
            directory = Path(made)
            # Temporary files for another program, not the user's data: so not through appulse.files.
            fits.writeto(directory / "image.fits", np.where(bad, 0, image).astype(np.float32))
            (directory / "kernel.conv").write_text(_KERNEL)
            (directory / "columns.param").write_text("NUMBER\n")
            (directory / "settings.sex").write_text(self._settings(image.shape))
            done = subprocess.run(
                [program, "image.fits", "-c", "settings.sex"], cwd=directory, capture_output=True, text=True
            )
            if done.returncode:
                raise RuntimeError(f"{program} failed with exit code {done.returncode}: {done.stderr[-500:]}")
            segments = fits.getdata(directory / "segments.fits").astype(np.int32)
        segments[bad] = 0  # smoothing can lift a bad pixel over the threshold
        return segments

    def _settings(self, shape: tuple[int, ...]) -> str:
        # The image has no background and unit noise: the threshold is absolute, the background fixed at 0.
        settings = {
            "CATALOG_NAME": "catalog.txt",
            "CATALOG_TYPE": "ASCII",
            "PARAMETERS_NAME": "columns.param",
            "DETECT_TYPE": "CCD",
            "THRESH_TYPE": "ABSOLUTE",
            "DETECT_THRESH": self.threshold,
            "ANALYSIS_THRESH": self.threshold,
            "DETECT_MINAREA": self.min_area,
            "DEBLEND_NTHRESH": self.deblend_nthresh,
            "DEBLEND_MINCONT": self.deblend_contrast,
            "FILTER": "Y",
            "FILTER_NAME": "kernel.conv",
            "BACK_TYPE": "MANUAL",
            "BACK_VALUE": 0.0,
            "CHECKIMAGE_TYPE": "SEGMENTATION",
            "CHECKIMAGE_NAME": "segments.fits",
            "MEMORY_PIXSTACK": max(300_000, shape[0] * shape[1] // 4),
            "MEMORY_OBJSTACK": 30_000,
            "VERBOSE_TYPE": "QUIET",
            "WRITE_XML": "N",
        }
        return "".join(f"{key} {value}\n" for key, value in settings.items())


def find_program() -> str:
    """Path of the SExtractor program.

    Returns
    -------
    str

    Raises
    ------
    DetectorUnavailable
        If none of ``PROGRAMS`` is on the PATH.
    """
    for name in PROGRAMS:
        if path := shutil.which(name):
            return path
    raise DetectorUnavailable(
        f"SExtractor is not on the PATH (looked for {', '.join(PROGRAMS)}). "
        "Install it (Debian: apt install source-extractor), or compare with SEP, which is always there."
    )

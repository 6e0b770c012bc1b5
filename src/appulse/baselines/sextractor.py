"""The SExtractor program (Bertin & Arnouts 1996) itself, where it is installed."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.io import fits

from appulse.baselines.segments import SegmentDetector

# Debian calls it source-extractor, upstream sex.
PROGRAMS = ("source-extractor", "sex", "sextractor")

_KERNEL = "CONV NORM\n1 2 1\n2 4 2\n1 2 1\n"


class DetectorUnavailable(RuntimeError):
    """The program behind a detector is not installed here."""


@dataclass(frozen=True)
class SextractorDetector(SegmentDetector):
    """SExtractor's segmentation map of an image in units of the noise; parameters as of `SegmentDetector`."""

    @property
    def name(self) -> str:
        """Name in tables."""
        return "SExtractor"

    @property
    def program(self) -> str:
        """What does the work, with its version."""
        told = subprocess.run([find_program(), "--version"], capture_output=True, text=True)
        return told.stdout.strip()

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

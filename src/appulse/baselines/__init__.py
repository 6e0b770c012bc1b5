"""Other detectors behind one small interface."""

from appulse.baselines.detector import Detection, Detector, DetectorUnavailable
from appulse.baselines.segments import detection_from_segments
from appulse.baselines.sep import SepDetector, tune_sep
from appulse.baselines.sextractor import SextractorDetector

__all__ = [
    "Detection",
    "Detector",
    "DetectorUnavailable",
    "SepDetector",
    "SextractorDetector",
    "detection_from_segments",
    "tune_sep",
]

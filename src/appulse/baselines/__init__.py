"""Other detectors behind one small interface."""

from appulse.baselines.detector import Detection, Detector, DetectorUnavailable
from appulse.baselines.segments import detection_from_segments
from appulse.baselines.sep import SepDetector
from appulse.baselines.sextractor import SextractorDetector
from appulse.baselines.tuning import installed_detectors, tune, tuned_detectors

__all__ = [
    "Detection",
    "Detector",
    "DetectorUnavailable",
    "SepDetector",
    "SextractorDetector",
    "detection_from_segments",
    "installed_detectors",
    "tune",
    "tuned_detectors",
]

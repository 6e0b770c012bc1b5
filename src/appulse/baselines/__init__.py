"""Other detectors behind one small interface."""

from appulse.baselines.segments import SegmentDetector, detection_from_segments
from appulse.baselines.sep import SepDetector
from appulse.baselines.sextractor import DetectorUnavailable, SextractorDetector
from appulse.baselines.tuning import installed_detectors, tune, tuned_detectors
from appulse.evaluation.detection import Detection
from appulse.evaluation.detector import Detector

__all__ = [
    "Detection",
    "Detector",
    "DetectorUnavailable",
    "SegmentDetector",
    "SepDetector",
    "SextractorDetector",
    "detection_from_segments",
    "installed_detectors",
    "tune",
    "tuned_detectors",
]

"""What every detector has in common, and what happens where one is not installed."""

from appulse.evaluation.detection import Detection
from appulse.evaluation.detector import Detector

__all__ = ["Detection", "Detector", "DetectorUnavailable"]


class DetectorUnavailable(RuntimeError):
    """The program behind a detector is not installed here."""

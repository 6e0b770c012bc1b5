"""The one interface behind which every detector is compared."""

from typing import Protocol

from appulse.evaluation.detection import Detection

__all__ = ["Detection", "Detector", "DetectorUnavailable"]


class Detector(Protocol):
    """Anything that finds objects in an image and says which of them are blends."""

    @property
    def name(self) -> str:
        """Short name, as shown in tables."""

    def detect(self, image) -> Detection:
        """Find the objects of one image.

        Parameters
        ----------
        image : (height, width) float array, units of the background noise
            Background-subtracted; NaN where bad.

        Returns
        -------
        Detection
        """


class DetectorUnavailable(RuntimeError):
    """The program behind a detector is not installed here."""

"""The one interface behind which every detector is compared."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import numpy as np

from appulse.evaluation.detection import Detection


class Detector(Protocol):
    """Anything that finds objects in an image and says which of them are blends."""

    @property
    def name(self) -> str:
        """Short name, as shown in tables."""

    @property
    def setting(self) -> float:
        """Where it stands among its `variants`; NaN where it has none."""

    def detect(self, image: np.ndarray) -> Detection:
        """Find the objects of one image.

        Parameters
        ----------
        image : (height, width) float array, units of the background noise
            Background-subtracted; NaN where bad.

        Returns
        -------
        Detection
            With the galaxies' masks.
        """

    def variants(self) -> Mapping[float, Detector]:
        """The same detector along its own trade-off between blends found and blends invented.

        Returns
        -------
        mapping of float to Detector
            By the value of the parameter that deblends; empty where it has none.
        """

"""The Probabilistic U-Net and its weight files."""

from __future__ import annotations

from typing import TYPE_CHECKING

from appulse.network.calibration import Calibration, OperatingPoint
from appulse.network.config import NetworkConfig

if TYPE_CHECKING:
    from appulse.network.punet import ProbabilisticUNet

__all__ = ["Calibration", "NetworkConfig", "OperatingPoint", "ProbabilisticUNet"]


def __getattr__(name: str) -> type[ProbabilisticUNet]:
    # The network itself needs torch, which takes seconds to load; configuration and calibration do not.
    if name == "ProbabilisticUNet":
        from appulse.network.punet import ProbabilisticUNet

        return ProbabilisticUNet
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

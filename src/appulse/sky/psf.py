"""The point-spread function of a survey."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal


@dataclass(frozen=True)
class PSF:
    """The point-spread function.

    Parameters
    ----------
    model : {"gaussian", "moffat"}
        Profile.
    fwhm : float, arcsec
        Full width at half maximum, before the response of the pixel, which makes stars a little wider.
    beta : float
        Slope of the Moffat profile; used by that model only.
    """

    model: Literal["gaussian", "moffat"] = "moffat"
    fwhm: float = 0.18
    beta: float = 3.5

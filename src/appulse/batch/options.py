"""What a user may choose for the products of a batch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from pathlib import Path

from appulse.network.weights import Model
from appulse.segmentation import choose_device
from appulse.version import __version__


@dataclass(frozen=True)
class BatchOptions:
    """Options of ``appulse segment`` that shape its products.

    Parameters
    ----------
    output : Path
        Directory for the products.
    model : str
        Name or file.
    samples, seed : int
        Realisations, and their seed.
    method, operating_point, mode, hdu
        As `appulse.segment` takes them.
    background : bool
        Whether to subtract the background.
    origin : (y0, x0), pixels
        As `appulse.segment` takes it; of every image.
    device : str
        Where the network runs.
    keep_realisations, regions, preview : bool
        What to write besides.
    catalog_format : str
        Of the catalogue.
    """

    output: Path
    model: str = "euclid"
    samples: int = 50
    seed: int = 0
    method: str = "two-step"
    operating_point: str = "balanced"
    mode: str = "copula"
    hdu: str | None = None
    background: bool = True
    origin: tuple[int, int] = (0, 0)
    device: str = "auto"
    keep_realisations: bool = False
    catalog_format: str = "fits"
    regions: bool = False
    preview: bool = True

    def fingerprint(self, model: Model) -> dict:
        """Everything that must agree for results to stand side by side.

        Parameters
        ----------
        model : Model
            Loaded; its hash stands for it.
        """
        values = dataclasses.asdict(self)
        del values["output"]
        # Rounding differs between devices, and numbers may change between versions.
        return values | {
            "model": model.name,
            "model_sha256": model.sha256,
            "device": choose_device(self.device),
            "origin": list(self.origin),  # as JSON gives it back
            "version": __version__,
        }

"""What a user may choose for the products of a batch."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from pathlib import Path

from appulse.engine.settings import Settings
from appulse.network.weights import Model
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
    hdu : str, optional
        Of every image.
    settings : Settings
        How every image is segmented.
    keep_realisations, keep_background, regions, preview : bool
        What to write besides.
    catalog_format : str
        Of the catalogue.
    """

    output: Path
    model: str = "euclid"
    hdu: str | None = None
    settings: Settings = field(default_factory=Settings)
    keep_realisations: bool = False
    keep_background: bool = False
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
        settings = values.pop("settings")
        del values["output"], settings["block"]
        settings["background"] = settings.pop("subtract_background")  # as the command line calls it
        # Rounding differs between devices, and numbers may change between versions.
        return (
            values
            | settings
            | {
                "model": model.name,
                "model_sha256": model.sha256,
                "origin": list(self.settings.origin),  # as JSON gives it back
                "version": __version__,
            }
        )

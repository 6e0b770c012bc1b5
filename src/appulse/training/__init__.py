"""Losses, the Lightning module and the training run."""

from typing import TYPE_CHECKING

from appulse.training.config import TrainingConfig

if TYPE_CHECKING:
    from appulse.training.fit import fit
    from appulse.training.losses import weighted_dice

__all__ = ["TrainingConfig", "fit", "weighted_dice"]


def __getattr__(name: str) -> object:
    # Both need torch, and `fit` Lightning: loaded when asked for.
    if name == "fit":
        from appulse.training.fit import fit

        return fit
    if name == "weighted_dice":
        from appulse.training.losses import weighted_dice

        return weighted_dice
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

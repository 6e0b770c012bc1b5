"""Losses, the Lightning module and the training run."""

from typing import TYPE_CHECKING

from appulse.training.config import TrainingConfig

if TYPE_CHECKING:
    from appulse.training.losses import weighted_dice
    from appulse.training.run import train

__all__ = ["TrainingConfig", "train", "weighted_dice"]


def __getattr__(name: str) -> object:
    # Both need torch, and `train` Lightning: loaded when asked for.
    if name == "train":
        from appulse.training.run import train

        return train
    if name == "weighted_dice":
        from appulse.training.losses import weighted_dice

        return weighted_dice
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

"""Losses, the Lightning module and the training run."""

from appulse.training.config import TrainingConfig

__all__ = ["TrainingConfig", "fit", "weighted_dice"]


def __getattr__(name: str):
    # Both need torch, and `fit` Lightning: loaded when asked for.
    if name == "fit":
        from appulse.training.fit import fit

        return fit
    if name == "weighted_dice":
        from appulse.training.losses import weighted_dice

        return weighted_dice
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

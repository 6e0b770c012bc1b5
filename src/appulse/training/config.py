"""How a network is trained, as one frozen dataclass and two presets."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from appulse.files import InputError
from appulse.network.config import NetworkConfig
from appulse.stamps import StampConfig


@dataclass(frozen=True)
class TrainingConfig:
    """Recipe; the defaults are the preset ``default``.

    Parameters
    ----------
    network : NetworkConfig
        Architecture.
    stamps : StampConfig
        What the network sees.
    epochs, stamps_per_epoch, batch_size : int
        Length (paper, appendix A: 5 epochs of 150,000 in batches of 32).
    learning_rate, final_learning_rate : float
        Exponential decay from one to the other over the whole run (paper: 1e-3 to 3e-4).
    warmup_steps : int
        Steps over which the learning rate and the weight of the divergence rise from zero.
    class_weights : (float, float, float)
        Dice weights of background, isolated, blended (paper, appendix A).
    dice_smooth, dice_squared : float, bool
        As `losses.dice_coefficients` takes them.
    cross_entropy_weight : float
        Weight of the mean pixel cross-entropy beside Dice; Dice alone drives the softmax to certainty.
    kl_weight : float
        Weight of the divergence of posterior and prior, summed over dimensions, mean over stamps.
    gradient_clip : float
        Largest norm of the gradient.
    average_decay : float
        Decay per step of the moving average of the weights, which is what is validated and exported.
    seed : int
        Of weights and stamps.
    """

    network: NetworkConfig = field(default_factory=NetworkConfig)
    stamps: StampConfig = field(default_factory=lambda: StampConfig(depth_range=(24.6, 27.2)))
    epochs: int = 10
    stamps_per_epoch: int = 16_000
    batch_size: int = 32
    learning_rate: float = 2e-3
    final_learning_rate: float = 1e-4
    warmup_steps: int = 200
    class_weights: tuple[float, float, float] = (0.4, 0.5, 0.9)
    dice_smooth: float = 1.0
    dice_squared: bool = False
    cross_entropy_weight: float = 5.0
    kl_weight: float = 1e-2
    gradient_clip: float = 1.0
    average_decay: float = 0.998
    seed: int = 0

    @property
    def steps_per_epoch(self) -> int:
        """Batches in an epoch."""
        return max(1, self.stamps_per_epoch // self.batch_size)

    @property
    def total_steps(self) -> int:
        """Batches in the whole run."""
        return self.epochs * self.steps_per_epoch

    def to_dict(self) -> dict:
        """Plain values, for JSON and weight headers."""
        return dataclasses.asdict(self)

    @classmethod
    def load(cls, name_or_path: str | Path) -> TrainingConfig:
        """A preset by name, or a TOML file that changes some of the defaults.

        Parameters
        ----------
        name_or_path : str or Path
            ``default``, ``paper``, or a file ending in ``.toml`` with the keys of this class, those of the
            architecture in a table ``[network]`` and those of the stamps in ``[stamps]``.

        Returns
        -------
        TrainingConfig

        Raises
        ------
        InputError
            Unknown preset or key, or a value that does not fit.
        """
        if str(name_or_path) in PRESETS:
            return PRESETS[str(name_or_path)]
        path = Path(name_or_path)
        if path.suffix != ".toml" or not path.is_file():
            raise InputError(
                f"unknown training preset {str(name_or_path)!r}; known: {', '.join(PRESETS)}, "
                "or a .toml file."
            )
        try:
            content = tomllib.loads(path.read_text())
            network = NetworkConfig(**content.pop("network", {}))
            stamps = content.pop("stamps", {})
            if "depth_range" in stamps:
                stamps["depth_range"] = tuple(stamps["depth_range"])
            if "class_weights" in content:
                content["class_weights"] = tuple(content["class_weights"])
            return cls(network=network, stamps=StampConfig(**stamps), **content)
        except (tomllib.TOMLDecodeError, TypeError, ValueError) as error:
            raise InputError(f"{path}: {error}.") from None


PRESETS = {
    "default": TrainingConfig(),
    # As literally as the paper can be read: sections 2 and 3, appendix A.
    "paper": TrainingConfig(
        network=NetworkConfig.preset("paper"),
        stamps=StampConfig(
            overlap_share=0.0, flips=False, background_scatter=0.0, noise_scatter=0.0, blank_share=0.0
        ),
        epochs=5,
        stamps_per_epoch=150_000,
        learning_rate=1e-3,
        final_learning_rate=3e-4,
        warmup_steps=0,
        cross_entropy_weight=0.0,
        kl_weight=1e-3,
    ),
}

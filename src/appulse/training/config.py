"""How a network is trained, as one frozen dataclass and its presets."""

from __future__ import annotations

import dataclasses
import tomllib
from dataclasses import dataclass, field
from pathlib import Path

from appulse.files import InputError
from appulse.network.config import N_CLASSES, NetworkConfig, require
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
        Dice weights of background, isolated, blended (paper, appendix A); all 0 for cross-entropy alone.
    trainable_class_weights : bool
        Whether scales of these weights are trained with the network (paper, section 5), as
        `losses.weighted_dice` takes them.
    dice_smooth, dice_squared : float, bool
        As `losses.dice_coefficients` takes them.
    cross_entropy_weight : float
        Weight of the mean pixel cross-entropy beside Dice; Dice alone drives the softmax to certainty.
    kl_weight : float
        Weight of the divergence of posterior and prior, summed over dimensions, mean over stamps.
    free_bits : float, nats
        Divergence that each dimension of the latent has for nothing, in the mean over stamps (Kingma et al.
        2016, arXiv:1606.04934): above 0 it keeps the latent from falling silent.
    prior_mean_share : float
        Share of each batch that is decoded at the mean of the prior, without truth or divergence: what the
        default mode of drawing realisations shows where ``latent_scale`` is 0 (docs/decisions/0011).
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
    trainable_class_weights: bool = False
    dice_smooth: float = 1.0
    dice_squared: bool = False
    cross_entropy_weight: float = 5.0
    kl_weight: float = 1e-2
    free_bits: float = 0.0
    prior_mean_share: float = 0.0
    gradient_clip: float = 1.0
    average_decay: float = 0.998
    seed: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "class_weights", tuple(self.class_weights))
        for name in ("epochs", "stamps_per_epoch", "batch_size"):
            require(self, name, int, 1)
        for name in ("learning_rate", "final_learning_rate", "gradient_clip"):
            require(self, name, float, 1e-12)
        for name in ("dice_smooth", "cross_entropy_weight", "kl_weight", "free_bits", "average_decay"):
            require(self, name, float, 0.0)
        for name in ("warmup_steps", "seed"):
            require(self, name, int, 0)
        if self.average_decay >= 1.0:
            raise ValueError(f"average_decay is {self.average_decay}; it must be below 1")
        require(self, "prior_mean_share", float, 0.0)
        if round(self.prior_mean_share * self.batch_size) >= self.batch_size:
            raise ValueError(
                f"prior_mean_share is {self.prior_mean_share}, which leaves none of a batch of "
                f"{self.batch_size} to the posterior"
            )
        if not isinstance(self.trainable_class_weights, bool):
            raise ValueError(
                f"trainable_class_weights is {self.trainable_class_weights!r}; it must be true or false"
            )
        if len(self.class_weights) != N_CLASSES or min(self.class_weights) < 0:
            raise ValueError(f"class_weights is {self.class_weights}; it needs three weights, none negative")
        if not any(self.class_weights) and not self.cross_entropy_weight:
            raise ValueError("class_weights and cross_entropy_weight are all 0: nothing would be trained")
        if self.stamps.size != self.network.stamp_size:
            raise ValueError(
                f"stamps have {self.stamps.size} pixels, the network takes {self.network.stamp_size}"
            )

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
    def from_dict(cls, values: dict, base: TrainingConfig | None = None) -> TrainingConfig:
        """Rebuild what `to_dict` gave; what is left out keeps its default.

        Parameters
        ----------
        values : dict
            Plain values, with tables ``network`` and ``stamps``.
        base : TrainingConfig, optional
            Gives what is left out; by default the preset ``default``.

        Raises
        ------
        TypeError, ValueError
            A key that there is not, or a value that does not fit.
        """
        rest = dict(values)
        tables = {name: rest.pop(name, {}) for name in ("network", "stamps")}
        for name, table in tables.items():
            if not isinstance(table, dict):
                raise TypeError(f"{name} is {table!r}; it must be a table")
        base = base or cls()
        stamps = base.stamps
        # One of the two gives way: a table of TOML cannot say None.
        if "dimming_range" in tables["stamps"]:
            stamps = dataclasses.replace(stamps, depth_range=None)
        if "depth_range" in tables["stamps"]:
            stamps = dataclasses.replace(stamps, dimming_range=None)
        return dataclasses.replace(
            base,
            network=dataclasses.replace(base.network, **tables["network"]),
            stamps=dataclasses.replace(stamps, **tables["stamps"]),
            **rest,
        )

    @classmethod
    def load(cls, name_or_path: str | Path) -> TrainingConfig:
        """A preset by name, or a TOML file that changes some of its values.

        Parameters
        ----------
        name_or_path : str or Path
            ``default``, ``paper``, ``mixed``, or a file ending in ``.toml`` with the keys of this class,
            those of the architecture in a table ``[network]`` and those of the stamps in ``[stamps]``. A key
            ``preset`` names what the file changes; without one, it changes ``default``.

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
            values = tomllib.loads(path.read_text())
            base = values.pop("preset", "default")
            # TOML may give a list, which no dictionary can be asked for.
            if base not in tuple(PRESETS):
                raise ValueError(f"preset is {base!r}; known: {', '.join(PRESETS)}")
            return cls.from_dict(values, PRESETS[base])
        except (UnicodeDecodeError, TypeError, ValueError) as error:
            raise InputError(f"{path}: {error}.") from None


PRESETS = {
    "default": TrainingConfig(),
    # As literally as the paper can be read (sections 2 and 3, appendix A), but for two things without which
    # Dice alone dies here: half of the stamps lie around overlaps, and the learning rate warms up.
    "paper": TrainingConfig(
        network=NetworkConfig.preset("paper"),
        stamps=StampConfig(
            # Overlaps are "< 1 %" of the paper's pixels; of stamps on a grid over our `paper`, 0.02 %.
            overlap_share=0.5,
            giant_share=0.0,
            flips=False,
            background_scatter=0.0,
            noise_scatter=0.0,
            blank_share=0.0,
        ),
        epochs=5,
        stamps_per_epoch=150_000,
        learning_rate=1e-3,
        final_learning_rate=3e-4,
        # From the full rate on, Dice alone drives the softmax to background everywhere within twenty steps,
        # where it has no gradient left (docs/experiments.md).
        warmup_steps=300,
        cross_entropy_weight=0.0,
        kl_weight=1e-3,
    ),
    # For fields of the survey `mixed`: images that nobody simulated.
    "mixed": TrainingConfig(
        stamps=StampConfig(
            overlap_share=0.25,
            giant_share=0.08,
            dimming_range=(0.0, 2.4),
            depth_power=1.0,
            noise_correlation=(0.0, 1.2),
        ),
        prior_mean_share=0.75,
    ),
}

"""The architecture of a Probabilistic U-Net, as one frozen dataclass."""

from __future__ import annotations

import dataclasses
import math
from dataclasses import dataclass
from typing import Literal

N_CLASSES = 3


def require(config: object, name: str, kind: type[int] | type[float], lowest: float) -> None:
    """Raise where a value of a configuration is no number of its kind, or too small.

    Parameters
    ----------
    config : object
        Holds the value.
    name : str
        Of the value.
    kind : {int, float}
        An integer will do for a float.
    lowest : float
        Smallest value allowed.

    Raises
    ------
    ValueError
        Names the value, and what it must be.
    """
    value = getattr(config, name)
    allowed = int if kind is int else (int, float)
    if isinstance(value, bool) or not isinstance(value, allowed) or not lowest <= value < math.inf:
        word = "whole number" if kind is int else "number"
        raise ValueError(f"{name} is {value!r}; it must be a {word} of at least {lowest}")


@dataclass(frozen=True)
class NetworkConfig:
    """Architecture; the defaults are the preset ``default``.

    Parameters
    ----------
    filters : tuple of int
        Filters of the convolutions at each level of the encoders (paper, appendix A).
    convolutions_per_level : int
        3x3 convolutions per level; the paper's text reads as one, Kohl et al. 2018 take three.
    normalisation : {"none", "batch"}
        Layer after each 3x3 convolution; batch normalisation is folded into the convolutions for inference.
    latent_dimensions : int
        Size of the Gaussian latent space (paper, appendix A: 10).
    encoder_poolings : int
        Poolings by 2 in the Gaussian encoders: as many as levels (the paper read literally), or one fewer.
    encoder_head : {"mean", "flatten"}
        What becomes of the last level before the Gaussian's parameters: spatial mean, or flattened (paper).
    combiner_layers, combiner_filters : int
        Hidden 1x1 layers between U-Net and logits, and their filters. With none, the latent is only a
        constant per class.
    input_scaling : {"noise", "maximum"}
        ``arcsinh(image / sigma) / input_divisor``, or arcsinh over the stamp's maximum (paper, section 3).
    input_divisor : float
        Used by ``input_scaling="noise"``.
    stamp_size : int, pixels
        Stamps are square (paper, section 3: 128).
    """

    filters: tuple[int, ...] = (16, 32, 64, 96, 96, 96, 128)
    convolutions_per_level: int = 1
    normalisation: Literal["none", "batch"] = "batch"
    latent_dimensions: int = 10
    encoder_poolings: int = 6
    encoder_head: Literal["mean", "flatten"] = "mean"
    combiner_layers: int = 1
    combiner_filters: int = 32
    input_scaling: Literal["noise", "maximum"] = "noise"
    input_divisor: float = 4.0
    stamp_size: int = 128

    def __post_init__(self) -> None:
        if not isinstance(self.filters, list | tuple) or not all(type(n) is int for n in self.filters):
            raise ValueError(f"filters is {self.filters!r}; it must be whole numbers, one for each level")
        object.__setattr__(self, "filters", tuple(self.filters))
        levels = len(self.filters)
        choices = {
            "normalisation": ("none", "batch"),
            "encoder_head": ("mean", "flatten"),
            "input_scaling": ("noise", "maximum"),
            "encoder_poolings": (levels - 1, levels),
        }
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(
                    f"{name} is {getattr(self, name)!r}; allowed: {', '.join(map(str, allowed))}."
                )
        for name in ("convolutions_per_level", "latent_dimensions", "combiner_filters", "stamp_size"):
            require(self, name, int, 1)
        require(self, "combiner_layers", int, 0)
        require(self, "input_divisor", float, 1e-12)
        if levels < 2 or min(self.filters) < 1:
            raise ValueError(
                f"filters is {self.filters}; a network needs two levels or more, each with filters."
            )
        if self.stamp_size % 2**self.encoder_poolings or self.stamp_size % 2 ** (levels - 1):
            raise ValueError(
                f"stamp_size is {self.stamp_size}; it must be divisible by {2**self.encoder_poolings} "
                "to be pooled that often."
            )

    @classmethod
    def preset(cls, name: str) -> NetworkConfig:
        """A named architecture.

        Parameters
        ----------
        name : str
            ``default``: half the paper's width, batch normalisation, input in noise units.
            ``paper``: the paper's text, read literally where it can be.

        Returns
        -------
        NetworkConfig

        Raises
        ------
        ValueError
            Unknown name.
        """
        if name not in PRESETS:
            raise ValueError(f"unknown network preset {name!r}; known: {', '.join(PRESETS)}.")
        return PRESETS[name]

    def to_dict(self) -> dict:
        """Plain values, for JSON and TOML."""
        return dataclasses.asdict(self) | {"filters": list(self.filters)}


PRESETS = {
    "default": NetworkConfig(),
    "paper": NetworkConfig(
        filters=(32, 64, 128, 192, 192, 192, 256),
        normalisation="none",
        encoder_poolings=7,
        encoder_head="flatten",
        input_scaling="maximum",
    ),
}

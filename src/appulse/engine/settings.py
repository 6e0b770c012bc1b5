"""How an image is segmented, whichever way it is asked for."""

from __future__ import annotations

import math
import operator
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, get_args

import torch

from appulse.files import UsageError
from appulse.inference.mesh import CELL
from appulse.inference.sampler import Mode, Sampler
from appulse.inference.two_step import EDGE
from appulse.network.weights import Model

Method = Literal["two-step", "sliding", "grid"]

DEVICES = ("auto", "cpu", "cuda")
# Seeds below this have streams of their own (numpy's SeedSequence takes keys in words of 32 bits).
SEED_LIMIT = 2**32
# Width of a block, pixels: large beside a stamp, small beside the memory of any machine.
BLOCK = 2048


@dataclass(frozen=True, kw_only=True)
class Settings:
    """What decides how an image is segmented, but for the image and the model; plain values.

    Parameters
    ----------
    samples, seed, method, operating_point, mode, subtract_background, origin
        As `appulse.segment` takes them.
    device : {"auto", "cpu", "cuda"}
        Where the network runs; ``auto`` becomes what there is.
    block : int, pixels
        Width of the blocks of work; no result depends on it.

    Raises
    ------
    UsageError
        One of them cannot be used with any model.
    """

    samples: int = 50
    seed: int = 0
    method: Method = "two-step"
    operating_point: str = "balanced"
    mode: Mode = "copula"
    subtract_background: bool = True
    origin: tuple[int, int] = (0, 0)
    device: str = "auto"
    block: int = BLOCK

    def __post_init__(self) -> None:
        for name in ("samples", "seed", "block"):
            object.__setattr__(self, name, _whole(name, getattr(self, name)))
        if self.samples < 1:
            raise UsageError(f"samples is {self.samples}; at least 1 realisation is needed.")
        if not 0 <= self.seed < SEED_LIMIT:
            raise UsageError(f"seed is {self.seed}; it must be from 0 to {SEED_LIMIT - 1}.")
        for name, known in (("method", get_args(Method)), ("mode", get_args(Mode))):
            if getattr(self, name) not in known:
                raise UsageError(f"unknown {name} {getattr(self, name)!r}; known: {', '.join(known)}.")
        if not isinstance(self.origin, Sequence) or len(self.origin) != 2:
            raise UsageError(f"origin is {self.origin!r}; it must be (y0, x0).")
        object.__setattr__(self, "origin", tuple(_whole("origin", place) for place in self.origin))
        object.__setattr__(self, "device", _found(self.device))

    def check(self, model: Model) -> None:
        """Make sure that a model can be used with these.

        Parameters
        ----------
        model : Model
            Its stamps and its operating points count.

        Raises
        ------
        InputError
            It has no such operating point.
        UsageError
            The blocks or the origin do not go with its stamps.
        """
        model.operating_point(self.operating_point)
        size = model.network.config.stamp_size
        if self.block < size or self.block % size:
            raise UsageError(f"block is {self.block}; it must be a multiple of the model's stamp ({size}).")
        # The grids of stamps of all methods, and the mesh of the background.
        step = math.lcm(size - 2 * EDGE, size // 2, CELL)
        if any(place < 0 or place % step for place in self.origin):
            raise UsageError(
                f"origin is {self.origin}; it must be (y0, x0), both multiples of {step}: there the grid of "
                "stamps and the mesh of the background both begin again. Cut the image there."
            )

    def sampler(self, model: Model) -> Sampler:
        """What draws the realisations.

        Parameters
        ----------
        model : Model
            Network and calibration.
        """
        return Sampler(model, self.samples, self.seed, self.mode, self.device, self.origin)


def _whole(name: str, number: int) -> int:
    try:
        return operator.index(number)
    except TypeError:
        raise UsageError(f"{name} is {number!r}; it must be a whole number.") from None


def _found(device: str) -> str:
    if device not in DEVICES:
        raise UsageError(f"unknown device {device!r}; known: {', '.join(DEVICES)}.")
    available = torch.cuda.is_available()
    if device == "cuda" and not available:
        raise UsageError("device cuda: no CUDA device here; use --device cpu or auto.")
    return "cuda" if device in ("auto", "cuda") and available else "cpu"

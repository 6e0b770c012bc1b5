"""How training stamps are cut and drawn."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from appulse.files import InputError
from appulse.network.config import require

_LONGEST_CORRELATION = 5.0


@dataclass(frozen=True)
class StampConfig:
    """How stamps are cut (``size``, ``overlap_share``, ``giant_share``) and drawn (the rest).

    Parameters
    ----------
    size : int, pixels
        Width of a stamp.
    threshold : float, units of the noise
        ``k`` of the truth definition (paper, section 3: 1).
    overlap_share : float
        Share of the stamps placed around an overlap rather than anywhere.
    giant_share : float
        Share of the stamps placed on a pixel of an object that no stamp holds. Anywhere else they see little
        of such objects' outskirts, which alone in a stamp look like sky.
    depth_range : (float, float) or None, mag / arcsec^2
        Shallowest and deepest noise; None keeps each field's own.
    dimming_range : (float, float) or None, mag
        Least and most by which a stamp's noise is shallower than its field's own: instead of ``depth_range``
        where fields differ in pixel scale, and thus in depth.
    depth_power : float
        Depth is ``deepest - range * u**depth_power`` with u uniform: above 1, deep stamps are more frequent.
    flips : bool
        Random flips and quarter turns (the paper uses no augmentation).
    background_scatter : float, units of the noise
        Standard deviation of a constant left under each stamp, as background estimators leave one.
    background_range : (float, float) or None, units of the noise
        A constant under each stamp, uniform in this range, besides the scatter.
    noise_scatter : float
        Standard deviation of the log of the error in the noise estimate.
    noise_correlation : (float, float) or None, pixels
        The noise of each stamp is smoothed with a Gaussian whose standard deviation is uniform in this range,
        its variance kept, as drizzling and resampling do. None keeps each field's own.
    blank_share : float
        Share of stamps of which a rectangle is blanked to empty sky, as bad regions and image borders are.
    """

    size: int = 128
    threshold: float = 1.0
    overlap_share: float = 0.5
    giant_share: float = 0.05
    depth_range: tuple[float, float] | None = None
    dimming_range: tuple[float, float] | None = None
    depth_power: float = 2.0
    flips: bool = True
    background_scatter: float = 0.05
    background_range: tuple[float, float] | None = None
    noise_scatter: float = 0.03
    noise_correlation: tuple[float, float] | None = None
    blank_share: float = 0.15

    def __post_init__(self) -> None:
        require(self, "size", int, 8)
        for name in ("threshold", "depth_power"):
            require(self, name, float, 1e-6)
        shares = ("overlap_share", "giant_share", "blank_share")
        for name in (*shares, "background_scatter", "noise_scatter"):
            require(self, name, float, 0.0)
        for name in shares:
            if getattr(self, name) > 1.0:
                raise ValueError(f"{name} is {getattr(self, name)}; a share is at most 1")
        if not isinstance(self.flips, bool):
            raise ValueError(f"flips is {self.flips!r}; it must be true or false")
        if self.overlap_share + self.giant_share > 1.0:
            raise ValueError(
                f"overlap_share {self.overlap_share} and giant_share {self.giant_share} add up to more than 1"
            )
        if self.depth_range and self.dimming_range:
            raise ValueError("depth_range and dimming_range both say how deep stamps are; give one")
        for name, meaning in (
            ("depth_range", "the shallower first"),
            ("dimming_range", "the smaller first, not below 0"),
            ("background_range", "the lower first"),
            ("noise_correlation", f"the lower first, between 0 and {_LONGEST_CORRELATION:g}"),
        ):
            bounds = getattr(self, name)
            if bounds is None:
                continue
            if not isinstance(bounds, list | tuple) or not all(type(n) in (int, float) for n in bounds):
                raise ValueError(f"{name} is {bounds!r}; it must be two numbers, {meaning}")
            object.__setattr__(self, name, tuple(bounds))
            fits = len(bounds) == 2 and -math.inf < bounds[0] <= bounds[1] < math.inf
            if name == "dimming_range":
                fits = fits and bounds[0] >= 0.0
            if name == "noise_correlation":
                fits = fits and bounds[0] >= 0.0 and bounds[1] <= _LONGEST_CORRELATION
            if not fits:
                raise ValueError(f"{name} is {tuple(bounds)}; it must be two numbers, {meaning}")

    def refuse_small(self, shape: tuple[int, int], path: str | Path) -> None:
        """Raise where a field does not hold a stamp.

        Parameters
        ----------
        shape : (height, width), pixels
            Of the field.
        path : str or Path
            Of its file.

        Raises
        ------
        InputError
            A side is less than ``size``.
        """
        if min(shape) < self.size:
            raise InputError(f"{path}: a field of {shape} pixels is smaller than a stamp of {self.size}.")

    def refuse_shallow(self, noise: float) -> None:
        """Raise where a field is not as deep as the deepest stamps.

        Parameters
        ----------
        noise : float, mag/arcsec^2
            For which the shallowest field was rendered.

        Raises
        ------
        InputError
            It is less than the end of ``depth_range``.
        """
        if self.depth_range and self.depth_range[1] > noise + 1e-9:
            raise InputError(
                f"stamps of {self.depth_range[1]} mag/arcsec^2 asked from a field rendered for {noise:g}; "
                "fainter outskirts are missing there. Simulate a deeper survey, or lower depth_range in the "
                "table [stamps] of the --preset."
            )

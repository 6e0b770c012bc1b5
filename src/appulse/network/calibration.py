"""What a trained network needs besides its weights: calibrated probabilities, thresholds, error factors."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

# A calibration curve gives the calibrated logit at the integer logits around 0, an odd number of them. It is
# linear in between, goes on straight outside, as far as a logit of 20, and is constant from there or from its
# last knot. One that is fitted reaches to CURVE_END: networks trained on Dice alone tell more by logits above
# 10 than by those below. The curves of `euclid` and `mixed` are older, with knots to 10.
CURVE_END = 40
_STRAIGHT_END = 20
IDENTITY = tuple(float(logit) for logit in range(-CURVE_END, CURVE_END + 1))


def curve_end(knots: int) -> int:
    """Logit from which on a calibration curve is constant.

    Parameters
    ----------
    knots : int
        Of the curve.
    """
    return max(_STRAIGHT_END, knots // 2)


def curve_places(logit: float | np.ndarray, knots: int) -> tuple[np.ndarray, np.ndarray]:
    """Where logits lie on a calibration curve.

    Parameters
    ----------
    logit : float array
    knots : int
        Of the curve.

    Returns
    -------
    index : int array
        Of the knot before each.
    share : float array
        Of the way to the next knot; below 0, or above 1, outside the knots.
    """
    end = curve_end(knots)
    place = np.clip(logit, -end, end) + knots // 2
    index = np.clip(np.floor(place).astype(np.intp), 0, knots - 2)
    return index, place - index


def calibrated_logit(curve: Sequence[float] | np.ndarray, logit: float | np.ndarray) -> np.ndarray:
    """Read a calibration curve.

    Parameters
    ----------
    curve : (knots,) sequence of float
    logit : float array
        The network's own.

    Returns
    -------
    float array of the same shape
    """
    return between_knots(np.asarray(curve), *curve_places(logit, len(curve)))


def between_knots(curve: np.ndarray, index: np.ndarray, share: np.ndarray) -> np.ndarray:
    """Read a calibration curve where `curve_places` says.

    Parameters
    ----------
    curve : (knots,) float array
    index, share : arrays
        From `curve_places`.

    Returns
    -------
    float array
    """
    return curve[index] + share * (curve[index + 1] - curve[index])


# Pixels of the smallest object that is kept.
MIN_AREA = 5


@dataclass(frozen=True)
class OperatingPoint:
    """Thresholds that turn probabilities into a class map.

    Parameters
    ----------
    t_galaxy, t_overlap : float
        Thresholds on P_GALAXY and P_OVERLAP.
    min_area : int, pixels
        Smallest object kept.
    """

    t_galaxy: float
    t_overlap: float
    min_area: int = MIN_AREA


@dataclass(frozen=True)
class ErrorBars:
    """Of one quantity of the catalogue, by the signal-to-noise ratio of the galaxy's flux.

    Parameters
    ----------
    edges : tuple of float
        Between the bins, ascending; one fewer than bins.
    factors : tuple of float
        On the spread over realisations, for a 68 % interval.
    ratios_95 : tuple of float
        Half the width of the 95 % interval over that of the 68 % one; 1.96 for a Gaussian.
    shifts : tuple of float
        By how many spreads over realisations the truth lies, in the median, above the middle of the interval.
    """

    edges: tuple[float, ...]
    factors: tuple[float, ...]
    ratios_95: tuple[float, ...]
    shifts: tuple[float, ...]


# Half-widths of a Gaussian's 95 % and 68 % intervals differ by this factor.
GAUSSIAN_RATIO_95 = 1.96


@dataclass(frozen=True)
class Calibration:
    """Fitted on the calibration field, stored in the weight file.

    The network's probabilities are corrected on the logit scale, in the two steps that keep their order:
    P(class >= 1), and P(class 2 | class >= 1).

    Parameters
    ----------
    galaxy, overlap : (knots,) tuple of float
        Calibration curve of each of the two logits, increasing; an odd number of knots, 3 to 81.
    correlation_length : float, pixels
        Gaussian smoothing length of the copula's unit field.
    operating_points : dict of str to OperatingPoint
        By name.
    error_bars, blend_error_bars : dict of str to ErrorBars
        Shifts and factors by signal-to-noise ratio, and 95 % intervals, per catalogue quantity, for galaxies
        alone and for those that share their object with others.
    latent_scale : float
        Factor on the prior's standard deviations when the latent is drawn, 0 to 1. In mode ``latent`` it is
        1, as in the paper.
    """

    galaxy: tuple[float, ...] = IDENTITY
    overlap: tuple[float, ...] = IDENTITY
    correlation_length: float = 3.0
    operating_points: dict[str, OperatingPoint] = field(
        default_factory=lambda: {"balanced": OperatingPoint(0.5, 0.5)}
    )
    error_bars: dict[str, ErrorBars] = field(default_factory=dict)
    blend_error_bars: dict[str, ErrorBars] = field(default_factory=dict)
    latent_scale: float = 1.0

    def __post_init__(self) -> None:
        if not 0.0 <= self.latent_scale <= 1.0:
            raise ValueError(f"latent_scale is {self.latent_scale}; it must lie between 0 and 1.")
        for name in ("galaxy", "overlap"):
            curve = getattr(self, name)
            odd = len(curve) % 2 == 1 and 3 <= len(curve) <= len(IDENTITY)
            if not odd or any(b < a for a, b in itertools.pairwise(curve)):
                raise ValueError(
                    f"calibration curve {name} is {curve}; it needs increasing values, an odd number from 3 "
                    f"to {len(IDENTITY)}."
                )

    def factor(self, quantity: str, snr: float | np.ndarray, blended: bool | np.ndarray) -> np.ndarray:
        """Factor on the spread of a quantity over realisations.

        Parameters
        ----------
        quantity : str
            A measured column of the catalogue.
        snr : float or array
            Flux over its pixel noise; NaN counts as bright.
        blended : bool or array
            Whether the galaxy shares its object with others.

        Returns
        -------
        float array
        """
        return self._binned(quantity, snr, blended, "factors", 1.0)

    def shift(self, quantity: str, snr: float | np.ndarray, blended: bool | np.ndarray) -> np.ndarray:
        """Shift of the middle of an interval, in spreads of the quantity over realisations.

        Parameters
        ----------
        quantity, snr, blended
            As for `factor`.

        Returns
        -------
        float array
        """
        return self._binned(quantity, snr, blended, "shifts", 0.0)

    def ratio_95(self, quantity: str, snr: float | np.ndarray, blended: bool | np.ndarray) -> np.ndarray:
        """Half the width of the 95 % interval of a quantity over that of the 68 % one.

        Parameters
        ----------
        quantity, snr, blended
            As for `factor`.

        Returns
        -------
        float array
        """
        return self._binned(quantity, snr, blended, "ratios_95", GAUSSIAN_RATIO_95)

    def _binned(
        self,
        quantity: str,
        snr: float | np.ndarray,
        blended: bool | np.ndarray,
        name: str,
        default: float,
    ) -> np.ndarray:
        alone = self.error_bars.get(quantity)
        shared = self.blend_error_bars.get(quantity, alone)
        return np.where(blended, *(_in_bins(each, name, snr, default) for each in (shared, alone)))

    def to_dict(self) -> dict:
        """Plain values, for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, values: dict) -> Calibration:
        """Rebuild what `to_dict` gave.

        Parameters
        ----------
        values : dict
            Plain values.
        """
        # The bundled models' files hold factors that nothing reads.
        kept = {name: value for name, value in values.items() if name != "scales"}
        rebuilt = {
            "galaxy": tuple(values["galaxy"]),
            "overlap": tuple(values["overlap"]),
            "operating_points": {
                name: OperatingPoint(**point) for name, point in values["operating_points"].items()
            },
            "error_bars": _error_bars(values["error_bars"]),
            "blend_error_bars": _error_bars(values["blend_error_bars"]),
        }
        return cls(**(kept | rebuilt))


def _error_bars(values: dict) -> dict[str, ErrorBars]:
    return {
        quantity: ErrorBars(**{key: tuple(numbers) for key, numbers in each.items()})
        for quantity, each in values.items()
    }


def _in_bins(bars: ErrorBars | None, name: str, snr: float | np.ndarray, default: float) -> np.ndarray:
    if bars is None:
        return np.full(np.shape(snr), default)
    return np.asarray(getattr(bars, name))[np.searchsorted(bars.edges, snr, side="right")]

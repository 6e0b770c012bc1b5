"""What a trained network needs besides its weights: calibrated probabilities, thresholds, error factors."""

from __future__ import annotations

import dataclasses
import itertools
from dataclasses import dataclass, field

# A calibration curve gives the calibrated logit at every integer logit from -LOGIT_REACH to LOGIT_REACH. It
# is linear in between, and goes on straight outside, where probabilities are 0 or 1 to 5e-5.
LOGIT_REACH = 10
IDENTITY = tuple(float(logit) for logit in range(-LOGIT_REACH, LOGIT_REACH + 1))


@dataclass(frozen=True)
class OperatingPoint:
    """Thresholds that turn probabilities into a class map.

    Parameters
    ----------
    t_galaxy, t_overlap : float
        Thresholds on P_GALAXY and P_OVERLAP.
    min_area, min_overlap : int, pixels
        Smallest object kept; smallest area of class 2 that makes an object a blend.
    """

    t_galaxy: float
    t_overlap: float
    min_area: int = 5
    min_overlap: int = 4


@dataclass(frozen=True)
class Calibration:
    """Fitted on the calibration field, stored in the weight file.

    The network's probabilities are corrected on the logit scale, in the two steps that keep their order:
    P(class >= 1), and P(class 2 | class >= 1).

    Parameters
    ----------
    galaxy, overlap : (2 LOGIT_REACH + 1,) tuple of float
        Calibration curve of each of the two logits, increasing.
    correlation_length : float, pixels
        Gaussian smoothing length of the copula's unit field.
    scales : dict of str to float
        Factor on the spread over realisations, per catalogue quantity; 1 where absent.
    operating_points : dict of str to OperatingPoint
        By name.
    """

    galaxy: tuple[float, ...] = IDENTITY
    overlap: tuple[float, ...] = IDENTITY
    correlation_length: float = 3.0
    scales: dict[str, float] = field(default_factory=dict)
    operating_points: dict[str, OperatingPoint] = field(
        default_factory=lambda: {"balanced": OperatingPoint(0.5, 0.5)}
    )

    def __post_init__(self):
        for name in ("galaxy", "overlap"):
            curve = getattr(self, name)
            if len(curve) != len(IDENTITY) or any(b < a for a, b in itertools.pairwise(curve)):
                raise ValueError(
                    f"calibration curve {name} is {curve}; it needs {len(IDENTITY)} increasing values."
                )

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
        points = {name: OperatingPoint(**point) for name, point in values["operating_points"].items()}
        return cls(
            galaxy=tuple(values["galaxy"]),
            overlap=tuple(values["overlap"]),
            correlation_length=values["correlation_length"],
            scales=dict(values["scales"]),
            operating_points=points,
        )

"""Probabilities of a field against its truth, kept as sums and uncertain pixels so that fields add up."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from astropy.table import Table

from appulse.evaluation.intervals import Interval, bootstrap
from appulse.evaluation.pixel_scores import (
    UNCERTAIN,
    Reliability,
    brier_score,
    expected_calibration_error,
    negative_log_likelihood,
    reliability,
)

# Neighbouring pixels err together: intervals come from resampling squares of this side, pixels.
BLOCK = 256
_RESAMPLES = 200


@dataclass(frozen=True)
class PixelTally:
    """One probability map against the truth. Fields pool by ``+``.

    Parameters
    ----------
    blocks : (n, 3) float64 array
        Pixels, sum of squared differences and sum of -log likelihood (nats) of each square of 256 pixels.
    probability : (m,) float32 array
        Of the uncertain pixels, 0.02 < P < 0.98.
    event : (m,) bool array
        What is true there.
    block : (m,) int32 array
        The square each of them lies in.
    """

    blocks: np.ndarray
    probability: np.ndarray
    event: np.ndarray
    block: np.ndarray

    @classmethod
    def of(cls, probability: np.ndarray, truth: np.ndarray) -> PixelTally:
        """Compare one map.

        Parameters
        ----------
        probability : (height, width) float array
            NaN where bad.
        truth : (height, width) bool array
            The event.
        """
        rows = []
        parts: list[tuple[np.ndarray, np.ndarray, np.ndarray]] = []
        for top in range(0, probability.shape[0], BLOCK):
            for left in range(0, probability.shape[1], BLOCK):
                window = slice(top, top + BLOCK), slice(left, left + BLOCK)
                # In the precision that is kept: what rounding takes beyond a limit is beyond it.
                part, event = np.asarray(probability[window], np.float32), truth[window]
                finite = np.isfinite(part)
                n = np.count_nonzero(finite)
                if not n:
                    continue
                rows.append((n, n * brier_score(part, event), n * negative_log_likelihood(part, event)))
                uncertain = (part > UNCERTAIN[0]) & (part < UNCERTAIN[1])
                number = np.full(np.count_nonzero(uncertain), len(rows) - 1, np.int32)
                parts.append((part[uncertain], event[uncertain], number))
        if not rows:
            return cls(np.zeros((0, 3)), np.zeros(0, np.float32), np.zeros(0, bool), np.zeros(0, np.int32))
        return cls(np.array(rows), *(np.concatenate(column) for column in zip(*parts, strict=True)))

    def __add__(self, other: PixelTally) -> PixelTally:
        return PixelTally(
            np.concatenate([self.blocks, other.blocks]),
            np.concatenate([self.probability, other.probability]),
            np.concatenate([self.event, other.event]),
            np.concatenate([self.block, other.block + np.int32(len(self.blocks))]),
        )

    def brier(self) -> Interval:
        """Brier score over all pixels, with its interval from resampled squares of sky."""
        return bootstrap(_ratio(1), self.blocks, n_resamples=_RESAMPLES)

    def log_loss(self) -> Interval:
        """Negative log likelihood per pixel (nats), with its interval from resampled squares of sky."""
        return bootstrap(_ratio(2), self.blocks, n_resamples=_RESAMPLES)

    def calibration_error(self) -> Interval:
        """Expected calibration error over the uncertain pixels, with its interval from resampled squares.

        Resampling adds noise to a sum of absolute values, so that its draws lie above what is resampled, and
        near 0 all of them do. Only how far they reach above it is used, on either side.
        """
        value = expected_calibration_error(self.probability, self.event)
        if not np.isfinite(value):
            return Interval(np.nan, np.nan, np.nan)
        counts = self._binned()

        def error(rows: np.ndarray) -> float:
            n, probability, frequency = np.moveaxis(rows.sum(axis=0), -1, 0)
            return float(np.abs(frequency - probability).sum() / n.sum()) if n.any() else np.nan

        high = bootstrap(error, counts, n_resamples=_RESAMPLES).high
        return Interval(value, max(2 * value - high, 0.0), high)

    def calibration_noise(self) -> float:
        """Calibration error that a perfectly calibrated map would show on as few objects, on average.

        An error is a mean of absolute values, which noise alone keeps above 0, and the pixels of one object
        err together: a blend's whole overlap is there or not. So each bin's deviation is taken out, and the
        squares of sky are resampled.

        Returns
        -------
        float
            NaN without uncertain pixels.
        """
        if not len(self.probability):
            return np.nan
        n, probability, event = np.moveaxis(self._binned(), -1, 0)
        deviation = (event - probability).sum(axis=0) / n.sum(axis=0)
        left = np.stack([n, event - probability - n * deviation], axis=-1)

        def error(rows: np.ndarray) -> float:
            n, left = np.moveaxis(rows.sum(axis=0), -1, 0)
            return np.abs(left).sum() / n.sum() if n.any() else np.nan

        rng = np.random.default_rng(0)
        drawn = (left[rng.integers(len(left), size=len(left))] for _ in range(_RESAMPLES))
        return float(np.nanmean([error(rows) for rows in drawn]))

    def reliability_table(self) -> Table:
        """Points of the reliability diagram with their intervals from resampled squares of sky.

        Returns
        -------
        astropy.table.Table
            ``probability`` (mean predicted), ``frequency``, ``frequency_low``, ``frequency_high``,
            ``n_pixels``; bins of equal numbers of uncertain pixels.
        """
        points = self.points()
        table = Table(
            {"probability": points.probability, "frequency": points.frequency, "n_pixels": points.n_pixels}
        )
        low, high = np.full((2, len(points.n_pixels)), np.nan)
        if len(points.n_pixels):
            counts = self._binned()
            for k in range(counts.shape[1]):
                interval = bootstrap(
                    lambda rows: rows[:, 2].sum() / rows[:, 0].sum() if rows[:, 0].any() else np.nan,
                    counts[:, k],
                    n_resamples=_RESAMPLES,
                )
                low[k], high[k] = interval.low, interval.high
        table.add_columns([low, high], names=["frequency_low", "frequency_high"], indexes=[2, 2])
        return table

    def points(self) -> Reliability:
        """Bins of the reliability diagram."""
        return reliability(self.probability, self.event)

    def _binned(self) -> np.ndarray:
        """(blocks, bins, 3) array: pixels, summed probability and events of each square in each bin."""
        n_bins = len(self.points().n_pixels)
        # The bins of `reliability` hold consecutive runs of the sorted probabilities.
        order = np.argsort(self.probability, kind="stable")
        bin_of = np.empty(len(order), np.int64)
        bin_of[order] = np.repeat(np.arange(n_bins), self.points().n_pixels)
        code = self.block.astype(np.int64) * n_bins + bin_of
        shape = len(self.blocks), n_bins
        sums = [
            np.bincount(code, weights=weights, minlength=shape[0] * shape[1]).reshape(shape)
            for weights in (None, self.probability, self.event)
        ]
        return np.stack(sums, axis=-1)


def _ratio(column: int) -> Callable[[np.ndarray], float]:
    def ratio(rows: np.ndarray) -> float:
        pixels = rows[:, 0].sum()
        return float(rows[:, column].sum() / pixels) if pixels else np.nan

    return ratio


@dataclass(frozen=True)
class HardTally:
    """A map that only says yes or no, against the truth. Fields pool by ``+``.

    Parameters
    ----------
    counts : (n, 2, 2) int64 array
        ``counts[square, claimed, true]`` pixels of each square of 256 pixels.
    """

    counts: np.ndarray

    @classmethod
    def of(cls, claimed: np.ndarray, truth: np.ndarray) -> HardTally:
        """Compare one map.

        Parameters
        ----------
        claimed, truth : (height, width) bool arrays
        """
        code = 2 * claimed.astype(np.uint8) + truth
        squares = [
            np.bincount(code[top : top + BLOCK, left : left + BLOCK].ravel(), minlength=4)
            for top in range(0, code.shape[0], BLOCK)
            for left in range(0, code.shape[1], BLOCK)
        ]
        return cls(np.array(squares).reshape(-1, 2, 2))

    def __add__(self, other: HardTally) -> HardTally:
        return HardTally(np.concatenate([self.counts, other.counts]))

    def best_brier(self) -> Interval:
        """Brier score if yes and no were replaced by the shares that are true: the best such a map can do."""
        return bootstrap(_best_brier, self.counts, n_resamples=_RESAMPLES)

    def best_log_loss(self) -> Interval:
        """Negative log likelihood per pixel (nats) with the same shares."""
        return bootstrap(_best_log_loss, self.counts, n_resamples=_RESAMPLES)


def _best_brier(counts: np.ndarray) -> float:
    total = counts.sum(axis=0)
    n = total.sum(axis=1)
    share = total[:, 1] / np.maximum(n, 1)
    return float((n * share * (1 - share)).sum() / max(n.sum(), 1))


def _best_log_loss(counts: np.ndarray) -> float:
    total = counts.sum(axis=0)
    n = total.sum(axis=1, keepdims=True)
    share = total / np.maximum(n, 1)
    return float(-(total * np.log(np.where(share > 0, share, 1.0))).sum() / max(n.sum(), 1))

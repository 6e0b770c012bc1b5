"""One object's galaxies measured in every realisation."""

import hashlib
import itertools
from collections.abc import Iterable, Sized
from dataclasses import dataclass
from typing import Protocol, Self

import numpy as np
from numba import njit
from scipy.optimize import linear_sum_assignment

from appulse.objects.catalog import MEASURED
from appulse.objects.components import MIN_OVERLAP, connected_with, iou
from appulse.objects.following import MIN_IOU, follow
from appulse.objects.measurement import light_shares, measure_pixels, measure_values
from appulse.objects.separation import Separation

_VALUES = (*MEASURED, "overlap_area")


class _TernaryMaps(Sized, Iterable[np.ndarray], Protocol):
    """An array of them, or what makes one after the other."""


@dataclass(frozen=True)
class Ensemble:
    """Measurements of each reference galaxy in each realisation.

    Attributes
    ----------
    area, flux, half_light_radius, ellipticity, orientation : (n_galaxies, samples) float32 array
        Units as in `appulse.objects.measurement.Measurement`. NaN where the galaxy is absent.
    overlap_area : (n_galaxies, samples) float32 array, pixels
        Pixels shared with any other galaxy. NaN where the galaxy is absent.
    present : (n_galaxies, samples) bool array
        The realisation holds a galaxy whose mask matches the reference.
    blended : (n_galaxies, samples) bool array
        The galaxy shares at least `MIN_OVERLAP` pixels with others in that realisation.
    shared : (n_galaxies, n_galaxies, samples) int32 array, pixels
        What each pair of galaxies shares; the diagonal is 0.
    """

    area: np.ndarray
    flux: np.ndarray
    half_light_radius: np.ndarray
    ellipticity: np.ndarray
    orientation: np.ndarray
    overlap_area: np.ndarray
    present: np.ndarray
    blended: np.ndarray
    shared: np.ndarray

    @classmethod
    def empty(cls, galaxies: int, samples: int) -> Self:
        """An ensemble in which nothing was found.

        Parameters
        ----------
        galaxies, samples : int
        """
        shape = (galaxies, samples)
        return cls(
            **{name: np.full(shape, np.nan, dtype=np.float32) for name in _VALUES},
            present=np.zeros(shape, dtype=bool),
            blended=np.zeros(shape, dtype=bool),
            shared=np.zeros((galaxies, *shape), dtype=np.int32),
        )


def measure_ensemble(
    realisations: _TernaryMaps,
    reference: Separation,
    image: np.ndarray,
    light: np.ndarray | None = None,
) -> Ensemble:
    """Follow the reference galaxies into every realisation, match them one to one, and measure them.

    Parameters
    ----------
    realisations : (samples, height, width) uint8 array, or a sized iterable of (height, width) ones
        Plausible ternary maps of one object's cutout, looked at one after the other. Components that do
        not touch the reference are another object's and are left out.
    reference : Separation
        The object's galaxies, masks (n_galaxies, height, width).
    image : (height, width) float array, units of the background noise
        By which galaxies are told apart and share their light.
    light : (height, width) float array, optional
        What is measured: in proportion to flux, where the noise varies; by default the image.

    Returns
    -------
    Ensemble
        Identical realisations are measured once and give identical numbers.

    Raises
    ------
    ValueError
        If they differ in height or width.
    """
    image = np.asarray(image, dtype=np.float64)
    light = image if light is None else np.asarray(light, dtype=np.float64)
    masks = np.asarray(reference.masks, dtype=bool)
    result = Ensemble.empty(len(masks), len(realisations))
    values = [getattr(result, name) for name in _VALUES]
    union = np.any(masks, axis=0)
    measured = {}
    for sample, ternary in enumerate(realisations):
        ternary = np.ascontiguousarray(ternary, dtype=np.uint8)
        if not ternary.shape == masks.shape[1:] == image.shape == light.shape:
            raise ValueError(
                f"realisations {ternary.shape}, reference masks {masks.shape} and image {image.shape} "
                "must agree in height and width."
            )
        key = hashlib.blake2b(ternary.data).digest()
        if key not in measured:
            measured[key] = _measure_realisation(ternary, reference, union, image, light)
        numbers, shared = measured[key]
        result.shared[:, :, sample] = shared
        for j, row in numbers.items():
            for array, value in zip(values, row, strict=True):
                array[j, sample] = value
            result.present[j, sample] = True
            result.blended[j, sample] = row[-1] >= MIN_OVERLAP
    return result


def _measure_realisation(
    ternary: np.ndarray, reference: Separation, union: np.ndarray, image: np.ndarray, light: np.ndarray
) -> tuple[dict[int, tuple], np.ndarray]:
    """Numbers of each reference galaxy found, in the order of `_VALUES`, and what each pair shares."""
    shared = np.zeros(2 * (len(reference.masks),), dtype=np.int32)
    if len(reference.masks) == 1:  # most objects, in most realisations
        alone, present, measured = _measure_lone(ternary, union, light)
        if alone:
            return {0: (*measured[: len(MEASURED)], 0)} if present else {}, shared
    found, pairs = _followed(ternary, reference, union, image)
    if not pairs:
        return {}, shared
    covered = found.sum(axis=0) if len(found) > 1 else None
    shares = light_shares(image, found) if len(found) > 1 else [None]
    numbers = {}
    for i, j in pairs:
        overlap = 0 if covered is None else np.count_nonzero(covered[found[i]] > 1)
        numbers[j] = (*measure_values(light, found[i], shares[i])[: len(MEASURED)], overlap)
    for (i, j), (k, m) in itertools.permutations(pairs, 2):
        shared[j, m] = np.count_nonzero(found[i] & found[k])
    return numbers, shared


def _followed(
    ternary: np.ndarray, reference: Separation, union: np.ndarray, image: np.ndarray
) -> tuple[np.ndarray, list[tuple[int, int]]]:
    """Masks of the galaxies of a realisation, and which of them is which reference galaxy."""
    found = follow(np.where(connected_with(ternary > 0, union), ternary, 0), reference, image)
    return found, match_masks(found, reference.masks)


def masks_in_realisations(realisations: _TernaryMaps, reference: Separation, image: np.ndarray) -> np.ndarray:
    """Pixels of the reference galaxies in every realisation, as `measure_ensemble` measures them.

    Parameters
    ----------
    realisations, reference, image
        As for `measure_ensemble`.

    Returns
    -------
    (n_galaxies, samples, height, width) bool array
        Empty masks where a galaxy is absent.
    """
    union = np.logical_or.reduce(reference.masks)
    image = np.asarray(image, dtype=np.float64)
    masks = np.zeros((len(reference.masks), len(realisations), *union.shape), dtype=bool)
    for sample, ternary in enumerate(realisations):
        found, pairs = _followed(np.ascontiguousarray(ternary, np.uint8), reference, union, image)
        for i, j in pairs:
            masks[j, sample] = found[i]
    return masks


@njit(cache=True, nogil=True)
def _measure_lone(
    ternary: np.ndarray, reference: np.ndarray, light: np.ndarray
) -> tuple[np.bool, np.bool, np.ndarray]:
    """What the rest of `_measure_realisation` says of a lone galaxy that stays one, but quicker.

    Returns
    -------
    alone : bool
        Whether it does: too few pixels of class 2 for an overlap.
    present : bool
        Whether it matches the reference.
    measured : (7,) float64 array
        As `measure_values`.
    """
    mask = connected_with(ternary > 0, reference)
    alone = np.count_nonzero(mask & (ternary == 2)) < MIN_OVERLAP
    present = alone and iou(mask, reference) >= MIN_IOU
    return alone, present, measure_pixels(light, mask) if present else np.empty(7)


def match_masks(found: np.ndarray, reference: np.ndarray) -> list[tuple[int, int]]:
    """Pair masks one to one so that the sum of their IoUs is largest; none with less than `MIN_IOU`.

    Parameters
    ----------
    found : (n_found, height, width) bool array
    reference : (n_reference, height, width) bool array

    Returns
    -------
    list of (int, int)
        Index in ``found``, index in ``reference``.
    """
    worth = np.array([iou(mask, other) for mask in found for other in reference])
    worth = worth.reshape(len(found), len(reference))
    # Below the limit a pair is worth nothing, so it must not cost another pair its match.
    worth[worth < MIN_IOU] = 0
    if worth.size == 1:
        return [(0, 0)] if worth[0, 0] else []
    rows, columns = linear_sum_assignment(-worth)
    return [(int(i), int(j)) for i, j in zip(rows, columns, strict=True) if worth[i, j]]

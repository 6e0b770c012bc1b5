"""From the maps of a field to its galaxies: separated, and measured in every realisation."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from scipy import ndimage

from appulse.inference.noise import NoiseScaled
from appulse.inference.realisations import Realisations
from appulse.inference.tiles import fits_stamp
from appulse.inference.two_step import MARGIN
from appulse.network.calibration import Calibration
from appulse.objects.catalog import MEASURED, summarise
from appulse.objects.components import MIN_OVERLAP
from appulse.objects.ensemble import Ensemble, measure_ensemble
from appulse.objects.flags import ObjectFlag
from appulse.objects.measurement import flux_noise, light_shares, measure
from appulse.objects.pairs import meeting_pairs
from appulse.objects.separation import Separation, separate
from appulse.objects.thresholds import MAX_GALAXIES
from appulse.windows import Window, at_border, cropped, grown

# Pixels around an object in which its realisations may reach.
REACH = 12


@dataclass(frozen=True)
class Region:
    """A window of a field with all that is known of it.

    Parameters
    ----------
    window : (slice, slice)
        Of the image.
    image_shape : (height, width), pixels
        Of the image.
    labels : (height, width) int32 array
        Number of each pixel's object.
    ternary : (height, width) uint8 array
        Class map, 0 where bad.
    p_galaxy : (height, width) float32 array
        Calibrated probability of class >= 1.
    realisations : Realisations
        Of every pixel.
    detections : (2, bytes, height, width) uint8 array
        `Realisations.planes` of the first pass.
    scaled : NoiseScaled
        In units of the noise.
    """

    window: Window
    image_shape: tuple[int, int]
    labels: np.ndarray
    ternary: np.ndarray
    p_galaxy: np.ndarray
    realisations: Realisations
    detections: np.ndarray
    scaled: NoiseScaled


@dataclass(frozen=True)
class Described:
    """The galaxies of one object.

    Parameters
    ----------
    number : int
        Of the object.
    window : (slice, slice)
        Of the image: the object and its surroundings.
    masks : (n_galaxies, height, width) bool array or None
        Pixels of each galaxy; None where one galaxy is the whole object.
    owners : (2, height, width) uint8 array or None
        Likelier and second owner of each pixel: number of the galaxy in the object, from 1; 0 none. None
        where one galaxy is the whole object.
    rows : list of dict
        Of the catalogue, without label, blend and sky position.
    pairs : list of dict
        Galaxies that overlap; labels are numbers in the object, from 1.
    """

    number: int
    window: Window
    masks: np.ndarray | None
    owners: np.ndarray | None
    rows: list[dict]
    pairs: list[dict]


def describe_object(
    region: Region, number: int, box: Window, stamp_size: int, fitted: Calibration
) -> Described:
    """Separate an object into galaxies, and measure them in every realisation.

    Parameters
    ----------
    region : Region
        Holds the object with `REACH` pixels around it, as far as the image goes.
    number : int
        Of the object.
    box : (slice, slice)
        Its bounding box in the image.
    stamp_size : int, pixels
        Objects that do not fit a stamp are flagged.
    fitted : Calibration
        Holds the error bars; from `fitted_for`.

    Returns
    -------
    Described
    """
    crop = _Crop(grown(box, REACH, region.image_shape), number, region)
    reference, ensemble, shares, failed = _galaxies_of(crop)
    common = ObjectFlag(0)
    if at_border(box, region.image_shape):
        common |= ObjectFlag.BORDER
    if not fits_stamp(box, stamp_size, MARGIN):
        common |= ObjectFlag.LARGER_THAN_STAMP
    if len(reference.masks) > 2:
        common |= ObjectFlag.THREE_OR_MORE
    if len(reference.masks) >= MAX_GALAXIES:
        common |= ObjectFlag.MOST_GALAXIES
    if crop.correlated[crop.mask].any():
        common |= ObjectFlag.OUTSIDE_MODEL_RANGE
    if failed:
        common |= ObjectFlag.MEASUREMENT_FAILED
    rows = []
    for galaxy in range(len(reference.masks)):
        row = _catalogue_row(crop, reference, ensemble, shares[galaxy], galaxy, fitted)
        row["flags"] = int(row["flags"] | common)
        rows.append(row)
    return Described(
        number,
        crop.window,
        reference.masks,
        _owners(reference, shares),
        rows,
        _pairs(reference, ensemble, crop.image),
    )


def fitted_for(calibration: Calibration, mode: str) -> Calibration:
    """Calibration whose error bars hold for a mode of realisations.

    Parameters
    ----------
    calibration : Calibration
        Of the model.
    mode : {"copula", "latent"}
        How realisations are drawn.
    """
    # Fitted for copula realisations; those of the latent alone are another ensemble.
    return calibration if mode == "copula" else Calibration()


def calibration_warnings(fitted: Calibration) -> list[str]:
    """What to tell a user about the error bars; one sentence each.

    Parameters
    ----------
    fitted : Calibration
        From `fitted_for`.
    """
    if fitted.error_bars:
        return []
    return ["the error bars are not calibrated: the model holds no factors for this mode of realisations"]


class _Crop:
    """One object's surroundings, cut from everything that is known of the region."""

    def __init__(self, window: Window, number: int, region: Region):
        here = cropped(window, region.window)
        labels, scaled = region.labels[here], region.scaled
        self.window, self.mask = window, labels == number
        mask = self.mask
        self.ternary = np.where(mask, region.ternary[here], 0).astype(np.uint8)
        self.bad, self.correlated = scaled.bad[here], scaled.correlated[here]
        self.image = np.where(self.bad, 0.0, scaled.scaled[here]).astype(np.float32)
        self.noise = scaled.noise[here]
        self.correlation, self.scatter = scaled.correlation, scaled.noise_ratio
        # Galaxies are told apart by signal-to-noise, and measured in flux: the same but for a unit, where the
        # noise does not vary in the object.
        sigma = scaled.sigma[here]
        self.unit = float(sigma[mask].mean(dtype=np.float64))
        self.light = np.where(self.bad, 0.0, self.image * (sigma / self.unit))
        self.p_galaxy = region.p_galaxy[here]
        # A realisation may bridge to a neighbour; the neighbour's own pixels stay the neighbour's.
        others = (labels > 0) & ~mask | self.bad
        self.realisations = _Realisations(region.realisations, here, ~others)
        self.detections = region.detections[:, :, *here]


@dataclass(frozen=True)
class _Realisations:
    """Realisations of a window, a few unpacked at a time; 0 elsewhere than allowed."""

    kept: Realisations
    window: Window
    allowed: np.ndarray

    def __len__(self) -> int:
        return self.kept.samples

    def __iter__(self) -> Iterator[np.ndarray]:
        for few in self.kept.eights(self.window):
            yield from few * self.allowed


def _galaxies_of(crop: _Crop) -> tuple[Separation, Ensemble, np.ndarray, bool]:
    """Galaxies, their ensemble and shares of light, and whether the object had to be taken whole."""
    try:
        reference = separate(crop.ternary, crop.image, p_galaxy=crop.p_galaxy)
        ensemble = measure_ensemble(crop.realisations, reference, crop.image, crop.light)
        return reference, ensemble, light_shares(crop.image, reference.masks), False
    except (ArithmeticError, ValueError, IndexError, np.linalg.LinAlgError):
        # One bad object must not cost the field: it becomes one galaxy without spreads, and is flagged.
        reference = Separation(crop.mask[None], np.zeros(1, bool))
        ensemble = Ensemble.empty(1, len(crop.realisations))
        return reference, ensemble, crop.mask[None].astype(np.float32), True


def _catalogue_row(
    crop: _Crop,
    reference: Separation,
    ensemble: Ensemble,
    share: np.ndarray,
    galaxy: int,
    fitted: Calibration,
) -> dict:
    mask = reference.masks[galaxy]
    measured = measure(crop.light, mask, share)
    rows, columns = np.nonzero(mask)
    top, left = (side.start for side in crop.window)
    row = {
        "x_centroid": measured.x_centroid + left,
        "y_centroid": measured.y_centroid + top,
        "bbox_xmin": int(columns.min()) + left,
        "bbox_xmax": int(columns.max()) + left,
        "bbox_ymin": int(rows.min()) + top,
        "bbox_ymax": int(rows.max()) + top,
        "flux_noise": flux_noise(crop.noise, np.where(mask, share, 0), crop.correlation, crop.scatter),
        "p_detect": _share_containing(crop, mask, bool(reference.nested[galaxy])),
        "p_blend": float(ensemble.blended[galaxy].sum() / max(ensemble.present[galaxy].sum(), 1)),
        "overlap_area": int(np.count_nonzero(reference.masks[:, mask].sum(axis=0) > 1)),
        "n_realisations": int(ensemble.present[galaxy].sum()),
    }
    snr = crop.unit * measured.flux / row["flux_noise"] if row["flux_noise"] else np.inf
    calibrated_for = snr, len(reference.masks) > 1
    for quantity in MEASURED:
        unit = crop.unit if quantity == "flux" else 1.0
        summary = summarise(
            getattr(ensemble, quantity)[galaxy] * unit,
            value=getattr(measured, quantity) * unit,
            scale=float(fitted.factor(quantity, *calibrated_for)),
            shift=float(fitted.shift(quantity, *calibrated_for)),
            period=180.0 if quantity == "orientation" else None,
        )
        row[quantity] = summary.value
        row[f"{quantity}_std"], row[f"{quantity}_p16"] = summary.std, summary.p16
        row[f"{quantity}_p84"] = summary.p84
    flags = ObjectFlag(0)
    if crop.bad[ndimage.binary_dilation(mask)].any():
        flags |= ObjectFlag.BAD_PIXEL
    if reference.nested[galaxy]:
        flags |= ObjectFlag.NESTED
    if not np.isfinite([row[name] for each in MEASURED for name in (each, f"{each}_std")]).all():
        flags |= ObjectFlag.MEASUREMENT_FAILED
    return row | {"flags": flags}


def _share_containing(crop: _Crop, mask: np.ndarray, is_nested: bool) -> float:
    # A first-pass realisation contains the galaxy if it gives class >= 1 to half of its pixels or more; class
    # 2 where it is on top of another, whose light is there without it.
    plane = crop.detections[1 if is_nested else 0]
    found = np.unpackbits(plane[:, mask], axis=0, count=len(crop.realisations))
    return float(np.mean(found.mean(axis=1) >= 0.5))


def _pairs(reference: Separation, ensemble: Ensemble, image: np.ndarray) -> list[dict]:
    found = []
    for pair in meeting_pairs(reference.masks, image):
        if not pair.is_blend:
            continue
        a, b = pair.first, pair.second
        both = ensemble.shared[a, b] >= MIN_OVERLAP
        present = ensemble.present[a] & ensemble.present[b]
        found.append(
            {
                "label_a": 1 + a,
                "label_b": 1 + b,
                "overlap_area": pair.overlap_area,
                "p_blend": both.sum() / max(present.sum(), 1),
                "border_area": pair.border_area,
            }
        )
    return found


def _owners(reference: Separation, shares: np.ndarray) -> np.ndarray:
    # Of an overlap's pixel the galaxy with the larger share of its light is the likelier owner.
    union = reference.masks.any(axis=0)
    claims = np.where(reference.masks[:, union], np.maximum(shares[:, union], 1e-6), 0.0)
    order = np.argsort(-claims, axis=0, kind="stable")[:2]
    owners = np.zeros((2, *union.shape), np.uint8)
    owners[: len(order), union] = np.where(np.take_along_axis(claims, order, axis=0) > 0, order + 1, 0)
    return owners

"""From the maps of a field to its galaxies: separated, measured in every realisation, and catalogued."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from astropy.table import Table

from appulse.files import Image, pixel_scale, stem
from appulse.inference.background import NoiseScaled
from appulse.inference.tiles import fits_stamp
from appulse.inference.two_step import MARGIN, FieldMaps
from appulse.network.calibration import Calibration, OperatingPoint
from appulse.objects.catalog import MEASURED, build_catalog, summarise
from appulse.objects.components import MIN_OVERLAP, label_objects
from appulse.objects.ensemble import Ensemble, measure_ensemble
from appulse.objects.flags import ObjectFlag, PixelFlag
from appulse.objects.measurement import light_shares, measure
from appulse.objects.pairs import meeting_pairs
from appulse.objects.separation import Separation, separate
from appulse.products import PAIRS
from appulse.result import GalaxyCutout, Result

# Pixels around an object in which its realisations may reach.
REACH = 12


def describe_field(
    source: Image,
    scaled: NoiseScaled,
    maps: FieldMaps,
    point: OperatingPoint,
    calibration: Calibration,
    provenance: dict,
    *,
    stamp_size: int,
    progress: Callable[[str, int, int], None] | None = None,
) -> Result:
    """From the maps of a field to its galaxies and their catalogue.

    Parameters
    ----------
    source : Image
        As read.
    scaled : NoiseScaled
        In units of the noise.
    maps : FieldMaps
        Probabilities and realisations.
    point : OperatingPoint
        Thresholds.
    calibration : Calibration
        Factors on the spreads.
    provenance : dict
        For the headers.
    stamp_size : int, pixels
        Objects that do not fit a stamp are flagged.
    progress : callable, optional
        Called with the name of the stage, objects done and their total.

    Returns
    -------
    Result
    """
    bad = scaled.bad
    ternary = maps.ternary(point)
    ternary[bad] = 0
    labels, boxes = label_objects(ternary, point.min_area)
    outside = scaled.is_correlated
    rows: list[dict] = []
    pairs: list[dict] = []
    cutouts: list[GalaxyCutout] = []
    segm, segm2 = np.zeros(bad.shape, np.int32), np.zeros(bad.shape, np.int32)
    flags = _pixel_flags(scaled)
    # Fitted for copula realisations; those of the latent alone are another ensemble.
    fitted = calibration if provenance["mode"] == "copula" else Calibration()
    for component, box in enumerate(boxes, start=1):
        window = _padded(box, bad.shape)
        crop = _Crop(window, labels[window], component, ternary[window], scaled, maps)
        reference, ensemble, shares, failed = _galaxies_of(crop)
        first = len(rows) + 1
        common = ObjectFlag(0)
        if _touches_border(box, bad.shape):
            common |= ObjectFlag.BORDER
        if not fits_stamp(box, stamp_size, MARGIN):
            common |= ObjectFlag.LARGER_THAN_STAMP
        if len(reference.masks) > 2:
            common |= ObjectFlag.THREE_OR_MORE
        if outside:
            common |= ObjectFlag.OUTSIDE_MODEL_RANGE
        if failed:
            common |= ObjectFlag.MEASUREMENT_FAILED
        for galaxy in range(len(reference.masks)):
            row = _catalogue_row(crop, reference, ensemble, shares[galaxy], galaxy, fitted)
            row |= {"label": first + galaxy, "blend_id": component if len(reference.masks) > 1 else 0}
            row["flags"] = int(row["flags"] | common)
            rows.append(row)
            cutouts.append(GalaxyCutout(window, reference.masks[galaxy]))
        pairs += _pairs(reference, ensemble, crop.image, first)
        _paint_owners(segm[window], segm2[window], reference, shares, first)
        if provenance["method"] == "two-step":
            flags[window][crop.mask & ~maps.centred[window]] |= PixelFlag.FIRST_PASS
        if progress:
            progress("galaxies", component, len(boxes))

    _add_sky_positions(rows, source.wcs)
    mean, std = maps.realisations.mean_and_std()
    for array in (mean, std, maps.p_galaxy, maps.p_overlap):
        array[bad] = np.nan
    return Result(
        catalog=build_catalog(rows, flux_unit=source.unit, pixel_scale_arcsec=pixel_scale(source.wcs)),
        pairs=Table(pairs or None, names=[item.name for item in PAIRS]),
        ternary=ternary,
        mean=mean,
        std=std,
        p_galaxy=maps.p_galaxy,
        p_overlap=maps.p_overlap,
        segm=segm,
        segm2=segm2,
        flags=flags.astype(np.uint8),
        image=scaled.scaled,
        header=source.header,
        provenance=provenance,
        cutouts=tuple(cutouts),
        realisation_store=maps.realisations,
        name=stem(source.path),
        warnings=(*scaled.warnings, *_calibration_warnings(fitted.scales)),
    )


class _Crop:
    """One object's surroundings, cut from everything that is known of the field."""

    def __init__(self, window, labels, component, ternary, scaled: NoiseScaled, maps: FieldMaps):
        self.window, self.mask = window, labels == component
        mask = self.mask
        self.ternary = np.where(mask, ternary, 0).astype(np.uint8)
        self.bad = scaled.bad[window]
        self.image = np.where(self.bad, 0.0, scaled.scaled[window]).astype(np.float32)
        self.sigma = np.broadcast_to(scaled.sigma, scaled.bad.shape)[window]
        self.noise = np.broadcast_to(scaled.noise, scaled.bad.shape)[window]
        self.p_galaxy = maps.p_galaxy[window]
        # A realisation may bridge to a neighbour; the neighbour's own pixels stay the neighbour's.
        others = (labels > 0) & ~mask | self.bad
        self.realisations = np.where(others, 0, maps.realisations.get(window)).astype(np.uint8)
        self.detections = maps.detections[:, *window]


def _galaxies_of(crop: _Crop) -> tuple[Separation, Ensemble, np.ndarray, bool]:
    """Galaxies, their ensemble and shares of light, and whether the object had to be taken whole."""
    try:
        reference = separate(crop.ternary, crop.image, p_galaxy=crop.p_galaxy)
        ensemble = measure_ensemble(crop.realisations, reference, crop.image)
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
    measured = measure(crop.image, mask, share)
    rows, columns = np.nonzero(mask)
    top, left = (side.start for side in crop.window)
    weight = share[mask]
    # Fluxes leave the units of the noise. Where the noise varies inside a galaxy, its realisations follow by
    # the ratio of its flux in either unit.
    flux = float(np.sum(crop.image[mask] * crop.sigma[mask] * weight))
    to_image_units = flux / measured.flux if measured.flux else float(crop.sigma[mask].mean())
    row = {
        "x_centroid": measured.x_centroid + left,
        "y_centroid": measured.y_centroid + top,
        "bbox_xmin": int(columns.min()) + left,
        "bbox_xmax": int(columns.max()) + left,
        "bbox_ymin": int(rows.min()) + top,
        "bbox_ymax": int(rows.max()) + top,
        "flux_noise": float(np.sqrt(np.sum((crop.noise[mask] * weight) ** 2))),
        "p_detect": _share_containing(crop, mask),
        "p_blend": float(ensemble.blended[galaxy].sum() / max(ensemble.present[galaxy].sum(), 1)),
        "overlap_area": int(np.count_nonzero(reference.masks[:, mask].sum(axis=0) > 1)),
        "n_realisations": int(ensemble.present[galaxy].sum()),
    }
    snr = flux / row["flux_noise"] if row["flux_noise"] else np.inf
    for quantity in MEASURED:
        unit = to_image_units if quantity == "flux" else 1.0
        summary = summarise(
            getattr(ensemble, quantity)[galaxy] * unit,
            value=getattr(measured, quantity) * unit,
            scale=float(fitted.factor(quantity, snr, len(reference.masks) > 1)),
            period=180.0 if quantity == "orientation" else None,
        )
        row[quantity] = summary.value
        row[f"{quantity}_std"], row[f"{quantity}_p16"] = summary.std, summary.p16
        row[f"{quantity}_p84"] = summary.p84
    flags = ObjectFlag(0)
    if crop.bad[_grown(mask)].any():
        flags |= ObjectFlag.BAD_PIXEL
    if reference.nested[galaxy]:
        flags |= ObjectFlag.NESTED
    if not np.isfinite([getattr(measured, quantity) for quantity in MEASURED]).all():
        flags |= ObjectFlag.MEASUREMENT_FAILED
    return row | {"flags": flags}


def _share_containing(crop: _Crop, mask: np.ndarray) -> float:
    # A first-pass realisation contains the galaxy if it gives class >= 1 to half of its pixels or more.
    found = np.unpackbits(crop.detections[:, mask], axis=0, count=len(crop.realisations))
    return float(np.mean(found.mean(axis=1) >= 0.5))


def _grown(mask: np.ndarray) -> np.ndarray:
    grown = np.pad(mask, 1)
    grown = grown[1:-1, 1:-1] | grown[:-2, 1:-1] | grown[2:, 1:-1] | grown[1:-1, :-2] | grown[1:-1, 2:]
    return grown


def _pairs(reference: Separation, ensemble: Ensemble, image: np.ndarray, first: int) -> list[dict]:
    found = []
    for pair in meeting_pairs(reference.masks, image):
        a, b = pair.first, pair.second
        both = ensemble.shared[a, b] >= MIN_OVERLAP
        present = ensemble.present[a] & ensemble.present[b]
        found.append(
            {
                "label_a": first + a,
                "label_b": first + b,
                "overlap_area": pair.overlap_area,
                "p_blend": both.sum() / max(present.sum(), 1),
                "border_area": pair.border_area,
            }
        )
    return found


def _paint_owners(
    segm: np.ndarray, segm2: np.ndarray, reference: Separation, shares: np.ndarray, first: int
) -> None:
    # Of an overlap's pixel the galaxy with the larger share of its light is the likelier owner.
    claims = np.where(reference.masks, np.maximum(shares, 1e-6), 0.0)
    order = np.argsort(-claims, axis=0, kind="stable")
    ranked = np.take_along_axis(claims, order, axis=0)
    owned = ranked[0] > 0
    segm[owned] = order[0][owned] + first
    if len(reference.masks) > 1:
        shared = ranked[1] > 0
        segm2[shared] = order[1][shared] + first


def _calibration_warnings(scales: dict[str, float]) -> list[str]:
    if scales:
        return []
    return ["the error bars are not calibrated: the model holds no factors for this mode of realisations"]


def _pixel_flags(scaled: NoiseScaled) -> np.ndarray:
    flags = np.zeros(scaled.bad.shape, np.int32)
    flags[scaled.bad] |= PixelFlag.BAD_PIXEL
    if scaled.noise_disagrees:
        flags |= PixelFlag.NOISE_DISAGREES
    return flags


def _padded(box: tuple[slice, slice], shape: tuple[int, int]) -> tuple[slice, slice]:
    rows, columns = (
        slice(max(side.start - REACH, 0), min(side.stop + REACH, length))
        for side, length in zip(box, shape, strict=True)
    )
    return rows, columns


def _touches_border(box: tuple[slice, slice], shape: tuple[int, int]) -> bool:
    return any(side.start == 0 or side.stop == length for side, length in zip(box, shape, strict=True))


def _add_sky_positions(rows: list[dict], wcs) -> None:
    if wcs is None or not rows:
        return
    x = np.array([row["x_centroid"] for row in rows])
    y = np.array([row["y_centroid"] for row in rows])
    # Whatever the frame and order of the image's axes: galactic, FK5, declination first.
    sky = wcs.pixel_to_world(x, y).icrs
    for row, alpha, delta in zip(rows, sky.ra.deg, sky.dec.deg, strict=True):
        row |= {"ra": float(alpha), "dec": float(delta)}

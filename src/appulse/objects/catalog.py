"""The catalogue: every column declared once, and the table built from them."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import astropy.units as u
import numpy as np
from astropy.table import QTable

FLUX = "flux"  # that of a sum over the image's pixels (`of_flux`); dimensionless where BUNIT names none
SIZE = "size"  # arcsec, pixels without a WCS


@dataclass(frozen=True)
class CatalogColumn:
    """One column: name, unit (`FLUX`, `SIZE`, an astropy unit or None), dtype and meaning."""

    name: str
    unit: object
    dtype: str
    description: str


def _with_spread(name: str, unit: object, description: str) -> tuple[CatalogColumn, ...]:
    """A measured quantity, its spread over realisations, and an interval for the true value."""
    noise = "; without flux_noise, which adds to it in quadrature" if unit is FLUX else ""
    spread = f"standard deviation of {name} over realisations, calibrated in mode copula{noise}"
    interval = f"68 % interval for the true {name}, calibrated in mode copula; may leave its range{noise}"
    return (
        CatalogColumn(name, unit, "f8", description),
        CatalogColumn(f"{name}_std", unit, "f8", spread),
        CatalogColumn(f"{name}_p16", unit, "f8", f"lower end of the {interval}"),
        CatalogColumn(f"{name}_p84", unit, "f8", f"upper end of the {interval}"),
    )


COLUMNS = (
    CatalogColumn("label", None, "i4", "source id, as in SEGM and SEGM2"),
    CatalogColumn("blend_id", None, "i4", "number of the component shared with other galaxies, 0 if alone"),
    CatalogColumn("ra", u.deg, "f8", "right ascension of the centroid, ICRS, NaN without WCS"),
    CatalogColumn("dec", u.deg, "f8", "declination of the centroid, ICRS, NaN without WCS"),
    CatalogColumn("x_centroid", u.pix, "f8", "flux-weighted centroid, 0-based pixel centres"),
    CatalogColumn("y_centroid", u.pix, "f8", "flux-weighted centroid, 0-based pixel centres"),
    CatalogColumn("bbox_xmin", None, "i4", "first column of the mask, 0-based"),
    CatalogColumn("bbox_xmax", None, "i4", "last column of the mask, 0-based, inclusive"),
    CatalogColumn("bbox_ymin", None, "i4", "first row of the mask, 0-based"),
    CatalogColumn("bbox_ymax", None, "i4", "last row of the mask, 0-based, inclusive"),
    *_with_spread("area", u.pix, "pixels in the mask, those shared with other galaxies included"),
    *_with_spread("flux", FLUX, "light inside the mask, that of shared pixels in proportion to the profiles"),
    *_with_spread("half_light_radius", SIZE, "radius holding half of the flux, PSF-convolved"),
    *_with_spread("ellipticity", None, "1 - b/a from flux-weighted second moments"),
    *_with_spread("orientation", u.deg, "major axis, counter-clockwise from +x, [0, 180)"),
    CatalogColumn("flux_noise", FLUX, "f8", "standard deviation of flux from correlated pixel noise"),
    CatalogColumn("p_detect", None, "f8", "share of first-pass realisations that contain the galaxy"),
    CatalogColumn("p_blend", None, "f8", "share of realisations with it in which it overlaps another galaxy"),
    CatalogColumn("overlap_area", u.pix, "f8", "pixels shared with other galaxies"),
    CatalogColumn("n_realisations", None, "i4", "realisations in which the galaxy was found and measured"),
    CatalogColumn("flags", None, "i4", "sum of the bits of appulse.objects.ObjectFlag"),
)
MEASURED = ("area", "flux", "half_light_radius", "ellipticity", "orientation")


@dataclass(frozen=True)
class Summary:
    """An ensemble in four numbers, in the ensemble's unit."""

    value: float
    std: float
    p16: float
    p84: float


def summarise(
    values: np.ndarray,
    *,
    value: float,
    scale: float = 1.0,
    shift: float = 0.0,
    period: float | None = None,
) -> Summary:
    """Value and spread of one quantity over realisations.

    Parameters
    ----------
    values : (samples,) float array
        NaN where the galaxy was absent.
    value : float
        What the catalogue reports, from the reference mask.
    scale : float
        Calibration factor on the standard deviation and on the width of the interval about its middle.
    shift : float
        Of that middle, in half widths of the interval before ``scale``.
    period : float, optional
        Values ``period`` apart are the same (180 for orientations in degrees). They are unwrapped to within
        half a period of ``value``, so the percentiles are contiguous and may leave [0, period).

    Returns
    -------
    Summary
        Standard deviation with ddof 0. All NaN spreads if no value is finite. Of a periodic quantity neither
        exceeds that of an even distribution over the period.
    """
    values = np.asarray(values, dtype=np.float64)
    values = values[np.isfinite(values)]
    if values.size == 0:
        return Summary(float(value), np.nan, np.nan, np.nan)
    if period is not None:
        if not np.isfinite(value):
            phase = 2 * np.pi / period * values
            value = (np.arctan2(np.sin(phase).mean(), np.cos(phase).mean()) * period / (2 * np.pi)) % period
        values = value + (values - value + period / 2) % period - period / 2
    p16, p84 = np.percentile(values, [16, 84])
    half = 0.5 * (p84 - p16)
    middle = float(0.5 * (p16 + p84) + shift * half)
    std, half = scale * values.std(), scale * half
    if period is not None:  # no more than of a quantity of which nothing is known
        std, half = min(std, period / np.sqrt(12)), min(half, 0.34 * period)
    return Summary(float(value), float(std), middle - half, middle + half)


def build_catalog(
    rows: list[dict] | Mapping[str, Sequence | np.ndarray],
    *,
    flux_unit: u.UnitBase | str | None = None,
    pixel_scale_arcsec: float | None = None,
) -> QTable:
    """Catalogue with every column of `COLUMNS`, in that order.

    Parameters
    ----------
    rows : list of dict, or mapping to sequences
        Column name to value; fluxes in ``flux_unit``, sizes in pixels. A float column left out is NaN, an
        integer one 0.
    flux_unit : astropy unit or str, optional
        Of a sum over pixels; None where it is not known, which leaves the numbers without a name for it.
    pixel_scale_arcsec : float, arcsec per pixel, optional
        Turns ``half_light_radius`` into arcsec; None leaves pixels.

    Returns
    -------
    QTable
        One row per galaxy; without galaxies no row, but every column with its unit.

    Raises
    ------
    ValueError
        For a name that is not a column, or columns of different lengths.
    """
    columns = _columns_of(rows) if isinstance(rows, list) else dict(rows)
    unknown = sorted(set(columns) - {c.name for c in COLUMNS})
    if unknown:
        raise ValueError(
            f"not catalogue columns: {', '.join(unknown)}; they are declared in objects/catalog.py."
        )
    lengths = {name: len(values) for name, values in columns.items()}
    if len(set(lengths.values())) > 1:
        raise ValueError(f"columns differ in length: {lengths}.")
    count = next(iter(lengths.values()), 0)
    table = QTable()
    for column in COLUMNS:
        missing = 0 if column.dtype.startswith("i") else np.nan
        values = np.asarray(columns.get(column.name, np.full(count, missing)), dtype=column.dtype)
        unit = column.unit
        # A comparison of a unit with text would look for a unit of that name, for tens of milliseconds.
        if unit is FLUX:
            unit = u.dimensionless_unscaled if flux_unit is None else u.Unit(flux_unit)
        elif unit is SIZE:
            unit = u.pix if pixel_scale_arcsec is None else u.arcsec
            values = values if pixel_scale_arcsec is None else values * pixel_scale_arcsec
        table[column.name] = values if unit is None else u.Quantity(values, unit, copy=False)
        table[column.name].info.description = column.description
    return table


def _columns_of(rows: list[dict]) -> dict[str, list]:
    names = dict.fromkeys(name for row in rows for name in row)
    kinds = {c.name: c.dtype for c in COLUMNS}
    missing = {name: 0 if kinds.get(name, "f8").startswith("i") else np.nan for name in names}
    return {name: [row.get(name, missing[name]) for row in rows] for name in names}

"""The unit of an image's pixels, however its header spells it."""

import contextlib
import re
import warnings
from collections.abc import Iterator
from pathlib import Path

import astropy.units as u
from astropy.io import fits

from appulse.files.errors import InputError

# As instruments and programs write them, in lower case, and what astropy reads.
_SPELLINGS = {
    "e-": "electron",
    "electrons": "electron",
    "counts": "count",
    "cts": "count",
    "cps": "count/s",
    "photons": "photon",
    "sec": "s",
    "second": "s",
    "seconds": "s",
    "nanomaggy": "nmgy",
    "nanomaggies": "nmgy",
}
# What astropy cannot read, but is no flux whatever else it is: ABmag, log(ct), asinh(ct).
_NONLINEAR = re.compile(r"mag\b|dex\b|\blog|\bln\b|asinh|sqrt", re.IGNORECASE)
_SOLID_ANGLES = (u.sr, u.deg**2, u.arcmin**2, u.arcsec**2, u.mas**2)


def read_unit(header: fits.Header) -> tuple[u.UnitBase | None, str]:
    """BUNIT as a unit.

    Parameters
    ----------
    header : astropy.io.fits.Header

    Returns
    -------
    unit : astropy.units.UnitBase or None
        None where absent or not understood.
    reason : str
        Why it is not, one sentence; empty where it is, or where there is none.
    """
    text = header.get("BUNIT", "")
    if isinstance(text, str):
        respelt = re.sub(r"[a-z]+-?", lambda word: _SPELLINGS.get(word[0], word[0]), text.lower())
        for spelling in (text, respelt):
            unit = _parsed(spelling)
            # DN/S is per second in capitals, not per siemens.
            if unit is not None and u.S not in getattr(unit, "bases", ()):
                return unit, ""
        if not text.strip():
            return None, ""
    return None, f"fluxes are without a unit: the image's BUNIT {text!r} is none that astropy knows"


def _parsed(text: str) -> u.UnitBase | None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", u.UnitsWarning)  # several slashes, old names: understood all the same
        try:
            unit = u.Unit(text, parse_strict="silent")
        except (ValueError, TypeError):
            return None
    return None if isinstance(unit, u.UnrecognizedUnit) or not text.strip() else unit


@contextlib.contextmanager
def any_unit() -> Iterator[None]:
    """While tables go to FITS or come from it: units the standard does not know, as electron/s, are no news.

    astropy keeps their names among its own comments, with no TUNIT, reads them back, and warns of each.
    """
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="The unit .* could not be saved in native FITS format")
        warnings.simplefilter("ignore", u.UnitsWarning)
        yield


def refuse_nonlinear(
    path: str | Path | None,
    unit: u.UnitBase | u.FunctionUnitBase | None,
    header: fits.Header | None = None,
) -> None:
    """Raise for an image of which no sum over pixels is a flux.

    Parameters
    ----------
    path : str, Path or None
        Of the image, for the message.
    unit : astropy unit or None
        Of its pixels.
    header : astropy.io.fits.Header, optional
        Of the image.

    Raises
    ------
    InputError
        Magnitudes, logarithms, roots, or the asinh of Pan-STARRS's stacks.
    """
    header = {} if header is None else header
    told = unit if unit is not None else str(header.get("BUNIT", ""))
    if _is_nonlinear(unit) or (unit is None and _NONLINEAR.search(told)):
        raise InputError(
            f"{path or 'the image'}: its pixels are in {told}; "
            "appulse needs a linear unit, of fluxes or counts."
        )
    if "BSOFTEN" in header and "BOFFSET" in header:
        raise InputError(
            f"{path}: its pixels are an asinh of fluxes (BSOFTEN and BOFFSET, as in Pan-STARRS stacks); "
            "make them linear: BOFFSET + 2 BSOFTEN sinh(pixel / 1.0857362)."
        )


def _is_nonlinear(unit: u.UnitBase | u.FunctionUnitBase | None) -> bool:
    if isinstance(unit, u.FunctionUnitBase):  # mag(AB), which is no product of units
        return True
    if unit is None:
        return False
    parts = unit.decompose()
    return u.dex in parts.bases or any(power != int(power) for power in parts.powers)


def of_flux(unit: u.UnitBase | None, pixel_scale: float | None) -> tuple[u.UnitBase | None, float]:
    """Unit of a sum over pixels, and the factor on the sum: surface brightness times the area of a pixel.

    Parameters
    ----------
    unit : astropy unit or None
        Of the pixels.
    pixel_scale : float or None, arcsec
        Side of a pixel; None without a WCS.

    Returns
    -------
    unit : astropy unit or None
        ``unit`` itself unless it is one per solid angle or per pixel.
    factor : float
    """
    if unit is None:
        return None, 1.0
    if _power(unit, u.pix) == -1:
        return unit * u.pix, 1.0
    if _power(unit, u.rad) != -2:
        return unit, 1.0
    if pixel_scale is None:
        return unit * u.pix, 1.0
    area = (pixel_scale * u.arcsec) ** 2
    for solid_angle in _SOLID_ANGLES:
        flux = unit * solid_angle
        if not any(base.is_equivalent(u.rad) or base.is_equivalent(u.sr) for base in flux.bases):
            return flux, area.to_value(solid_angle)
    return unit * u.sr, area.to_value(u.sr)


def _power(unit: u.UnitBase, base: u.UnitBase) -> float:
    parts = unit.decompose()
    return dict(zip(parts.bases, parts.powers, strict=True)).get(base, 0)

"""World coordinates: what a header says of the sky, kept to the byte."""

import re
import warnings

import astropy.units as u
import numpy as np
from astropy.io import fits
from astropy.wcs import WCS
from astropy.wcs.utils import wcs_to_celestial_frame

# WCS keywords of FITS papers I, II and IV, their older spellings, SIP, and the dates they refer to.
# Look-up-table distortions (CPDIS, D2IM) stay out: their tables are not in our products.
_WCS_KEYWORD = re.compile(
    r"""(CTYPE|CRVAL|CRPIX|CDELT|CUNIT|CNAME|CRDER|CSYER)(?P<axis>\d+)[A-Z]?
      | CROTA(?P<rotated>\d+)
      | (CD|PC)(?P<row>\d+)_(?P<column>\d+)[A-Z]?
      | PC(?P<old_row>\d{3})(?P<old_column>\d{3})
      | (PV|PS)(?P<parameter_axis>\d+)_\d+[A-Z]?
      | (WCSAXES|WCSNAME|LONPOLE|LATPOLE|RADESYS|EQUINOX)[A-Z]?
      | WAT\d_\d{3} | RADECSYS | EPOCH | (MJD|DATE)-(OBS|AVG|BEG|END) | MJDREF[IF]? | TIMESYS
      | (A|B|AP|BP)_(ORDER|DMAX|\d+_\d+)""",
    re.VERBOSE,
)
_SCALE = re.compile(r"CDELT[12]|CD[12]_[12]")
_DEGREE = 3600.0  # arcsec


def usable_wcs(header: fits.Header, hdus: fits.HDUList | None = None) -> tuple[WCS | None, str]:
    """Celestial WCS of the first two axes of a header, or why one that describes the sky gives none.

    Parameters
    ----------
    header : astropy.io.fits.Header
    hdus : astropy.io.fits.HDUList, optional
        The file, which holds the tables of look-up distortions.

    Returns
    -------
    wcs : WCS or None
    reason : str
        Empty where there is a WCS, or nothing that looks like one.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            wcs = WCS(wcs_cards(header) if header.get("NAXIS", 2) > 2 else header, fobj=hdus)
            if wcs.naxis > 2:  # axes beyond the image's own
                wcs = wcs.sub([1, 2])
            if wcs.naxis != 2 or not wcs.has_celestial:
                return None, ""
            wcs.wcs.set()
            reason = _settle_frame(wcs)
            if reason:
                return None, reason
            # Unless a matrix PC holds it, a scale that is not there is a degree.
            if not any(map(_SCALE.fullmatch, header)) and np.isclose(_side(wcs), _DEGREE):
                return None, "it has no scale, neither CDELT nor CD"
            height, width = header.get("NAXIS2", 1), header.get("NAXIS1", 1)
            centre = wcs.all_pix2world([[(width - 1) / 2, (height - 1) / 2]], 0)
            usable = np.isfinite(centre).all() and _side(wcs) > 0  # 0 where the matrix is singular
        except Exception as error:  # wcslib, astropy and malformed cards raise some fifteen unrelated classes
            return None, str(error).strip().splitlines()[-1] if str(error).strip() else type(error).__name__
    return (wcs, "") if usable else (None, "its matrix is singular, or the image lies outside the projection")


def _settle_frame(wcs: WCS) -> str:
    """Spell the frame as astropy knows it, in memory only; why it does not know it, or nothing."""
    axes = tuple(wcs.wcs.ctype[axis].partition("-")[0] for axis in (wcs.wcs.lng, wcs.wcs.lat))
    if axes == ("GLON", "GLAT"):
        wcs.wcs.radesys = ""  # astropy would take longitudes for right ascensions
    elif axes == ("RA", "DEC"):
        wcs.wcs.radesys = wcs.wcs.radesys.strip().upper()
    else:
        return f"the axes {axes[0]} and {axes[1]} are neither equatorial nor galactic"
    try:
        wcs_to_celestial_frame(wcs)
    except ValueError:
        return f"RADESYS {wcs.wcs.radesys!r} is not known (ICRS, FK5, FK4 or FK4-NO-E)"
    return ""


def pixel_scale(wcs: WCS | None) -> float | None:
    """Side of a square with the area of one pixel, in arcsec, at the reference pixel; None without a WCS."""
    return None if wcs is None else _side(wcs)


def _side(wcs: WCS) -> float:
    return float(np.sqrt(wcs.proj_plane_pixel_area()).to_value(u.arcsec))


def wcs_cards(header: fits.Header) -> fits.Header:
    """WCS cards of a header as they are: celestial, SIP, alternates and dates of observation.

    They are never parsed and written anew, because astropy's `to_header` loses distortions (ccdproc issue
    457); astropy mends the spelling of cards that the standard does not allow, as of a small e in an
    exponent. Of a cube, the cards of axes 3 and up are left out, since our products are 2-D.

    Parameters
    ----------
    header : astropy.io.fits.Header

    Returns
    -------
    astropy.io.fits.Header
    """
    cards = fits.Header()
    is_cube = header.get("NAXIS", 2) > 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # cards are parsed only now, and astropy remarks on odd ones
        keywords = [card.keyword for card in header.cards]
    for keyword, card in zip(keywords, header.cards, strict=True):
        match = _WCS_KEYWORD.fullmatch(keyword)
        if not match:
            continue
        if is_cube:
            if any(int(axis) > 2 for axis in match.groupdict().values() if axis):
                continue
            if keyword.startswith("WCSAXES"):
                cards.append((keyword, 2, card.comment), end=True)
                continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            cards.append(fits.Card.fromstring(str(card)), end=True)
    return cards

"""What a user gives: an image, the maps that go with it, and where they came from."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import astropy.units as u
import numpy as np
from astropy.io import fits
from astropy.utils.masked import Masked
from astropy.wcs import WCS

from appulse.files import ImageSource, InputError, open_image, refuse_nonlinear, split_hdu, stem
from appulse.inference.exposure import ArraySource, Exposure, Map, Readable, Source
from appulse.products import tells_of_appulse
from appulse.windows import whole

# In place of a map: not even the one in the image's own file.
NO_MAP = "none"


@dataclass(frozen=True)
class Observation:
    """An image with its maps, its header, and what is known of its origin.

    Parameters
    ----------
    exposure : Exposure
        Pixels of the image and its maps.
    header : astropy.io.fits.Header or None
        Of the image; None for an array.
    unit : astropy unit or None
        Of the pixels.
    wcs : WCS or None
        Of the image.
    name : str
        Of the file, without folder and suffixes; ``image`` for an array.
    origin : dict of str to str
        For the headers: what the file is, and which maps were used.
    warnings : tuple of str
        What of the input is not used, and why; one sentence each.
    temporary : int, bytes
        Of the unpacked copies of gzipped files, which every process makes of its own.
    """

    exposure: Exposure
    header: fits.Header | None
    unit: u.UnitBase | None
    wcs: WCS | None
    name: str
    origin: dict[str, str]
    warnings: tuple[str, ...] = ()
    temporary: int = 0

    def read(self) -> Observation:
        """The same with every pixel in memory."""
        exposure, window = self.exposure, whole(self.exposure.shape)

        def held(pixels: Readable) -> ArraySource:
            return ArraySource(pixels.window(*window))

        image = held(exposure.image)
        noise = held(exposure.noise) if isinstance(exposure.noise, Readable) else exposure.noise
        mask = None if exposure.mask is None else held(exposure.mask)
        return replace(self, exposure=replace(exposure, image=image, noise=noise, mask=mask))


@contextlib.contextmanager
def observe(
    image: str | Path | np.ndarray, hdu: str | int | None, maps: Mapping[str, object]
) -> Iterator[Observation]:
    """Open an image and its maps; files are read lazily, and closed at the end of the ``with``.

    Parameters
    ----------
    image : str, Path or (height, width) array
        FITS file, or pixels in any unit: an array, a masked array or a Quantity.
    hdu : str or int, optional
        Of the image.
    maps : mapping of str to (str, Path, array, float or None)
        ``rms``, ``variance``, ``weight`` and ``mask``. What is not given is taken from the image's own file,
        where `appulse.files.recognise` knows its layout, unless `NO_MAP` stands in its place.

    Yields
    ------
    Observation

    Raises
    ------
    InputError
        An image or map that cannot be used.
    """
    maps = {name: value for name, value in maps.items() if value is not None}
    used = {name: NO_MAP if _is_none(value) else "given" for name, value in maps.items()}
    with contextlib.ExitStack() as stack:
        source: Source
        planes: dict[str, Map] = {}
        if isinstance(image, str | Path):
            file = source = stack.enter_context(open_image(image, hdu))
            if hdu is None and tells_of_appulse(file.primary):
                raise InputError(f"{image}: a product of appulse; give the image that it was made of.")
            beside = file.companions_beside(maps)
            planes |= beside
            used |= {kind: plane.hdu_name for kind, plane in beside.items()}
            recognised, path, taken = file.recognised, Path(image), file
            header, unit, wcs, name = file.header, file.unit, file.wcs, stem(path)
            warnings, temporary = file.warnings, file.temporary
            if not maps:
                warnings = (*warnings, *file.unused_maps)
        else:
            if hdu is not None:
                raise InputError(f"hdu is {hdu!r}, which chooses from a file; the image is an array.")
            source, unit = _from_array(image)
            recognised, path, taken, warnings, temporary = "array", None, None, (), 0
            header, wcs, name = None, None, "image"
        refuse_nonlinear(path, unit, header)
        for kind, value in maps.items():
            if _is_none(value):
                continue
            if isinstance(value, str | Path):
                opened = stack.enter_context(_open_map(value, taken))
                _check_shape(value, opened.shape, source.shape)
                temporary += opened.temporary
                planes[kind] = opened
            else:
                planes[kind] = _map_from_array(kind, value, unit)
        exposure = Exposure.of(source, **planes)
        listed = "; ".join(f"{kind} {place}" for kind, place in used.items()) or "none"
        origin = {"input": recognised, "maps": listed}
        yield Observation(exposure, header, unit, wcs, name, origin, warnings, temporary)


def _is_none(value: object) -> bool:
    return isinstance(value, str) and value == NO_MAP


def _from_array(data: np.ndarray) -> tuple[ArraySource, u.UnitBase | None]:
    unit = data.unit if isinstance(data, u.Quantity) else None
    data = _plain("image", data)
    if data.ndim != 2:
        raise InputError(f"the image has {data.ndim} axes {data.shape}; appulse needs a 2-D image.")
    data = ArraySource(data).data.astype(np.float32)
    return ArraySource(np.where(np.isfinite(data), data, np.nan)), unit


def _plain(name: str, values: object) -> np.ndarray:
    """Numbers without a unit, masked or not."""
    if hasattr(values, "uncertainty"):  # astropy's NDData and CCDData
        raise InputError(
            f"the {name} is a {type(values).__name__}; appulse takes a FITS file or an array. Write it to a "
            "file, which keeps its WCS, or give x.data * x.unit, with mask=x.mask, and rms=, variance= or "
            "weight=x.uncertainty.array."
        )
    if hasattr(values, "header"):  # an HDU
        raise InputError(f"the {name} is a {type(values).__name__}; give the file, or the HDU's data.")
    if isinstance(values, Masked):  # a Quantity among them
        values = np.ma.array(getattr(values.unmasked, "value", values.unmasked), mask=values.mask)
    values = values.value if isinstance(values, u.Quantity) else values
    values = values if np.ma.isMaskedArray(values) else np.asarray(values)
    if values.dtype.kind not in "buif":
        raise InputError(
            f"the {name} is a {type(values).__name__} of {values.dtype}; appulse needs real numbers."
        )
    return values


# Power of the image's unit that each map is in.
_POWERS = {"rms": 1, "variance": 2, "weight": -2, "mask": 0}


def _map_from_array(name: str, values: object, unit: u.UnitBase | None) -> np.ndarray:
    """A map in units of the image."""
    if not isinstance(values, u.Quantity):
        return _plain(name, values)
    wanted = u.dimensionless_unscaled if unit is None else unit ** _POWERS[name]
    try:
        return _plain(name, values.to(wanted))
    except u.UnitConversionError as error:
        raise InputError(
            f"the {name} is in {values.unit}, the image in {unit or 'no unit'}; {error}."
        ) from None


def _open_map(name: str | Path, image: ImageSource | None) -> ImageSource:
    path, hdu = split_hdu(name)
    source = open_image(path, hdu, wide=True)
    if hdu is not None:
        return source
    # Of several images the one that is taken by default is the science image.
    science, what = source.hdu_name, ""
    if image is not None and path.resolve() == image.path.resolve():
        science, what = image.hdu_name, "is the image itself"
    elif len(source.images) > 1:
        what = f"holds {len(source.images)} images"
    if not what:
        return source
    source.close()
    others = [one for one in source.images if one != science]
    if not others:
        raise InputError(f"{name} {what}, and holds no other.")
    raise InputError(
        f"{name} {what}; name the map's HDU, as in '{name}[{others[0]}]'. Besides {science} it holds "
        f"{', '.join(others)}."
    )


def _check_shape(name: str | Path, shape: tuple[int, int], wanted: tuple[int, int]) -> None:
    if shape != wanted:
        raise InputError(
            f"{name}: its shape {shape} is not the image's {wanted}; "
            "appulse needs maps on the image's own pixel grid."
        )

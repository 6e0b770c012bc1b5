"""The format of survey files: what keys there are, what values they take, and what is wrong with a file."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import numpy as np

from appulse.files import InputError
from appulse.sky.population import SERSIC_INDEX_RANGE, Bulges, Clumps, Faint, Pairs, Population, Stars
from appulse.sky.psf import PSF
from appulse.sky.ranges import Ranges
from appulse.sky.real_galaxies import RealGalaxies

_MAGNITUDE = (10.0, 40.0)
_SLOPE = (0.01, 2.0)
_DENSITY = (0.0, 2000.0)
_PIXEL_SCALE = (0.01, 5.0)
# Allowed range of every number of a survey file, by table and key.
_NUMBERS = {
    "": {"pixel_scale": _PIXEL_SCALE, "zero_point": (-50.0, 60.0)},
    "psf": {"fwhm": (0.01, 10.0), "beta": (1.2, 20.0)},
    "noise": {
        "surface_brightness": (10.0, 40.0),
        "magnitude": _MAGNITUDE,
        "snr": (0.1, 1e4),
        "aperture": (0.05, 60.0),
        "correlation": (0.2, 5.0),
        "gain": (1e-12, 1e15),
    },
    "population": {
        "density": _DENSITY,
        "magnitude_bright": (10.0, 35.0),
        "magnitude_faint": (10.0, 35.0),
        "count_slope": _SLOPE,
        "size_factor": (0.05, 20.0),
        "sersic_index": SERSIC_INDEX_RANGE,
        "sersic_scatter": (0.0, 2.0),
        "ellipticity_scale": (0.01, 2.0),
    },
    "bulges": {"share": (0.0, 1.0), "scale": (0.001, 1.0)},
    "clumps": {"share": (0.0, 1.0), "light": (0.01, 0.6)},
    "stars": {
        "density": _DENSITY,
        "magnitude_bright": (10.0, 35.0),
        "magnitude_faint": (10.0, 35.0),
        "count_slope": _SLOPE,
    },
    "faint": {"magnitude_limit": (10.0, 35.0)},
    "pairs": {"share": (0.0, 1.0), "separation": (0.01, 60.0)},
}
# Allowed limits of every range, [low, high].
_LIMITS = {"pixel_scale": _PIXEL_SCALE, "fwhm_pixels": (0.5, 20.0), "density": (0.1, 2000.0)}
_TEXTS = ("name", "description", "unit")
_TABLES = ("psf", "noise", "population", "bulges", "clumps", "stars", "faint", "pairs", "ranges")
_OPTIONS = {"bulges": Bulges, "clumps": Clumps, "stars": Stars, "faint": Faint, "pairs": Pairs}


def parse_survey(content: dict[str, Any], source: str, directory: Path = Path()) -> dict[str, Any]:
    """What the content of a survey's file says, checked.

    Parameters
    ----------
    content : dict
        What the TOML file holds.
    source : str
        Name of the file, for error messages.
    directory : Path
        That a relative ``real_galaxies`` starts from.

    Returns
    -------
    dict
        What `appulse.sky.Survey` takes.

    Raises
    ------
    InputError
        Unknown or missing keys, values outside their range.
    """
    content = dict(content)
    tables = {name: content.pop(name) for name in _TABLES if name in content}
    texts = {name: content.pop(name) for name in _TEXTS if name in content}
    real = content.pop("real_galaxies", None)
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise InputError(f"{source}: {name} is {table!r}; it must be a table, [{name}].")
    for key, text in {**texts, "real_galaxies": real}.items():
        if not isinstance(text, str) and not (key == "real_galaxies" and text is None):
            raise InputError(f"{source}: {key} is {text!r}; it must be text.")
    unknown = sorted(set(content) - set(_NUMBERS[""]))
    if unknown:
        known = sorted({*_NUMBERS[""], *_TEXTS, "real_galaxies"})
        raise InputError(
            f"{source}: unknown key {unknown[0]}; known: {', '.join(known)} "
            f"and the tables {', '.join(_TABLES)}."
        )
    psf = dict(tables.get("psf", {}))
    model = psf.pop("model", "moffat")
    if model not in ("gaussian", "moffat"):
        raise InputError(f"{source}: psf.model is {model!r}; known: gaussian, moffat.")
    numbers = {
        table: _checked(values, _NUMBERS[table], source, f"{table}." if table else "")
        for table, values in {"": content, **tables, "psf": psf}.items()
        if table != "ranges"
    }
    ranges = Ranges(**_checked_ranges(tables["ranges"], source)) if "ranges" in tables else None

    scalars = numbers[""]
    missing = [key for key in ("name", "description") if key not in texts]
    missing += [key for key in ("pixel_scale", "zero_point") if key not in scalars]
    missing += [
        f"{table}.{field.name}"
        for table, option in _OPTIONS.items()
        for field in dataclasses.fields(option)
        if table in tables and field.default is dataclasses.MISSING and field.name not in numbers[table]
    ]
    if missing:
        raise InputError(f"{source}: {', '.join(missing)} missing; a survey needs a value for each.")
    noise = numbers.get("noise", {})
    survey = {
        **texts,
        "pixel_scale": scalars["pixel_scale"],
        "zero_point": scalars["zero_point"],
        "correlation": noise.pop("correlation", None),
        "gain": noise.pop("gain", None),
        "noise": _noise(noise, scalars["pixel_scale"], source),
        "psf": PSF(model, **numbers["psf"]),
        "population": Population(**numbers.get("population", {})),
        "ranges": ranges,
        "real_galaxies": None if real is None else RealGalaxies.open(directory / real),
        **{table: option(**numbers[table]) for table, option in _OPTIONS.items() if table in tables},
    }
    _check_agreement(survey, "magnitude" in noise, source)
    return survey


def _check_agreement(survey: dict[str, Any], from_point_source: bool, source: str) -> None:
    population: Population = survey["population"]
    stars, faint, ranges = (survey.get(name) for name in ("stars", "faint", "ranges"))
    for name, table in (("population", population), ("stars", stars)):
        if table is not None and table.magnitude_bright >= table.magnitude_faint:
            raise InputError(f"{source}: {name}.magnitude_bright must lie below {name}.magnitude_faint.")
    if faint is not None and faint.magnitude_limit <= population.magnitude_faint:
        raise InputError(
            f"{source}: faint.magnitude_limit is {faint.magnitude_limit}; it must lie above "
            f"population.magnitude_faint, {population.magnitude_faint}."
        )
    if ranges is not None and ranges.fwhm_pixels is not None:
        scales = ranges.pixel_scale or (survey["pixel_scale"],) * 2
        widths = [scale * pixels for scale, pixels in zip(scales, ranges.fwhm_pixels, strict=True)]
        low, high = _NUMBERS["psf"]["fwhm"]
        if not low <= widths[0] <= widths[1] <= high:
            raise InputError(
                f"{source}: ranges.fwhm_pixels and pixel_scale allow a PSF of {widths[0]:.3g} to "
                f"{widths[1]:.3g} arcsec; its width must stay from {low} to {high}."
            )
    if survey["correlation"] is not None and from_point_source:
        raise InputError(
            f"{source}: noise.correlation goes with noise.surface_brightness (mag/arcsec^2 of 1 sigma per "
            "pixel, as measured on the image); that of an aperture is converted for uncorrelated pixels only."
        )


def _checked(values: dict, ranges: dict, source: str, prefix: str) -> dict[str, float]:
    for key, value in values.items():
        if key not in ranges:
            raise InputError(f"{source}: unknown key {prefix}{key}; known: {', '.join(sorted(ranges))}.")
        low, high = ranges[key]
        if not _is_number(value) or not low <= value <= high:
            raise InputError(
                f"{source}: {prefix}{key} is {value!r}; it must be a number from {low} to {high}."
            )
    return {key: float(value) for key, value in values.items()}


def _checked_ranges(values: dict, source: str) -> dict[str, tuple[float, float]]:
    for key, value in values.items():
        if key not in _LIMITS:
            raise InputError(f"{source}: unknown key ranges.{key}; known: {', '.join(sorted(_LIMITS))}.")
        low, high = _LIMITS[key]
        is_pair = isinstance(value, list) and len(value) == 2 and all(map(_is_number, value))
        if not is_pair or not low <= value[0] <= value[1] <= high:
            raise InputError(
                f"{source}: ranges.{key} is {value!r}; it must be [low, high], two numbers "
                f"from {low} to {high}."
            )
    return {key: (float(value[0]), float(value[1])) for key, value in values.items()}


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _noise(values: dict[str, float], pixel_scale: float, source: str) -> float:
    keys = set(values)
    if keys == {"surface_brightness"}:
        return values["surface_brightness"]
    if keys == {"magnitude", "snr", "aperture"}:
        return float(
            noise_from_point_source(values["magnitude"], values["snr"], values["aperture"], pixel_scale)
        )
    raise InputError(
        f"{source}: [noise] has {sorted(keys)}; give either surface_brightness (mag/arcsec^2 of 1 sigma per "
        "pixel), or magnitude, snr and aperture (diameter, arcsec)."
    )


def noise_from_point_source(magnitude: float, snr: float, diameter: float, pixel_scale: float) -> float:
    """Background noise that gives a source its signal-to-noise ratio in a circular aperture.

    Parameters
    ----------
    magnitude : float, mag
        Magnitude inside the aperture.
    snr : float
        Signal over background noise there.
    diameter : float, arcsec
        Diameter of the aperture.
    pixel_scale : float, arcsec
        Width of a pixel.

    Returns
    -------
    float, mag / arcsec^2
        One standard deviation in one pixel, as `appulse.sky.Survey` takes it.
    """
    n_pixels = np.pi * (0.5 * diameter / pixel_scale) ** 2
    return magnitude + 2.5 * np.log10(snr * np.sqrt(n_pixels)) + 2.5 * np.log10(pixel_scale**2)

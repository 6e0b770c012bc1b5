"""A telescope and its sky, described by a small TOML file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Literal

import numpy as np

from appulse.files import InputError, UsageError
from appulse.sky.population import SERSIC_INDEX_RANGE, Population

_BUNDLED = resources.files("appulse.sky") / "surveys"


@dataclass(frozen=True)
class PSF:
    """The point-spread function.

    Parameters
    ----------
    model : {"gaussian", "moffat"}
        Profile.
    fwhm : float, arcsec
        Full width at half maximum.
    beta : float
        Slope of the Moffat profile; used by that model only.
    """

    model: Literal["gaussian", "moffat"] = "moffat"
    fwhm: float = 0.18
    beta: float = 3.5


@dataclass(frozen=True)
class Survey:
    """What an image of the survey looks like.

    Parameters
    ----------
    name, description : str
        For people.
    pixel_scale : float, arcsec
        Width of a pixel.
    zero_point : float, mag
        Magnitude of one unit of flux.
    unit : str
        Unit of the flux, as FITS writes it (``BUNIT``).
    noise : float, mag / arcsec^2
        Surface brightness of one standard deviation of the background noise in one pixel.
    psf : PSF
        Point-spread function.
    population : Population
        The galaxies.
    """

    name: str
    description: str
    pixel_scale: float
    zero_point: float
    noise: float
    unit: str = "uJy"
    psf: PSF = PSF()
    population: Population = Population()

    def __post_init__(self):
        for name in ("name", "unit"):
            text = getattr(self, name)
            if not isinstance(text, str) or not (text.isascii() and text.isprintable()):
                raise InputError(
                    f"survey {name} is {text!r}; FITS headers take plain ASCII only (uJy for microjansky)."
                )

    @property
    def sigma(self) -> float:
        """Standard deviation of the background noise per pixel, in flux units."""
        return self.sigma_at(self.noise)

    def sigma_at(self, surface_brightness: float) -> float:
        """Noise per pixel at another depth.

        Parameters
        ----------
        surface_brightness : float, mag / arcsec^2
            One standard deviation per pixel.

        Returns
        -------
        float
            The same in flux units per pixel.
        """
        return 10.0 ** (-0.4 * (surface_brightness - self.zero_point)) * self.pixel_scale**2

    def digest(self) -> str:
        """SHA-256 of everything that shapes the sky; weight files carry it."""
        content = dataclasses.asdict(self)
        del content["name"], content["description"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

    def to_dict(self) -> dict:
        """Everything, as plain values for JSON."""
        return dataclasses.asdict(self)

    @classmethod
    def from_dict(cls, content: dict) -> Survey:
        """The survey that `to_dict` described.

        Parameters
        ----------
        content : dict
            Plain values.
        """
        content = dict(content)
        psf, population = PSF(**content.pop("psf")), Population(**content.pop("population"))
        return cls(**content, psf=psf, population=population)

    @classmethod
    def load(cls, name_or_path: str | Path) -> Survey:
        """Read a bundled survey by name, or one's own TOML file.

        Parameters
        ----------
        name_or_path : str or Path
            One of `survey_names`, or a file ending in ``.toml``.

        Returns
        -------
        Survey

        Raises
        ------
        InputError
            Unknown name, missing file, unknown key or a value outside its range.
        """
        path = Path(name_or_path)
        if path.suffix == ".toml":
            if not path.is_file():
                raise InputError(f"{path}: no such survey file.")
            source, content = str(path), path.read_bytes()
        elif str(name_or_path) in survey_names():
            source, content = str(name_or_path), (_BUNDLED / f"{name_or_path}.toml").read_bytes()
        else:
            raise UsageError(
                f"unknown survey {str(name_or_path)!r}; known: {', '.join(survey_names())}, or a .toml file."
            )
        try:
            return _parse(tomllib.loads(content.decode()), source)
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{source}: not valid TOML: {error}.") from None


def survey_names() -> list[str]:
    """Names of the bundled surveys, sorted."""
    return sorted(entry.name[:-5] for entry in _BUNDLED.iterdir() if entry.name.endswith(".toml"))


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
        One standard deviation in one pixel, as `Survey` takes it.
    """
    n_pixels = np.pi * (0.5 * diameter / pixel_scale) ** 2
    return magnitude + 2.5 * np.log10(snr * np.sqrt(n_pixels)) + 2.5 * np.log10(pixel_scale**2)


# Allowed range of every number of a survey file, by table and key.
_RANGES = {
    "": {"pixel_scale": (0.01, 5.0), "zero_point": (-50.0, 60.0)},
    "psf": {"fwhm": (0.01, 10.0), "beta": (1.1, 20.0)},
    "noise": {
        "surface_brightness": (10.0, 40.0),
        "magnitude": (10.0, 40.0),
        "snr": (0.1, 1e4),
        "aperture": (0.05, 60.0),
    },
    "population": {
        "density": (0.0, 2000.0),
        "magnitude_bright": (10.0, 35.0),
        "magnitude_faint": (10.0, 35.0),
        "count_slope": (0.01, 2.0),
        "size_factor": (0.05, 20.0),
        "sersic_index": SERSIC_INDEX_RANGE,
        "sersic_scatter": (0.0, 2.0),
        "ellipticity_scale": (0.01, 2.0),
    },
}


def _parse(content: dict, source: str) -> Survey:
    tables = {name: content.pop(name, {}) for name in ("psf", "noise", "population")}
    texts = {key: content.pop(key) for key in ("name", "description", "unit") if key in content}
    for name, table in tables.items():
        if not isinstance(table, dict):
            raise InputError(f"{source}: {name} is {table!r}; it must be a table, [{name}].")
    for key, text in texts.items():
        if not isinstance(text, str):
            raise InputError(f"{source}: {key} is {text!r}; it must be text.")
    psf_model = tables["psf"].pop("model", "moffat")
    if psf_model not in ("gaussian", "moffat"):
        raise InputError(f"{source}: psf.model is {psf_model!r}; known: gaussian, moffat.")
    for table, values in {"": content, **tables}.items():
        _check_numbers(values, _RANGES[table], source, f"{table}." if table else "")
    missing = [key for key in ("name", "description") if key not in texts]
    missing += [key for key in ("pixel_scale", "zero_point") if key not in content]
    if missing:
        raise InputError(f"{source}: {', '.join(missing)} missing; a survey needs a value for each.")
    population = Population(**tables["population"])
    if population.magnitude_bright >= population.magnitude_faint:
        raise InputError(f"{source}: population.magnitude_bright must lie below population.magnitude_faint.")
    noise = _noise(tables["noise"], content["pixel_scale"], source)
    psf = PSF(psf_model, **tables["psf"])
    try:
        return Survey(**texts, **content, noise=noise, psf=psf, population=population)
    except InputError as error:
        raise InputError(f"{source}: {error}") from None


def _check_numbers(values: dict, ranges: dict, source: str, prefix: str) -> None:
    for key, value in values.items():
        if key not in ranges:
            raise InputError(f"{source}: unknown key {prefix}{key}; known: {', '.join(sorted(ranges))}.")
        low, high = ranges[key]
        is_number = isinstance(value, int | float) and not isinstance(value, bool)
        if not is_number or not low <= value <= high:
            raise InputError(
                f"{source}: {prefix}{key} is {value!r}; it must be a number from {low} to {high}."
            )
        values[key] = float(value)


def _noise(values: dict, pixel_scale: float, source: str) -> float:
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

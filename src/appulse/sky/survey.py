"""A telescope and its sky, described by a small TOML file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tomllib
from dataclasses import dataclass
from enum import IntEnum
from importlib import resources
from pathlib import Path
from typing import Any, Literal

import numpy as np

from appulse.files import InputError, UsageError
from appulse.sky.population import Bulges, Faint, Pairs, Population, Stars
from appulse.sky.real_galaxies import RealGalaxies

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


class Purpose(IntEnum):
    """Independent random streams of one field: the third word of their keys, after seed and index."""

    GALAXIES = 0
    NOISE = 1
    BULGES = 2
    FAINT = 3
    STARS = 4
    PAIRS = 5
    REAL = 6
    RANGES = 7


@dataclass(frozen=True)
class Ranges:
    """What differs from field to field, drawn uniformly in its logarithm; None keeps the survey's value.

    Parameters
    ----------
    pixel_scale : (float, float) or None, arcsec
        Width of a pixel. The noise goes with it as that of one sky does that is sampled otherwise: twice the
        width, half the noise in surface brightness.
    fwhm_pixels : (float, float) or None, pixels
        Full width of the PSF at half maximum.
    density : (float, float) or None, galaxies per arcmin^2
        Of the population.
    """

    pixel_scale: tuple[float, float] | None = None
    fwhm_pixels: tuple[float, float] | None = None
    density: tuple[float, float] | None = None


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
    correlation : float or None, pixels
        The noise is white noise convolved with a Gaussian of this standard deviation; its standard deviation
        per pixel stays that of ``noise``. None is white noise.
    gain : float or None, electrons per unit of flux
        Sources add the Gaussian variance ``light / gain``. None: background noise only.
    bulges : Bulges or None
        Galaxies of two parts.
    stars : Stars or None
        Point sources, unlabelled.
    faint : Faint or None
        Galaxies beyond the population's faint end, unlabelled.
    pairs : Pairs or None
        Injected companions; see `is_unbiased`.
    ranges : Ranges or None
        What `for_field` draws.
    real_galaxies : RealGalaxies or None
        Images of real galaxies in place of Sérsic profiles.
    """

    name: str
    description: str
    pixel_scale: float
    zero_point: float
    noise: float
    unit: str = "uJy"
    psf: PSF = PSF()
    population: Population = Population()
    correlation: float | None = None
    gain: float | None = None
    bulges: Bulges | None = None
    stars: Stars | None = None
    faint: Faint | None = None
    pairs: Pairs | None = None
    ranges: Ranges | None = None
    real_galaxies: RealGalaxies | None = None

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

    @property
    def is_unbiased(self) -> bool:
        """Whether galaxies lie at random: False with injected pairs, whose fields serve training only."""
        return self.pairs is None

    def for_field(self, seed: int, index: int) -> Survey:
        """The survey of one field: itself, or one drawn from its ranges.

        Parameters
        ----------
        seed, index : int
            Seed, and number of the field under that seed.

        Returns
        -------
        Survey
            Without ranges.
        """
        if self.ranges is None:
            return self
        rng = np.random.Generator(np.random.Philox(np.random.SeedSequence([seed, index, Purpose.RANGES])))
        # One number for each, given or not: a further range leaves the others' values alone.
        drawn = {
            name: None
            if limits is None
            else float(np.clip(np.exp(np.log(limits[0]) + u * np.log(limits[1] / limits[0])), *limits))
            for (name, limits), u in zip(vars(self.ranges).items(), rng.random(3), strict=True)
        }
        changes: dict[str, Any] = {"ranges": None}
        scale = drawn["pixel_scale"] or self.pixel_scale
        changes["pixel_scale"] = scale
        changes["noise"] = self.noise + 2.5 * float(np.log10(scale / self.pixel_scale))
        if drawn["fwhm_pixels"]:
            changes["psf"] = dataclasses.replace(self.psf, fwhm=drawn["fwhm_pixels"] * scale)
        if drawn["density"]:
            changes["population"] = dataclasses.replace(self.population, density=drawn["density"])
        return dataclasses.replace(self, **changes)

    def to_dict(self) -> dict[str, Any]:
        """Everything about the survey, as plain values for JSON.

        Returns
        -------
        dict
            Options that are off are left out. Real galaxies are named by the digest of their catalogue,
            not by its place.
        """
        return {
            name: _plain(getattr(self, name))
            for name in (field.name for field in dataclasses.fields(self))
            if getattr(self, name) is not None
        }

    @classmethod
    def from_dict(cls, content: dict[str, Any], source: str = "survey") -> Survey:
        """The survey that `to_dict` described.

        Parameters
        ----------
        content : dict
            Its result, through JSON or not.
        source : str
            What it was read from, for error messages.

        Returns
        -------
        Survey

        Raises
        ------
        InputError
            As `load`.
        """
        from appulse.sky.survey_file import parse_survey

        content = dict(content)
        noise = {"surface_brightness": content.pop("noise", None)}
        noise |= {name: content.pop(name) for name in ("correlation", "gain") if name in content}
        digest = content.pop("real_galaxies", None)
        tables = {name: dict(value) if isinstance(value, dict) else value for name, value in content.items()}
        survey = parse_survey(tables | {"noise": noise}, source)
        return survey if digest is None else dataclasses.replace(survey, real_galaxies=RealGalaxies(digest))

    def digest(self) -> str:
        """SHA-256 of everything that shapes the sky; weight files carry it."""
        content = self.to_dict()
        del content["name"], content["description"]
        return hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()

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
        from appulse.sky.survey_file import parse_survey

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
            parsed = tomllib.loads(content.decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{source}: not valid TOML: {error}.") from None
        return parse_survey(parsed, source, directory=path.parent)


def _plain(value: Any) -> Any:
    if isinstance(value, RealGalaxies):
        return value.digest
    if not dataclasses.is_dataclass(value):
        return value
    return {
        name: list(entry) if isinstance(entry, tuple) else entry
        for name, entry in vars(value).items()
        if entry is not None
    }


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

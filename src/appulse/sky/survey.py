"""A telescope and its sky, described by a small TOML file."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import tomllib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from appulse.files import InputError, UsageError
from appulse.sky.population import Bulges, Clumps, Faint, Pairs, Population, Stars
from appulse.sky.psf import PSF
from appulse.sky.ranges import Ranges
from appulse.sky.real_galaxies import RealGalaxies
from appulse.sky.survey_file import parse_survey
from appulse.streams import OfField, field_stream

_BUNDLED = resources.files("appulse.sky") / "surveys"


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
    clumps : Clumps or None
        Star-forming clumps in discs.
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
    clumps: Clumps | None = None
    stars: Stars | None = None
    faint: Faint | None = None
    pairs: Pairs | None = None
    ranges: Ranges | None = None
    real_galaxies: RealGalaxies | None = None

    def __post_init__(self) -> None:
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
        drawn = self.ranges.draw(field_stream(seed, index, OfField.RANGES))
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
        content = dict(content)
        noise = {"surface_brightness": content.pop("noise", None)}
        noise |= {name: content.pop(name) for name in ("correlation", "gain") if name in content}
        digest = content.pop("real_galaxies", None)
        tables = {name: dict(value) if isinstance(value, dict) else value for name, value in content.items()}
        survey = _parsed(tables | {"noise": noise}, source)
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
            Missing file, unknown key or a value outside its range.
        UsageError
            Unknown name.
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
            parsed = tomllib.loads(content.decode())
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise InputError(f"{source}: not valid TOML: {error}.") from None
        return _parsed(parsed, source, directory=path.parent)


def _parsed(content: dict[str, Any], source: str, directory: Path = Path()) -> Survey:
    try:
        return Survey(**parse_survey(content, source, directory))
    except InputError as error:
        message = str(error)
        raise InputError(message if message.startswith(source) else f"{source}: {message}") from None


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

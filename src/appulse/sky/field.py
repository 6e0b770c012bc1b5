"""A simulated field: noisy image, layered truth and catalogue, and its file."""

from __future__ import annotations

import json
import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.table import Table

from appulse.files import InputError, atomic_write
from appulse.objects.measurement import measure
from appulse.sky.noise import draw_noise
from appulse.sky.rendering import Renderer, Stamp
from appulse.sky.sources import GALAXY, draw_sources
from appulse.sky.survey import Survey
from appulse.sky.truth import Layers, blendedness, clip_to, ternary_map

# Galaxies handed to a worker at a time.
_CHUNK = 64

# The layers of a field's file: attribute of `Field`, HDU name, meaning.
LAYERS = (
    ("image", "IMAGE", "Observed image: light plus background noise"),
    ("light", "LIGHT", "Summed light of all galaxies, noise-free"),
    ("first", "FIRST", "Brightest galaxy of each pixel, noise-free"),
    ("second", "SECOND", "Second-brightest galaxy of each pixel, noise-free"),
    ("id1", "ID1", "Identity of the brightest galaxy; 0 none"),
    ("id2", "ID2", "Identity of the second-brightest galaxy; 0 none"),
)


@dataclass(frozen=True)
class Field:
    """A simulated field.

    Parameters
    ----------
    image, light, first, second : (height, width) float32 array, flux units of the survey
        Observed image; summed light; brightest and second-brightest galaxy per pixel (noise-free).
    id1, id2 : (height, width) int32 array
        Identities of those two galaxies; 0 for none.
    deeper : astropy.table.Table
        Third and later galaxies of crowded pixels: ``y``, ``x``, ``id``, ``flux``.
    catalog : astropy.table.Table
        One row per galaxy with light on the field; see `simulate_field`.
    survey : Survey
        What was simulated.
    seed, index : int
        Seed, and number of the field under that seed.
    """

    image: np.ndarray
    light: np.ndarray
    first: np.ndarray
    second: np.ndarray
    id1: np.ndarray
    id2: np.ndarray
    deeper: Table
    catalog: Table
    survey: Survey
    seed: int
    index: int

    @property
    def sigma(self) -> float:
        """Background noise per pixel, flux units."""
        return self.survey.sigma

    def ternary(self, threshold: float = 1.0) -> np.ndarray:
        """Ternary map of the paper at ``threshold`` times the survey's noise.

        Parameters
        ----------
        threshold : float, units of the noise
            ``k`` of the truth definition.

        Returns
        -------
        (height, width) uint8 array
        """
        return ternary_map(self.first, self.second, threshold * self.sigma)

    def galaxy_mask(self, identity: int, threshold: float = 1.0) -> np.ndarray:
        """Pixels in which one galaxy, alone and noise-free, is above the threshold.

        Parameters
        ----------
        identity : int
            The galaxy's ``id``.
        threshold : float, units of the noise
            ``k`` of the truth definition.

        Returns
        -------
        (height, width) bool array
        """
        limit = threshold * self.sigma
        mask = (self.id1 == identity) & (self.first > limit)
        mask |= (self.id2 == identity) & (self.second > limit)
        third = (self.deeper["id"] == identity) & (self.deeper["flux"] > limit)
        mask[self.deeper["y"][third], self.deeper["x"][third]] = True
        return mask


def simulate_field(
    survey: Survey,
    size: int | tuple[int, int],
    seed: int,
    index: int = 0,
    *,
    workers: int = 1,
    progress: Callable[[int, int], None] | None = None,
) -> Field:
    """Simulate one field; the result depends on survey, size, seed and index, and on nothing else.

    Parameters
    ----------
    survey : Survey
        Telescope and sky.
    size : int or (height, width), pixels
        Of the field.
    seed, index : int
        Seed, and number of the field under that seed.
    workers : int
        Processes that draw galaxies.
    progress : callable, optional
        Called with the galaxies drawn and their total.

    Returns
    -------
    Field
        Its catalogue has, per galaxy, the drawn parameters (``id``, ``x``, ``y``, ``magnitude``, ``flux``,
        ``half_light_radius`` in arcsec, ``sersic_index``, ``ellipticity``, ``orientation``) and, measured on
        the galaxy's own noise-free image inside its isophote at one sigma, ``isophotal_area`` (pixels),
        ``isophotal_flux``, ``isophotal_half_light_radius`` (pixels), ``isophotal_ellipticity``,
        ``isophotal_orientation``, and its ``blendedness``.
    """
    height, width = (size, size) if isinstance(size, int) else size
    survey = survey.for_field(seed, index)
    catalog = draw_sources(survey, (height, width), seed, index)
    layers = Layers.empty((height, width))
    kept: list[int] = []
    stamps: list[Stamp] = []
    isophotes = []
    for row, stamp in enumerate(_drawn(survey, catalog, workers)):
        if stamp is None:
            continue
        if catalog["kind"][row] != GALAXY:
            window, image = clip_to(stamp, layers.light.shape)
            layers.light[window] += image
        elif layers.add(stamp, len(kept) + 1):
            kept.append(row)
            stamps.append(stamp)
            isophotes.append(measure(stamp.image, stamp.image > survey.sigma))
        if progress:
            progress(row + 1, len(catalog))

    catalog = catalog[kept]
    catalog.add_column(np.arange(1, len(kept) + 1, dtype=np.int32), name="id", index=0)
    for quantity in ("area", "flux", "half_light_radius", "ellipticity", "orientation"):
        values = [getattr(isophote, quantity) for isophote in isophotes]
        catalog[f"isophotal_{quantity}"] = np.array(values, dtype=np.float64)
    catalog["blendedness"] = blendedness(stamps, layers.light)

    noise = draw_noise(survey, layers.light, 0, seed, index)
    noise += layers.light
    columns = zip(*layers.deeper, strict=True) if layers.deeper else [[np.zeros(0)]] * 4
    deeper = [np.concatenate(parts) for parts in columns]
    return Field(
        image=noise,
        light=layers.light,
        first=layers.first,
        second=layers.second,
        id1=layers.id1,
        id2=layers.id2,
        deeper=Table(
            [deeper[0].astype(np.int32), deeper[1].astype(np.int32), deeper[2].astype(np.int32), deeper[3]],
            names=("y", "x", "id", "flux"),
        ),
        catalog=catalog,
        survey=survey,
        seed=seed,
        index=index,
    )


def _draw_chunk(survey: Survey, chunk: list[dict]) -> list[Stamp | None]:
    renderer = Renderer(survey)
    return [renderer.draw(galaxy) for galaxy in chunk]


def _drawn(survey: Survey, catalog: Table, workers: int) -> Iterator[Stamp | None]:
    # In the order of the catalogue whoever draws them: sums of floats depend on their order.
    rows = [dict(zip(catalog.colnames, row, strict=True)) for row in catalog.iterrows()]
    chunks = [rows[start : start + _CHUNK] for start in range(0, len(rows), _CHUNK)]
    if workers <= 1:
        for chunk in chunks:
            yield from _draw_chunk(survey, chunk)
        return
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        for stamps in pool.map(_draw_chunk, [survey] * len(chunks), chunks):
            yield from stamps


def field_name(seed: int, index: int) -> str:
    """File name of a field.

    Parameters
    ----------
    seed, index : int
        Of the field.
    """
    return f"field_{seed:04d}_{index:02d}.fits"


def write_field(field: Field, path: str | Path) -> None:
    """Write a field as a FITS file that any reader opens; layers are compressed without loss.

    Parameters
    ----------
    field : Field
        What `simulate_field` returned.
    path : str or Path
        Where to; written whole or not at all.
    """
    header = _header(field)
    hdus = fits.HDUList([fits.PrimaryHDU(header=header)])
    for attribute, name, meaning in LAYERS:
        hdu_header = _wcs_header(field)
        hdu_header["COMMENT"] = meaning
        if attribute not in ("id1", "id2"):
            hdu_header["BUNIT"] = field.survey.unit
        data = getattr(field, attribute)
        if attribute == "image":
            # Noise does not compress, and a plain HDU opens in anything.
            hdu_header["NOISE"] = (field.sigma, "1 sigma of the background per pixel")
            hdus.append(fits.ImageHDU(data, hdu_header, name=name))
        else:
            hdus.append(_compressed(data, hdu_header, name))
    hdus.append(_compressed(field.ternary(), _wcs_header(field), "TERNARY"))
    hdus.append(fits.BinTableHDU(field.deeper, name="DEEPER"))
    hdus.append(fits.BinTableHDU(_with_units(field), name="CATALOG"))
    atomic_write(path, hdus.writeto)


def _compressed(data: np.ndarray, header: fits.Header, name: str) -> fits.CompImageHDU:
    tile = (min(256, data.shape[0]), data.shape[1])
    return fits.CompImageHDU(
        data, header, name=name, compression_type="GZIP_2", quantize_level=0.0, tile_shape=tile
    )


def _with_units(field: Field) -> Table:
    catalog = field.catalog.copy()
    for name in ("x", "y", "isophotal_area", "isophotal_half_light_radius"):
        catalog[name].unit = u.pix
    for name in ("orientation", "isophotal_orientation"):
        catalog[name].unit = u.deg
    catalog["half_light_radius"].unit = u.arcsec
    catalog["magnitude"].unit = u.mag
    for name in ("flux", "isophotal_flux"):
        catalog[name].unit = u.Unit(field.survey.unit, parse_strict="silent")
    return catalog


def _header(field: Field) -> fits.Header:
    survey = field.survey
    header = fits.Header()
    header["SURVEY"] = survey.name
    header["SEED"] = field.seed
    header["INDEX"] = field.index
    header["NOISE"] = (survey.sigma, "1 sigma of the background per pixel")
    header["NOISESB"] = (survey.noise, "[mag/arcsec2] the same")
    header["MAGZERO"] = (survey.zero_point, "[mag] magnitude of one flux unit")
    header["PIXSCALE"] = (survey.pixel_scale, "[arcsec]")
    header["FLUXUNIT"] = survey.unit
    header["PSFMODEL"] = survey.psf.model
    header["PSFFWHM"] = (survey.psf.fwhm, "[arcsec]")
    header["PSFBETA"] = survey.psf.beta
    header["HIERARCH SURVEY_DIGEST"] = survey.digest()
    # Cards hold 68 characters; longer texts go on in CONTINUE cards.
    header["SURVJSON"] = json.dumps(survey.to_dict() | {"description": ""}, sort_keys=True)
    return header


def _wcs_header(field: Field) -> fits.Header:
    height, width = field.light.shape
    degrees = field.survey.pixel_scale / 3600.0
    header = fits.Header()
    # A tangent plane somewhere in the COSMOS field, so that products carry positions to test with.
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    header["CRVAL1"], header["CRVAL2"] = 150.0, 2.2
    header["CRPIX1"], header["CRPIX2"] = (width + 1) / 2, (height + 1) / 2
    header["CDELT1"], header["CDELT2"] = -degrees, degrees
    header["CUNIT1"], header["CUNIT2"] = "deg", "deg"
    header["RADESYS"] = "ICRS"
    return header


def read_field(path: str | Path) -> Field:
    """Read what `write_field` wrote.

    Parameters
    ----------
    path : str or Path
        A ``field_SSSS_FF.fits``.

    Returns
    -------
    Field

    Raises
    ------
    InputError
        Not a field of appulse's.
    """
    try:
        with fits.open(path) as hdus:
            header = hdus[0].header
            layers = {attribute: _native(hdus[name].data) for attribute, name, _ in LAYERS}
            deeper, catalog = (Table.read(hdus[name]) for name in ("DEEPER", "CATALOG"))
            for table in (deeper, catalog):
                for column in table.colnames:
                    table.replace_column(column, _native_column(table[column]))
            survey = _survey_from(header)
            seed, index = header["SEED"], header["INDEX"]
    except (KeyError, OSError, TypeError, ValueError) as error:
        raise InputError(f"{path}: not a field made by appulse simulate ({error}).") from None
    return Field(**layers, deeper=deeper, catalog=catalog, survey=survey, seed=seed, index=index)


def _native(data: np.ndarray) -> np.ndarray:
    return data.astype(data.dtype.newbyteorder("="))


def _native_column(column):
    return column.astype(column.dtype.newbyteorder("="))


def _survey_from(header: fits.Header) -> Survey:
    return Survey.from_dict(json.loads(header["SURVJSON"]))


def field_paths(directory: str | Path) -> list[Path]:
    """The fields of a directory, in order.

    Parameters
    ----------
    directory : str or Path
        Where `appulse simulate` wrote.

    Returns
    -------
    list of Path

    Raises
    ------
    InputError
        There are none.
    """
    paths = sorted(Path(directory).glob("field_[0-9]*_[0-9]*.fits"))
    if not paths:
        raise InputError(
            f"{directory}: no simulated fields (field_SSSS_FF.fits); make some with appulse simulate."
        )
    return paths

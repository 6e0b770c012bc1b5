"""The file of a simulated field: its layout, written strip by strip.

The image is a plain HDU: noise does not compress, and a plain HDU opens in anything. The layers are
tile-compressed without loss (FITS 4.0, section 10: GZIP_2), so that astropy, CFITSIO and DS9 read them.
astropy compresses whole arrays only; here a strip is compressed as soon as it is drawn, and the file is put
together from compressed strips.
"""

from __future__ import annotations

import json
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
from astropy import units as u
from astropy.io import fits
from astropy.table import Table
from astropy.wcs import WCS

from appulse.files import any_unit, atomic_write
from appulse.sky.counts import SkyCounts
from appulse.sky.survey import Survey

# Side of a compressed tile, pixels: what a reader of a small window has to unpack. A strip's height is a
# multiple of it.
TILE = 256
# Measured on layers of euclid-wide: level 2 packs as fast as 1, twice as fast as 4, which saves 6 %.
_ZLIB_LEVEL = 2
_BLOCK = 2880


@dataclass(frozen=True)
class Layer:
    """A layer of a field.

    Parameters
    ----------
    name : str
        HDU; the attribute of `Field` is the same in lower case.
    dtype : type
        Of its pixels.
    meaning : str
        For people.
    optional : bool
        Whether there are fields without it.
    derived : bool
        Whether it follows from the others: for people who open the file, and no attribute of `Field`.
    """

    name: str
    dtype: type
    meaning: str
    optional: bool = False
    derived: bool = False

    @property
    def attribute(self) -> str:
        """Name in `Field` and `Strip`."""
        return self.name.lower()


# The layers of strips, fields and their files, declared here only; the image alone is not compressed.
IMAGE = Layer("IMAGE", np.float32, "Observed image: light of all sources plus noise")
LAYERS = (
    Layer("FIRST", np.float32, "Brightest galaxy of each pixel, noise-free"),
    Layer("SECOND", np.float32, "Second-brightest galaxy of each pixel, noise-free"),
    Layer("ID1", np.int32, "Identity of the brightest galaxy; 0 none"),
    Layer("ID2", np.int32, "Identity of the second-brightest galaxy; 0 none"),
    Layer("OTHER", np.float32, "Sources without a label, noise-free", optional=True),
    Layer("TERNARY", np.uint8, "Class map at 1 sigma: 0 background, 1 galaxy, 2 overlap", derived=True),
)
FIELD_LAYERS = tuple(layer for layer in (IMAGE, *LAYERS) if not layer.derived)
_BITPIX: dict[type, int] = {np.float32: -32, np.int32: 32, np.uint8: 8}
TABLES = ("DEEPER", "CATALOG")
# Cards of the primary header, in JSON: the survey, and what the class map holds at 1 sigma.
SURVEY_CARD, COUNTS_CARD = "SURVJSON", "CNTSJSON"
# Columns that the file's catalogue has besides those of a field, which is without a place on the sky.
ON_SKY = ("ra", "dec")
_DEEPER = "Third and later galaxies of crowded pixels, noise-free"


def pack_strip(layers: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """Compress the layers of a strip.

    Parameters
    ----------
    layers : mapping of (rows, width) arrays
        As `Strip.layers`.

    Returns
    -------
    dict of arrays
        Bytes of the image as FITS holds them (``IMAGE``), and per layer its compressed tiles (``FIRST``) and
        their sizes (``FIRST_SIZES``).
    """
    packed = {IMAGE.name: layers[IMAGE.attribute].astype(">f4").view(np.uint8).ravel()}
    for layer in LAYERS:
        if not layer.optional or layer.attribute in layers:
            tiles = _tiles(layers[layer.attribute])
            packed[layer.name] = np.frombuffer(b"".join(tiles), np.uint8)
            packed[f"{layer.name}_SIZES"] = np.array([len(tile) for tile in tiles], np.int64)
    return packed


def _tiles(plane: np.ndarray) -> list[bytes]:
    big_endian = np.dtype(plane.dtype).newbyteorder(">")
    tiles = []
    for y in range(0, plane.shape[0], TILE):
        for x in range(0, plane.shape[1], TILE):
            tile = plane[y : y + TILE, x : x + TILE].astype(big_endian)
            # GZIP_2: all first bytes, then all second ones, and so on.
            shuffled = tile.reshape(-1, 1).view(np.uint8).T.tobytes()
            # The header that zlib writes around a stream holds no date, as gzip's own would.
            stream = zlib.compressobj(_ZLIB_LEVEL, wbits=31)
            tiles.append(stream.compress(shuffled) + stream.flush())
    return tiles


@dataclass(frozen=True)
class FieldInfo:
    """What the headers of a field say.

    Parameters
    ----------
    survey : Survey
        What was simulated.
    shape : (height, width)
        Pixels.
    seed, index : int
        Seed, and number of the field under that seed.
    """

    survey: Survey
    shape: tuple[int, int]
    seed: int
    index: int


def write_field_file(
    path: str | Path,
    info: FieldInfo,
    strips: Sequence[Mapping[str, np.ndarray]],
    deeper: Table,
    catalog: Table,
    counts: SkyCounts,
) -> None:
    """Put a file together from its compressed strips; written whole or not at all.

    Parameters
    ----------
    path : str or Path
        Where to.
    info : FieldInfo
        For the headers.
    strips : sequence of mappings
        As `pack_strip` returns them, from the bottom; each entry is looked at once, so that it may be lazy.
    deeper, catalog : astropy.table.Table
        Their tables.
    counts : SkyCounts
        What the class map holds at 1 sigma: kept with it, since to count a large field takes minutes.
    """

    def write(temporary: Path) -> None:
        with open(temporary, "wb") as file:
            file.write(_block(fits.PrimaryHDU(header=_header(info, counts)).header))
            header = fits.ImageHDU(header=_layer_header(info, IMAGE), name=IMAGE.name).header
            _set_shape(header, info.shape, _BITPIX[IMAGE.dtype])
            header["NOISE"] = (info.survey.sigma, "1 sigma of the background per pixel")
            file.write(_block(header))
            _write_padded(file, (strip[IMAGE.name] for strip in strips))
            for layer in LAYERS:
                if layer.name in strips[0]:
                    sizes = np.concatenate([strip[f"{layer.name}_SIZES"] for strip in strips])
                    file.write(_block(_compressed_header(info, layer, sizes)))
                    rows = np.stack([sizes, np.cumsum(sizes) - sizes], axis=1).astype(">i8")
                    parts = (strip[layer.name] for strip in strips)
                    _write_padded(file, _chain(rows.view(np.uint8).ravel(), parts))
        with any_unit():
            tables = [fits.BinTableHDU(deeper, name="DEEPER"), fits.BinTableHDU(_on_sky(catalog, info))]
        tables[0].header["COMMENT"] = _DEEPER
        tables[1].name = "CATALOG"
        with fits.open(temporary, mode="append") as hdus:
            hdus.extend(tables)

    atomic_write(path, write)


def _chain(first: np.ndarray, rest: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    yield first
    yield from rest


def _write_padded(file: BinaryIO, parts: Iterable[np.ndarray]) -> None:
    written = 0
    for part in parts:
        written += file.write(part.data)
    file.write(bytes(-written % _BLOCK))


def _block(header: fits.Header) -> bytes:
    return header.tostring().encode("ascii")


def _set_shape(header: fits.Header, shape: tuple[int, int], bitpix: int) -> None:
    header["BITPIX"], header["NAXIS"] = bitpix, 2
    header.set("NAXIS1", shape[1], after="NAXIS")
    header.set("NAXIS2", shape[0], after="NAXIS1")


def _compressed_header(info: FieldInfo, layer: Layer, sizes: np.ndarray) -> fits.Header:
    # 64-bit descriptors (Q): a heap may pass 2 GiB.
    cards = [
        ("XTENSION", "BINTABLE"),
        ("BITPIX", 8),
        ("NAXIS", 2),
        ("NAXIS1", 16, "width of table in bytes"),
        ("NAXIS2", len(sizes), "number of tiles"),
        ("PCOUNT", int(sizes.sum()), "bytes of the compressed tiles"),
        ("GCOUNT", 1),
        ("TFIELDS", 1),
        ("TTYPE1", "COMPRESSED_DATA"),
        ("TFORM1", f"1QB({int(sizes.max())})"),
        ("ZIMAGE", True, "extension contains compressed image"),
        ("ZTENSION", "IMAGE"),
        ("ZBITPIX", _BITPIX[layer.dtype]),
        ("ZNAXIS", 2),
        ("ZNAXIS1", info.shape[1]),
        ("ZNAXIS2", info.shape[0]),
        ("ZPCOUNT", 0),
        ("ZGCOUNT", 1),
        ("ZTILE1", min(TILE, info.shape[1])),
        ("ZTILE2", min(TILE, info.shape[0])),
        ("ZCMPTYPE", "GZIP_2", "lossless"),
        ("EXTNAME", layer.name),
    ]
    header = fits.Header(cards)
    header.extend(_layer_header(info, layer), end=True)
    return header


def _header(info: FieldInfo, counts: SkyCounts) -> fits.Header:
    survey = info.survey
    header = fits.Header()
    header["SURVEY"] = survey.name
    header["SEED"] = info.seed
    header["INDEX"] = info.index
    header["NOISE"] = (survey.sigma, "1 sigma of the background per pixel")
    header["NOISESB"] = (survey.noise, "[mag/arcsec2] the same")
    header["MAGZERO"] = (survey.zero_point, "[mag] magnitude of one flux unit")
    header["PIXSCALE"] = (survey.pixel_scale, "[arcsec]")
    header["FLUXUNIT"] = survey.unit
    header["PSFMODEL"] = survey.psf.model
    header["PSFFWHM"] = (survey.psf.fwhm, "[arcsec]")
    header["HIERARCH SURVEY_DIGEST"] = survey.digest()
    # Cards hold 68 characters; longer texts go on in CONTINUE cards.
    header[SURVEY_CARD] = json.dumps(survey.to_dict())
    header[COUNTS_CARD] = json.dumps(asdict(counts))
    return header


def _layer_header(info: FieldInfo, layer: Layer) -> fits.Header:
    height, width = info.shape
    degrees = info.survey.pixel_scale / 3600.0
    header = fits.Header()
    # A tangent plane somewhere in the COSMOS field, so that products carry positions to test with.
    header["CTYPE1"], header["CTYPE2"] = "RA---TAN", "DEC--TAN"
    header["CRVAL1"], header["CRVAL2"] = 150.0, 2.2
    header["CRPIX1"], header["CRPIX2"] = (width + 1) / 2, (height + 1) / 2
    header["CDELT1"], header["CDELT2"] = -degrees, degrees
    header["CUNIT1"], header["CUNIT2"] = "deg", "deg"
    header["RADESYS"] = "ICRS"
    if layer.dtype is np.float32:
        header["BUNIT"] = info.survey.unit
    header["COMMENT"] = layer.meaning
    return header


def _on_sky(catalog: Table, info: FieldInfo) -> Table:
    """The catalogue with units, and with positions on the sky that the image's header gives its pixels."""
    catalog = catalog.copy()
    places = WCS(_layer_header(info, IMAGE)).wcs_pix2world(catalog["x"], catalog["y"], 0)
    for name, degrees in zip(ON_SKY, places, strict=True):
        catalog[name] = np.asarray(degrees, np.float64)
        catalog[name].unit = u.deg
    for name in ("x", "y", "isophotal_area", "isophotal_half_light_radius"):
        catalog[name].unit = u.pix
    for name in ("orientation", "isophotal_orientation"):
        catalog[name].unit = u.deg
    catalog["half_light_radius"].unit = u.arcsec
    catalog["magnitude"].unit = u.mag
    for name in ("flux", "isophotal_flux"):
        catalog[name].unit = u.Unit(info.survey.unit, parse_strict="silent")
    return catalog

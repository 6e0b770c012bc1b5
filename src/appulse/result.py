"""What a segmentation gives back: maps, galaxies, realisations, pictures, files."""

from __future__ import annotations

import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

import numpy as np
from astropy.io import fits
from astropy.table import QTable, Table

from appulse import products
from appulse.busiest import CELL, busiest_window, busyness
from appulse.files import write_json
from appulse.files.pixels import UNREADABLE
from appulse.objects.catalog import COLUMNS
from appulse.objects.ensemble import masks_in_realisations
from appulse.objects.flags import ObjectFlag
from appulse.objects.separation import Separation
from appulse.pictures import save_figure
from appulse.windows import Window, cells_met, whole
from appulse.words import counted

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from photutils.segmentation import SegmentationImage

    from appulse.inference.realisations import Realisations

# Maps are written in parts of this many rows and columns, multiples of a chunk of the store on disk.
_PART = (512, 2048)
# They go down a band before they go on to the right, so that what a block of work has left is read once.
_BAND = 2048


def product_paths(directory: Path, stem: str) -> tuple[Path, ...]:
    """Every path that `Result.write` may write to, whatever its options.

    Parameters
    ----------
    directory : Path
        Of the products.
    stem : str
        What their names begin with.

    Returns
    -------
    tuple of Path
    """
    catalogs = (f"catalog.{format}" for format in products.CATALOG_FORMATS)
    kinds = ("segmentation.fits", *catalogs, "regions.reg", "preview.png", "summary.json")
    return tuple(directory / f"{stem}_{kind}" for kind in kinds)


def essential_paths(directory: Path, stem: str, catalog_format: str) -> tuple[Path, ...]:
    """The products without which an image is not done: a picture may be thrown away.

    Parameters
    ----------
    directory : Path
        Of the products.
    stem : str
        What their names begin with.
    catalog_format : {"fits", "ecsv", "parquet"}
        Of the catalogue.

    Returns
    -------
    tuple of Path
    """
    kinds = ("segmentation.fits", f"catalog.{catalog_format}", "summary.json")
    return tuple(directory / f"{stem}_{kind}" for kind in kinds)


def is_product(path: Path) -> bool:
    """Whether a file is a segmentation or a FITS catalogue that `Result.write` has written.

    Parameters
    ----------
    path : Path
        Any file, or none.

    Returns
    -------
    bool
        Also False where the file cannot be read.
    """
    try:
        quiet = warnings.catch_warnings(action="ignore")  # they are given when the file is used
        with quiet, fits.open(path, disable_image_compression=True) as hdus:
            primary = hdus[0].header
            if products.tells_of_appulse(primary):
                return True
            # Of an image in the primary HDU nothing more is read: it may be packed.
            if primary["NAXIS"]:
                return False
            header = hdus[1].header
            return [header.get(f"TTYPE{n}") for n, _ in enumerate(COLUMNS, 1)] == [c.name for c in COLUMNS]
    except UNREADABLE:
        return False


class Blend(NamedTuple):
    """One galaxy and those that it overlaps or touches, in a window that holds them.

    Parameters
    ----------
    galaxies : Separation
        Masks, and which of them are nested.
    place : int
        Of the galaxy among them.
    realisations : (samples, height, width) uint8 array
        Ternary maps, 0 where the image is bad and where other objects are.
    image : (height, width) float32 array, units of the noise
        0 where bad.
    """

    galaxies: Separation
    place: int
    realisations: np.ndarray
    image: np.ndarray


@dataclass(frozen=True, eq=False)
class GalaxyCutout:
    """One galaxy's mask.

    Parameters
    ----------
    window : (slice, slice)
        Of its object in the image, with what the object's realisations may reach; the same for all galaxies
        of a blend. The galaxy's own box is in the catalogue (``bbox_xmin`` ...).
    mask : (height, width) bool array
        Pixels of the galaxy in that window; those of class 2 belong to its neighbours as well.
    """

    window: Window
    mask: np.ndarray


def _windows(shape: tuple[int, int]) -> Iterator[Window]:
    for band in range(0, shape[0], _BAND):
        for left in range(0, shape[1], _PART[1]):
            for top in range(band, min(band + _BAND, shape[0]), _PART[0]):
                yield (
                    slice(top, min(top + _PART[0], shape[0])),
                    slice(left, min(left + _PART[1], shape[1])),
                )


class _Tally:
    """What is counted while the maps pass by: good pixels of each class, and how busy each cell is."""

    def __init__(self, shape: tuple[int, int]):
        self.classes = np.zeros(3, np.int64)
        self.cells = np.zeros(tuple(-(-side // CELL) for side in shape), np.int64)

    def add(self, window: Window, ternary: np.ndarray, p_galaxy: np.ndarray) -> None:
        self.classes += np.bincount(ternary[~np.isnan(p_galaxy)], minlength=3)
        cells = cells_met(window, (CELL, CELL))
        self.cells[cells] = busyness(ternary)


@dataclass(frozen=True, repr=False, eq=False)
class Result:
    """Segmentation of one image.

    The maps of a field that is larger than memory are read from where they are kept: they have a shape, and
    are arrays once they are indexed with a window.

    Parameters
    ----------
    catalog : astropy.table.QTable
        One row per galaxy; columns in `appulse.objects.COLUMNS`.
    pairs : astropy.table.Table
        Galaxies that overlap (`appulse.objects.overlapping`); columns as in `appulse.products.PAIRS`.
    ternary : (height, width) uint8 array
        Class map: 0 background, 1 one galaxy, 2 overlap.
    mean, std : (height, width) float32 array
        Mean class over the realisations and its standard deviation (the paper's maps).
    p_galaxy, p_overlap : (height, width) float32 array
        Calibrated probabilities of class >= 1 and of class 2.
    segm, segm2 : (height, width) int32 array
        Label of each pixel's likeliest galaxy, and of its second one; 0 none.
    flags : (height, width) uint8 array
        Bits of `appulse.objects.PixelFlag`.
    image : (height, width) float32 array, units of the noise
        ``(data - background) / background_rms``; NaN where bad.
    background, background_rms : (height, width) float32 array, units of the input
        Level of the sky, in bad pixels as well, 0 where none was subtracted; and its noise, NaN where bad: of
        a supplied map without the photon noise of sources, which `flux_noise` in the catalogue has.
    header : astropy.io.fits.Header or None
        Of the input.
    provenance : dict
        Version, model, seed and options.
    cutouts : sequence of GalaxyCutout
        Mask of each galaxy, in the order of the catalogue.
    realisation_store : Realisations
        All realisations of the field.
    warnings : tuple of str
        What the command warns of, a sentence each: what of the input is not used, what in the image is unlike
        the model's training, what the error bars lack.
    name : str
        Of the input file, without folder and suffixes; ``image`` for an array.
    """

    catalog: QTable
    pairs: Table
    ternary: np.ndarray
    mean: np.ndarray
    std: np.ndarray
    p_galaxy: np.ndarray
    p_overlap: np.ndarray
    segm: np.ndarray
    segm2: np.ndarray
    flags: np.ndarray
    image: np.ndarray
    background: np.ndarray
    background_rms: np.ndarray
    header: fits.Header | None
    provenance: dict
    cutouts: Sequence[GalaxyCutout]
    realisation_store: Realisations
    warnings: tuple[str, ...] = ()
    name: str = "image"

    def __repr__(self) -> str:
        height, width = self.ternary.shape
        galaxies = counted(len(self.catalog), "galaxy", "galaxies")
        warned = f", {counted(len(self.warnings), 'warning')}" if self.warnings else ""
        return f"<Result of {self.name}: {galaxies} in {width} x {height} pixels{warned}>"

    def mask(self, label: int) -> np.ndarray:
        """Pixels of one galaxy, those it shares included.

        Parameters
        ----------
        label : int
            As in the catalogue.

        Returns
        -------
        (height, width) bool array
        """
        cutout = self.cutout(label)
        mask = np.zeros(self.ternary.shape, bool)
        mask[cutout.window] = cutout.mask
        return mask

    def realisations(self, label: int | None = None) -> np.ndarray:
        """Plausible ternary maps, drawn jointly.

        Parameters
        ----------
        label : int, optional
            Of a galaxy: only its surroundings (`window` of its cutout), neighbours among them. By default the
            whole field.

        Returns
        -------
        (samples, height, width) uint8 array
        """
        window = whole(self.ternary.shape) if label is None else self.cutout(label).window
        return self.realisation_store.get(window)

    def galaxy_masks(self, label: int) -> np.ndarray:
        """Pixels of one galaxy in every realisation, which its error bars are made of.

        Any quantity that is measured in each of them has the segmentation's doubt in its spread. The
        catalogue measures the light of shared pixels in proportion to the galaxies' profiles, and calibrates
        its spreads; these masks hold shared pixels whole.

        Parameters
        ----------
        label : int
            As in the catalogue.

        Returns
        -------
        (samples, height, width) bool array
            In the ``window`` of its cutout; an empty mask where a realisation does not hold the galaxy.
        """
        blend = self.blend_of(label)
        return masks_in_realisations(blend.realisations, blend.galaxies, blend.image)[blend.place]

    def blend_of(self, label: int) -> Blend:
        """A galaxy with those that it overlaps or touches, as they were measured.

        Parameters
        ----------
        label : int
            As in the catalogue.

        Returns
        -------
        Blend
            In the ``window`` of its cutout; of the galaxy alone where it is in no blend.
        """
        window, blends = self.cutout(label).window, np.asarray(self.catalog["blend_id"])
        number = blends[label - 1]
        members = 1 + np.flatnonzero(blends == number) if number else np.array([label])
        nested = (np.asarray(self.catalog["flags"])[members - 1] & ObjectFlag.NESTED) > 0
        segm, bad = self.segm[window], np.isnan(self.p_galaxy[window])
        elsewhere = (segm > 0) & ~np.isin(segm, members) | bad
        return Blend(
            galaxies=Separation(np.stack([self.cutout(one).mask for one in members]), nested),
            place=int(members.searchsorted(label)),
            realisations=np.where(elsewhere, 0, self.realisations(label)),
            image=np.where(bad, 0.0, self.image[window]).astype(np.float32),
        )

    def plot(self, window: Window | None = None) -> Figure:
        """Image, mean, standard deviation and outlines, in the manner of the paper's Figures 1 and 5.

        Parameters
        ----------
        window : (slice, slice), optional
            Of the image; by default the part with most overlaps.

        Returns
        -------
        matplotlib.figure.Figure
            Which a notebook shows; elsewhere ``savefig``.
        """
        from appulse.preview import field_figure

        return field_figure(self, window)

    def show(self, label: int) -> Figure:
        """The same for one galaxy, with a few of its realisations.

        Parameters
        ----------
        label : int
            As in the catalogue.

        Returns
        -------
        matplotlib.figure.Figure
            As `plot`'s.
        """
        from appulse.preview import galaxy_figure

        return galaxy_figure(self, label)

    def to_photutils(self) -> SegmentationImage:
        """Segmentation image for photutils; an overlap's pixel shows its likeliest owner.

        Returns
        -------
        photutils.segmentation.SegmentationImage
        """
        from photutils.segmentation import SegmentationImage

        return SegmentationImage(self.segm.copy())

    def write(
        self,
        directory: str | Path,
        stem: str | None = None,
        *,
        catalog_format: str = "fits",
        keep_realisations: bool = False,
        keep_background: bool = False,
        preview: bool = True,
        regions: bool = False,
    ) -> list[Path]:
        """Write the products of one image; files of these names are replaced.

        Parameters
        ----------
        directory : str or Path
            Made where missing.
        stem : str, optional
            What their names begin with; by default `name`, which is ``image`` for all arrays.
        catalog_format : {"fits", "ecsv", "parquet"}
            Of the catalogue.
        keep_realisations : bool
            Whether the segmentation file holds every realisation.
        keep_background : bool
            Whether it holds the background and its noise.
        preview, regions : bool
            Whether to draw the picture, and to write ellipses for DS9.

        Returns
        -------
        list of Path
            What was written; the summary, last, says that all is there.
        """
        directory, stem = Path(directory), stem or self.name
        products.catalog_path(directory / stem, catalog_format)  # refused before anything is written
        segmentation = directory / f"{stem}_segmentation.fits"
        tally = _Tally(self.ternary.shape)
        products.write_by_windows(
            segmentation,
            self._parts(tally, keep_realisations, keep_background),
            shape=self.ternary.shape,
            pairs=self.pairs,
            header=self.header,
            provenance=self.provenance,
            samples=self.provenance["samples"] if keep_realisations else 0,
            sky=keep_background,
        )
        written = [segmentation]
        written.append(products.write_catalog(self.catalog, directory / f"{stem}_catalog", catalog_format))
        if regions:
            written.append(products.write_regions(self.catalog, directory / f"{stem}_regions.reg"))
        if preview:
            from appulse.preview import field_figure

            figure = field_figure(self, busiest_window(tally.cells, self.ternary.shape))
            written.append(save_figure(figure, directory / f"{stem}_preview.png", dpi=110))
        summary = directory / f"{stem}_summary.json"
        write_json(summary, self._summary(tally))
        return [*written, summary]

    def _parts(
        self, tally: _Tally, with_realisations: bool, with_background: bool
    ) -> Iterator[tuple[Window, dict[str, np.ndarray]]]:
        """The maps, part by part; in passing they are counted."""
        items = (*products.MAPS, *products.SKY) if with_background else products.MAPS
        for window in _windows(self.ternary.shape):
            maps = {item.name: getattr(self, item.name.lower())[window] for item in items}
            if with_realisations:
                maps[products.REALISATIONS.name] = self.realisation_store.get(window)
            tally.add(window, maps["TERNARY"], maps["P_GALAXY"])
            yield window, maps

    def summary(self) -> dict:
        """The result in a few numbers, with what produced it.

        Returns
        -------
        dict
            Plain values.
        """
        tally = _Tally(self.ternary.shape)
        for window in _windows(self.ternary.shape):
            tally.add(window, self.ternary[window], self.p_galaxy[window])
        return self._summary(tally)

    def _summary(self, tally: _Tally) -> dict:
        blends = self.catalog["blend_id"]
        height, width = self.ternary.shape
        good = int(tally.classes.sum())
        background, galaxy, overlap = (round(int(n) / good, 6) if good else 0.0 for n in tally.classes)
        return {
            **self.provenance,
            "height": height,
            "width": width,
            "galaxies": len(self.catalog),
            "galaxies_in_blends": int(np.count_nonzero(blends)),
            "blends": len(np.unique(blends[blends > 0])),
            "share_background": background,
            "share_galaxy": galaxy,
            "share_overlap": overlap,
            "bad_pixels": height * width - good,
            "warnings": list(self.warnings),
        }

    def cutout(self, label: int) -> GalaxyCutout:
        """Window and mask of one galaxy.

        Parameters
        ----------
        label : int
            As in the catalogue.

        Returns
        -------
        GalaxyCutout

        Raises
        ------
        ValueError
            There is no such label.
        """
        if not self.cutouts:
            raise ValueError(f"label {label}: the catalogue is empty.")
        if not 1 <= label <= len(self.cutouts):
            raise ValueError(f"label {label}: the catalogue has labels 1 to {len(self.cutouts)}.")
        return self.cutouts[label - 1]

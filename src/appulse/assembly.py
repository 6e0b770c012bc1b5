"""From the finished blocks of a field to its products: maps window by window, and one catalogue."""

from __future__ import annotations

import functools
from dataclasses import dataclass

import astropy.units as u
import numpy as np
from astropy.table import QTable, Table
from astropy.wcs import WCS

from appulse.describe import catalogue_of, unpack
from appulse.engine import GALAXIES, Job
from appulse.inference.exposure import Window, common, cropped
from appulse.inference.realisations import Realisations
from appulse.inference.store import BAD, CENTRED
from appulse.inference.two_step import class_map
from appulse.objects.flags import PixelFlag


@dataclass(frozen=True)
class Assembly:
    """A field of which every block is finished.

    Parameters
    ----------
    job : Job
        Finished.
    catalog : QTable
        One row per galaxy.
    pairs : Table
        Galaxies that meet.
    first_labels : (n_objects + 1,) int64 array
        Label of the first galaxy of each object; 0 at 0.
    """

    job: Job
    catalog: QTable
    pairs: Table
    first_labels: np.ndarray

    @classmethod
    def of(cls, job: Job, unit: u.UnitBase | None, wcs: WCS | None) -> Assembly:
        """Catalogue a finished field.

        Parameters
        ----------
        job : Job
            Finished.
        unit : astropy unit or None
            Of the image.
        wcs : WCS or None
            Of the image.
        """
        tables = [
            job.store.get(GALAXIES, block, omit=("masks", "owners")) for block in range(len(job.blocks))
        ]
        return cls(job, *catalogue_of(tables, unit, wcs))

    def maps(self, window: Window) -> dict[str, np.ndarray]:
        """The maps of `appulse.products.MAPS` in a window, and the realisations.

        Parameters
        ----------
        window : (slice, slice)
            Of the image.

        Returns
        -------
        dict of str to array
            By the maps' names in small letters; ``realisations`` is a `Realisations`.
        """
        store, job = self.job.store, self.job
        p_galaxy, p_overlap = (np.array(store.array(name)[window]) for name in ("p_galaxy", "p_overlap"))
        state = np.asarray(store.array("state")[window])
        bad = (state & BAD) > 0
        ternary = class_map(p_galaxy, p_overlap, job.point)
        ternary[bad] = 0
        realisations = Realisations(job.sampler.samples, bad.shape)
        realisations.planes[:] = store.array("planes")[:, :, *window]
        mean, std = realisations.mean_and_std()
        for array in (mean, std, p_galaxy, p_overlap):
            array[bad] = np.nan
        segm, segm2 = self._owners(window)
        flags = np.where(bad, PixelFlag.BAD_PIXEL, 0).astype(np.uint8)
        if job.noise.noise_disagrees:
            flags |= np.uint8(PixelFlag.NOISE_DISAGREES)
        if job.method == "two-step":
            flags[(segm > 0) & ((state & CENTRED) == 0)] |= np.uint8(PixelFlag.FIRST_PASS)
        return {
            "ternary": ternary,
            "mean": mean,
            "std": std,
            "p_galaxy": p_galaxy,
            "p_overlap": p_overlap,
            "segm": segm,
            "segm2": segm2,
            "flags": flags,
            "realisations": realisations,
        }

    def _owners(self, window: Window) -> np.ndarray:
        """SEGM and SEGM2 of a window: (2, height, width) int32 array."""
        painted = np.zeros((2, *(side.stop - side.start for side in window)), np.int32)
        near = self.job.objects.meeting(window)
        for block in np.unique(self._block_of[near]):
            for number, where, owners in self._described(int(block)):
                shared = common(where, window)
                if shared is None:
                    continue
                here, part = cropped(shared, window), owners[:, *cropped(shared, where)]
                labels = np.where(part > 0, part + (self.first_labels[number] - 1), 0).astype(np.int32)
                np.copyto(painted[:, *here], labels, where=part[0] > 0)
        return painted

    @functools.cached_property
    def _block_of(self) -> np.ndarray:
        y0, y1, x0, x1 = self.job.objects.boxes.T
        owners = self.job.blocks.owner((y0 + y1) // 2, (x0 + x1) // 2)
        return np.concatenate([[-1], owners])

    @functools.cached_property
    def _described(self):
        # A window meets its block and the eight around it.
        @functools.lru_cache(maxsize=9)
        def described(block):
            packed = self.job.store.get(GALAXIES, block)
            return [(number, where, owners) for number, where, _, owners in unpack(packed)]

        return described

    def masks(self) -> list[tuple[Window, np.ndarray]]:
        """Window in the image and mask in it of every galaxy, in the order of the catalogue."""
        found = {
            number: (window, masks)
            for block in range(len(self.job.blocks))
            for number, window, masks, _ in unpack(self.job.store.get(GALAXIES, block))
        }
        return [(found[number][0], mask) for number in sorted(found) for mask in found[number][1]]

"""From the finished blocks of a field to its products: maps window by window, and one catalogue."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, overload

import numpy as np
from astropy.table import QTable, Table

from appulse.engine.job import GALAXIES, Job
from appulse.engine.observation import Observation
from appulse.engine.packed import catalogue_of, unpack
from appulse.files import InputError
from appulse.inference.store import BAD, CENTRED, is_there
from appulse.inference.two_step import class_map
from appulse.objects.flags import PixelFlag
from appulse.products import MAPS, SKY, cards_of
from appulse.result import GalaxyCutout, Result
from appulse.windows import Window, common, cropped, shape_of, whole


@dataclass(frozen=True)
class Assembly:
    """A field of which every block is finished.

    Parameters
    ----------
    job : Job
        Finished.
    observation : Observation
        Its input.
    catalog : QTable
        One row per galaxy.
    pairs : Table
        Galaxies that overlap.
    first_labels : (n_objects + 1,) int64 array
        Label of the first galaxy of each object; 0 at 0.
    """

    job: Job
    observation: Observation
    catalog: QTable
    pairs: Table
    first_labels: np.ndarray

    @classmethod
    def of(cls, job: Job, observation: Observation) -> Assembly:
        """Catalogue a finished field.

        Parameters
        ----------
        job : Job
            Finished.
        observation : Observation
            Its input.
        """
        tables = [
            job.store.get(GALAXIES, block, omit=("masks", "owners")) for block in range(len(job.blocks))
        ]
        return cls(job, observation, *catalogue_of(tables, observation.unit, observation.wcs))

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
        p_galaxy, p_overlap = job.probabilities(window)
        state = np.asarray(store.array("state")[window])
        bad = (state & BAD) > 0
        ternary = class_map(p_galaxy, p_overlap, job.point)
        ternary[bad] = 0
        realisations = job.realisations(window)
        realisations.planes[:, :, bad] = 0
        mean, std = realisations.mean_and_std()
        for array in (mean, std, p_galaxy, p_overlap):
            array[bad] = np.nan
        segm, segm2 = self._owners(window)
        flags = np.where(bad, PixelFlag.BAD_PIXEL, 0).astype(np.uint8)
        flags[job.noise.disagrees(window)] |= np.uint8(PixelFlag.NOISE_DISAGREES)
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

    def sky(self, window: Window) -> dict[str, np.ndarray]:
        """The image in units of the noise, and what was taken off and divided by, in the image's.

        Parameters
        ----------
        window : (slice, slice)
            Of the image.

        Returns
        -------
        dict of str to (height, width) float32 array
            ``image``, ``background``, ``background_rms``; the first and the last are NaN where bad.
        """
        scaled = self.job.scale(window)
        rms = np.where(scaled.bad, np.float32(np.nan), scaled.sigma)
        return {"image": scaled.scaled, "background": scaled.background, "background_rms": rms}

    def _owners(self, window: Window) -> np.ndarray:
        """SEGM and SEGM2 of a window: (2, height, width) int32 array."""
        painted = np.zeros((2, *shape_of(window)), np.int32)
        near = self.job.objects.meeting(window)
        for block in np.unique(self._block_of[near]):
            for number, where, owners in self._described(int(block)):
                shared = common(where, window)
                if shared is None:
                    continue
                here = cropped(shared, window)
                if owners is None:
                    painted[0][here][self._object(number, shared)] = self.first_labels[number]
                    continue
                part = owners[:, *cropped(shared, where)]
                labels = np.where(part > 0, part + (self.first_labels[number] - 1), 0).astype(np.int32)
                np.copyto(painted[:, *here], labels, where=part[0] > 0)
        return painted

    def _object(self, number: int, window: Window) -> np.ndarray:
        """Pixels of an object in a window; read block by block, so that they are the only large array."""
        mask = np.empty(shape_of(window), bool)
        job = self.job
        for block in job.blocks.meeting(window):
            shared = common(job.blocks.core(block), window)
            assert shared is not None  # the block meets the window
            mask[cropped(shared, window)] = (
                job.objects.label(job.store.array("pieces"), shared, job.blocks) == number
            )
        return mask

    @functools.cached_property
    def _block_of(self) -> np.ndarray:
        y0, y1, x0, x1 = self.job.objects.boxes.T
        owners = self.job.blocks.owner((y0 + y1) // 2, (x0 + x1) // 2)
        return np.concatenate([[-1], owners])

    @functools.cached_property
    def _described(self) -> Callable[[int], list[tuple[int, Window, np.ndarray | None]]]:
        # A window meets its block and the eight around it.
        @functools.lru_cache(maxsize=9)
        def described(block: int) -> list[tuple[int, Window, np.ndarray | None]]:
            packed = self.job.store.get(GALAXIES, block)
            return [(number, where, owners) for number, where, _, owners in unpack(packed)]

        return described

    def cutouts(self) -> Sequence[GalaxyCutout]:
        """Window and mask of every galaxy, in the order of the catalogue; read when asked for."""
        return _Cutouts(self)

    def in_memory(self, provenance: dict, warnings: tuple[str, ...]) -> Result:
        """A result that holds every pixel.

        Parameters
        ----------
        provenance : dict
            For the headers.
        warnings : tuple of str
            For the user.
        """
        window = whole(self.job.blocks.shape)
        maps = self.maps(window) | self.sky(window)
        return self._result(maps, tuple(self.cutouts()), provenance, warnings)

    def on_disk(self, provenance: dict, warnings: tuple[str, ...]) -> Result:
        """A result whose maps are read from the store, window by window; it lives as long as that.

        Parameters
        ----------
        provenance : dict
            For the headers.
        warnings : tuple of str
            For the user.
        """
        shape = self.job.blocks.shape

        def maps_of(window: Window) -> dict[str, Any]:
            maps = self.maps(window)
            path = self.job.place
            if not is_there(path):  # then what was read may be the zeros of chunks that are gone
                raise InputError(f"{path} was removed while it was read; give the same command again.")
            return maps

        names = (*(item.name.lower() for item in MAPS), "realisations")
        sky = ("image", *(item.name.lower() for item in SKY))
        maps = _stored(shape, names, maps_of) | _stored(shape, sky, self.sky)
        return self._result(maps, self.cutouts(), provenance, warnings)

    def _result(
        self,
        maps: dict[str, Any],
        cutouts: Sequence[GalaxyCutout],
        provenance: dict,
        warnings: tuple[str, ...],
    ) -> Result:
        observation = self.observation
        self.catalog.meta = cards_of({"image": observation.name} | provenance)
        return Result(
            catalog=self.catalog,
            pairs=self.pairs,
            header=observation.header,
            provenance=provenance,
            cutouts=cutouts,
            name=observation.name,
            warnings=(*observation.warnings, *warnings),
            realisation_store=maps.pop("realisations"),
            **maps,
        )


def _stored(
    shape: tuple[int, int], names: Sequence[str], read: Callable[[Window], dict[str, Any]]
) -> dict[str, _Stored]:
    """Maps that are read together, and asked for one after the other, part by part."""

    @functools.lru_cache(maxsize=1)
    def part(top: int, bottom: int, left: int, right: int) -> dict[str, Any]:
        return read((slice(top, bottom), slice(left, right)))

    def of_part(name: str, window: Window) -> Any:
        rows, columns = window
        return part(rows.start, rows.stop, columns.start, columns.stop)[name]

    return {name: _Stored(shape, functools.partial(of_part, name)) for name in names}


@dataclass(frozen=True)
class _Stored:
    """A map, or the realisations, of a field on disk."""

    shape: tuple[int, int]
    read: Callable[[Window], Any]

    def __getitem__(self, window: Window) -> Any:
        return self.read(window)

    def get(self, window: Window) -> np.ndarray:
        realisations = self.read(window)
        return realisations.get(whole(realisations.shape))


class _Cutouts(Sequence[GalaxyCutout]):
    def __init__(self, assembly: Assembly):
        self._assembly = assembly
        self._of_block = functools.lru_cache(maxsize=4)(self._read)  # around a corner

    def __len__(self) -> int:
        return len(self._assembly.catalog)

    @overload
    def __getitem__(self, place: int) -> GalaxyCutout: ...

    @overload
    def __getitem__(self, place: slice) -> tuple[GalaxyCutout, ...]: ...

    def __getitem__(self, place: int | slice) -> GalaxyCutout | tuple[GalaxyCutout, ...]:
        if isinstance(place, slice):
            return tuple(self[number] for number in range(*place.indices(len(self))))
        if not -len(self) <= place < len(self):
            raise IndexError(place)
        first_labels = self._assembly.first_labels
        label = place % len(self) + 1
        number = int(np.searchsorted(first_labels, label, side="right")) - 1
        window, masks = self._of_block(int(self._assembly._block_of[number]))[number]
        if masks is None:
            return GalaxyCutout(window, self._assembly._object(number, window))
        return GalaxyCutout(window, masks[label - first_labels[number]])

    def _read(self, block: int) -> dict[int, tuple[Window, np.ndarray | None]]:
        packed = self._assembly.job.store.get(GALAXIES, block)
        return {number: (window, masks) for number, window, masks, _ in unpack(packed)}

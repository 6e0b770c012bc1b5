"""One field, its stages, and what is known of it as they are finished."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from appulse.engine.describe import Region
from appulse.engine.observation import Observation
from appulse.engine.settings import Settings
from appulse.inference.background import measure_noise
from appulse.inference.blocks import Blocks, Objects, Pieces, join_pieces
from appulse.inference.exposure import Exposure
from appulse.inference.noise import Noise, NoiseScaled
from appulse.inference.realisations import Realisations
from appulse.inference.sampler import Sampler
from appulse.inference.store import DiskStore, Store
from appulse.inference.tiles import grid_origins, widest
from appulse.inference.two_step import EDGE, MARGIN, class_map
from appulse.network.calibration import OperatingPoint
from appulse.progress import Progress
from appulse.windows import Window, shape_of

FIRST, SECOND, REBUILDING = "first pass", "second pass", "rebuilding"
BRIDGES, PARTING, GALAXIES = "bridges", "parting", "galaxies"


def stages(method: str) -> tuple[str, ...]:
    """Names of the stages, in their order.

    Parameters
    ----------
    method : {"two-step", "grid", "sliding"}
        As `appulse.segment` takes it.
    """
    last = (REBUILDING, BRIDGES, PARTING, GALAXIES)
    return (FIRST, SECOND, *last) if method == "two-step" else (FIRST, *last)


@dataclass(frozen=True)
class Job:
    """One field, and everything that decides what becomes of it.

    Parameters
    ----------
    exposure : Exposure
        Image and maps.
    noise : Noise
        Its background and noise.
    sampler : Sampler
        Model, seed and realisations.
    point : OperatingPoint
        Thresholds.
    method : {"two-step", "grid", "sliding"}
        Which stages there are.
    blocks : Blocks
        Division of the work.
    store : Store
        Where it is kept.
    """

    exposure: Exposure
    noise: Noise
    sampler: Sampler
    point: OperatingPoint
    method: str
    blocks: Blocks
    store: Store

    @classmethod
    def of(
        cls,
        observation: Observation,
        sampler: Sampler,
        settings: Settings,
        store: Store,
        progress: Progress | None = None,
    ) -> Job:
        """The job of segmenting an image; its noise is measured here, unless the store has it.

        Parameters
        ----------
        observation : Observation
            Image and maps.
        sampler : Sampler
            Of the settings.
        settings : Settings
            How it is segmented.
        store : Store
            Where the work is kept.
        progress : callable, optional
            Called with the name of the stage, steps done and their total.
        """
        exposure = observation.exposure
        if not store.has("noise"):
            background = settings.subtract_background
            noise = measure_noise(exposure, subtract_background=background, progress=progress)
            store.put("noise", noise.record())
        noise = Noise.from_record(store.get("noise"))
        point = sampler.model.operating_point(settings.operating_point)
        return cls(
            exposure, noise, sampler, point, settings.method, Blocks(exposure.shape, settings.block), store
        )

    @functools.cached_property
    def detected(self) -> Objects:
        """Objects of the first pass; it must be finished in every block."""
        return self._objects(FIRST)

    @functools.cached_property
    def rebuilt(self) -> Objects:
        """Objects of the rebuilt maps, bridges and all; rebuilding must be finished in every block."""
        return self._objects(REBUILDING)

    @functools.cached_property
    def bridges(self) -> np.ndarray:
        """Pixels (y, x) of all faint bridges, (n, 2); that stage must be finished in every block."""
        records = (self.store.get(BRIDGES, block) for block in range(len(self.blocks)))
        return np.concatenate([record["pixels"] for record in records])

    @functools.cached_property
    def objects(self) -> Objects:
        """Objects of the final maps; parting must be finished in every block."""
        return self._objects(PARTING)

    def _objects(self, stage: str) -> Objects:
        pieces = [Pieces(**self.store.get(stage, block)) for block in range(len(self.blocks))]
        return join_pieces(pieces, self.blocks, self.point.min_area)

    def fits_stamp(self, objects: Objects) -> np.ndarray:
        """Which objects have a stamp of their own; (n + 1,) bool array, true at 0 for the background.

        Parameters
        ----------
        objects : Objects
            Of the field.
        """
        sizes = objects.boxes[:, 1::2] - objects.boxes[:, ::2]
        return np.concatenate([[True], (sizes <= widest(self.sampler.size, MARGIN)).all(axis=1)])

    def uncut_p_overlap(self, window: Window) -> np.ndarray:
        """P_OVERLAP before bridges are cut, (height, width) float32 array; rebuilding must be finished there.

        Parameters
        ----------
        window : (slice, slice)
            Of the image.
        """
        return np.asarray(self.store.array(self._final("p_overlap"))[window])

    def probabilities(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """P_GALAXY and P_OVERLAP of the final maps; bridges must be found in every block.

        Parameters
        ----------
        window : (slice, slice)
            Of the image.

        Returns
        -------
        p_galaxy, p_overlap : (height, width) float32 array
        """
        kept = [self.store.array(self._final(name)) for name in ("p_galaxy", "p_overlap")]
        p_galaxy, p_overlap = (np.array(array[window]) for array in kept)
        cut = self.bridges_in(window)
        # What the light says of these pixels, in terms that keep TERNARY a function of the probabilities.
        for probability in (p_galaxy, p_overlap):
            probability[cut] = np.minimum(probability[cut], np.nextafter(np.float32(self.point.t_galaxy), 0))
        return p_galaxy, p_overlap

    def bridges_in(self, window: Window) -> tuple[np.ndarray, np.ndarray]:
        """Pixels y, x of the faint bridges in a window, counted from its corner.

        Parameters
        ----------
        window : (slice, slice)
            Of the image.
        """
        y, x = self.bridges.T
        rows, columns = window
        here = (y >= rows.start) & (y < rows.stop) & (x >= columns.start) & (x < columns.stop)
        return y[here] - rows.start, x[here] - columns.start

    def realisations(self, window: Window) -> Realisations:
        """Final realisations; rebuilding must be finished in every block.

        Parameters
        ----------
        window : (slice, slice)
            Of the image.
        """
        return self._stored_realisations(self._final("planes"), window)

    def first_realisations(self, window: Window) -> Realisations:
        """Realisations of the first pass, which must be finished there.

        Parameters
        ----------
        window : (slice, slice)
            Of the image.
        """
        return self._stored_realisations("first_planes", window)

    def _stored_realisations(self, name: str, window: Window) -> Realisations:
        realisations = Realisations(self.sampler.samples, shape_of(window))
        realisations.planes[:] = self.store.array(name)[:, :, *window]
        return realisations

    def _final(self, name: str) -> str:
        return name if self.method == "two-step" else f"first_{name}"

    @property
    def place(self) -> Path:
        """Folder of the work on disk."""
        if not isinstance(self.store, DiskStore):
            raise TypeError("work that is kept in memory has no folder.")
        return self.store.path

    def scale(self, window: Window) -> NoiseScaled:
        """Part of the image in units of the noise.

        Parameters
        ----------
        window : (slice, slice)
            Of the image.
        """
        return self.noise.scale(self.exposure, window, self.sampler.model.validity.correlations)

    def region(self, window: Window) -> Region:
        """All that the maps say of a window of the image; parting must be finished in every block.

        Parameters
        ----------
        window : (slice, slice)
            Of the image.

        Returns
        -------
        Region
        """
        store, scaled = self.store, self.scale(window)
        p_galaxy, p_overlap = self.probabilities(window)
        ternary = class_map(p_galaxy, p_overlap, self.point)
        ternary[scaled.bad] = 0
        return Region(
            window,
            self.blocks.shape,
            self.objects.label(store.array("pieces"), window, self.blocks),
            ternary,
            p_galaxy,
            self.realisations(window),
            np.asarray(store.array("first_planes")[:, :, *window]),
            scaled,
        )


def steps(job: Job, stage: str, block: int) -> int:
    """How much work a stage of a block is: stamps, objects, or one.

    Parameters
    ----------
    job : Job
        The stages before must be finished in every block.
    stage : str
        One of `stages`.
    block : int
        Number of the block.
    """
    if stage == FIRST:
        core = job.blocks.core(block)
        height, width = shape_of(core)
        if job.method == "sliding":
            stride = job.sampler.size // 2
            return (-(-height // stride) + 1) * (-(-width // stride) + 1)
        return len(grid_origins(core, job.sampler.size, EDGE))
    if stage in (REBUILDING, PARTING):
        return 1
    attribute = {SECOND: "detected", BRIDGES: "rebuilt", GALAXIES: "objects"}[stage]
    objects = getattr(job, attribute)
    owned = objects.owned_by(block, job.blocks)
    return int(job.fits_stamp(objects)[owned].sum()) if stage == SECOND else len(owned)

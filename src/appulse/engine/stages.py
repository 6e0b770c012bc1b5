"""The stages of the work on a field, block by block; nothing that they find depends on the blocks.

1. *first pass*: the fixed grid of stamps in the block, or a sliding window; pieces of objects are labelled.
2. *second pass*: a centred stamp for each object whose centre the block owns; its claims are kept.
3. *rebuilding*: the block's pixels are given to the claims on them, its neighbours' among them.
4. *bridges*: the objects whose centre the block owns are searched for faint bridges between galaxies.
5. *parting*: the block's pixels of all bridges leave the objects; final pieces.
6. *galaxies*: the objects whose centre the block owns are separated and measured.

A stage begins when the one before is finished in every block: objects reach over the seams.
"""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from appulse.engine.describe import REACH, Described, Region, describe_object, fitted_for, pack
from appulse.engine.large import describe_whole, is_large
from appulse.inference.background import Noise
from appulse.inference.blocks import Blocks, Objects, Pieces, join_pieces
from appulse.inference.exposure import Exposure, Window, common, cropped, grown
from appulse.inference.realisations import Realisations, Sampler
from appulse.inference.sliding import sliding_pass
from appulse.inference.store import BAD, CENTRED, Store, sync_chunks
from appulse.inference.tiles import grid_origins
from appulse.inference.two_step import (
    EDGE,
    MARGIN,
    Claim,
    FieldMaps,
    Progress,
    class_map,
    draw_claims,
    first_pass,
    settle,
)
from appulse.network.calibration import Calibration, OperatingPoint
from appulse.objects.bridges import faint_bridges
from appulse.objects.separation import MARGIN as PEAK_MARGIN


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
        return np.concatenate([[True], (sizes <= self.sampler.size - 2 * MARGIN).all(axis=1)])

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
        return _realisations(self, self._final("planes"), window)

    def _final(self, name: str) -> str:
        return name if self.method == "two-step" else f"first_{name}"

    def scale(self, window: Window):
        """Part of the image in units of the noise.

        Parameters
        ----------
        window : (slice, slice)
            Of the image.
        """
        return self.noise.scale(self.exposure, window)


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


def work(job: Job, stage: str, block: int, advance: Callable[[int], None] = lambda by: None) -> None:
    """Do a stage of a block; afterwards the store has a record of it.

    Parameters
    ----------
    job : Job
        Whose block it is.
    stage : str
        One of `stages`.
    block : int
        Number of the block.
    advance : callable, optional
        Told of the `steps` done.
    """
    _WORK[stage](job, block, advance)


def _first_pass(job: Job, block: int, advance: Callable[[int], None]) -> None:
    core = job.blocks.core(block)
    if job.method == "sliding":
        outer = grown(core, job.sampler.size // 2, job.blocks.shape)
        scaled = job.scale(outer).scaled
        maps = sliding_pass(scaled, outer, core, job.sampler, lambda: advance(1))
    else:
        outer = grown(core, job.sampler.size, job.blocks.shape)
        scaled = job.scale(outer).scaled
        maps = first_pass(scaled, job.sampler, lambda *_: advance(1), _corner(outer), core)
    keep_first_pass(job, block, maps)


def keep_first_pass(job: Job, block: int, maps: FieldMaps) -> None:
    """Keep the first pass over a block; afterwards the store has a record of it.

    Parameters
    ----------
    job : Job
        Whose block it is.
    block : int
        Number of the block.
    maps : FieldMaps
        Of the block's pixels.
    """
    core = job.blocks.core(block)
    labels, pieces = Pieces.of(maps.ternary(job.point) > 0, core, job.blocks.shape[1])
    arrays = {
        "first_p_galaxy": maps.p_galaxy,
        "first_p_overlap": maps.p_overlap,
        "first_planes": maps.realisations.planes,
        "detections": maps.detections,
        "detected": labels,
    }
    _put(job.store, FIRST, block, core, arrays, vars(pieces))


def _second_pass(job: Job, block: int, advance: Callable[[int], None]) -> None:
    core = job.blocks.core(block)
    outer = grown(core, job.sampler.size // 2, job.blocks.shape)
    fitting = job.fits_stamp(job.detected)
    numbers = [int(n) for n in job.detected.owned_by(block, job.blocks) if fitting[n]]
    claims = []
    if numbers:
        labels = job.detected.label(job.store.array("detected"), outer, job.blocks)
        objects = [(number, job.detected.box(number)) for number in numbers]
        scaled = job.scale(outer).scaled
        for claim in draw_claims(scaled, labels, objects, job.sampler, job.point, _corner(outer)):
            claims.append(claim)
            advance(1)
    _put(job.store, SECOND, block, core, {}, _pack_claims(claims))


def _rebuilding(job: Job, block: int, advance: Callable[[int], None]) -> None:
    core, store = job.blocks.core(block), job.store
    realisations = _realisations(job, "first_planes", core)
    maps = FieldMaps(
        np.array(store.array("first_p_galaxy")[core]),
        np.array(store.array("first_p_overlap")[core]),
        realisations,
        realisations.planes[0],
        np.zeros(realisations.shape, bool),
    )
    arrays = {}
    if job.method == "two-step":
        labels = job.detected.label(store.array("detected"), core, job.blocks)
        # What does not fit a stamp keeps its first pass: no neighbour's stamp may have it.
        settle(maps, _claims_on(job, core), ~job.fits_stamp(job.detected)[labels], _corner(core))
        arrays = {"p_galaxy": maps.p_galaxy, "p_overlap": maps.p_overlap, "planes": realisations.planes}
    bad = job.noise.bad(job.exposure, core)
    arrays["state"] = np.where(maps.centred, CENTRED, 0).astype(np.uint8) | np.where(bad, BAD, 0).astype(
        np.uint8
    )
    arrays["rebuilt"], pieces = Pieces.of((maps.ternary(job.point) > 0) & ~bad, core, job.blocks.shape[1])
    _put(store, REBUILDING, block, core, arrays, vars(pieces))
    advance(1)


def _bridges(job: Job, block: int, advance: Callable[[int], None]) -> None:
    core = job.blocks.core(block)
    found = [np.empty((0, 2), np.int64)]
    labels, scaled, outer = None, None, grown(core, job.sampler.size // 2 + PEAK_MARGIN, job.blocks.shape)
    for number in job.rebuilt.owned_by(block, job.blocks):
        if is_large(job.rebuilt.box(int(number))):
            advance(1)
            continue
        window = grown(job.rebuilt.box(int(number)), PEAK_MARGIN, job.blocks.shape)
        if scaled is None:
            labels = job.rebuilt.label(job.store.array("rebuilt"), outer, job.blocks)
            scaled = job.scale(outer).scaled
        with contextlib.suppress(MemoryError):  # it stays in one piece then; it must not cost the field
            if common(window, outer) == window:
                here = cropped(window, outer)
                mask, image = labels[here] == number, scaled[here]
            else:  # larger than the block's surroundings
                mask = job.rebuilt.label(job.store.array("rebuilt"), window, job.blocks) == number
                image = job.scale(window).scaled
            found.append(np.argwhere(faint_bridges(mask, image)) + _corner(window))
        advance(1)
    _put(job.store, BRIDGES, block, core, {}, {"pixels": np.concatenate(found)})


def _parting(job: Job, block: int, advance: Callable[[int], None]) -> None:
    core, store = job.blocks.core(block), job.store
    labels, pieces = np.array(store.array("rebuilt")[core]), Pieces(**store.get(REBUILDING, block))
    cut = job.bridges_in(core)
    if len(cut[0]):
        left = labels > 0
        left[cut] = False
        labels, pieces = Pieces.of(left, core, job.blocks.shape[1])
    _put(store, PARTING, block, core, {"pieces": labels}, vars(pieces))
    advance(1)


def _galaxies(job: Job, block: int, advance: Callable[[int], None]) -> None:
    core = job.blocks.core(block)
    numbers = [int(number) for number in job.objects.owned_by(block, job.blocks)]
    outer = grown(core, job.sampler.size // 2 + REACH, job.blocks.shape)
    region = region_of(job, outer) if numbers else None
    fitted = fitted_for(job.sampler.model.calibration, job.sampler.mode)
    described = []
    for number in numbers:
        box = job.objects.box(number)
        described.append(_describe(job, number, box, region, fitted))
        advance(1)
    _put(job.store, GALAXIES, block, core, {}, pack(described))


def _describe(job: Job, number: int, box: Window, region: Region, fitted: Calibration) -> Described:
    window = grown(box, REACH, job.blocks.shape)
    if not is_large(box):
        try:
            # An object larger than a stamp may reach further than the block's surroundings do.
            here = region if common(window, region.window) == window else region_of(job, window)
            return describe_object(here, number, box, job.sampler.size, fitted)
        except MemoryError:  # one object must not cost the field
            pass
    return describe_whole(
        functools.partial(region_of, job), number, box, job.blocks.shape, job.sampler.samples
    )


_WORK = {
    FIRST: _first_pass,
    SECOND: _second_pass,
    REBUILDING: _rebuilding,
    BRIDGES: _bridges,
    PARTING: _parting,
    GALAXIES: _galaxies,
}


def region_of(job: Job, window: Window) -> Region:
    """All that the finished maps say of a window of the image.

    Parameters
    ----------
    job : Job
        Parting is finished in every block.
    window : (slice, slice)
        Of the image.

    Returns
    -------
    Region
    """
    store, scaled = job.store, job.scale(window)
    p_galaxy, p_overlap = job.probabilities(window)
    ternary = class_map(p_galaxy, p_overlap, job.point)
    ternary[scaled.bad] = 0
    return Region(
        window,
        job.blocks.shape,
        job.objects.label(store.array("pieces"), window, job.blocks),
        ternary,
        p_galaxy,
        job.realisations(window),
        np.asarray(store.array("detections")[:, *window]),
        scaled,
    )


def _realisations(job: Job, name: str, window: Window) -> Realisations:
    realisations = Realisations(job.sampler.samples, tuple(side.stop - side.start for side in window))
    realisations.planes[:] = job.store.array(name)[:, :, *window]
    return realisations


def _corner(window: Window) -> tuple[int, int]:
    return window[0].start, window[1].start


def _put(store: Store, stage: str, block: int, core: Window, arrays: dict, record: dict) -> None:
    """Write a block's arrays, then the record that says so."""
    for name, values in arrays.items():
        store.array(name)[..., *core] = values
    sync_chunks(store, tuple(arrays), core)
    store.put(stage, record, block)


def _claims_on(job: Job, core: Window) -> Iterator[Claim]:
    """Claims that may reach into a block, by ascending number of their objects."""
    outer = grown(core, job.sampler.size // 2, job.blocks.shape)
    claims = [
        claim
        for block in job.blocks.meeting(outer)
        for claim in _unpack_claims(job.store.get(SECOND, block))
        if common(claim.window, core)
    ]
    yield from sorted(claims, key=lambda claim: claim.number)


_PARTS = ("distance", "p_galaxy", "p_overlap", "planes")


def _pack_claims(claims: list[Claim]) -> dict[str, np.ndarray]:
    packed = {
        "number": np.array([claim.number for claim in claims], np.int64),
        "windows": np.array([(w.start, w.stop) for claim in claims for w in claim.window], np.int64),
    }
    for name in _PARTS:
        parts = [getattr(claim, name) for claim in claims]
        packed[name] = np.concatenate([part.ravel() for part in parts]) if parts else np.empty(0, np.float32)
    return packed


def _unpack_claims(packed: dict[str, np.ndarray]) -> Iterator[Claim]:
    windows = packed["windows"].reshape(-1, 2, 2)
    shapes = windows[:, :, 1] - windows[:, :, 0]
    ends = np.cumsum(shapes.prod(axis=1))
    per_pixel = {name: len(packed[name]) // max(ends[-1] if len(ends) else 0, 1) for name in _PARTS}
    for number, window, shape, end in zip(packed["number"], windows, shapes, ends, strict=True):
        start = end - shape.prod()
        parts = {name: packed[name][start * n : end * n] for name, n in per_pixel.items()}
        parts = {name: part.reshape(*shape) for name, part in parts.items() if name != "planes"} | {
            "planes": parts["planes"].reshape(2, -1, *shape)
        }
        rows, columns = (slice(int(a), int(b)) for a, b in window)
        yield Claim(int(number), (rows, columns), **parts)


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
        height, width = (side.stop - side.start for side in core)
        if job.method == "sliding":
            stride = job.sampler.size // 2
            return (-(-height // stride) + 1) * (-(-width // stride) + 1)
        return len(grid_origins(core, job.sampler.size, EDGE))
    if stage in (REBUILDING, PARTING):
        return 1
    objects = {SECOND: "detected", BRIDGES: "rebuilt", GALAXIES: "objects"}[stage]
    objects = getattr(job, objects)
    owned = objects.owned_by(block, job.blocks)
    return int(job.fits_stamp(objects)[owned].sum()) if stage == SECOND else len(owned)


# Takes the job, a stage, the blocks that lack it, and a function to be told of the steps done; returns when
# they have it.
Executor = Callable[[Job, str, list[int], Callable[[int], None]], None]


def run(job: Job, executor: Executor | None = None, progress: Progress | None = None) -> None:
    """Finish every stage in every block.

    Parameters
    ----------
    job : Job
        To finish.
    executor : callable, optional
        Does a stage in blocks; by default this process, one block after another.
    progress : callable, optional
        Called with the name of a stage, steps done and their total.
    """
    for stage in stages(job.method):
        missing = [block for block in range(len(job.blocks)) if not job.store.has(stage, block)]
        if missing:
            total = sum(steps(job, stage, block) for block in range(len(job.blocks)))
            done = total - sum(steps(job, stage, block) for block in missing)
            if progress and not total:  # nothing in the sky: no step will tell
                progress(stage, 0, 0)
            (executor or one_after_another)(job, stage, missing, _counter(stage, done, total, progress))


def _counter(stage: str, done: int, total: int, progress: Progress | None) -> Callable[[int], None]:
    def advance(by: int) -> None:
        nonlocal done
        done += by
        if progress:
            progress(stage, done, total)

    return advance


def one_after_another(job: Job, stage: str, missing: list[int], advance: Callable[[int], None]) -> None:
    """Do a stage in blocks, in this process.

    Parameters
    ----------
    job : Job
        Whose blocks they are.
    stage : str
        One of `stages`.
    missing : list of int
        Numbers of the blocks.
    advance : callable
        Told of the steps done.
    """
    for block in missing:
        work(job, stage, block, advance)

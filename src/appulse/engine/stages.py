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
from collections.abc import Callable, Iterator

import numpy as np

from appulse.engine.claims import pack_claims, unpack_claims
from appulse.engine.describe import REACH, Described, Region, describe_object, fitted_for
from appulse.engine.job import BRIDGES, FIRST, GALAXIES, PARTING, REBUILDING, SECOND, Job, stages, steps
from appulse.engine.large import describe_whole, is_large
from appulse.engine.packed import pack
from appulse.inference.blocks import Pieces
from appulse.inference.sliding import sliding_pass
from appulse.inference.store import BAD, CENTRED, Store
from appulse.inference.two_step import Claim, FieldMaps, draw_claims, first_pass, settle
from appulse.network.calibration import Calibration
from appulse.objects.bridges import faint_bridges
from appulse.objects.separation import MARGIN as PEAK_MARGIN
from appulse.progress import Progress
from appulse.windows import Window, common, cropped, grown


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
    _put(job.store, SECOND, block, core, {}, pack_claims(claims))


def _rebuilding(job: Job, block: int, advance: Callable[[int], None]) -> None:
    core, store = job.blocks.core(block), job.store
    realisations = job.first_realisations(core)
    maps = FieldMaps(
        np.array(store.array("first_p_galaxy")[core]),
        np.array(store.array("first_p_overlap")[core]),
        realisations,
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
    outer = grown(core, job.sampler.size // 2 + PEAK_MARGIN, job.blocks.shape)
    around: tuple[np.ndarray, np.ndarray] | None = None
    for number in job.rebuilt.owned_by(block, job.blocks):
        if is_large(job.rebuilt.box(int(number))):
            advance(1)
            continue
        window = grown(job.rebuilt.box(int(number)), PEAK_MARGIN, job.blocks.shape)
        if around is None:
            labels = job.rebuilt.label(job.store.array("rebuilt"), outer, job.blocks)
            around = labels, job.scale(outer).scaled
        labels, scaled = around
        with contextlib.suppress(MemoryError):  # it stays in one piece then; it must not cost the field
            if common(window, outer) == window:
                here = cropped(window, outer)
                mask, image = labels[here] == number, scaled[here]
            else:  # larger than the block's surroundings
                mask = job.rebuilt.label(job.store.array("rebuilt"), window, job.blocks) == number
                image = job.scale(window).scaled
            bridges = faint_bridges(mask, image, job.uncut_p_overlap(window))
            found.append(np.argwhere(bridges) + _corner(window))
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
    fitted = fitted_for(job.sampler.model.calibration, job.sampler.mode)
    described = []
    if numbers:
        region = job.region(outer)
        for number in numbers:
            described.append(_describe(job, number, job.objects.box(number), region, fitted))
            advance(1)
    _put(job.store, GALAXIES, block, core, {}, pack(described))


def _describe(job: Job, number: int, box: Window, region: Region, fitted: Calibration) -> Described:
    window = grown(box, REACH, job.blocks.shape)
    if not is_large(box):
        try:
            # An object larger than a stamp may reach further than the block's surroundings do.
            here = region if common(window, region.window) == window else job.region(window)
            return describe_object(here, number, box, job.sampler.size, fitted)
        except MemoryError:  # one object must not cost the field
            pass
    return describe_whole(job.region, number, box, job.blocks.shape, job.sampler.samples)


_WORK = {
    FIRST: _first_pass,
    SECOND: _second_pass,
    REBUILDING: _rebuilding,
    BRIDGES: _bridges,
    PARTING: _parting,
    GALAXIES: _galaxies,
}


def _corner(window: Window) -> tuple[int, int]:
    return window[0].start, window[1].start


def _put(store: Store, stage: str, block: int, core: Window, arrays: dict, record: dict) -> None:
    """Write a block's arrays, then the record that says so."""
    for name, values in arrays.items():
        store.array(name)[..., *core] = values
    store.sync(tuple(arrays), core)
    store.put(stage, record, block)


def _claims_on(job: Job, core: Window) -> Iterator[Claim]:
    """Claims that may reach into a block, by ascending number of their objects."""
    outer = grown(core, job.sampler.size // 2, job.blocks.shape)
    claims = [
        claim
        for block in job.blocks.meeting(outer)
        for claim in unpack_claims(job.store.get(SECOND, block))
        if common(claim.window, core)
    ]
    yield from sorted(claims, key=lambda claim: claim.number)


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

"""One field on disk: worked on by any number of processes, and resumed where a killed run left it."""

from __future__ import annotations

import contextlib
import functools
import json
import secrets
import shutil
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from appulse.engine.assembly import Assembly
from appulse.engine.job import Job
from appulse.engine.observation import Observation, observe
from appulse.engine.provenance import provenance_of, warnings_of
from appulse.engine.settings import Settings
from appulse.engine.stages import Executor, run, work
from appulse.files import InputError, UsageError, create_json, remove_folder
from appulse.inference.sampler import Sampler
from appulse.inference.store import DiskStore
from appulse.network.weights import load_model
from appulse.progress import Progress
from appulse.result import Result

_MANIFEST = "task.json"
Follow = Callable[[tuple[int, int]], Progress]


@dataclass(frozen=True)
class Task:
    """A field and how to segment it, in plain values that another process understands.

    Parameters
    ----------
    image : str
        File.
    maps : dict of str to str
        Files of ``rms``, ``variance``, ``weight`` and ``mask``, those that are given.
    folder : str
        Where the work is kept: a place that `claim_folder` gave, so that tasks of two runs are never equal.
    model, model_sha256 : str
        Name or file of the weights, and what they must be.
    settings : Settings
        How the image is segmented; its device is found already.
    hdu : str, optional
        Of the image.
    """

    image: str
    folder: str
    model: str
    model_sha256: str
    settings: Settings
    hdu: str | None = None
    maps: dict[str, str] = field(default_factory=dict)


@functools.lru_cache(maxsize=1)
def _sampler(model: str, sha256: str, settings: Settings) -> Sampler:
    loaded = load_model(model)
    if loaded.sha256 != sha256:
        raise InputError(f"{model} is not the file that this run began with; begin again with --overwrite.")
    return settings.sampler(loaded)


@contextlib.contextmanager
def opened(task: Task, follow: Follow | None = None) -> Iterator[tuple[Job, Observation, Progress | None]]:
    """The job of a task; its image stays open until the end of the ``with``.

    Parameters
    ----------
    task : Task
        What to do.
    follow : callable, optional
        Takes the shape of the image, and returns what is told of the stages: their names, steps done and
        their total; of the background before anything is yielded.

    Yields
    ------
    job : Job
    observation : Observation
    progress : callable or None
        From `follow`.
    """
    sampler = _sampler(task.model, task.model_sha256, task.settings)
    with observe(task.image, task.hdu, task.maps) as observation:
        shape = observation.exposure.shape
        progress = follow(shape) if follow else None
        store = DiskStore(Path(task.folder), shape, task.settings.samples, task.settings.block)
        yield Job.of(observation, sampler, task.settings, store, progress), observation, progress


@contextlib.contextmanager
def finished(
    task: Task, executor: Executor | None, follow: Follow | None, wanted: Callable[[Path], bool]
) -> Iterator[Result | None]:
    """Finish a task, and give its result, which is read from the store.

    Parameters
    ----------
    task : Task
        What to do.
    executor : callable or None
        Does the stages; by default this process.
    follow : callable or None
        As `opened` takes it.
    wanted : callable
        Takes the folder of the finished work, and says whether the result is.

    Yields
    ------
    Result or None
        None where it is not wanted.
    """
    with opened(task, follow) as (job, observation, progress):
        run(job, executor, progress)
        if not wanted(Path(task.folder)):
            yield None
            return
        provenance = provenance_of(job, observation, task.settings.operating_point)
        yield Assembly.of(job, observation).on_disk(provenance, warnings_of(job))


def claim_folder(folder: Path, fingerprint: dict, *, overwrite: bool) -> Path:
    """Make a folder for the work on a field, or go on with the one that is there.

    The work itself is in a place within it, whose name is never used again: who comes late, with the work of
    a run that is over, finds no place for it, and who has a field open knows by its place whether it is still
    the same.

    Parameters
    ----------
    folder : Path
        Of the field.
    fingerprint : dict
        All that must agree for work to go on: options, content of the input, blocks.
    overwrite : bool
        Begin again where it differs.

    Returns
    -------
    Path
        Where the work is kept; the same for all who claim a field at once.

    Raises
    ------
    UsageError
        It holds the work of something else.
    """
    manifest = folder / _MANIFEST
    while True:
        with contextlib.suppress(FileNotFoundError):  # removed by another just now
            folder.mkdir(parents=True, exist_ok=True)
            create_json(manifest, {"fingerprint": fingerprint, "place": secrets.token_hex(8)})
            held = _held(manifest)
            if held.get("fingerprint") == fingerprint:
                place = folder / held["place"]
                place.mkdir(exist_ok=True)
                (place / "records").mkdir(exist_ok=True)
                if _held(manifest) == held:
                    return place
            elif overwrite:
                remove_folder(folder)
            else:
                check_claim(folder, fingerprint)


def _held(manifest: Path) -> dict:
    try:
        return dict(json.loads(manifest.read_text()))
    except ValueError:  # damaged: of something else, whatever it was
        return {}


def check_claim(folder: Path, fingerprint: dict) -> None:
    """Make sure that a folder holds no work of something else, without claiming it.

    Parameters
    ----------
    folder, fingerprint
        As `claim_folder` takes them.

    Raises
    ------
    UsageError
        It does.
    """
    try:
        held = _held(folder / _MANIFEST).get("fingerprint", {})
    except FileNotFoundError:
        return
    differing = ", ".join(sorted(key for key in fingerprint if held.get(key) != fingerprint[key]))
    if differing:
        raise UsageError(
            f"{folder} holds unfinished work of another {differing}; repeat that, delete the folder "
            "if nobody works at it, or --overwrite."
        )


def sweep_place(place: Path) -> None:
    """Delete what a late writer has put where the work is gone.

    Parameters
    ----------
    place : Path
        As `claim_folder` gave it; its work is removed.
    """
    shutil.rmtree(place, ignore_errors=True)
    with contextlib.suppress(OSError):  # there is new work
        place.parent.rmdir()


class _Open(threading.local):
    """The job that this thread works on; it stays open from block to block."""

    task: Task | None = None
    stack: contextlib.ExitStack | None = None
    job: Job | None = None


_open = _Open()


def do_block(task: Task, stage: str, block: int) -> int:
    """Do a stage of a block in this process, which may be any on any machine that sees the files.

    Parameters
    ----------
    task : Task
        Whose block it is.
    stage : str
        One of `appulse.engine.job.stages`.
    block : int
        Number of the block.

    Returns
    -------
    int
        The block.
    """
    if _open.job is None or _open.task != task:
        close()
        _open.stack = contextlib.ExitStack()
        _open.job, *_ = _open.stack.enter_context(opened(task))
        _open.task = task
    work(_open.job, stage, block)
    return block


def close() -> None:
    """Close what this thread has open."""
    if _open.stack is not None:
        _open.stack.close()
    _open.task = _open.stack = _open.job = None

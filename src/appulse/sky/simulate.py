"""``appulse simulate``: fields of a survey in a directory, and a report of what they hold."""

from __future__ import annotations

import contextlib
import functools
import json
import os
import shutil
import time
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.table import Table, vstack

from appulse.files import (
    InputError,
    UsageError,
    atomic_write,
    remove_folder,
    remove_temporaries,
    sole_process,
    sync_folder,
    write_json,
)
from appulse.progress import Progress
from appulse.sky.counts import SkyCounts, StripCounts, count_strip, merge
from appulse.sky.field_file import FieldInfo, pack_strip, write_field_file
from appulse.sky.figure import PATCH, draw_sky
from appulse.sky.oracle import survey_oracle
from appulse.sky.report import SkyReport
from appulse.sky.stored_field import field_info, field_name, open_field
from appulse.sky.strips import FieldPlan, StripTask, draw_strip, measured_catalog
from appulse.sky.survey import Survey
from appulse.streams import LARGEST_FIELD_SEED
from appulse.tasks import run_tasks, usable_cpus
from appulse.version import __version__

# Bytes of a field's file: of the image, and of the layers for every pixel that a bounding ellipse covers (1.2
# to 2.0 on fields of all bundled surveys).
_BYTES_PER_PIXEL, _BYTES_PER_LIT_PIXEL = 4.0, 2.0


@dataclass(frozen=True)
class _Job:
    """A strip, and the file that keeps it until its field is complete."""

    task: StripTask
    path: Path


def write_strip(job: _Job) -> None:
    """Simulate a strip and keep it, compressed, unless it is there already.

    Parameters
    ----------
    job : _Job
        What, and where.

    Raises
    ------
    InputError
        It cannot be written: a full disk, say.
    """
    if job.path.exists():
        return
    strip = draw_strip(job.task)
    arrays = pack_strip(strip.layers)
    arrays |= {f"deeper_{name}": column for name, column in strip.deeper.items()}
    arrays |= {f"measured_{name}": column for name, column in strip.measured.items()}
    layers = strip.layers
    counts = count_strip(layers["ternary"], layers["id1"], layers["id2"], job.task.y0)
    arrays["counts"] = np.array(json.dumps(counts.to_json()))
    with _room_errors(job.path):
        atomic_write(job.path, lambda temporary: np.savez(temporary, **arrays))  # type: ignore[arg-type]


@contextlib.contextmanager
def _room_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror or error}); what was finished is kept. Make room "
            "and give the same command again."
        ) from None


@dataclass(frozen=True)
class _Unfinished:
    """A field that is being made, and the folder of its finished strips."""

    plan: FieldPlan
    path: Path

    @property
    def folder(self) -> Path:
        return _parts(self.path)

    @functools.cached_property
    def jobs(self) -> list[_Job]:
        return [_Job(task, self.folder / f"strip_{task.number:04d}.npz") for task in self.plan.tasks()]

    @property
    def bytes_needed(self) -> int:
        """Bytes of its file, rather too many."""
        height, width = self.plan.shape
        return int(height * width * (_BYTES_PER_PIXEL + _BYTES_PER_LIT_PIXEL * self.plan.lit))

    def begin(self) -> None:
        """Make the folder, or check that it is this field's."""
        plan = self.plan
        content = {
            "version": __version__,
            "survey": plan.survey.to_dict(),
            "shape": list(plan.shape),
            "strips": [job.task.y0 for job in self.jobs],
        }
        self.folder.mkdir(exist_ok=True)
        note = self.folder / "plan.json"
        if note.exists() and json.loads(note.read_text()) != json.loads(json.dumps(content)):
            raise UsageError(
                f"{self.folder} was begun for another survey or size, or by another version of appulse; "
                "remove it, or choose another directory."
            )
        written = (note, self.path, *(job.path for job in self.jobs))
        remove_temporaries(self.folder, [path.stem for path in written])  # of a killed process
        write_json(note, content)

    def finish(self) -> None:
        """Put the file together from its strips, and remove them."""
        try:
            self._join()
        except (zipfile.BadZipFile, EOFError, KeyError) as error:
            raise InputError(
                f"{self.folder}: a strip in it is damaged ({error}); remove the folder and give the same "
                "command again."
            ) from None

    def _join(self) -> None:
        with contextlib.ExitStack() as stack:
            parts = [stack.enter_context(np.load(job.path)) for job in self.jobs]
            deeper = vstack([Table(_prefixed(part, "deeper_")) for part in parts])
            measured = [_prefixed(part, "measured_") for part in parts]
            catalog = measured_catalog(self.plan.catalog, measured)
            counts = merge([StripCounts.from_json(json.loads(str(part["counts"]))) for part in parts])
            plan = self.plan
            info = FieldInfo(plan.survey, plan.shape, plan.seed, plan.index)
            # First inside the folder, so that whatever a kill leaves behind goes away with it.
            complete = self.folder / self.path.name
            with _room_errors(complete):
                write_field_file(complete, info, parts, deeper, catalog, counts)
        os.replace(complete, self.path)
        sync_folder(self.path.parent)
        remove_folder(self.folder)


def _parts(path: Path) -> Path:
    return path.with_name(f".{path.stem}.parts")


def _remove_leftovers(output: Path, finished: list[Path]) -> None:
    # Of runs that were killed at their very end.
    for path in finished:
        remove_folder(_parts(path))
    remove_temporaries(output, [_parts(path).stem for path in finished])


@contextlib.contextmanager
def _sole_process_of(output: Path, seed: int) -> Iterator[None]:
    # One lock for all fields of a seed: each takes a descriptor, and a process may have a thousand.
    folder = _lock(output, seed)
    with sole_process(folder):
        try:
            yield
        finally:
            with contextlib.suppress(OSError):
                folder.rmdir()


def _lock(output: Path, seed: int) -> Path:
    return output / f".seed_{seed:04d}.lock"


def _prefixed(part: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): part[name] for name in part if name.startswith(prefix)}


def simulate_fields(
    output: str | Path,
    survey: str | Path | Survey,
    *,
    size: int = 4096,
    fields: int = 1,
    seed: int = 0,
    workers: int | None = 1,
    dask: str | None = None,
    progress: Progress | None = None,
    say: Callable[[str], None] | None = None,
) -> list[SkyReport]:
    """Simulate fields into a directory; what is there already, fields or strips of one, is kept.

    Parameters
    ----------
    output : str or Path
        Made where missing.
    survey : str, Path or Survey
        Name, TOML file, or survey.
    size : int, pixels
        Width and height.
    fields, seed : int
        How many, and their seed.
    workers : int or None
        Processes; None for as many as there are CPUs to use. They are spawned: a script that asks for several
        needs ``if __name__ == "__main__":``.
    dask : str, optional
        Address of a Dask scheduler whose workers draw instead; they must share ``output``.
    progress : callable, optional
        Called with a stage, galaxies drawn and their total.
    say : callable, optional
        Told, before anything is drawn, how much there is to do and how much room it needs.

    Returns
    -------
    list of SkyReport
        One over all fields; one for each where the survey has ranges.

    Raises
    ------
    UsageError
        A size or number out of range, or fields of these names of another survey or size in the directory.
    InputError
        Too little room on the disk, a survey that cannot be kept in a file, or another process at the same
        fields.
    """
    if dask is not None and workers not in (None, 1):
        raise UsageError("give either --workers or --dask: a cluster has its own number of workers.")
    workers = usable_cpus() if workers is None else workers
    if size < 16 or fields < 1 or not 0 <= seed <= LARGEST_FIELD_SEED or workers < 1:
        raise UsageError(
            f"size {size}, fields {fields}, seed {seed}, workers {workers}: size must be at least 16, "
            f"fields and workers at least 1, seed from 0 to {LARGEST_FIELD_SEED}."
        )
    survey = survey if isinstance(survey, Survey) else Survey.load(survey)
    Survey.from_dict(survey.to_dict(), f"survey {survey.name!r}")  # as its files will be read, before hours
    output = Path(output).absolute()  # a Dask worker's current directory is another
    paths = [output / field_name(seed, index) for index in range(fields)]
    finished = {index: path for index, path in enumerate(paths) if path.exists()}
    for index, path in finished.items():
        refuse_other_field(path, survey, size, seed, index)
    if finished:
        _remove_leftovers(output, list(finished.values()))
    unfinished = {
        index: _Unfinished(FieldPlan.draw(survey, (size, size), seed, index), path)
        for index, path in enumerate(paths)
        if index not in finished
    }
    if unfinished:
        _check_room(output, list(unfinished.values()), say)
        start = time.perf_counter()
        with _sole_process_of(output, seed):
            for field in unfinished.values():
                field.begin()
            drawn = _draw(unfinished, workers, dask, progress)
        if say is not None and drawn:
            seconds = time.perf_counter() - start
            say(f"{drawn} galaxies drawn in {seconds:.1f} s, {drawn / seconds:.0f} per second.")
    elif _lock(output, seed).exists():  # of a run that was killed, if nobody holds it
        with contextlib.suppress(InputError), _sole_process_of(output, seed):
            pass
    return _report(output, paths, progress)


def refuse_other_field(path: Path, survey: Survey, size: int, seed: int, index: int = 0) -> None:
    """Raise where a field that is there is not the one that would be drawn.

    Parameters
    ----------
    path : Path
        Of the field.
    survey : Survey
    size : int, pixels
    seed, index : int
        Seed, and number of the field under that seed.

    Raises
    ------
    UsageError
        It is of another survey, size or seed (a file can be renamed).
    """
    info = field_info(path)
    if (info.seed, info.index) != (seed, index):
        raise UsageError(
            f"{path} holds field {info.index} of seed {info.seed}, whatever its name; choose another folder."
        )
    if info.survey.digest() != survey.for_field(seed, index).digest() or info.shape != (size, size):
        raise UsageError(f"{path} is of another survey or size; choose another directory.")


def _check_room(output: Path, unfinished: list[_Unfinished], say: Callable[[str], None] | None) -> None:
    output.mkdir(parents=True, exist_ok=True)
    files = sum(field.bytes_needed for field in unfinished)
    # While a field is put together, its strips stand beside it.
    needed = files + max(field.bytes_needed for field in unfinished)
    held = sum(part.stat().st_size for field in unfinished for part in field.folder.glob("strip_*.npz"))
    free = shutil.disk_usage(output).free
    if say is not None:
        galaxies = sum(len(field.plan.catalog) for field in unfinished)
        say(
            f"{len(unfinished)} fields with {galaxies} galaxies: about {files / 1e9:.1f} GB, "
            f"{max(needed - held, 0) / 1e9:.1f} GB while they are made; {free / 1e9:.1f} GB are free."
        )
    if free < needed - held:
        raise InputError(
            f"{output}: {(needed - held) / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free. Make "
            "room, choose another directory, or ask for fewer or smaller fields."
        )


def _draw(
    unfinished: dict[int, _Unfinished], workers: int, dask: str | None, progress: Progress | None
) -> int:
    jobs = [job for field in unfinished.values() for job in field.jobs]
    missing = {index: 0 for index in unfinished}
    waiting = []
    for job in jobs:
        if not job.path.exists():
            waiting.append(job)
            missing[job.task.index] += 1
    total = sum(job.task.galaxies for job in jobs)
    before = done = total - sum(job.task.galaxies for job in waiting)
    for index, field in unfinished.items():
        if missing[index] == 0:
            field.finish()
    for job, _ in run_tasks(write_strip, waiting, workers=workers, dask=dask):
        if not _is_there(job.path):
            raise InputError(
                f"{job.path}: not there, though a worker wrote it; --dask needs a shared directory."
            )
        index = job.task.index
        missing[index] -= 1
        done += job.task.galaxies
        if progress:
            progress("galaxies", done, total)
        if missing[index] == 0:
            unfinished[index].finish()
    return done - before


def _is_there(path: Path) -> bool:
    # Over NFS a path that was looked up before it was written may stay missing for seconds; a list is fresh.
    return path.exists() or path.name in os.listdir(path.parent)


@dataclass(frozen=True)
class _Group:
    """Fields of one survey, as their report needs them."""

    survey: Survey
    shape: tuple[int, int]
    counts: list[SkyCounts]
    catalogs: list[Table]


def _report(output: Path, paths: list[Path], progress: Progress | None) -> list[SkyReport]:
    # Fields of a survey of ranges differ in pixel scale and depth: each has a report of its own.
    groups: dict[str, _Group] = {}
    for path in paths:
        with open_field(path) as field:
            group = groups.setdefault(field.survey.digest(), _Group(field.survey, field.shape, [], []))
            group.counts.append(field.counts)
            group.catalogs.append(field.catalog)
    reports = [SkyReport.of(each.survey, each.shape, each.counts, each.catalogs) for each in groups.values()]
    with open_field(paths[0]) as first:
        patch = first.read((slice(PATCH), slice(PATCH)))
    oracle = survey_oracle(first.survey, output, progress=progress)
    draw_sky(reports[0], patch.image / first.sigma, patch.ternary(), oracle, output / "sky.png")
    content = [report.as_dict() | {"seed": first.seed, "size": first.shape[0]} for report in reports]
    write_json(output / "sky.json", content[0] if len(content) == 1 else {"reports": content})
    return reports

"""``appulse simulate``: fields of a survey in a directory, and a report of what they hold."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from astropy.table import Table, vstack

from appulse import __version__
from appulse.files import InputError, UsageError, atomic_write, write_json
from appulse.sky.field import Field, field_name, open_field, read_field
from appulse.sky.field_file import FieldInfo, pack_strip, write_field_file
from appulse.sky.strips import STRIP_ROWS, FieldPlan, StripTask, draw_strip, measured_catalog
from appulse.sky.survey import Survey
from appulse.sky.true_objects import Kind, true_objects
from appulse.sky.workers import run_tasks, usable_cpus

# Class shares that the paper gives for its fields (section 3): background, isolated, overlap; per cent.
PAPER_SHARES = ("96", "3", "<1")
_STAMP = 128
# Of a field's file: the image; and layers, per pixel inside the galaxies' bounding ellipses. Upper ends of what
# was measured.
_BYTES_PER_PIXEL, _BYTES_PER_LIT_PIXEL = 4.2, 4.0


@dataclass(frozen=True)
class SkyReport:
    """What simulated fields hold; counts, so that fields add up.

    Parameters
    ----------
    survey : str
        Name.
    fields, galaxies, objects, isolated, touching, blended : int
        Numbers. Objects are those of `true_objects`, small ones and those cut by the border included.
    pixels : tuple of int
        Of class 0, 1 and 2.
    stamps, empty_stamps : int
        128-pixel stamps of the grid, and those without a galaxy pixel.
    """

    survey: str
    fields: int
    galaxies: int
    objects: int
    isolated: int
    touching: int
    blended: int
    pixels: tuple[int, ...]
    stamps: int
    empty_stamps: int

    @classmethod
    def of(cls, field: Field) -> SkyReport:
        """Count one field.

        Parameters
        ----------
        field : Field
            At its own depth, threshold one sigma.
        """
        ternary = field.ternary()
        objects = true_objects(ternary, field.id1, field.id2)
        isolated, touching, blended = (
            int(np.count_nonzero(objects.kind == kind))
            for kind in (Kind.ISOLATED, Kind.TOUCHING, Kind.BLENDED)
        )
        rows, columns = (side // _STAMP for side in ternary.shape)
        stamps = ternary[: rows * _STAMP, : columns * _STAMP].reshape(rows, _STAMP, columns, _STAMP)
        lit = stamps.any(axis=(1, 3))
        return cls(
            survey=field.survey.name,
            fields=1,
            galaxies=len(field.catalog),
            objects=isolated + touching + blended,
            isolated=isolated,
            touching=touching,
            blended=blended,
            pixels=tuple(int(np.count_nonzero(ternary == c)) for c in (0, 1, 2)),
            stamps=lit.size,
            empty_stamps=int(np.count_nonzero(~lit)),
        )

    @classmethod
    def total(cls, reports: Sequence[SkyReport]) -> SkyReport:
        """Add fields up.

        Parameters
        ----------
        reports : sequence of SkyReport
            Of one survey; at least one.
        """
        names = [name for name in cls.__dataclass_fields__ if name not in ("survey", "pixels")]
        sums = {name: sum(getattr(report, name) for report in reports) for name in names}
        pixels = tuple(int(n) for n in np.sum([report.pixels for report in reports], axis=0))
        return cls(survey=reports[0].survey, pixels=pixels, **sums)

    def __str__(self) -> str:
        total = max(sum(self.pixels), 1)
        lines = [f"{self.fields} fields of {self.survey}: {self.galaxies} galaxies"]
        for name, count, paper in zip(
            ("background", "galaxy", "overlap"), self.pixels, PAPER_SHARES, strict=True
        ):
            lines.append(f"  {name:10s} {100 * count / total:8.3f} % of the pixels   (paper: {paper} %)")
        share = 100 * self.blended / max(self.objects, 1)
        lines.append(
            f"  {self.objects} objects: {self.isolated} isolated, {self.touching} touching, "
            f"{self.blended} blended ({share:.1f} %)"
        )
        empty = 100 * self.empty_stamps / max(self.stamps, 1)
        lines.append(f"  {empty:.1f} % of {self.stamps} stamps are empty")
        return "\n".join(lines)


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
    with _room_errors(job.path):
        atomic_write(job.path, lambda temporary: np.savez(temporary, **arrays))


@contextlib.contextmanager
def _room_errors(path: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise InputError(
            f"{path}: cannot be written ({error.strerror or error}); what was finished is kept. Make room and "
            "give the same command again."
        ) from None


@dataclass(frozen=True)
class _Unfinished:
    """A field that is being made, and the folder of its finished strips."""

    plan: FieldPlan
    path: Path

    @property
    def folder(self) -> Path:
        return self.path.with_name(f".{self.path.stem}.parts")

    def jobs(self) -> list[_Job]:
        return [_Job(task, self.folder / f"strip_{task.number:04d}.npz") for task in self.plan.tasks()]

    @property
    def bytes_needed(self) -> int:
        """Bytes of its file, about; not less (measured: docs/decisions/0005)."""
        height, width = self.plan.shape
        return int(height * width * (_BYTES_PER_PIXEL + _BYTES_PER_LIT_PIXEL * self.plan.lit))

    def begin(self) -> None:
        """Make the folder, or check that it is this field's."""
        plan = self.plan
        content = {
            "version": __version__,
            "survey": plan.survey.to_dict(),
            "shape": list(plan.shape),
            "strip_rows": STRIP_ROWS,
        }
        note = self.folder / "plan.json"
        if note.exists() and json.loads(note.read_text()) != json.loads(json.dumps(content)):
            raise UsageError(
                f"{self.folder} was begun for another survey or size, or by another version of appulse; "
                "remove it, or choose another directory."
            )
        for leftover in self.folder.glob(".*.part*"):  # of a killed process
            leftover.unlink()
        write_json(note, content)

    def finish(self) -> None:
        """Put the file together from its strips, and remove them."""
        with contextlib.ExitStack() as stack:
            parts = [stack.enter_context(np.load(job.path)) for job in self.jobs()]
            deeper = vstack([Table(_prefixed(part, "deeper_")) for part in parts])
            measured = [_prefixed(part, "measured_") for part in parts]
            catalog = measured_catalog(self.plan.catalog, measured)
            plan = self.plan
            info = FieldInfo(plan.survey, plan.shape, plan.seed, plan.index)
            # First inside the folder, so that whatever a kill leaves behind goes away with it.
            complete = self.folder / self.path.name
            with _room_errors(complete):
                write_field_file(complete, info, parts, deeper, catalog)
        os.replace(complete, self.path)
        shutil.rmtree(self.folder)


def _prefixed(part: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    return {name.removeprefix(prefix): part[name] for name in part if name.startswith(prefix)}


def simulate_fields(
    output: str | Path,
    survey: str | Path | Survey,
    *,
    size: int = 4096,
    fields: int = 1,
    seed: int = 0,
    workers: int | None = None,
    dask: str | None = None,
    progress: Callable[[str, int, int], None] | None = None,
    say: Callable[[str], None] | None = None,
) -> SkyReport:
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
    workers : int, optional
        Processes; by default as many as there are CPUs to use.
    dask : str, optional
        Address of a Dask scheduler whose workers draw instead; they must share ``output``.
    progress : callable, optional
        Called with a stage, galaxies drawn and their total.
    say : callable, optional
        Told, before anything is drawn, how much there is to do and how much room it needs.

    Returns
    -------
    SkyReport

    Raises
    ------
    UsageError
        A size or number out of range, or fields of another survey or size in the directory.
    InputError
        Too little room on the disk.
    """
    if workers is not None and dask is not None:
        raise UsageError("give either --workers or --dask: a cluster has its own number of workers.")
    workers = usable_cpus() if workers is None else workers
    if size < 16 or fields < 1 or seed < 0 or workers < 1:
        raise UsageError(
            f"size {size}, fields {fields}, seed {seed}, workers {workers}: size must be at least 16, "
            "fields and workers at least 1, seed not negative."
        )
    survey = survey if isinstance(survey, Survey) else Survey.load(survey)
    output = Path(output).absolute()  # a Dask worker's current directory is another
    paths = [output / field_name(seed, index) for index in range(fields)]
    for path in paths:
        if path.exists():
            _check(path, survey, size)
    unfinished = {
        index: _Unfinished(FieldPlan.draw(survey, (size, size), seed, index), path)
        for index, path in enumerate(paths)
        if not path.exists()
    }
    if unfinished:
        _check_room(output, list(unfinished.values()), say)
        _run(unfinished, workers, dask, progress)
    return _report(output, paths, survey, seed, size)


def _check(path: Path, survey: Survey, size: int) -> None:
    with open_field(path) as field:
        if field.survey.digest() != survey.digest() or field.shape != (size, size):
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
            f"{output}: {(needed - held) / 1e9:.1f} GB are needed and {free / 1e9:.1f} GB are free. Make room, "
            "choose another directory, or ask for fewer or smaller fields."
        )


def _run(unfinished: dict[int, _Unfinished], workers: int, dask: str | None, progress) -> None:
    jobs = []
    for field in unfinished.values():
        field.begin()
        jobs += field.jobs()
    missing = {index: 0 for index in unfinished}
    waiting = []
    for job in jobs:
        if not job.path.exists():
            waiting.append(job)
            missing[job.task.index] += 1
    total = sum(job.task.galaxies for job in jobs)
    done = total - sum(job.task.galaxies for job in waiting)
    for index, field in unfinished.items():
        if missing[index] == 0:
            field.finish()
    for job, _ in run_tasks(write_strip, waiting, workers=workers, dask=dask):
        if not job.path.exists():
            raise InputError(f"{job.path}: not there, though a worker wrote it; --dask needs a shared directory.")
        index = job.task.index
        missing[index] -= 1
        done += job.task.galaxies
        if progress:
            progress("galaxies", done, total)
        if missing[index] == 0:
            unfinished[index].finish()


def _report(output: Path, paths: list[Path], survey: Survey, seed: int, size: int) -> SkyReport:
    reports = []
    for number, path in enumerate(paths):
        field = read_field(path)
        reports.append(SkyReport.of(field))
        if number == 0:
            draw_sky(field, output / "sky.png")
    report = SkyReport.total(reports)
    write_json(
        output / "sky.json", vars(report) | {"seed": seed, "size": size, "survey_digest": survey.digest()}
    )
    return report


def draw_sky(field: Field, path: str | Path) -> None:
    """Picture of a part of a field: image, class map, number counts and sizes.

    Parameters
    ----------
    field : Field
        To draw.
    path : str or Path
        PNG to write.
    """
    from matplotlib.figure import Figure

    side = min(640, *field.image.shape)
    figure = Figure(figsize=(11, 10), layout="constrained")
    (image, classes), (counts, sizes) = figure.subplots(2, 2)
    stretched = np.arcsinh(field.image[:side, :side] / field.sigma)
    image.imshow(
        stretched, vmin=-1.5, vmax=max(np.percentile(stretched, 99.7), 3), cmap="gray", origin="lower"
    )
    image.set_title(f"{field.survey.name}: image, arcsinh of noise units")
    classes.imshow(field.ternary()[:side, :side], vmin=0, vmax=2, cmap="inferno", origin="lower")
    classes.set_title("true class map: background, galaxy, overlap")
    magnitude = np.asarray(field.catalog["magnitude"])
    population, area = field.survey.population, _area(field)
    edges = np.arange(population.magnitude_bright, population.magnitude_faint + 0.26, 0.5)
    histogram, _ = np.histogram(magnitude, edges)
    counts.stairs(histogram / area, edges, label="drawn", fill=True, alpha=0.5)
    at_faint = population.density
    slope = population.count_slope
    law = at_faint * 10 ** (slope * (edges - population.magnitude_faint))
    counts.stairs(np.diff(np.minimum(law, at_faint)), edges, label="law", color="black")
    counts.set(yscale="log", xlabel="magnitude", ylabel="galaxies per arcmin² and half magnitude")
    counts.legend()
    sizes.scatter(magnitude, field.catalog["half_light_radius"], s=3, alpha=0.4)
    sizes.set(yscale="log", xlabel="magnitude", ylabel="half-light radius (arcsec)")
    atomic_write(path, lambda temporary: figure.savefig(temporary, dpi=100))


def _area(field: Field) -> float:
    height, width = field.image.shape
    return height * width * (field.survey.pixel_scale / 60.0) ** 2

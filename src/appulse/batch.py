"""Many images in one directory: which are done, what failed, and nothing mixed up or lost."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
import glob
import hashlib
import json
import re
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import appulse
from appulse.engine.course import Course
from appulse.engine.forecast import forecast
from appulse.engine.observation import NO_MAP, observe
from appulse.engine.on_disk import Task, check_claim, claim_folder, finished, sweep_place
from appulse.engine.stages import Executor
from appulse.engine.workers import Shard, cluster, processes
from appulse.files import InputError, UsageError, remove_folder, remove_temporaries, split_hdu, stem
from appulse.inference.blocks import Blocks
from appulse.inference.realisations import Sampler
from appulse.inference.store import is_there
from appulse.journal import Journal
from appulse.network.weights import Model, load_model
from appulse.segmentation import (
    BLOCK,
    SEED_LIMIT,
    check_block,
    check_origin,
    choose_device,
    choose_operating_point,
)

_PRODUCTS = ("segmentation", "catalog", "regions", "preview", "summary")
_MAP_KINDS = ("rms", "variance", "weight", "mask")


@dataclass(frozen=True)
class BatchOptions:
    """Options of ``appulse segment`` that shape its products.

    Parameters
    ----------
    output : Path
        Directory for the products.
    model : str
        Name or file.
    samples, seed : int
        Realisations, and their seed.
    method, operating_point, mode, hdu
        As `appulse.segment` takes them.
    background : bool
        Whether to subtract the background.
    origin : (y0, x0), pixels
        As `appulse.segment` takes it; of every image.
    device : str
        Where the network runs.
    keep_realisations, regions, preview : bool
        What to write besides.
    catalog_format : str
        Of the catalogue.
    """

    output: Path
    model: str = "euclid"
    samples: int = 50
    seed: int = 0
    method: str = "two-step"
    operating_point: str = "balanced"
    mode: str = "copula"
    hdu: str | None = None
    background: bool = True
    origin: tuple[int, int] = (0, 0)
    device: str = "auto"
    keep_realisations: bool = False
    catalog_format: str = "fits"
    regions: bool = False
    preview: bool = True

    def fingerprint(self, model: Model) -> dict:
        """Everything that must agree for results to stand side by side.

        Parameters
        ----------
        model : Model
            Loaded; its hash stands for it.
        """
        values = dataclasses.asdict(self)
        del values["output"]
        # Rounding differs between devices, and numbers may change between versions.
        return values | {
            "model": model.name,
            "model_sha256": model.sha256,
            "device": choose_device(self.device),
            "origin": list(self.origin),  # as JSON gives it back
            "version": appulse.__version__,
        }


def run_batch(
    images: Sequence[Path],
    maps: dict[str, Sequence[str] | None],
    options: BatchOptions,
    *,
    overwrite: bool = False,
    dry_run: bool = False,
    block: int = BLOCK,
    workers: int = 1,
    dask: str | None = None,
    shard: str | None = None,
    progress: Callable[[Course], None] | None = None,
) -> int:
    """Segment images one after another; a bad one does not stop the others.

    What is done of an image is kept in a hidden folder beside the products until they are complete, so that
    the same call again goes on where it was stopped.

    Parameters
    ----------
    images : sequence of Path
        FITS files.
    maps : dict of str to sequence of str or None
        For ``rms``, ``variance``, ``weight`` and ``mask``: one file per image, a template with ``{stem}``, or
        ``none``, which leaves out what is in the images' own files.
    options : BatchOptions
        The rest of the command line.
    overwrite : bool
        Begin again in a directory of other inputs or options.
    dry_run : bool
        Only check and tell.
    block : int, pixels
        Width of the blocks of work; no product depends on it.
    workers : int
        Processes on this machine.
    dask : str, optional
        Address of a Dask scheduler, whose cluster sees the same files.
    shard : str, optional
        ``I/N``: this is run I of N that share the work by way of the file system.
    progress : callable, optional
        Called with the `appulse.engine.course.Course` of the image in hand, after every step.

    Returns
    -------
    int
        Exit code: 0, or 1 where an input failed.

    Raises
    ------
    UsageError
        Options that contradict each other, or what the directory holds.
    """
    if not images:
        raise UsageError("no image given; appulse segment IMAGE [IMAGE ...] -o DIR")
    stems = [stem(path) for path in images]
    if len(set(stems)) < len(stems):
        twice = sorted({name for name in stems if stems.count(name) > 1})
        raise UsageError(
            f"two images share the stem {', '.join(twice)}; their products would overwrite each other."
        )
    paired = {kind: _pair(kind, maps.get(kind), stems) for kind in _MAP_KINDS}
    noise = [f"--{kind}" for kind in ("rms", "variance", "weight") if paired[kind]]
    if len(noise) > 1:
        raise UsageError(f"{' and '.join(noise)} say the same in different ways; give one of them.")
    if options.samples < 1:
        raise UsageError(f"--samples is {options.samples}; at least 1 realisation is needed.")
    if not 0 <= options.seed < SEED_LIMIT:
        raise UsageError(f"--seed is {options.seed}; it must be from 0 to {SEED_LIMIT - 1}.")
    try:
        model = load_model(options.model)
        choose_operating_point(model, options.operating_point)
        check_block(block, model.network.config.stamp_size)
        check_origin(options.origin, model.network.config.stamp_size)
        device = choose_device(options.device)
    except InputError as error:
        raise UsageError(str(error)) from None
    part = _shard(shard)
    executors = _executors(workers, dask, shard, overwrite)
    journal = Journal(options.output, options.fingerprint(model), overwrite)
    journal.check()
    inputs = []
    for number, (path, name) in enumerate(zip(images, stems, strict=True)):
        maps_here = {kind: files[number] for kind, files in paired.items() if files is not None}
        inputs.append(_Input(number, path, name, maps_here, options.output / f".{name}.work"))
    batch = _Batch(options, model, device, block, journal, overwrite, part, progress)
    if not overwrite:
        batch.check(inputs)
    if dry_run:
        sampler = Sampler(model, options.samples, options.seed, options.mode, device)
        return _tell(inputs, options, block, workers, sampler)
    with executors as executor_for:
        journal.begin(stems)  # not before it is known who works
        outcomes = [batch.segment(one, executor_for) for one in inputs]
        if part is not None:
            batch.wait_for_others(inputs, outcomes)
    failed = sum(outcome.state == _FAILED for outcome in outcomes)
    if not failed:
        journal.end(stems)
    elif part is None and failed == len(outcomes):
        journal.abandon()
    if len(images) > 1:
        print("\n".join(["", *_table(outcomes)]))
        print(f"{len(images) - failed} of {len(images)} images done, in {options.output}")
    return 1 if failed else 0


_ExecutorFor = Callable[[Task], Executor] | None


@dataclass(frozen=True)
class _Input:
    number: int
    path: Path
    name: str
    maps: dict[str, str]
    folder: Path

    @functools.cached_property
    def content(self) -> str:
        return _content_hash({"image": self.path, **self.maps})

    @property
    def temporaries(self) -> list[str]:
        return [self.folder.stem, *(f"{self.name}_{kind}" for kind in _PRODUCTS)]


@dataclass(frozen=True)
class _Outcome:
    path: Path
    state: str
    summary: dict | None = None
    seconds: float = 0.0


_DONE, _DONE_BEFORE, _FAILED = "done", "done before", "FAILED"
_DONE_ELSEWHERE, _LEFT = "done by another shard", "left to another shard"


@dataclass(frozen=True)
class _Batch:
    """What is common to the images of a run."""

    options: BatchOptions
    model: Model
    device: str
    block: int
    journal: Journal
    overwrite: bool
    part: Shard | None
    progress: Callable[[Course], None] | None

    def check(self, inputs: Sequence[_Input]) -> None:
        """Refuse what other inputs have left, before the first image is begun.

        Parameters
        ----------
        inputs : sequence of _Input
            All images.
        """
        for one in inputs:
            if self.journal.knows(one.name) or one.folder.exists():
                try:
                    if not self.journal.has(one.name, one.content):
                        check_claim(one.folder, self._fingerprint(one))
                except UsageError:
                    raise
                except InputError:  # it will fail when its turn comes
                    continue

    def _fingerprint(self, one: _Input) -> dict:
        return {"options": self.journal.options, "content": one.content, "block": self.block}

    def segment(self, one: _Input, executor_for: _ExecutorFor, *, take_over: bool = False) -> _Outcome:
        """Whatever is wrong with one image, the others go on.

        Parameters
        ----------
        one : _Input
            To segment.
        executor_for : callable or None
            Takes a task, and returns what does its blocks; by default this process.
        take_over : bool
            Whether to do what falls to other shards as well.
        """
        part = None if self.part is None or take_over else self.part.of(one.number)
        try:
            return self._segment(one, part, executor_for)
        except Exception as error:
            # Of a bad image nothing is kept; of shards, another may be at it.
            if self.part is None and not any(one.folder.glob("*/records/*")):
                remove_folder(one.folder)
            message = str(error) if isinstance(error, InputError) else f"{type(error).__name__}: {error}"
            print(message if str(one.path) in message else f"{one.path}: {message}", file=sys.stderr)
            return _Outcome(one.path, _FAILED)

    def _segment(self, one: _Input, part: Shard | None, executor_for: _ExecutorFor) -> _Outcome:
        if self._is_done(one):
            print(f"{one.path}: done before")
            return _Outcome(one.path, _DONE_BEFORE)
        if part is not None:
            with observe(one.path, self.options.hdu, one.maps) as observation:
                blocks = len(Blocks(observation.exposure.shape, self.block))
            if not any(part.owns(block) for block in range(blocks)):
                return _Outcome(one.path, _LEFT)
        if self.part is None:
            remove_temporaries(self.options.output, one.temporaries)
        place = claim_folder(one.folder, self._fingerprint(one), overwrite=self.overwrite)
        if self._is_done(one):  # by another, since the first look; the claim is one of an empty place
            return _Outcome(one.path, _DONE_ELSEWHERE)
        started = time.perf_counter()
        task = _task(one.path, one.maps, place, self.options, self.model, self.device, self.block)
        executor = part or (executor_for and executor_for(task))
        try:
            result = segment_to_files(task, self.options, one.name, executor, self.progress)
        except Exception:
            # Where the work is gone, another shard has finished it; that is why something failed.
            if self.part is None or is_there(place):
                raise
            sweep_place(place)
            result = None
        if result is None:
            return _Outcome(one.path, _LEFT)
        self.journal.add(one.name, one.content)
        self._tidy(one)
        seconds = time.perf_counter() - started
        for warning in result["warnings"]:
            print(f"{one.path}: warning: {warning}", file=sys.stderr)
        print(
            f"{one.path}: {result['galaxies']} galaxies, {result['galaxies_in_blends']} of them in "
            f"{result['blends']} blends; {_speed(result, seconds)}"
        )
        return _Outcome(one.path, _DONE, result, seconds)

    def _is_done(self, one: _Input) -> bool:
        done = self.journal.has(one.name, one.content)
        if done:
            self._tidy(one)
        return done

    def _tidy(self, one: _Input) -> None:
        """Remove what the way to finished products has left; who is still at it, is so in vain."""
        remove_folder(one.folder)
        remove_temporaries(self.options.output, one.temporaries)

    def wait_for_others(self, inputs: Sequence[_Input], outcomes: list[_Outcome]) -> None:
        """Until the products of what was left to other shards are there; what no shard is at, this one does.

        Parameters
        ----------
        inputs : sequence of _Input
            All images.
        outcomes : list of _Outcome
            Of them; those that were left are replaced.
        """
        left = [one for one in inputs if outcomes[one.number].state == _LEFT]
        if left:
            print(f"{len(left)} of {len(inputs)} images are left to other shards; waiting for their products")
        heard = {one.number: (self._signs(one), time.monotonic()) for one in left}
        while left:
            # From the end: a shard that is slow goes on from the beginning.
            for one in reversed(left):
                signs, since = heard[one.number]
                if self._is_done(one):
                    outcomes[one.number] = _Outcome(one.path, _DONE_ELSEWHERE)
                elif (now := self._signs(one)) != signs:
                    heard[one.number] = now, time.monotonic()
                elif time.monotonic() - since > appulse.engine.workers.PATIENCE:
                    outcomes[one.number] = self.segment(one, None, take_over=True)
                    heard[one.number] = self._signs(one), time.monotonic()
                    break  # which may have taken long: look at the others again first
            left = [one for one in left if outcomes[one.number].state == _LEFT]
            if left:
                time.sleep(appulse.engine.workers.POLL)

    def _signs(self, one: _Input) -> frozenset:
        """What changes as long as somebody works on an image or writes its products."""
        found = []
        temporary = self.options.output.glob(f".{glob.escape(one.name)}_*")
        for path in (*one.folder.glob("*/records"), *one.folder.glob("*/written-by"), *temporary):
            with contextlib.suppress(OSError):
                status = path.stat()
                found.append((path, status.st_mtime_ns, status.st_size))
        return frozenset(found)


def _table(outcomes: Sequence[_Outcome]) -> list[str]:
    """What became of each image, one line each; why one failed has been said when it did."""
    width = max(len(str(outcome.path)) for outcome in outcomes)
    lines = [f"{'image':{width}}  {'Mpix':>8}  {'galaxies':>8}  {'seconds':>8}  {'Mpix/s':>7}  outcome"]
    for outcome in outcomes:
        measured = " " * 37
        if outcome.summary is not None:
            pixels = outcome.summary["height"] * outcome.summary["width"] / 1e6
            measured = f"{pixels:8.2f}  {outcome.summary['galaxies']:8d}  {outcome.seconds:8.0f}"
            measured += f"  {pixels / outcome.seconds:7.3f}"
        lines.append(f"{outcome.path!s:{width}}  {measured}  {outcome.state}")
    return lines


def _speed(summary: dict, seconds: float) -> str:
    pixels = summary["height"] * summary["width"] / 1e6
    return f"{pixels:.2f} Mpix in {seconds:.0f} s ({pixels / seconds:.3f} Mpix/s)"


def segment_to_files(
    task: Task,
    options: BatchOptions,
    name: str,
    executor: Executor | None,
    progress: Callable[[Course], None] | None,
) -> dict | None:
    """Segment an image of any size into its products.

    Parameters
    ----------
    task : Task
        What to do.
    options : BatchOptions
        What to write.
    name : str
        What the products' names begin with.
    executor : callable or None
        Does the blocks; by default this process.
    progress : callable or None
        As `run_batch` takes it.

    Returns
    -------
    dict or None
        Summary; None where another shard writes the products.
    """
    wanted = executor.writes_products if isinstance(executor, Shard) else lambda place: True

    def follow(shape):
        return Course(name, shape[0] * shape[1], task.method, progress or (lambda course: None))

    with finished(task, executor, follow, wanted) as result:
        if result is None:
            return None
        written = result.write(
            options.output,
            name,
            catalog_format=options.catalog_format,
            keep_realisations=options.keep_realisations,
            preview=options.preview,
            regions=options.regions,
        )
    return json.loads(written[-1].read_text())


def _task(
    path: Path,
    maps: dict[str, str],
    folder: Path,
    options: BatchOptions,
    model: Model,
    device: str,
    block: int,
) -> Task:
    # Absolute: workers of a cluster are elsewhere.
    def absolute(name):
        if name == NO_MAP:
            return name
        file, hdu = split_hdu(name)
        return f"{file.resolve()}[{hdu}]" if hdu else str(file.resolve())

    name = options.model
    return Task(
        image=str(path.resolve()),
        maps={kind: absolute(name) for kind, name in maps.items()},
        folder=str(folder.resolve()),
        model=str(Path(name).resolve()) if name.endswith(".safetensors") else name,
        model_sha256=model.sha256,
        samples=options.samples,
        seed=options.seed,
        method=options.method,
        operating_point=options.operating_point,
        mode=options.mode,
        hdu=options.hdu,
        background=options.background,
        origin=options.origin,
        device=device,
        block=block,
    )


def _executors(workers: int, dask: str | None, shard: str | None, overwrite: bool):
    """A context of what does the blocks, by task; None for this process, and for shards."""
    if shard is not None and overwrite:
        raise UsageError(
            "--shard and --overwrite: shards would delete each other's work; empty the directory."
        )
    chosen = [name for name, value in (("--dask", dask), ("--shard", shard)) if value is not None]
    if workers != 1:
        chosen.append("--workers")
    if len(chosen) > 1:
        raise UsageError(f"{' and '.join(chosen)} are different ways to share the work; choose one.")
    if workers < 1:
        raise UsageError(f"--workers is {workers}; at least 1 is needed.")
    if dask is not None:
        return cluster(dask)
    return processes(workers) if workers > 1 else contextlib.nullcontext()


def _shard(given: str | None) -> Shard | None:
    if given is None:
        return None
    match = re.fullmatch(r"(\d+)/(\d+)", given)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise UsageError(f"--shard is {given!r}; it must be I/N with I from 1 to N, as in 2/8.")
    return Shard(int(match[1]), int(match[2]))


def _tell(
    inputs: Sequence[_Input],
    options: BatchOptions,
    block: int,
    workers: int,
    sampler: Sampler,
) -> int:
    unusable = False
    for one in inputs:
        try:
            with observe(one.path, options.hdu, one.maps) as observation:
                shape, temporary = observation.exposure.shape, observation.temporary
        except InputError as error:
            unusable = True
            print(error, file=sys.stderr)
            continue
        needs = forecast(shape, block, options.method, workers, sampler, options.keep_realisations, temporary)
        print(f"{one.path}: would write {options.output / one.name}_*")
        print(f"  {shape[0]} x {shape[1]} pixels in {needs}")
    return 1 if unusable else 0


def _pair(kind: str, given: Sequence[str] | None, stems: list[str]) -> list[str] | None:
    if not given:
        return None
    if list(given) == [NO_MAP]:
        return [NO_MAP] * len(stems)
    if len(given) == 1 and "{stem}" in given[0]:
        return [given[0].replace("{stem}", name) for name in stems]
    if len(given) != len(stems):
        raise UsageError(
            f"--{kind} has {len(given)} files for {len(stems)} images; "
            "give one each, a {stem} template, or none."
        )
    return list(given)


def _content_hash(files: Mapping[str, str | Path]) -> str:
    digest = hashlib.sha256()
    for kind, path in files.items():
        path, hdu = split_hdu(path)
        digest.update(f"{kind}[{hdu}]".encode())
        if str(path) == NO_MAP:
            digest.update(b"none")
            continue
        if not path.is_file():
            raise InputError(f"{path}: no such file.")
        with open(path, "rb") as stream:
            digest.update(hashlib.file_digest(stream, "sha256").digest())
    return digest.hexdigest()

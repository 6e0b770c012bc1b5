"""The images of a batch, each in its turn: done before, done now, left to another shard, or failed."""

from __future__ import annotations

import contextlib
import functools
import glob
import hashlib
import json
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from appulse.batch.journal import Journal
from appulse.batch.options import BatchOptions
from appulse.engine import workers
from appulse.engine.course import Course
from appulse.engine.observation import NO_MAP, observe
from appulse.engine.on_disk import Task, check_claim, claim_folder, finished, sweep_place
from appulse.engine.stages import Executor
from appulse.files import InputError, UsageError, remove_folder, remove_temporaries, split_hdu
from appulse.inference.blocks import Blocks
from appulse.inference.store import is_there
from appulse.network.weights import Model
from appulse.result import essential_paths, product_paths
from appulse.words import galaxies_in_words

ExecutorFor = Callable[[Task], Executor] | None


@dataclass(frozen=True)
class Input:
    """An image with its maps.

    Parameters
    ----------
    number : int
        Its place among the images, from 0.
    path : Path
        FITS file.
    name : str
        What the names of its products begin with.
    maps : dict of str to str
        Files of ``rms``, ``variance``, ``weight`` and ``mask``, those that are given.
    folder : Path
        For the work on it.
    """

    number: int
    path: Path
    name: str
    maps: dict[str, str]
    folder: Path

    @functools.cached_property
    def content(self) -> str:
        """Digest of all the files."""
        return _content_hash({"image": self.path, **self.maps})

    @property
    def temporaries(self) -> list[str]:
        """Beginnings of the names of files that a killed run may have left."""
        return [self.folder.stem, *(path.stem for path in product_paths(self.folder.parent, self.name))]


@dataclass(frozen=True)
class Outcome:
    """What became of an image.

    Parameters
    ----------
    path : Path
        FITS file.
    state : str
        ``DONE``, ``DONE_BEFORE``, ``DONE_ELSEWHERE``, ``LEFT`` or ``FAILED``.
    summary : dict, optional
        Of the products, where this run has made them.
    seconds : float
        That this run took.
    reason : str
        Of a failure, in a line.
    """

    path: Path
    state: str
    summary: dict | None = None
    seconds: float = 0.0
    reason: str = ""


DONE, DONE_BEFORE, FAILED = "done", "done before", "FAILED"
DONE_ELSEWHERE, LEFT = "done by another shard", "left to another shard"


@dataclass(frozen=True)
class Batch:
    """What is common to the images of a run.

    Parameters
    ----------
    options : BatchOptions
        What to write.
    model : Model
        Loaded.
    journal : Journal
        Of the directory.
    overwrite : bool
        Begin again where the work of something else is.
    part : Shard or None
        Of several runs that share the work, this one.
    progress : callable or None
        Called with the course of the image in hand, after every step.
    """

    options: BatchOptions
    model: Model
    journal: Journal
    overwrite: bool
    part: workers.Shard | None
    progress: Callable[[Course], None] | None

    def check(self, inputs: Sequence[Input]) -> None:
        """Refuse to replace the user's files or other inputs' results, before the first image is begun.

        Parameters
        ----------
        inputs : sequence of Input
            All images.

        Raises
        ------
        UsageError
            A product would replace an input, or a file that no run recorded here has written, or the
            directory holds results or unfinished work of other inputs.
        """
        self._spare_inputs(inputs)
        if self.overwrite:
            return
        present: set[str] = set()
        with contextlib.suppress(OSError):  # there is no directory yet
            present.update(os.listdir(self.options.output))
        overwriting = self.journal.is_overwriting([one.name for one in inputs])
        for one in inputs:
            # Products, folder, record are looked for in this order: another run that has just finished an
            # image has written its record before it removed the folder.
            if one.folder.exists() or self.journal.knows(one.name):
                try:
                    if not self.has(one):
                        check_claim(one.folder, self._fingerprint(one))
                except UsageError:
                    raise
                except InputError:  # it will fail when its turn comes
                    continue
            elif not overwriting:
                for path in product_paths(self.options.output, one.name):
                    if path.name in present:
                        raise UsageError(
                            f"{path} is there, and no run recorded there has written it; "
                            "choose another directory, or --overwrite."
                        )

    def _spare_inputs(self, inputs: Sequence[Input]) -> None:
        given = set()
        for one in inputs:
            files: list[str | Path] = [one.path, *one.maps.values()]
            for file in files:
                path, _ = split_hdu(file)
                given |= {_real(path), _real(path.parent) / path.name}
        directory = _real(self.options.output)
        for one in inputs:
            for path in product_paths(directory, one.name):
                if path in given:
                    raise UsageError(
                        f"{path} is an input, and would give way to products of {one.path}; "
                        "choose another directory."
                    )

    def has(self, one: Input) -> bool:
        """Whether the products of an image are there.

        Parameters
        ----------
        one : Input
            The image.

        Raises
        ------
        UsageError
            As `Journal.has`.
        """
        products = essential_paths(self.options.output, one.name, self.options.catalog_format)
        return self.journal.has(one.name, lambda: one.content) and all(path.exists() for path in products)

    def _fingerprint(self, one: Input) -> dict:
        return {"options": self.journal.options, "content": one.content, "block": self.options.settings.block}

    def segment(self, one: Input, executor_for: ExecutorFor, *, take_over: bool = False) -> Outcome:
        """Whatever is wrong with one image, the others go on.

        Parameters
        ----------
        one : Input
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
            reason = message.partition("\n")[0].removeprefix(f"{one.path}: ")
            # Where in a worker it comes from.
            message = "\n".join([message, *getattr(error, "__notes__", ())])
            print(message if str(one.path) in message else f"{one.path}: {message}", file=sys.stderr)
            return Outcome(one.path, FAILED, reason=reason)

    def _segment(self, one: Input, part: workers.Shard | None, executor_for: ExecutorFor) -> Outcome:
        if self._is_done(one):
            print(f"{one.path}: done before")
            return Outcome(one.path, DONE_BEFORE)
        if part is not None:
            with observe(one.path, self.options.hdu, one.maps) as observation:
                blocks = len(Blocks(observation.exposure.shape, self.options.settings.block))
            if not any(part.owns(block) for block in range(blocks)):
                return Outcome(one.path, LEFT)
        if self.part is None:
            remove_temporaries(self.options.output, one.temporaries)
        place = claim_folder(one.folder, self._fingerprint(one), overwrite=self.overwrite)
        if self._is_done(one):  # by another, since the first look; the claim is one of an empty place
            return Outcome(one.path, DONE_ELSEWHERE)
        started = time.perf_counter()
        task = _task(one, place, self)
        executor = part or (executor_for and executor_for(task))
        try:
            result = segment_to_files(task, self.options, one.name, executor, self.progress)
        except Exception as error:
            if isinstance(error, InputError) and not self.journal.knows(one.name):
                # The image's own fault, which every shard finds: a better image must find nothing of it.
                if not any(place.glob("records/*")):
                    remove_folder(one.folder)
                raise
            # Where the work is gone, another shard has finished it; that is why something failed.
            if self.part is None or is_there(place):
                raise
            sweep_place(place)
            result = None
        if result is None:
            return Outcome(one.path, LEFT)
        self.journal.add(one.name, one.content)
        self._tidy(one)
        seconds = time.perf_counter() - started
        for warning in result["warnings"]:
            print(f"{one.path}: warning: {warning}", file=sys.stderr)
        print(f"{one.path}: {galaxies_in_words(result)}; {_speed(result, seconds)}")
        return Outcome(one.path, DONE, result, seconds)

    def _is_done(self, one: Input) -> bool:
        done = self.has(one)
        if done:
            self._tidy(one)
        return done

    def _tidy(self, one: Input) -> None:
        """Remove what the way to finished products has left; who is still at it, is so in vain."""
        remove_folder(one.folder)
        remove_temporaries(self.options.output, one.temporaries)

    def wait_for_others(self, inputs: Sequence[Input], outcomes: list[Outcome]) -> None:
        """Until the products of what was left to other shards are there; what no shard is at, this one does.

        Parameters
        ----------
        inputs : sequence of Input
            All images.
        outcomes : list of Outcome
            Of them; those that were left are replaced.
        """
        left = [one for one in inputs if outcomes[one.number].state == LEFT]
        if left:
            print(f"{len(left)} of {len(inputs)} images are left to other shards; waiting for their products")
        heard = {one.number: (self._signs(one), time.monotonic()) for one in left}
        while left:
            # From the end: a shard that is slow goes on from the beginning.
            for one in reversed(left):
                signs, since = heard[one.number]
                if self._is_done(one):
                    outcomes[one.number] = Outcome(one.path, DONE_ELSEWHERE)
                elif (now := self._signs(one)) != signs:
                    heard[one.number] = now, time.monotonic()
                elif time.monotonic() - since > workers.PATIENCE:
                    outcomes[one.number] = self.segment(one, None, take_over=True)
                    heard[one.number] = self._signs(one), time.monotonic()
                    break  # which may have taken long: look at the others again first
            left = [one for one in left if outcomes[one.number].state == LEFT]
            if left:
                time.sleep(workers.POLL)

    def _signs(self, one: Input) -> frozenset:
        """What changes as long as somebody works on an image or writes its products."""
        found = []
        temporary = self.options.output.glob(f".{glob.escape(one.name)}_*")
        for path in (*one.folder.glob("*/records"), *one.folder.glob("*/written-by"), *temporary):
            with contextlib.suppress(OSError):
                status = path.stat()
                found.append((path, status.st_mtime_ns, status.st_size))
        return frozenset(found)


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
    """Segment an image of any size into its products; there are no others of it afterwards.

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
    wanted = executor.writes_products if isinstance(executor, workers.Shard) else lambda place: True

    def follow(shape: tuple[int, int]) -> Course:
        return Course(name, shape[0] * shape[1], task.settings.method, progress or (lambda course: None))

    with finished(task, executor, follow, wanted) as result:
        if result is None:
            return None
        written = result.write(
            options.output,
            name,
            catalog_format=options.catalog_format,
            keep_realisations=options.keep_realisations,
            keep_background=options.keep_background,
            preview=options.preview,
            regions=options.regions,
        )
    # Those of an earlier run with other options have other labels.
    for path in set(product_paths(options.output, name)) - set(written):
        path.unlink(missing_ok=True)
    return json.loads(written[-1].read_text())


def _real(path: Path) -> Path:
    # A loop of links, at which Path.resolve raises, is no such file when its turn comes.
    return Path(os.path.realpath(path))


def _task(one: Input, place: Path, batch: Batch) -> Task:
    # Absolute: workers of a cluster are elsewhere. Not resolved: a link's products have the link's name.
    def absolute(name: str) -> str:
        if name == NO_MAP:
            return name
        file, hdu = split_hdu(name)
        return f"{file.absolute()}[{hdu}]" if hdu else str(file.absolute())

    options, name = batch.options, batch.options.model
    return Task(
        image=str(one.path.absolute()),
        maps={kind: absolute(file) for kind, file in one.maps.items()},
        folder=str(place.resolve()),
        model=str(Path(name).resolve()) if name.endswith(".safetensors") else name,
        model_sha256=batch.model.sha256,
        settings=options.settings,
        hdu=options.hdu,
    )


def _content_hash(files: Mapping[str, str | Path]) -> str:
    digest = hashlib.sha256()
    for kind, path in files.items():
        path, hdu = split_hdu(path)
        digest.update(f"{kind}[{hdu}]".encode())
        if str(path) == NO_MAP:
            digest.update(b"none")
            continue
        try:
            if path.is_dir():
                raise InputError(f"{path}: is a directory; appulse needs a FITS file.")
            if not path.is_file():
                raise InputError(f"{path}: no such file.")
            with open(path, "rb") as stream:
                digest.update(hashlib.file_digest(stream, "sha256").digest())
        except OSError as error:
            raise InputError(f"{path}: cannot be read ({error.strerror}).") from None
    return digest.hexdigest()

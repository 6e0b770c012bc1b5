"""Many images with the same options: what contradicts itself is refused first, and a table tells the end."""

from __future__ import annotations

import contextlib
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path

from appulse.batch.images import FAILED, Batch, ExecutorFor, Input, Outcome
from appulse.batch.journal import Journal
from appulse.batch.options import BatchOptions
from appulse.engine.course import Course
from appulse.engine.forecast import forecast, seconds_per_stamp
from appulse.engine.observation import NO_MAP, observe
from appulse.engine.workers import Shard, cluster, processes
from appulse.files import InputError, UsageError, stem
from appulse.network.weights import load_model
from appulse.result import is_product

_MAP_KINDS = ("rms", "variance", "weight", "mask")


def run_batch(
    images: Sequence[Path],
    maps: Mapping[str, Sequence[str] | None],
    options: BatchOptions,
    *,
    overwrite: bool = False,
    dry_run: bool = False,
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
        FITS files; products of appulse among them are left out.
    maps : dict of str to sequence of str or None
        For ``rms``, ``variance``, ``weight`` and ``mask``: one file per image, a template with ``{stem}``, or
        ``none``, which leaves out what is in the images' own files.
    options : BatchOptions
        The rest of the command line.
    overwrite : bool
        Begin again in a directory of other inputs or options.
    dry_run : bool
        Only check and tell.
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
    images = _without_products(images)
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
    try:
        model = load_model(options.model)
        options.settings.check(model)
    except InputError as error:
        raise UsageError(str(error)) from None
    part = _shard(shard)
    executors = _executors(workers, dask, shard, overwrite)
    journal = Journal(options.output, options.fingerprint(model), overwrite)
    journal.check()
    inputs = []
    for number, (path, name) in enumerate(zip(images, stems, strict=True)):
        maps_here = {kind: files[number] for kind, files in paired.items() if files is not None}
        inputs.append(Input(number, path, name, maps_here, options.output / f".{name}.work"))
    batch = Batch(options, model, journal, overwrite, part, progress)
    batch.check(inputs)
    if dry_run:
        return _tell(inputs, batch, workers)
    with executors as executor_for:
        journal.begin(stems)  # not before it is known who works
        outcomes = [batch.segment(one, executor_for) for one in inputs]
        if part is not None:
            batch.wait_for_others(inputs, outcomes)
    failed = sum(outcome.state == FAILED for outcome in outcomes)
    if not failed:
        journal.end(stems)
    elif part is None and failed == len(outcomes):
        journal.abandon()
    if len(images) > 1:
        print("\n".join(["", *_table(outcomes)]))
        print(f"{len(images) - failed} of {len(images)} images done, in {options.output}")
    return 1 if failed else 0


def _without_products(images: Sequence[Path]) -> list[Path]:
    """Where products lie beside the images, ``*.fits`` names them when the command is given again."""
    kept = []
    for path in images:
        if is_product(path):
            print(f"{path}: a product of appulse, left out")
        else:
            kept.append(path)
    if not kept:
        raise UsageError("all that was given are products of appulse; give the images they were made of.")
    return kept


def _table(outcomes: Sequence[Outcome]) -> list[str]:
    """What became of each image, one line each."""
    width = max(len(str(outcome.path)) for outcome in outcomes)
    lines = [f"{'image':{width}}  {'Mpix':>8}  {'galaxies':>8}  {'seconds':>8}  {'Mpix/s':>7}  outcome"]
    for outcome in outcomes:
        measured = " " * 37
        if outcome.summary is not None:
            pixels = outcome.summary["height"] * outcome.summary["width"] / 1e6
            measured = f"{pixels:8.2f}  {outcome.summary['galaxies']:8d}  {outcome.seconds:8.0f}"
            measured += f"  {pixels / outcome.seconds:7.3f}"
        state = f"{outcome.state}: {outcome.reason}" if outcome.reason else outcome.state
        lines.append(f"{outcome.path!s:{width}}  {measured}  {state}")
    return lines


def _executors(
    workers: int, dask: str | None, shard: str | None, overwrite: bool
) -> AbstractContextManager[ExecutorFor]:
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


def _tell(inputs: Sequence[Input], batch: Batch, workers: int) -> int:
    options, shards = batch.options, batch.part.count if batch.part else 1
    settings = options.settings
    sampler = settings.sampler(batch.model)
    per_stamp: float | None = None
    unusable = False
    for one in inputs:
        try:
            if not batch.overwrite and batch.has(one):
                print(f"{one.path}: done before")
                continue
            with observe(one.path, options.hdu, one.maps) as observation:
                shape, temporary = observation.exposure.shape, observation.temporary
        except InputError as error:
            unusable = True
            print(error, file=sys.stderr)
            continue
        per_stamp = per_stamp or seconds_per_stamp(sampler)
        needs = forecast(
            shape,
            settings.block,
            settings.method,
            workers,
            sampler,
            per_stamp,
            keep_realisations=options.keep_realisations,
            keep_background=options.keep_background,
            temporary=temporary,
            shards=shards,
        )
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

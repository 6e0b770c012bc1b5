"""What a field will take, before anything is done: blocks, memory, disk, time."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch

from appulse.engine.course import costs
from appulse.inference.blocks import Blocks
from appulse.inference.sampler import Sampler
from appulse.products import MAPS, SKY
from appulse.words import counted

# Measured by benchmarks/engine.py with 50 realisations, and by what 8 to 400 take: memory of a process with
# the network loaded, and of each pixel of a block; of both a part for each realisation, or byte of eight.
_MEMORY, _MEMORY_PER_SAMPLE = 0.39e9, 1.25e6
_MEMORY_PER_PIXEL, _MEMORY_PER_PIXEL_AND_BYTE = 25.0, 5.0
# Bytes per pixel of the compressed store: probabilities, which hardly compress, and the realisations: 0.12
# on the sky of euclid-wide, 0.48 on that of lsst-10yr.
_STORE_PER_PIXEL, _STORE_PER_PIXEL_AND_BYTE = 16.0, 0.3


@dataclass(frozen=True)
class Forecast:
    """What a field will take; memory is for all workers together.

    Parameters
    ----------
    blocks : int
        Of work.
    memory, work, products : float, bytes
        Memory; disk while the work goes on; disk for the products.
    temporary : float, bytes
        In ``TMPDIR``, for the unpacked copies of gzipped files.
    seconds : float
        With the workers given, on this machine; of the shard that has most to do.
    shards : int
        Runs that have a part of the field; memory and what is in ``TMPDIR`` are of each.
    """

    blocks: int
    memory: float
    work: float
    products: float
    temporary: float
    seconds: float
    shards: int = 1

    def __str__(self) -> str:
        hours, minutes = divmod(round(self.seconds / 60), 60)
        took = f"{hours} h {minutes:02d} min" if hours else f"{max(minutes, 1)} min"
        took += f" in each of {self.shards} shards" if self.shards > 1 else ""
        memory, work, products = (size / 1e9 for size in (self.memory, self.work, self.products))
        unpacked = f", and {self.temporary / 1e9:.2f} GB in TMPDIR to unpack" if self.temporary else ""
        return (
            f"{counted(self.blocks, 'block')}, about {took}, {memory:.1f} GB of memory, "
            f"{work:.2f} GB of disk for the work and {products:.2f} GB for the products{unpacked}"
        )


def seconds_per_stamp(sampler: Sampler) -> float:
    """Time of one stamp with its realisations, measured here and now.

    Parameters
    ----------
    sampler : Sampler
        Of the run.
    """
    sky = np.random.default_rng(0).standard_normal(
        (sampler.size, sampler.batch * sampler.size), dtype=np.float32
    )
    origins = [(0, slot * sampler.size) for slot in range(sampler.batch)]
    list(sampler.draw(sky, origins))  # compiles
    start = time.perf_counter()
    list(sampler.draw(sky, origins))
    return (time.perf_counter() - start) / sampler.batch


def forecast(
    shape: tuple[int, int],
    block: int,
    method: str,
    workers: int,
    sampler: Sampler,
    per_stamp: float,
    *,
    keep_realisations: bool,
    keep_background: bool,
    temporary: int = 0,
    shards: int = 1,
) -> Forecast:
    """Estimate what a field will take.

    Parameters
    ----------
    shape : (height, width), pixels
        Of the image.
    block : int, pixels
        Width of the blocks.
    method : {"two-step", "sliding", "grid"}
        As `appulse.segment` takes it.
    workers : int
        Processes.
    sampler : Sampler
        Of the run.
    per_stamp : float, seconds
        From `seconds_per_stamp`.
    keep_realisations, keep_background : bool
        Whether they are written.
    temporary : int, bytes
        As `Observation.temporary`; every worker unpacks its own copy.
    shards : int
        Runs that share the blocks.

    Returns
    -------
    Forecast
        Of a field as full as simulated Euclid ones; time is good to a factor of two.
    """
    pixels = shape[0] * shape[1]
    items = (*MAPS, *SKY) if keep_background else MAPS
    per_pixel = sum(np.dtype(item.dtype).itemsize for item in items)
    # One worker has all threads; several have one each.
    threads = torch.get_num_threads() if workers > 1 else 1
    stamps = sum(costs(pixels, method).values())
    blocks = len(Blocks(shape, block))
    shards = min(shards, blocks)
    of_shard = -(-blocks // shards) / blocks
    seconds = stamps * per_stamp * threads / workers * of_shard
    outer = min(block + sampler.size, shape[0]) * min(block + sampler.size, shape[1])
    in_bytes = -(-sampler.samples // 8)  # a bit per realisation, and per class and pixel
    of_process = _MEMORY + _MEMORY_PER_SAMPLE * sampler.samples
    of_block = (_MEMORY_PER_PIXEL + _MEMORY_PER_PIXEL_AND_BYTE * in_bytes) * outer
    return Forecast(
        blocks=blocks,
        memory=workers * (of_process + of_block) + (0.3e9 if workers > 1 else 0),
        work=(_STORE_PER_PIXEL + _STORE_PER_PIXEL_AND_BYTE * in_bytes) * pixels,
        products=(per_pixel + (sampler.samples if keep_realisations else 0)) * pixels,
        temporary=workers * temporary,
        seconds=seconds,
        shards=shards,
    )

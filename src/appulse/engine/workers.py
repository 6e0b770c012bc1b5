"""Who does the blocks: processes of this machine, a Dask cluster, or shards that share a file system."""

from __future__ import annotations

import contextlib
import functools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from appulse.engine.job import Job, steps
from appulse.engine.on_disk import Task, do_block
from appulse.engine.stages import Executor, one_after_another
from appulse.files import InputError
from appulse.inference.store import is_there
from appulse.tasks import ATTEMPTS, Runner, WorkersDied, over_dask, over_processes

# Seconds without news after which a shard takes over what other shards have not done.
PATIENCE = 600.0
POLL = 1.0  # seconds between two looks at what others have done
_Block = tuple[Task, str, int]


@contextlib.contextmanager
def processes(count: int) -> Iterator[Callable[[Task], Executor]]:
    """Processes on this machine, one thread each; they live until the end of the ``with``.

    Parameters
    ----------
    count : int
        How many.

    Yields
    ------
    callable
        Takes a task and returns what does its stages.
    """
    with over_processes(_do, count) as run:
        yield functools.partial(_Executor, run)


@contextlib.contextmanager
def cluster(address: str) -> Iterator[Callable[[Task], Executor]]:
    """A Dask cluster, which must see the input and the output under the same paths.

    Parameters
    ----------
    address : str
        Of its scheduler.

    Yields
    ------
    callable
        Takes a task and returns what does its stages.

    Raises
    ------
    UsageError
        There is no scheduler.
    """
    with over_dask(_do_on_cluster, address) as run:
        yield functools.partial(_Executor, run)


@dataclass(frozen=True)
class _Executor:
    """Does a stage of a task in blocks, wherever its runner does them."""

    run: Runner[_Block, int]
    task: Task

    def __call__(self, job: Job, stage: str, missing: list[int], advance: Callable[[int], None]) -> None:
        try:
            for _, block in self.run([(self.task, stage, block) for block in missing]):
                advance(steps(job, stage, block))
        except WorkersDied as died:
            raise InputError(
                f"block {missing[died.place]}: {ATTEMPTS} workers died in its {stage}; is there enough "
                "memory? Fewer --workers or a smaller --block need less."
            ) from None


def _do(block: _Block) -> int:
    return do_block(*block)


def _do_on_cluster(block: _Block) -> int:
    use_one_thread()
    return _do(block)


def use_one_thread() -> None:
    """Let this process compute in one thread: several processes share a machine better than threads do."""
    import torch

    torch.set_num_threads(1)


class FinishedElsewhere(Exception):
    """Another shard has written the products, and removed the work that this one was waiting for."""


@dataclass(frozen=True)
class Shard:
    """One of several runs of the same command, which share the blocks by way of the file system alone.

    Parameters
    ----------
    number, count : int
        This one, from 1, and how many there are.
    first : int
        Shard that has the first block, from 0, modulo their count.
    """

    number: int
    count: int
    first: int = 0

    def of(self, image: int) -> Shard:
        """The same shard for one of many images: their first blocks go round.

        Parameters
        ----------
        image : int
            Its place among the images.
        """
        return Shard(self.number, self.count, image % self.count)

    def owns(self, block: int) -> bool:
        """Whether a block is this shard's.

        Parameters
        ----------
        block : int
            Its number.
        """
        return (block + self.first) % self.count == self.number - 1

    def __call__(self, job: Job, stage: str, missing: list[int], advance: Callable[[int], None]) -> None:
        """Do this shard's blocks of a stage, and wait for those of the others.

        Parameters
        ----------
        job : Job
            Whose blocks they are.
        stage : str
            One of `appulse.engine.job.stages`.
        missing : list of int
            Blocks that lack it.
        advance : callable
            Told of the steps done.

        Raises
        ------
        FinishedElsewhere
            The field is done.
        """
        own = [block for block in missing if self.owns(block)]
        one_after_another(job, stage, own, advance)
        others = sorted(set(missing) - set(own), key=lambda block: (block - self.number) % len(job.blocks))
        heard = time.monotonic()
        while others:
            if not is_there(job.place):
                raise FinishedElsewhere
            found = [block for block in others if job.store.has(stage, block)]
            if found:
                heard = time.monotonic()
                advance(sum(steps(job, stage, block) for block in found))
                others = [block for block in others if block not in found]
            elif time.monotonic() - heard > PATIENCE:
                # Whoever had it is gone; or else the same is done twice, with the same outcome.
                one_after_another(job, stage, [others.pop(0)], advance)
            else:
                time.sleep(POLL)

    def writes_products(self, place: Path) -> bool:
        """Whether it falls to this shard to write the products of a finished field.

        Parameters
        ----------
        place : Path
            Where the work is kept.
        """
        claim = place / "written-by"
        with contextlib.suppress(FileExistsError):
            with open(claim, "x") as file:
                file.write(f"{self.number}/{self.count}\n")
            return True
        # A shard that was given the same number again goes on with what it had claimed; others are patient.
        return claim.read_text() == f"{self.number}/{self.count}\n"

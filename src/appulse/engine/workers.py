"""Who does the blocks: processes of this machine, a Dask cluster, or shards that share a file system."""

from __future__ import annotations

import contextlib
import multiprocessing
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.context import SpawnContext
from pathlib import Path

from appulse.engine.job import Job, steps
from appulse.engine.on_disk import Task, do_block
from appulse.engine.stages import Executor, one_after_another
from appulse.files import InputError
from appulse.heap import use_large_pages
from appulse.inference.store import is_there
from appulse.tasks import dask_client

# Times that a block may take its worker with it before the run gives up.
ATTEMPTS = 3
# Seconds without news after which a shard takes over what other shards have not done.
PATIENCE = 600.0
POLL = 1.0  # seconds between two looks at what others have done
_FAREWELL = 5.0


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
    pool = _Pool(count)
    try:
        yield lambda task: lambda job, stage, missing, advance: pool.run(job, task, stage, missing, advance)
    finally:
        pool.close()


class _Worker:
    """A process, its line, and the block it is at."""

    def __init__(self, context: SpawnContext):
        self.line, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        self.process.start()
        theirs.close()
        self.block: int | None = None


class _Pool:
    """Unlike those of the standard library, it outlives a worker's death, which costs one block's time."""

    def __init__(self, count: int):
        self.context = multiprocessing.get_context("spawn")
        self.workers = [_Worker(self.context) for _ in range(count)]

    def run(
        self, job: Job, task: Task, stage: str, missing: list[int], advance: Callable[[int], None]
    ) -> None:
        waiting, attempts, failure = deque(missing), dict.fromkeys(missing, 0), None
        # After a failure nothing new is begun, but what is in hand is waited for: the pool serves others too.
        while (waiting and failure is None) or any(worker.block is not None for worker in self.workers):
            for place, worker in enumerate(self.workers):
                if worker.block is None and waiting and failure is None:
                    if not worker.process.is_alive():  # it died between two blocks
                        worker = self.workers[place] = _Worker(self.context)
                    worker.block = waiting.popleft()
                    attempts[worker.block] += 1
                    with contextlib.suppress(
                        BrokenPipeError
                    ):  # it died just now, and will be found dead below
                        worker.line.send((task, stage, worker.block))
            ready = wait([worker.line for worker in self.workers if worker.block is not None])
            for place, worker in enumerate(self.workers):
                if worker.line not in ready:
                    continue
                block, worker.block = worker.block, None
                assert block is not None  # only those that have one were waited for
                try:
                    error = worker.line.recv()
                except (EOFError, ConnectionResetError):
                    self.workers[place] = _Worker(self.context)
                    waiting.append(block)
                    error = None if attempts[block] < ATTEMPTS else _deaths(block, stage)
                else:
                    if error is None:
                        advance(steps(job, stage, block))
                failure = failure or error
        if failure is not None:
            raise failure

    def close(self) -> None:
        for worker in self.workers:
            worker.line.close()  # tells it to end
        for worker in self.workers:
            worker.process.join(timeout=_FAREWELL)
            worker.process.kill()
            worker.process.join()


def _deaths(block: int, stage: str) -> InputError:
    return InputError(
        f"block {block}: {ATTEMPTS} workers died in its {stage}; is there enough memory? "
        "Fewer --workers or a smaller --block need less."
    )


def _serve(line: Connection) -> None:
    """Do what comes down the line until it is closed."""
    use_large_pages()
    use_one_thread()
    while True:
        try:
            task, stage, block = line.recv()
        except (EOFError, KeyboardInterrupt):
            return
        try:
            do_block(task, stage, block)
            line.send(None)
        except InputError as error:
            line.send(error)
        except KeyboardInterrupt:
            return
        except Exception as error:
            line.send(RuntimeError(f"{type(error).__name__}: {error}\n{traceback.format_exc()}"))


def use_one_thread() -> None:
    """Let this process compute in one thread: several processes share a machine better than threads do."""
    import torch

    torch.set_num_threads(1)


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
    from distributed import as_completed

    def executor(task: Task) -> Executor:
        def run(job: Job, stage: str, missing: list[int], advance: Callable[[int], None]) -> None:
            futures = {
                client.submit(_on_cluster, task, stage, block, pure=False, retries=ATTEMPTS): block
                for block in missing
            }
            for future in as_completed(futures, loop=client.loop):
                future.result()
                advance(steps(job, stage, futures[future]))

        return run

    with dask_client(address) as client:
        yield executor


def _on_cluster(task: Task, stage: str, block: int) -> int:
    use_one_thread()
    return do_block(task, stage, block)


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

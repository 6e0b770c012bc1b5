"""Tasks over processes of this machine, or over a Dask cluster: results come as they are finished."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import CancelledError, Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import TYPE_CHECKING, TypeVar

from appulse.files import InputError, UsageError
from appulse.progress import Progress

if TYPE_CHECKING:
    from multiprocessing.process import BaseProcess

    from distributed import Client

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")

# Times in a row that workers may die without any task being finished.
_MOST_DEATHS = 3
_PATIENCE = 30  # seconds, with a scheduler that does not answer
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")


def usable_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def dask_client(address: str) -> Client:
    """A client of a Dask cluster, to be closed.

    Parameters
    ----------
    address : str
        Of its scheduler.

    Returns
    -------
    distributed.Client

    Raises
    ------
    UsageError
        No scheduler at the address.
    """
    from distributed import Client
    from distributed.comm import get_address_host_port, parse_address

    try:
        if parse_address(address)[0] in ("tcp", "tls"):  # a client that finds nobody holds up the end
            socket.create_connection(get_address_host_port(address), timeout=_PATIENCE).close()
        return Client(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"--dask {address}: no Dask scheduler answers there ({error}).") from None


def run_tasks(
    function: Callable[[_Task], _Result],
    tasks: Sequence[_Task],
    *,
    workers: int = 1,
    dask: str | None = None,
) -> Iterator[tuple[_Task, _Result]]:
    """Run a function on every task; yield task and result in the order in which they are finished.

    Parameters
    ----------
    function : callable
        Importable by name; run again from the start for a task whose worker died.
    tasks : sequence
        What it takes, one at a time.
    workers : int
        Processes, spawned, of one thread each; with 1 everything runs in this one.
    dask : str, optional
        Address of a Dask scheduler, whose workers run the tasks instead.

    Yields
    ------
    tuple
        Task and result.

    Raises
    ------
    UsageError
        No scheduler at the address.
    InputError
        Workers keep dying.
    """
    if dask is not None:
        yield from _over_dask(function, tasks, dask)
    elif workers <= 1 or len(tasks) <= 1:
        for task in tasks:
            yield task, function(task)
    else:
        yield from _over_processes(function, tasks, min(workers, len(tasks)))


def gathered(
    job: Callable[..., _Result],
    items: Sequence[_Task],
    stage: str,
    workers: int = 1,
    progress: Progress | None = None,
) -> Iterator[_Result]:
    """What a job gives for each item, in their order whoever is first.

    Parameters
    ----------
    job : callable
        Takes an item and ``progress``; can be sent to another process.
    items : sequence
        Can be sent to another process.
    stage : str
        What the items are called.
    workers : int
        Processes.
    progress : callable, optional
        Called with the name of a stage, steps done and their total. What goes on inside a job is told only
        where one process does them all.

    Yields
    ------
    object
    """
    alone = workers <= 1 or len(items) <= 1
    numbered = functools.partial(_numbered, job=job, progress=progress if alone else None)
    early: dict[int, _Result] = {}
    due = 0
    for (number, _), result in run_tasks(numbered, list(enumerate(items)), workers=workers):
        early[number] = result
        if progress and len(items) > 1:
            progress(stage, due + len(early), len(items))
        while due in early:
            yield early.pop(due)
            due += 1


def _numbered(task: tuple[int, _Task], job: Callable[..., _Result], progress: Progress | None) -> _Result:
    return job(task[1], progress=progress)


def _over_processes(
    function: Callable[[_Task], _Result], tasks: Sequence[_Task], workers: int
) -> Iterator[tuple[_Task, _Result]]:
    waiting, deaths = dict(enumerate(tasks)), 0
    while waiting:
        with _one_thread_each(), _processes(workers) as pool:
            try:
                for number, result in _finished(pool, function, waiting):
                    task = waiting.pop(number)
                    deaths = 0
                    yield task, result
            except BrokenProcessPool:
                deaths += 1
                if deaths >= _MOST_DEATHS:
                    raise InputError(
                        f"workers died {deaths} times in a row, perhaps for want of memory; what was "
                        "finished is kept. Give fewer --workers."
                    ) from None


def _finished(
    pool: Executor, function: Callable[[_Task], _Result], waiting: dict[int, _Task]
) -> Iterator[tuple[int, _Result]]:
    futures = {pool.submit(function, task): number for number, task in waiting.items()}
    try:
        for future in as_completed(futures):
            yield futures.pop(future), future.result()
    finally:
        for future in futures:
            future.cancel()


def _processes(workers: int) -> ProcessPoolExecutor:
    spawn = multiprocessing.get_context("spawn")
    return ProcessPoolExecutor(workers, mp_context=spawn, initializer=_start_worker)


def _start_worker() -> None:
    # An interrupt ends workers without a traceback from each of them.
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    # A worker whose parent was killed would wait for its next task for ever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent,), daemon=True).start()


def _die_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


@contextlib.contextmanager
def _one_thread_each() -> Iterator[None]:
    # Spawned processes read these when they load their libraries; setting them later comes too late.
    before = {name: os.environ.get(name) for name in _ONE_THREAD}
    os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _over_dask(
    function: Callable[[_Task], _Result], tasks: Sequence[_Task], address: str
) -> Iterator[tuple[_Task, _Result]]:
    from distributed import KilledWorker

    with dask_client(address) as client:
        # Dask starts a task anew on another worker when one dies, and gives up after three.
        pool = client.get_executor(pure=False)
        try:
            for number, result in _finished(pool, function, dict(enumerate(tasks))):
                yield tasks[number], result
        except (KilledWorker, CancelledError) as error:
            reason = " ".join(str(error).split()) or "the scheduler is gone"
            raise InputError(f"--dask {address}: {reason} What was finished is kept.") from None

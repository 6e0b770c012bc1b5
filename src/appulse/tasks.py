"""Tasks over processes of this machine, or over a Dask cluster: results come as they are finished."""

from __future__ import annotations

import contextlib
import functools
import multiprocessing
import os
import pickle
import signal
import socket
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from multiprocessing import resource_tracker
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from typing import TYPE_CHECKING, NoReturn, TypeVar

from appulse.files import InputError, UsageError
from appulse.heap import use_large_pages
from appulse.progress import Progress

if TYPE_CHECKING:
    from distributed import Client

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")
# Takes tasks, and gives the place and the result of each as they are finished.
Runner = Callable[[Sequence[_Task]], Iterator[tuple[int, _Result]]]

# Workers that a task may take with it.
ATTEMPTS = 3
_PATIENCE = 30  # seconds, with a scheduler that does not answer
_FAREWELL = 5.0  # seconds, for all workers together
_ONE_THREAD = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS")
_starting = threading.Lock()


class WorkersDied(InputError):
    """A task has taken as many workers with it as it may.

    Parameters
    ----------
    place, count : int
        Which of how many tasks it is, from 0.
    """

    def __init__(self, place: int, count: int):
        super().__init__(
            f"{ATTEMPTS} workers died of task {place + 1} of {count}, perhaps for want of memory; what was "
            "finished is kept. Give fewer --workers."
        )
        self.place = place


def usable_cpus() -> int:
    """CPUs that this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
        Workers keep dying of the same task.
    """
    for place, result in _results(function, tasks, workers, dask):
        yield tasks[place], result


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
    function = functools.partial(job, progress=progress if alone else None)
    early: dict[int, _Result] = {}
    due = 0
    for place, result in _results(function, items, workers):
        early[place] = result
        if progress and len(items) > 1:
            progress(stage, due + len(early), len(items))
        while due in early:
            yield early.pop(due)
            due += 1


def _results(
    function: Callable[[_Task], _Result], tasks: Sequence[_Task], workers: int, dask: str | None = None
) -> Iterator[tuple[int, _Result]]:
    runner: AbstractContextManager[Runner[_Task, _Result]]
    if dask is not None:
        runner = over_dask(function, dask)
    elif workers <= 1 or len(tasks) <= 1:
        runner = _here(function)
    else:
        runner = over_processes(function, min(workers, len(tasks)))
    with runner as run:
        yield from run(tasks)


def _here(function: Callable[[_Task], _Result]) -> AbstractContextManager[Runner[_Task, _Result]]:
    return contextlib.nullcontext(lambda tasks: ((place, function(task)) for place, task in enumerate(tasks)))


@contextlib.contextmanager
def over_processes(function: Callable[[_Task], _Result], count: int) -> Iterator[Runner[_Task, _Result]]:
    """Processes of this machine, spawned, of one thread each; they live until the end of the ``with``.

    After a failure of a task nothing new is begun, but what is in hand is waited for, and the same processes
    serve the next tasks.

    Parameters
    ----------
    function : callable
        Importable by name; what it needs is loaded at once.
    count : int
        How many.

    Yields
    ------
    callable
        Takes tasks, and gives the place and the result of each as they are finished. An exception of a task
        is raised as it is; unless it is an InputError, a note of it tells where in the worker it comes from.
        `WorkersDied` is raised for a task that takes worker after worker with it.
    """
    pool = _Pool(function, count)
    try:
        yield pool.run
    finally:
        pool.close()


class _Worker:
    """A process, its line, and the place of the task it is at."""

    def __init__(self) -> None:
        context = multiprocessing.get_context("spawn")
        self.line, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs,), daemon=True)
        with _surroundings():
            self.process.start()
        theirs.close()
        self.place: int | None = None

    def send(self, message: bytes) -> None:
        # One that died just now will be found dead when its answer is waited for.
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            self.line.send_bytes(message)

    def answer(self) -> bytes | None:
        """What it sends, when its line is ready; None if it died."""
        try:
            message = self.line.recv_bytes()
        except (EOFError, OSError):
            self.end()
            return None
        self.place = None
        return message

    def end(self) -> None:
        self.line.close()
        self.process.kill()
        self.process.join()
        self.place = None


class _Pool:
    """Unlike those of the standard library, it outlives a worker's death, which costs one task's time."""

    def __init__(self, function: Callable[[_Task], _Result], count: int):
        self.function = pickle.dumps(function)
        self.workers = [_Worker() for _ in range(count)]
        for worker in self.workers:  # not before all are on their way: one may have to be up to take it
            worker.send(self.function)

    def run(self, tasks: Sequence[_Task]) -> Iterator[tuple[int, _Result]]:
        waiting, attempts = deque(range(len(tasks))), Counter[int]()
        finished: deque[tuple[int, _Result]] = deque()
        failure: Exception | None = None
        try:
            while True:
                while waiting and failure is None and (idle := self._idle()) is not None:
                    message = pickle.dumps(tasks[waiting[0]])
                    idle.place = waiting.popleft()
                    attempts[idle.place] += 1
                    idle.send(message)
                while finished:  # now that all have work: whoever takes it may take long
                    yield finished.popleft()
                busy = [worker for worker in self.workers if worker.place is not None]
                if not busy:
                    break
                ready = wait([worker.line for worker in busy])
                for worker in busy:
                    place = worker.place
                    if worker.line not in ready or place is None:
                        continue
                    answer = worker.answer()
                    if answer is not None:
                        result, error = pickle.loads(answer)
                        if error is None:
                            finished.append((place, result))
                    elif attempts[place] < ATTEMPTS:
                        waiting.append(place)
                        error = None
                    else:
                        error = WorkersDied(place, len(tasks))
                    failure = failure or error
        finally:
            # None has anything in hand, unless nobody waits for it any more.
            for worker in self.workers:
                if worker.place is not None:
                    worker.end()
        if failure is not None:
            raise failure

    def _idle(self) -> _Worker | None:
        for number, worker in enumerate(self.workers):
            if worker.place is None:
                if not worker.process.is_alive():
                    worker = self.workers[number] = _Worker()
                    worker.send(self.function)
                return worker
        return None

    def close(self) -> None:
        for worker in self.workers:
            worker.line.close()  # tells it to end
        until = time.monotonic() + _FAREWELL
        for worker in self.workers:
            worker.process.join(timeout=max(0.0, until - time.monotonic()))
            worker.end()


@contextlib.contextmanager
def _surroundings() -> Iterator[None]:
    """What a process inherits that is started here: libraries of one thread, and interrupts that wait.

    Libraries read how many threads to have when they are loaded, which happens before any function is called.
    """
    with _starting:
        resource_tracker.ensure_running()  # its own start would let interrupts through again
        before = {name: os.environ.get(name) for name in _ONE_THREAD}
        blocked = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
        try:
            os.environ.update(dict.fromkeys(_ONE_THREAD, "1"))
            yield
        finally:
            for name, value in before.items():
                if value is None:
                    os.environ.pop(name, None)
                else:
                    os.environ[name] = value
            signal.pthread_sigmask(signal.SIG_SETMASK, blocked)


def _serve(line: Connection) -> None:
    """Do what comes down the line until it is closed."""
    _begin()
    with contextlib.suppress(EOFError, OSError):
        try:
            function = pickle.loads(line.recv_bytes())
        except Exception as error:
            function = functools.partial(_fail, error)  # to whoever sends a task
        while True:
            line.send_bytes(_answer(function, line.recv_bytes()))


def _begin() -> None:
    # An interrupt ends workers without a traceback from each of them.
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    # Not in the parent, where numba reads it whenever it compiles, and refuses another number than it has.
    os.environ["NUMBA_NUM_THREADS"] = "1"
    use_large_pages()
    # A worker whose parent was killed would go on with its task, and wait for the next one for ever.
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_die_with, args=(parent,), daemon=True).start()


def _die_with(parent: BaseProcess) -> None:
    parent.join()
    os._exit(1)


def _fail(error: Exception, task: object) -> NoReturn:
    raise error


def _answer(function: Callable[[_Task], _Result], message: bytes) -> bytes:
    """Result and exception of a task, one of them None, to be sent."""
    try:
        return pickle.dumps((function(pickle.loads(message)), None))
    except Exception as error:
        if not isinstance(error, InputError):
            error.add_note(f"In a worker:\n{traceback.format_exc()}")
        try:
            answer = pickle.dumps((None, error))
            pickle.loads(answer)
        except Exception:  # not every exception can be sent
            text = "".join(traceback.format_exception(error))
            return pickle.dumps((None, RuntimeError(f"{type(error).__name__} in a worker:\n{text}")))
        return answer


@contextlib.contextmanager
def over_dask(function: Callable[[_Task], _Result], address: str) -> Iterator[Runner[_Task, _Result]]:
    """A Dask cluster, as `over_processes`.

    Parameters
    ----------
    function : callable
        Importable by name, by the cluster's workers.
    address : str
        Of its scheduler.

    Yields
    ------
    callable
        Takes tasks, and gives the place and the result of each as they are finished. An exception of a task
        is raised as it is; InputError where its workers keep dying, or the scheduler is gone.

    Raises
    ------
    UsageError
        No scheduler at the address.
    """
    from distributed import CancelledError, KilledWorker, as_completed

    def run(tasks: Sequence[_Task]) -> Iterator[tuple[int, _Result]]:
        # Dask starts a task anew on another worker when one dies, and gives up after three.
        futures = {client.submit(function, task, pure=False): place for place, task in enumerate(tasks)}
        try:
            for future in as_completed(list(futures), loop=client.loop):
                yield futures.pop(future), future.result()
        except (KilledWorker, CancelledError) as error:
            reason = " ".join(str(error).split()) or "the scheduler is gone"
            raise InputError(f"--dask {address}: {reason} What was finished is kept.") from None
        finally:
            for future in futures:  # those not yet begun never are
                future.release()

    with _dask_client(address) as client:
        yield run


def _dask_client(address: str) -> Client:
    from distributed import Client
    from distributed.comm import get_address_host_port, parse_address

    try:
        if parse_address(address)[0] in ("tcp", "tls"):  # a client that finds nobody holds up the end
            socket.create_connection(get_address_host_port(address), timeout=_PATIENCE).close()
        return Client(address, timeout=_PATIENCE, set_as_default=False)
    except (OSError, ValueError) as error:
        raise UsageError(f"--dask {address}: no Dask scheduler answers there ({error}).") from None

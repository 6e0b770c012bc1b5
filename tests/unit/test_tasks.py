"""Tasks over processes that die, fail or are many."""

import os
import platform
import signal
import subprocess
import sys
import traceback
from pathlib import Path

import pytest

import tasks as work
from appulse.engine.workers import cluster
from appulse.files import InputError, UsageError
from appulse.tasks import gathered, over_processes, run_tasks, usable_cpus

LIMITS = ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS", "NUMBA_NUM_THREADS")
linux = pytest.mark.skipif(not os.path.isdir("/proc/self/task"), reason="looks into /proc")


@pytest.mark.parametrize("workers", [1, 2])
def test_every_task_is_answered_once(workers):
    answers = list(run_tasks(work.square, range(7), workers=workers))
    assert sorted(answers) == [(n, n * n) for n in range(7)]


def test_the_number_of_workers_changes_no_result():
    one, two = (dict(run_tasks(work.draw, range(5), workers=workers)) for workers in (1, 2))
    assert one == two


@linux
@pytest.mark.slow
def test_workers_are_processes_of_one_thread_each(monkeypatch):
    for name in LIMITS:  # what the caller allows its own libraries is no matter
        monkeypatch.delenv(name, raising=False)
    assert dict(run_tasks(work.threads, range(2), workers=2)) == {0: (1, 1, 0), 1: (1, 1, 0)}


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's own functions")
def test_workers_keep_their_memory_in_large_pages():
    command = [sys.executable, "-c", "import tasks; print(tasks.large_pages())"]
    assert subprocess.run(command, capture_output=True, check=True, env=surroundings()).stdout == b"0\n"
    assert all(answer > 0 for _, answer in run_tasks(work.large_pages, range(2), workers=2))


def test_the_environment_is_the_callers_while_it_takes_results(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setenv("NUMBA_NUM_THREADS", "2")
    before = dict(os.environ)
    for _ in run_tasks(work.square, range(4), workers=2):
        assert dict(os.environ) == before
    assert dict(os.environ) == before


def test_a_dead_worker_costs_its_task_only(tmp_path):
    """The other is at its task from before the death until the dead one's task is at its second attempt."""
    a, b, c, begun, again = (tmp_path / name for name in ("a", "b", "c", "begun", "again"))
    tasks = [
        [("count", a), ("wait", begun), ("die", tmp_path / "died"), ("touch", again)],
        [("count", b), ("touch", begun), ("wait", again)],
        [("count", c)],
    ]
    with over_processes(work.follow, 2) as run:
        answers = dict(run(tasks))
    assert sorted(answers) == [0, 1, 2]
    assert [path.read_text() for path in (a, b, c)] == ["xx", "x", "x"]


def test_deaths_of_different_tasks_do_not_add_up(tmp_path):
    paths = [str(tmp_path / name) for name in "abcd"]
    assert dict(run_tasks(work.die_once, paths, workers=2)) == {path: path[-1] for path in paths}


def test_workers_that_keep_dying_are_given_up():
    with pytest.raises(InputError, match=r"3 workers died of task [12] of 2.*fewer --workers"):
        list(run_tasks(work.die, range(2), workers=2))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_a_task_reaches_the_caller(workers):
    with pytest.raises(OSError, match="as asked") as caught:
        list(run_tasks(work.fail, [5, 6], workers=workers))
    assert "in fail\n" in "".join(traceback.format_exception(caught.value))


@pytest.mark.parametrize("workers", [1, 2])
def test_what_a_task_cannot_use_is_said_as_it_is(workers):
    with pytest.raises(UsageError) as caught:
        list(run_tasks(work.refuse, [5, 5], workers=workers))
    assert "".join(traceback.format_exception_only(caught.value)).endswith("UsageError: not 5\n")


@pytest.mark.parametrize(
    ("function", "error", "message"),
    [
        (work.fail_oddly, RuntimeError, r"Odd in a worker(.|\n)*in fail_oddly(.|\n)*5 and so on"),
        (work.give_a_lock, TypeError, "pickle"),
        (work.Unknown(), OSError, "as asked"),
    ],
)
def test_what_cannot_be_sent_is_an_error_and_no_death(function, error, message):
    with over_processes(function, 1) as run, pytest.raises(error, match=message):
        list(run([5]))


def test_what_is_in_hand_when_a_task_fails_is_waited_for(tmp_path):
    begun, failing = tmp_path / "begun", tmp_path / "failing"
    tasks = [
        [("wait", begun), ("touch", failing), ("fail", 5)],
        [("touch", begun), ("wait", failing)],
    ]
    found = run_tasks(work.follow, tasks, workers=2)
    assert next(found)[0] == tasks[1]
    with pytest.raises(OSError, match="as asked"):
        next(found)


def test_after_a_failure_nothing_is_begun_and_the_same_process_serves_the_next(tmp_path):
    with over_processes(work.follow, 1) as run:
        ((_, process),) = run([[]])
        with pytest.raises(OSError, match="as asked"):
            list(run([[("fail", 5)], [("touch", tmp_path / "begun")]]))
        assert not (tmp_path / "begun").exists()
        assert list(run([[]])) == [(0, process)] != [(0, os.getpid())]


def test_what_nobody_waits_for_any_more_is_no_answer_to_the_next_tasks(tmp_path):
    with over_processes(work.follow, 2) as run:
        found = run([[], [("touch", tmp_path / "begun"), ("wait", tmp_path / "never")]])
        _, process = next(found)
        work.wait_for(tmp_path / "begun")
        found.close()
        answers = dict(run([[], []]))
        assert sorted(answers) == [0, 1] and process in answers.values()


def test_workers_go_on_while_the_caller_is_busy(tmp_path):
    with over_processes(work.follow, 1) as run:
        for place, _ in run([[], [("touch", tmp_path / "begun")]]):
            if place == 0:
                work.wait_for(tmp_path / "begun")


def surroundings():
    """Of a process that knows the tasks."""
    here = str(Path(__file__).parents[1])
    return os.environ | {"PYTHONPATH": os.pathsep.join([here, os.environ.get("PYTHONPATH", "")])}


AT_WORK = "list(run_tasks(tasks.stay, range(2), workers=2))"
AT_THE_START = "\n    with over_processes(tasks.stay, 2): print('here\\nhere', flush=True); signal.pause()"


@pytest.mark.parametrize(
    ("doing", "kill", "number", "code"),
    [
        (AT_WORK, os.kill, signal.SIGKILL, -signal.SIGKILL),
        (AT_WORK, os.killpg, signal.SIGINT, 130),
        (AT_THE_START, os.killpg, signal.SIGINT, 130),
    ],
    ids=["killed", "interrupted", "interrupted at the start"],
)
def test_workers_end_with_their_parent_and_say_nothing(doing, kill, number, code):
    script = "import signal, sys, tasks\nfrom appulse.tasks import over_processes, run_tasks\n"
    script += f"try: {doing}\nexcept KeyboardInterrupt: sys.exit(130)"
    process = subprocess.Popen(
        [sys.executable, "-c", script],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env=surroundings(),
    )
    try:
        assert [process.stdout.readline() for _ in range(2)] == ["here\n"] * 2
        kill(process.pid, number)
        # The workers have the other ends of both pipes: as long as one lives, there may be more to read.
        assert process.communicate(timeout=60) == ("", "")
    finally:
        process.kill()
        process.wait()
        process.stdout.close()
        process.stderr.close()
    assert process.returncode == code


def test_workers_of_a_cluster_that_die(tmp_path):
    from distributed import LocalCluster

    paths = [str(tmp_path / name) for name in "ab"]
    (tmp_path / "a").touch()
    with LocalCluster(n_workers=2, threads_per_worker=1, processes=True, dashboard_address=":0") as cluster:
        address = cluster.scheduler_address
        assert dict(run_tasks(work.die_once, paths, dask=address)) == {path: path[-1] for path in paths}
        with pytest.raises(InputError, match="kept"):
            list(run_tasks(work.die, [1], dask=address))
        with pytest.raises(OSError, match="as asked"):
            list(run_tasks(work.fail, [5, 6], dask=address))


@pytest.mark.parametrize("workers", [1, 2])
def test_what_is_gathered_is_in_order(workers, tmp_path):
    told = []
    # With two workers, the first task ends only after the second has.
    mark = tmp_path / "mark"
    tasks = [(mark, "wait" if workers == 2 else "touch", 0), (mark, "touch", 1), (mark, "touch", 2)]
    answers = gathered(work.wait_or_touch, tasks, "tasks", workers, lambda *step: told.append(step))
    assert list(answers) == [0, 1, 2]
    assert [step for step in told if step[0] == "tasks"] == [("tasks", done, 3) for done in (1, 2, 3)]
    # What goes on inside is told by one process only.
    assert ("inside", 1, 1) in told if workers == 1 else ("inside", 1, 1) not in told


@pytest.mark.parametrize("workers", [1, 2])
def test_what_comes_after_a_failure_is_not_gathered(workers, tmp_path):
    done = tmp_path / "done"
    waits = [("wait", done)] if workers == 2 else []
    found = gathered(work.follow, [[], [*waits, ("fail", 5)], [("touch", done)]], "tasks", workers)
    next(found)
    with pytest.raises(OSError, match="as asked"):
        next(found)
    assert done.exists() == (workers == 2)


def test_no_tasks():
    assert list(run_tasks(work.square, [], workers=2)) == []


def test_an_address_without_a_scheduler_is_a_mistake():
    with pytest.raises(UsageError, match="--dask nowhere: no Dask scheduler"):
        list(run_tasks(work.square, [1, 2], dask="nowhere"))
    # The blocks of an image are no tasks of this kind, but say the same.
    with pytest.raises(UsageError, match="--dask nowhere: no Dask scheduler"), cluster("nowhere"):
        pass


def test_usable_cpus_are_those_of_the_affinity():
    assert 1 <= usable_cpus() <= os.cpu_count()

"""Tasks over processes that die, fail or are many."""

import os

import pytest

import tasks as work
from appulse.engine.workers import cluster
from appulse.files import InputError, UsageError
from appulse.tasks import gathered, run_tasks, usable_cpus


@pytest.mark.parametrize("workers", [1, 2])
def test_every_task_is_answered_once(workers):
    answers = list(run_tasks(work.square, range(7), workers=workers))
    assert sorted(answers) == [(n, n * n) for n in range(7)]


def test_workers_are_processes_of_one_thread():
    before = dict(os.environ)
    answers = [answer for _, answer in run_tasks(work.threads_allowed, range(4), workers=2)]
    assert {threads for threads, _, _ in answers} == {"1"}
    assert os.getpid() not in {process for _, process, _ in answers}
    assert dict(os.environ) == before


def test_a_dead_worker_costs_its_task_only(tmp_path):
    paths = [str(tmp_path / name) for name in "abc"]
    (tmp_path / "a").touch()
    answers = dict(run_tasks(work.die_once, paths, workers=2))
    assert answers == {path: path[-1] for path in paths}


def test_workers_that_keep_dying_are_given_up():
    with pytest.raises(InputError, match="died 3 times in a row"):
        list(run_tasks(work.die, range(3), workers=2))


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_of_a_task_reaches_the_caller(workers):
    with pytest.raises(OSError, match="as asked"):
        list(run_tasks(work.fail, [5, 6], workers=workers))


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

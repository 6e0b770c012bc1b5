"""Tasks for worker processes, which import them by name."""

import os
import signal
import threading
import time
from pathlib import Path

import numpy as np

from appulse.files import UsageError


def square(number):
    return number * number


def draw(seed):
    numbers = np.random.default_rng(seed).normal(size=(50, 50))
    return (numbers @ numbers).tobytes()


def large_pages(_=None):
    """Parts of the memory that are to be in large pages, as the kernel has them noted down."""
    return Path("/proc/self/smaps").read_text().count(" hg ")


def threads(_):
    """How many torch and numba compute in, and how many there are that Python has not made."""
    import numba
    import torch

    draw(0)
    torch.ones(200, 200) @ torch.ones(200, 200)
    unknown = len(os.listdir("/proc/self/task")) - threading.active_count()
    return torch.get_num_threads(), numba.get_num_threads(), unknown


def die_once(path):
    """Kill the own process, unless an earlier attempt left its mark."""
    path = Path(path)
    if not path.exists():
        path.touch()
        os.kill(os.getpid(), signal.SIGKILL)
    return path.name


def die(_):
    os.kill(os.getpid(), signal.SIGKILL)


def stay(_):
    os.write(1, b"here\n")  # whole, whoever else writes
    while True:
        signal.pause()


def fail(number):
    raise OSError(number, "as asked")


def refuse(number):
    raise UsageError(f"not {number}")


class Odd(Exception):
    """Sent to another process, it would be made of too little."""

    def __init__(self, one, other):
        super().__init__(f"{one} and {other}")


def fail_oddly(number):
    raise Odd(number, "so on")


def give_a_lock(_):
    return threading.Lock()


class Unknown:
    """Cannot be made in another process."""

    def __reduce__(self):
        return fail, (0,)

    def __call__(self, task):
        return task


def wait_for(path):
    """Until it is there; a minute at most."""
    until = time.monotonic() + 60
    while not path.exists() and time.monotonic() < until:
        time.sleep(0.01)
    assert path.exists(), path


def count(path):
    with open(path, "a") as file:
        file.write("x")


DEEDS = {"touch": Path.touch, "wait": wait_for, "count": count, "die": die_once, "fail": fail}


def follow(deeds, progress=None):
    """Do one deed after another; say which process did."""
    for deed, given in deeds:
        DEEDS[deed](given)
    return os.getpid()


def wait_or_touch(task, progress):
    """Touch a file, or wait until another task has."""
    path, what, answer = task
    if progress:
        progress("inside", 1, 1)
    DEEDS[what](path)
    return answer

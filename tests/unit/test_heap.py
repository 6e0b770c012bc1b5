"""Large pages of a process of its own, as the kernel reports them."""

import ctypes
import mmap
import platform
import subprocess
import sys
from unittest.mock import MagicMock

import pytest

from appulse.heap import use_large_pages

# Memory freed and taken again: how many pages the kernel had to clear in the second round.
TWICE = """
import resource, sys
import numpy as np
from appulse.heap import use_large_pages
advised = lambda: open("/proc/self/smaps").read().count(" hg ")
before = advised()
assert sys.argv[1] != "large" or use_large_pages()
print(advised() - before)  # NumPy asks for large pages of its own
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(50 << 20, np.uint8).fill(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's own functions")


def run(how):
    command = [sys.executable, "-c", TWICE, how]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return map(int, done.stdout.split())


@glibc
def test_memory_is_kept_and_in_large_pages():
    advised, cleared = run("large")
    advised_without, cleared_without = run("as it is")
    assert advised > advised_without == 0
    assert cleared < 10 < cleared_without


@pytest.mark.parametrize("page", [4096, 16384, 65536])
def test_what_is_advised_is_whole_pages_of_the_machine(page, monkeypatch):
    memory, size = 0x7F0000001010, 1 << 20
    libc = MagicMock()
    libc.malloc.return_value, libc.madvise.return_value = memory, 0
    monkeypatch.setattr(ctypes, "CDLL", lambda name: libc)
    monkeypatch.setattr(mmap, "PAGESIZE", page)
    assert use_large_pages(size)
    start, length, _ = libc.madvise.call_args.args
    assert start % page == length % page == 0
    assert memory <= start < memory + page and memory + size - page < start + length <= memory + size

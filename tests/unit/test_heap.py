"""Large pages of a process of its own, as the kernel reports them."""

import platform
import subprocess
import sys

import pytest

# Memory freed and taken again: how many pages the kernel had to clear in the second round.
TWICE = """
import resource, sys
import numpy as np
from appulse.heap import use_large_pages
assert not eval(sys.argv[1]) or use_large_pages()
for _ in range(2):
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    np.empty(50 << 20, np.uint8).fill(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
print(open("/proc/self/smaps").read().count(" hg "))
"""
glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's own functions")


def run(wanted):
    done = subprocess.run(
        [sys.executable, "-c", TWICE, str(wanted)], capture_output=True, text=True, check=True
    )
    return map(int, done.stdout.split())


@glibc
def test_memory_is_kept_and_in_large_pages():
    cleared, advised = run(True)
    without, _ = run(False)
    assert cleared < 10 < without
    assert advised

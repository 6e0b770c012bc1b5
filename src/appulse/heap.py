"""Memory that a network is given over and over: kept, and in large pages."""

from __future__ import annotations

import ctypes
import mmap

# A batch's activations are tens of megabytes each, which glibc asks the kernel for and gives back every time.
# The kernel clears every page anew: a quarter of the time of a forward pass (docs/experiments.md).
WORKING_MEMORY = 256 << 20  # bytes; of a batch of 16 stamps
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
_MADV_HUGEPAGE = 14  # <sys/mman.h>
_LARGEST = 2**31 - 1


def use_large_pages(working_memory: int = WORKING_MEMORY) -> bool:
    """Let this process keep the memory of its tensors, in large pages; for processes that are ours alone.

    No result depends on it. Memory that was freed stays with the process, up to twice that size.

    Parameters
    ----------
    working_memory : int, bytes
        What it works in; single arrays of up to a quarter of it are kept.

    Returns
    -------
    bool
        Whether it could be done: with a glibc on Linux that is not too old.
    """
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018  (the others have functions of the same names, but not this)
    except (AttributeError, OSError, TypeError):
        return False
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    # Older ones take no threshold as high, and adapt it themselves as long as they are not told the other.
    if not libc.mallopt(_M_MMAP_THRESHOLD, min(2 * working_memory, _LARGEST)):
        return False
    libc.mallopt(_M_TRIM_THRESHOLD, min(2 * working_memory, _LARGEST))
    # The end of the heap for a moment: not written to, it takes no memory before something else is there.
    end = libc.malloc(working_memory)
    if not end:
        return False
    page = mmap.PAGESIZE
    start = -(-end // page) * page
    advised = libc.madvise(start, (end + working_memory - start) // page * page, _MADV_HUGEPAGE)
    libc.free(end)
    libc.mallopt(_M_MMAP_THRESHOLD, working_memory // 4)
    return advised == 0

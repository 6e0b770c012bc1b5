"""Memory that a network is given over and over: kept, and in large pages."""

from __future__ import annotations

import ctypes

# A batch's activations are tens of megabytes each, which glibc asks the kernel for and gives back every time.
# The kernel clears every page anew: a quarter of the time of a forward pass (docs/experiments.md).
_KEPT = 64 << 20  # bytes; blocks up to this size come from the heap
_SPARE = 512 << 20  # bytes; the free end of the heap that is kept
_LARGE = 256 << 20  # bytes; of the heap in large pages
_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # <malloc.h>
_MADV_HUGEPAGE = 14  # <sys/mman.h>
_PAGE = 4096


def use_large_pages() -> bool:
    """Let this process keep the memory of its tensors, in large pages; for processes that are ours alone.

    No result depends on it. Memory that was freed stays with the process, up to half a gigabyte.

    Returns
    -------
    bool
        Whether it could be done: with glibc on Linux.
    """
    try:
        libc = ctypes.CDLL(None)
        libc.gnu_get_libc_version  # noqa: B018  (the others have functions of the same names, but not this)
    except (AttributeError, OSError, TypeError):
        return False
    libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
    libc.free.argtypes = [ctypes.c_void_p]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    libc.mallopt(_M_TRIM_THRESHOLD, _SPARE)
    libc.mallopt(_M_MMAP_THRESHOLD, 2 * _LARGE)
    # The end of the heap for a moment: not written to, it takes no memory before something else is there.
    end = libc.malloc(_LARGE)
    if not end:
        return False
    start = -(-end // _PAGE) * _PAGE
    advised = libc.madvise(start, (end + _LARGE - start) // _PAGE * _PAGE, _MADV_HUGEPAGE)
    libc.free(end)
    libc.mallopt(_M_MMAP_THRESHOLD, _KEPT)
    return advised == 0

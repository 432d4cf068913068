"""Freed memory goes back to the system, so that a process is as large as what it holds."""

from __future__ import annotations

import ctypes
import os

__all__ = ["return_freed_memory"]

M_MMAP_THRESHOLD = -3
"""Name of the setting in glibc's malloc.h."""
LARGE = 2**20
"""Bytes from which a block is a mapping of its own."""
M_ARENA_MAX = -8


def return_freed_memory() -> bool:
    """Let blocks of 1 MiB and more be given back as soon as they are freed, in this process from now on.

    By default glibc raises the size of such blocks to that of the largest one freed, up to 32 MiB, and keeps smaller
    ones in a heap per thread. Threads that read, blend and write hand blocks to each other, so these heaps grow with
    the length of a volume although what is held does not; smaller blocks come from one heap from now on. Only glibc
    needs it; elsewhere, and where the environment sets the threshold itself, nothing happens.

    Returns:
        Whether it is in force.
    """
    if "MALLOC_MMAP_THRESHOLD_" in os.environ:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (AttributeError, OSError, TypeError):  # another C library, or another system
        return False
    return bool(mallopt(M_ARENA_MAX, 1) and mallopt(M_MMAP_THRESHOLD, LARGE))

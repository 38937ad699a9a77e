"""Keeps memory that was freed with the process, where giving it back to the system costs more than the arithmetic.

Every tensor of some megabytes is memory of its own to glibc's allocator: taken from the system, cleared page by page on
first use, and given back at once. A training step allocates the same maps over and over: on virtual machines it took
from a third longer to eight times as long (docs/performance.md). Only processes that train do this, never a host such
as Slicer.
"""

from __future__ import annotations

import ctypes
import sys

#: From glibc's malloc.h: parameter, and its value in bytes (an int; the threshold for own mappings is capped at 1 GB).
_SETTINGS = {-3: 1 << 30, -1: (1 << 31) - 1}  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD


def keep_freed_memory() -> bool:
    """Tell the allocator; True where that was glibc's and it agreed. Other systems' allocators need no telling."""
    if sys.platform != "linux":
        return False
    library = ctypes.CDLL(None)
    if not hasattr(library, "gnu_get_libc_version"):  # musl has no such settings
        return False
    return all([library.mallopt(ctypes.c_int(name), ctypes.c_int(value)) == 1 for name, value in _SETTINGS.items()])

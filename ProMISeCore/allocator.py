"""Memory that was freed: a process that trains keeps it, a server that waits for a person gives it back.

Every tensor of some megabytes is memory of its own to glibc's allocator: taken from the system, cleared page by page on
first use, and given back at once. A training step allocates the same maps over and over: on virtual machines it took
from a third longer to eight times as long (docs/performance.md). What is smaller stays in heaps, one for each thread,
with holes between the results that stay. Both are for processes of our own, never for a host such as Slicer.
"""

from __future__ import annotations

import ctypes
import sys

#: From glibc's malloc.h: parameter, and its value in bytes (an int; the threshold for own mappings is capped at 1 GB).
_SETTINGS = {-3: 1 << 30, -1: (1 << 31) - 1}  # M_MMAP_THRESHOLD, M_TRIM_THRESHOLD


def keep_freed_memory() -> bool:
    """From now on; True where the allocator is glibc's and agreed. Other systems' allocators need no telling."""
    library = _glibc()
    return library is not None and all(
        [library.mallopt(ctypes.c_int(name), ctypes.c_int(value)) == 1 for name, value in _SETTINGS.items()]
    )


def return_freed_memory() -> bool:
    """Once, now, in milliseconds: what is free in the heaps, holes included. True where the allocator is glibc's."""
    library = _glibc()
    if library is None:
        return False
    library.malloc_trim(ctypes.c_size_t(0))
    return True


def _glibc() -> ctypes.CDLL | None:
    if sys.platform != "linux":
        return None
    library = ctypes.CDLL(None)
    return library if hasattr(library, "gnu_get_libc_version") else None  # musl has neither function

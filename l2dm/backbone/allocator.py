"""Memory that is freed and taken again in every step stays with the process, where the system's allocator
would give it back.

By default glibc gives large blocks back to the kernel as soon as they are free, and a new one comes in pages
that the kernel must map and clear again, one fault each. A forward and a backward take hundreds of them.
"""

from __future__ import annotations

import ctypes
import os
import sys

_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of <malloc.h>
_LARGEST = 32 << 20  # bytes; no greater threshold is taken for blocks of their own
_KEPT = 1 << 30  # bytes free at the end of the heap before any are given back


def keep_freed_memory() -> None:
    """For the rest of this process, where it runs on glibc; what the environment says of its allocator
    stands.
    """
    if not sys.platform.startswith("linux") or any(
        name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ
    ):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_MMAP_THRESHOLD, _LARGEST)
        mallopt(_TRIM_THRESHOLD, _KEPT)

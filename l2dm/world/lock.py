"""One writer at a time: a lock that the system frees when its holder dies, and a marker file where there is
no such lock.
"""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import BaseFileLock, FileLock, SoftFileLock, Timeout

from ..errors import WorldLocked

LOCK = ".lock"
#: Where the file system has no locks. Not ``LOCK`` itself: that one stays for good, and a world copied from a
#: file system with locks would look as if it were held.
MARKER = ".locked"
_NO_LOCKS = {errno.ENOSYS, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOLCK}


@contextmanager
def locked(world: Path) -> Iterator[None]:
    """Hold a world's lock, or raise WorldLocked at once."""
    held = _acquire(world)
    try:
        yield
    finally:
        held.release()


def _acquire(world: Path) -> BaseFileLock:
    busy = f"{world}: another process is writing to this world; wait until it is done"
    try:
        return _taken(FileLock(world / LOCK, fallback_to_soft=False))
    except Timeout:
        raise WorldLocked(busy) from None
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
    try:
        return _taken(SoftFileLock(world / MARKER))
    except Timeout:
        raise WorldLocked(f"{busy} (if there is none, on no machine, remove {world / MARKER})") from None


def _taken(lock: BaseFileLock) -> BaseFileLock:
    lock.acquire(timeout=0)
    return lock

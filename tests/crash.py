"""Stopping every change of files under a folder from the n-th on: what a kill, or a read-only disk, leaves there.

Python tells audit hooks of each file that is opened, renamed, linked or removed, whichever function does it.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

_CHANGES = {
    "os.rename",
    "os.link",
    "os.mkdir",
    "os.remove",
    "os.rmdir",
    "os.chmod",
    "os.truncate",
    "os.symlink",
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Killed(BaseException):
    """Nothing after it runs that a dead process would not run: what cleans up finds a disk that it cannot change."""


class Guard:
    def __init__(self, folder: Path, allowed: int, first: Callable[[], BaseException]):
        self.folder, self.left, self.first = str(folder), allowed, first

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING
        if not opened and event not in _CHANGES:
            return
        place = os.fspath(arguments[0]) if not isinstance(arguments[0], int) else ""
        inside = str(place).startswith(self.folder) or not os.path.isabs(
            place
        )  # relative: to an open folder, as rmtree does
        if inside:
            self.left -= 1
            if self.left < 0:
                raise self.first() if self.left == -1 else OSError(30, "Read-only file system", str(place))


_guards: list[Guard] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    for guard in _guards:
        guard(event, arguments)


@contextmanager
def stopped(folder: Path, allowed: int, first: Callable[[], BaseException] = Killed) -> Iterator[Guard]:
    """Within the block ``folder`` can be changed ``allowed`` times; then ``first`` is raised once, and OSErrors from there on."""
    if not getattr(sys, "_l2dm_audited", False):  # a hook stays for good
        sys._l2dm_audited = True  # type: ignore[attr-defined]
        sys.addaudithook(_hook)
    guard = Guard(folder, allowed, first)
    _guards.append(guard)
    try:
        yield guard
    finally:
        _guards.remove(guard)


def read_only(folder: Path) -> Any:
    """Within the block ``folder`` is as on a disk that is mounted read-only."""
    return stopped(folder, 0, lambda: OSError(30, "Read-only file system", str(folder)))


def kill_at_each_change(folder: Path, fresh: Callable[[], Any], work: Callable[[], Any]) -> Iterator[int]:
    """Have ``fresh`` make ``folder`` and kill ``work`` at its first change of a file, its second, ...; yields after each kill."""
    for allowed in range(10_000):
        fresh()
        with stopped(folder, allowed) as guard, suppress(Killed):
            work()
        yield allowed
        if guard.left >= 0:
            return

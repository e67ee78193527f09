"""Stopping every change of files under a folder from the n-th on: what a kill, or a read-only disk, leaves
there.

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
    """Nothing after it runs that a dead process would not run: what cleans up finds a disk that it cannot
    change.
    """


class Guard:
    def __init__(self, folder: Path, allowed: int, first: Callable[[], BaseException]):
        self.folder, self.left, self.first = str(folder), allowed, first

    def __call__(self, place: str) -> None:
        self.left -= 1
        if self.left < 0:
            raise self.first() if self.left == -1 else OSError(30, "Read-only file system", place)


class Observer:
    """``look`` is called before every change."""

    def __init__(self, folder: Path, look: Callable[[], Any]):
        self.folder, self.look, self.looking = str(folder), look, False

    def __call__(self, place: str) -> None:
        if not self.looking:
            self.looking = True
            self.look()
            self.looking = False


_guards: list[Guard | Observer] = []


def _hook(event: str, arguments: tuple[Any, ...]) -> None:
    if not _guards:
        return
    opened = event == "open" and isinstance(arguments[2], int) and arguments[2] & _WRITING
    if not opened and event not in _CHANGES:
        return
    place = str(os.fspath(arguments[0])) if not isinstance(arguments[0], int) else ""
    for guard in _guards:
        if place.startswith(guard.folder) or not os.path.isabs(
            place
        ):  # relative: to an open folder, as rmtree does
            guard(place)


@contextmanager
def _guarded(guard: Any) -> Iterator[Any]:
    if not getattr(sys, "_l2dm_audited", False):  # a hook stays for good
        sys._l2dm_audited = True  # type: ignore[attr-defined]
        sys.addaudithook(_hook)
    _guards.append(guard)
    try:
        yield guard
    finally:
        _guards.remove(guard)


def stopped(folder: Path, allowed: int, first: Callable[[], BaseException] = Killed) -> Any:
    """Within the block ``folder`` can be changed ``allowed`` times; then ``first`` is raised once, and
    OSErrors from there on.
    """
    return _guarded(Guard(folder, allowed, first))


def observed(folder: Path, look: Callable[[], Any]) -> Any:
    """Within the block ``look`` is called before each change in ``folder``."""
    return _guarded(Observer(folder, look))


def read_only(folder: Path) -> Any:
    """Within the block ``folder`` is as on a disk that is mounted read-only."""
    return stopped(folder, 0, lambda: OSError(30, "Read-only file system", str(folder)))


def kill_at_each_change(folder: Path, fresh: Callable[[], Any], work: Callable[[], Any]) -> Iterator[int]:
    """Have ``fresh`` make ``folder`` and kill ``work`` at its first change of a file, its second, ...; yields
    after each kill.
    """
    for allowed in range(10_000):
        fresh()
        with stopped(folder, allowed) as guard, suppress(Killed):
            work()
        yield allowed
        if guard.left >= 0:
            return

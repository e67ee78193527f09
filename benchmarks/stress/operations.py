"""This process's file operations below a folder, one by one: what is told of them may kill the process or
refuse them.

Python's audit hook tells of names (open, rename, remove, mkdir, ...); what it does not tell of is wrapped:
fsync, stat, the reads and writes of opened files, copies inside the kernel, and safetensors' own reading and
writing, each of which counts as one operation.
"""

from __future__ import annotations

import builtins
import functools
import io
import os
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

#: Kinds that change what is on the disk.
CHANGES = frozenset(
    [
        "create",
        "write",
        "tensors",
        "fsync",
        "sendfile",
        "rename",
        "remove",
        "rmdir",
        "mkdir",
        "link",
        "symlink",
        "chmod",
        "truncate",
    ]
)
#: Audit event -> kind, and where among its arguments the path and the descriptor of its folder are.
_EVENTS = {
    "os.rename": ("rename", 0, 2),
    "os.remove": ("remove", 0, 1),
    "os.rmdir": ("rmdir", 0, 1),
    "os.mkdir": ("mkdir", 0, 2),
    "os.link": ("link", 1, 3),
    "os.symlink": ("symlink", 1, 2),
    "os.chmod": ("chmod", 0, 2),
    "os.truncate": ("truncate", 0, None),
    "os.listdir": ("list", 0, None),
    "os.scandir": ("list", 0, None),
    "fcntl.flock": ("lock", 0, None),
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC

#: ``(kind, path)``, before the operation; for a write also a function that writes the first half of it.
Before = Callable[..., None]


def watch(place: Path, before: Before) -> None:
    """Call ``before(kind, path)`` before each file operation under ``place``, as long as this process lives:
    it should be a child.
    """
    inside = os.path.realpath(place) + os.sep

    def where(path: Any, folder: Any = None) -> str:
        """The place of a name or of an open file; "" where that is not known."""
        try:
            if isinstance(path, int):
                return os.readlink(f"/proc/self/fd/{path}") if path >= 0 else ""
            name = os.fsdecode(path)
            if isinstance(folder, int) and folder >= 0:
                return os.path.join(os.readlink(f"/proc/self/fd/{folder}"), name)
            return name
        except (OSError, TypeError):
            return ""

    def tell(kind: str, path: str, *half: Callable[[], None]) -> None:
        if path.startswith(inside):
            before(kind, path, *half)

    def hook(event: str, given: tuple) -> None:
        if event == "open" and not isinstance(given[0], int):
            tell("create" if (given[2] or 0) & _WRITING else "open", where(given[0]))
        elif event in _EVENTS:
            kind, path, folder = _EVENTS[event]
            tell(kind, where(given[path], None if folder is None else given[folder]))

    _wrap_system(tell, where)
    _wrap_files(tell, inside)
    _wrap_safetensors(tell)
    sys.addaudithook(hook)


def _wrap_system(tell: Before, where: Callable[..., str]) -> None:
    def wrapped(kind: str, call: Callable) -> Callable:
        @functools.wraps(call)
        def inner(path: Any, *given: Any, **named: Any) -> Any:
            tell(kind, where(path, named.get("dir_fd")))
            return call(path, *given, **named)

        return inner

    for name, kind in {"fsync": "fsync", "stat": "stat", "lstat": "stat", "sendfile": "sendfile"}.items():
        if hasattr(os, name):
            setattr(os, name, wrapped(kind, getattr(os, name)))


def _wrap_files(tell: Before, inside: str) -> None:
    class Raw(io.FileIO):
        """A file whose every read and write is told of."""

        def write(self, data: Any) -> int:
            data = memoryview(data).cast("B")
            tell("write", self.name, lambda: super(Raw, self).write(data[: len(data) // 2]))
            return super().write(data)

        def readinto(self, buffer: Any) -> int:
            tell("read", self.name)
            return super().readinto(buffer)

        def readall(self) -> bytes:
            tell("read", self.name)
            return super().readall()

    real = io.open

    @functools.wraps(real)
    def opened(
        file: Any,
        mode: str = "r",
        buffering: int = -1,
        encoding: Any = None,
        errors: Any = None,
        newline: Any = None,
        closefd: bool = True,
        opener: Any = None,
    ) -> Any:
        if isinstance(file, int) or not os.fsdecode(file).startswith(inside):
            return real(file, mode, buffering, encoding, errors, newline, closefd, opener)
        raw = Raw(os.fsdecode(file), re.sub("[bt]", "", mode), closefd, opener)
        kind = io.BufferedRandom if "+" in mode else io.BufferedReader if "r" in mode else io.BufferedWriter
        return kind(raw) if "b" in mode else io.TextIOWrapper(kind(raw), encoding, errors, newline)

    io.open = builtins.open = opened


def _wrap_safetensors(tell: Before) -> None:
    import safetensors.torch
    from safetensors import SafetensorError

    def wrapped(kind: str, at: int, call: Callable) -> Callable:
        @functools.wraps(call)
        def inner(*given: Any, **named: Any) -> Any:
            path = str(given[at])
            try:
                tell(kind, path)
            except OSError as error:
                if kind == "open":  # reading raises what Python's own open does
                    raise
                text = f"I/O error: {error.strerror} (os error {error.errno})"
                raise SafetensorError(f"Error while serializing: {text}") from None
            return call(*given, **named)

        return inner

    of = safetensors.torch
    of.serialize_file = wrapped("tensors", 1, of.serialize_file)
    of.safe_open = wrapped("open", 0, of.safe_open)

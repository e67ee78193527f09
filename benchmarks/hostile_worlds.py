"""Worlds as a stranger could hand them over: a good manifest with anything in any place. What l2dm makes of
them is counted.

Every command must answer in one line or do its work, write nothing outside the world, and ask no network.
"""

from __future__ import annotations

import copy
import json
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import strategies as st

from l2dm.world.sealed import seal

from .malformed import call

_VERSION = {
    "version": 1,
    "parent": 0,
    "created": "2026-01-01T00:00:00+00:00",
    "token": "<rex>",
    "noun": "dog",
    "photos": 3,
    "seconds": 1.5,
    "settings": {"method": "l2dm", "seed": 0},
    "concepts": {"<rex>": "dog"},
    "files": {},
    "scores": {"<rex>": {"likeness": 0.5, "own": 1.0, "version": 1}},
    "drift": {"dog": 0.1},
}
_RENAMED = _VERSION | {
    "version": 2,
    "parent": 1,
    "token": "<max>",
    "concepts": {"<max>": "dog"},
    "settings": {},
    "scores": {},
}
_JOURNAL = [
    {"at": "2026-01-01", "action": "init", "base": "mini"},
    {"at": "2026-01-01", "action": "learn", "version": 1, "token": "<rex>", "noun": "dog"},
    {"at": "2026-01-01", "action": "rename", "version": 2, "token": "<max>", "was": "<rex>"},
]
GOOD = {
    "base": "owner/name",
    "fingerprint": "0" * 32,
    "tuner": "gated_lora",
    "head": 2,
    "counter": 2,
    "versions": {"1": _VERSION, "2": _RENAMED},
    "journal": _JOURNAL,
    "format": 1,
}
HOSTILE = [
    None,
    True,
    -1,
    0,
    2,
    10**30,
    1.5,
    float("nan"),
    "",
    "nope",
    "/etc/passwd",
    "../../outside",
    "..",
    "a/b",
    "C:\\x",
    "\\\\host\\x",
    "file:///etc/passwd",
    "http://localhost/x",
    "other/name",
    "\x1b]0;x\x07",
    "[/b]",
    "con",
    "\x00",
    "\u202egnp",
    "\ud800",
    "x" * 300,
    "<rex>",
    "dog",
    [],
    {},
    [[[[]]]],
    ["/etc"],
    {"../x": "dog"},
    {"<rex>": "/etc/x"},
    {"1": {}},
    {"x": None},
]
#: What is said beside the world; ``{}``: a place outside of it, ``{world}``: itself.
COMMANDS = {
    "show": [],
    "history": [],
    "report": ["--html", "{}/r.html"],
    "generate": ["a dog", "--out", "{}"],
    "verify": ["--deep"],
    "export": ["--format", "world", "--out", "{world}/w.zip"],
    "rename": ["<max>", "<tom>"],
    "import": ["--from", "{}", "--token", "<ada>"],
    "forget": ["<max>"],
    "learn": [],
    "undo": [],
    "forget --purge": ["<max>", "--yes"],
    "repair": [],
}


def _places(value: Any, before: tuple = ()) -> Iterator[tuple]:
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*before, key)
        yield from _places(value[key], (*before, key))


@st.composite
def manifests(draw: st.DrawFn) -> bytes:
    """A good manifest in which one to three places are replaced, renamed or gone; at times cut off or nested
    deeply.
    """
    made = copy.deepcopy(GOOD)
    for _ in range(draw(st.integers(1, 3))):
        *path, last = draw(st.sampled_from(list(_places(made)) or [("base",)]))
        within = made
        for key in path:
            within = within[key]
        how = draw(st.sampled_from(["replace", "replace", "replace", "rename", "remove"]))
        value = draw(st.sampled_from(HOSTILE))
        if how == "remove" or (how == "rename" and isinstance(within, dict)):
            old = within.pop(last)
            if how == "rename":
                within[str(value)] = old
        else:
            within[last] = copy.deepcopy(value)
    data = json.dumps(made).encode()
    if made and draw(st.booleans()):
        with suppress(UnicodeEncodeError):  # half a surrogate
            data = seal(made)
    cut = draw(st.integers(0, 40))
    return {
        0: data[:-9],
        1: b'{"format": 1, "versions": ' + b"[" * 5000,
        2: data.replace(b"dog", b"\xff"),
    }.get(cut, data)


@contextmanager
def no_network() -> Iterator[list[Any]]:
    """Every address that is asked for inside the block is refused, and listed."""
    asked: list[Any] = []

    def refuse(*arguments: Any, **options: Any) -> None:
        asked.append(arguments)
        raise OSError("no network here")

    with ExitStack() as stack:
        for name in ("connect", "connect_ex", "sendto"):
            stack.enter_context(mock.patch.object(socket.socket, name, refuse))
        for name in ("getaddrinfo", "create_connection"):
            stack.enter_context(mock.patch.object(socket, name, refuse))
        yield asked


def verdict(manifest: bytes, place: Path, photos: Path) -> str:
    """Empty when every command answers this world as it should, else what is wrong. ``place`` is emptied."""
    shutil.rmtree(place, ignore_errors=True)
    world, outside = place / "sandbox" / "world", place / "pictures"
    world.mkdir(parents=True)
    (place / "sandbox" / "outside").write_text("to be left alone")
    (world / "manifest.json").write_bytes(manifest)
    before = _around(place)
    with no_network() as asked:
        for command, rest in COMMANDS.items():
            verb, *more = command.split()
            more += [word.format(outside, world=world) for word in rest]
            more += [str(photos), "--token", "<tom>", "--noun", "cat"] if verb == "learn" else []
            try:
                code, said = call([verb, str(world), *more])
            except Exception as error:
                return f"{command}: {error!r}"
            if code not in (0, 2) or (
                code and (not said.startswith("error: ") or len(said.splitlines()) != 1)
            ):
                return f"{command}: exit code {code}: {said}"
            if asked:
                return f"{command}: asked the network for {asked[0]}"
            if _around(place) != before:
                return f"{command}: something outside the world was changed"
    return ""


def _around(place: Path) -> str:
    """What lies beside the world."""
    inside = place / "sandbox" / "world"
    names = sorted(str(path) for path in place.rglob("*") if inside not in path.parents)
    return str(names) + (place / "sandbox" / "outside").read_text()

"""Worlds as a stranger could hand them over: a good manifest with anything in any place. What l2dm makes of
them is counted.

Every command must answer in one line or do its work, write nothing outside the world, and ask no network.
"""

from __future__ import annotations

import copy
import hashlib
import json
import shutil
import socket
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Any
from unittest import mock

from hypothesis import strategies as st

from l2dm.world.manifest import COPY
from l2dm.world.manifest import NAME as MANIFEST
from l2dm.world.recorded import RECORD
from l2dm.world.sealed import seal, unseal

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
#: What is said beside the world; ``{}``: where outputs may go.
COMMANDS = {
    "show": [],
    "history": [],
    "report": ["--html", "{}/r.html"],
    "generate": ["a <max> dog", "-n", "1", "--steps", "1", "--out", "{}"],
    "verify": ["--deep"],
    "export": ["--format", "world", "--out", "{}/w.zip"],
    "branch": ["{}/new"],
    "rename": ["<max>", "<zoe>"],
    "import": ["--from", "{}", "--token", "<ada>"],
    "forget": ["<zoe>"],
    "learn": [],
    "learn --more": [],
    "undo": [],
    "forget --purge": ["<zoe>", "--yes"],
    "repair": [],
}


def _places(value: Any, before: tuple = ()) -> Iterator[tuple]:
    for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
        yield (*before, key)
        yield from _places(value[key], (*before, key))


@st.composite
def spoilt(draw: st.DrawFn, good: dict[str, Any]) -> bytes:
    """A good JSON file in which one to three places are replaced, renamed or gone; at times cut off or nested
    deeply, and mostly with the checksum of what it is now.
    """
    made = copy.deepcopy(good)
    for _ in range(draw(st.integers(1, 3))):
        places = list(_places(made))
        if not places:
            break
        *path, last = draw(st.sampled_from(places))
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
    if made and draw(st.sampled_from([True, True, False])):
        with suppress(UnicodeEncodeError):  # half a surrogate
            data = seal(made)
    cut = draw(st.integers(0, 40))
    return {
        0: data[:-9],
        1: b'{"format": 1, "versions": ' + b"[" * 5000,
        2: data.replace(b"dog", b"\xff"),
    }.get(cut, data)


def manifests() -> st.SearchStrategy[bytes]:
    """Manifests that were ``GOOD``."""
    return spoilt(GOOD)


@st.composite
def damages(draw: st.DrawFn, world: Path) -> tuple[str, bytes]:
    """The name of a JSON file of ``world``, every second time its manifest, and what a stranger made of
    it.
    """
    names = sorted(path.relative_to(world).as_posix() for path in world.rglob("*.json"))
    name = draw(st.sampled_from([MANIFEST, draw(st.sampled_from(names))]))
    return name, draw(spoilt(json.loads(unseal((world / name).read_bytes())[0])))


def put(world: Path, name: str, data: bytes) -> None:
    """Write ``data`` as the world's file ``name``, and its hash wherever the world has it recorded, as who
    means harm would."""
    file = world / name
    file.write_bytes(data)
    if name in (MANIFEST, COPY):
        return
    manifest = json.loads(unseal((world / MANIFEST).read_bytes())[0])
    record = file.with_name(RECORD)
    if file != record and record.exists():
        told = json.loads(unseal(record.read_bytes())[0])
        if file.name in told["files"]:
            told["files"][file.name] = hashlib.sha256(data).hexdigest()
            record.write_bytes(seal(told))
    version = manifest["versions"].get(str(int(file.parent.name)) if file.parent.name.isdigit() else "")
    if version and file.parent.parent.name == "versions":
        version["record"] = hashlib.sha256(record.read_bytes()).hexdigest()
        for beside in (MANIFEST, COPY):
            (world / beside).write_bytes(seal(manifest))


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


def verdict(
    data: bytes,
    place: Path,
    photos: Path,
    name: str = MANIFEST,
    of: Path | None = None,
    lesson: tuple[str, ...] = (),
) -> str:
    """Empty when every command answers a world as it should whose file ``name`` is ``data``, else what is
    wrong. ``of``: the world that it otherwise is, with <max>; None: it has a manifest alone. ``lesson``:
    options of a short one. ``place`` is emptied.
    """
    shutil.rmtree(place, ignore_errors=True)
    world = place / "sandbox" / "world"
    if of:
        shutil.copytree(of, world)
    else:
        world.mkdir(parents=True)
    (place / "sandbox" / "outside").write_text("to be left alone")
    put(world, name, data)
    before = _around(place)
    with no_network() as asked:
        for command, rest in COMMANDS.items():
            verb, *more = command.split()
            more += [word.format(place / "out") for word in rest]
            if verb == "learn":
                told = ["--token", "<tom>"] if more else ["--token", "<eve>", "--noun", "cat"]
                more = [*more, str(photos), *told, *lesson]
            try:
                code, said = call([verb, str(world), *more])
            except Exception as error:
                return f"{command}: {error!r}"
            lines = [line for line in said.splitlines() if not line.startswith("note: ")]
            found = verb == "verify" and not lines  # what it finds is what it was asked for, not an error
            clear = len(lines) == 1 and lines[0].startswith("error: ")
            if code not in (0, 2) or (code and not (clear or found)):
                return f"{command}: exit code {code}: {said}"
            if asked:
                return f"{command}: asked the network for {asked[0]}"
            if _around(place) != before:
                return f"{command}: something outside the world was changed"
    return ""


def _around(place: Path) -> str:
    """What lies beside the world and its outputs."""
    own = place / "sandbox" / "world", place / "out"
    names = sorted(str(path) for path in place.rglob("*") if not {path, *path.parents}.intersection(own))
    return str(names) + (place / "sandbox" / "outside").read_text()

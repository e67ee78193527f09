"""The ground of the stress tests: a tiny base, short lessons, commands in children that may be killed."""

from __future__ import annotations

import dataclasses
import functools
import hashlib
import io
import json
import os
import re
import select
import shutil
import signal
import sys
import threading
import time
import traceback
import zipfile
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from unittest import mock

import torch
import typer
from tqdm import tqdm

from benchmarks.malformed import photo
from benchmarks.tiny import tiny_base
from l2dm.backbone import Backbone
from l2dm.cli import main
from l2dm.learner import mixes
from l2dm.methods import METHODS
from l2dm.world.manifest import NAME, Manifest
from l2dm.world.recorded import RECORD
from l2dm.world.sealed import unseal

LESSON = {
    "steps": 2,
    "batch": 1,
    "prior_pictures": 1,
    "prior_steps": 1,
    "report_pictures": 1,
    "report_concepts": 1,
    "memory_candidates": 1,
    "memory_budget": 3,
    "rank": 2,
    "mixes": 2,
    "checkpoint_every": 1,
    "fisher_samples": 1,
    "threads": 1,
    "learning_rate": 1e-3,
    "flip": False,
}


@dataclass(frozen=True)
class Ended:
    """How a child ended: ``killed``, or with what it returned, as JSON has it; ``trace``: of an exception
    that nobody caught.
    """

    killed: bool
    value: Any = None
    trace: str = ""
    seconds: float = 0.0


class Ground:
    """A folder with a base, photos and settings. Commands run in forked children, with the base loaded
    before.
    """

    def __init__(self, place: Path):
        torch.set_num_threads(1)  # a fork takes no thread along
        self.place = place
        self.base, self.photos = tiny_base(place / "base"), place / "photos"
        for i in range(2):
            photo(self.photos / f"{i}.png", i)
        self.backbone = Backbone.load(str(self.base))
        _ = self.backbone.features, self.backbone.fingerprint

    # ---------------------------------------------------------------- children

    def child(self, work: Callable[[], Any], after: float | None = None) -> Ended:
        """Run ``work``, which returns what JSON can say, in a child; killed with SIGKILL ``after`` so many
        seconds, unless it is done before.
        """
        ours, theirs = os.pipe()
        began = time.monotonic()
        if not (child := os.fork()):
            os.close(ours)
            self._child(work, theirs)
        os.close(theirs)
        with open(ours, "rb") as pipe:
            if after is not None and not select.select([pipe], [], [], after)[0]:
                os.kill(child, signal.SIGKILL)
            data = pipe.read()
        killed = os.WIFSIGNALED(os.waitpid(child, 0)[1])
        value, trace = json.loads(data) if data and not killed else (None, "")
        return Ended(killed, value, trace, time.monotonic() - began)

    def _child(self, work: Callable[[], Any], pipe: int) -> None:
        tqdm.set_lock(
            threading.RLock()
        )  # the one that it begins with is shared, and stays held by who is killed
        loaded, real = [self.backbone], Backbone.load
        try:
            Backbone.load = lambda *a, **k: loaded.pop() if loaded else real(*a, **k)
            with fewer_mixes():
                said = (work(), "")
        except BaseException:
            said = (None, traceback.format_exc())
        with open(pipe, "wb") as told:
            told.write(json.dumps(said).encode())
        os._exit(0)

    def command(
        self, arguments: list[str], after: float | None = None, prepare: Callable[[], None] = lambda: None
    ) -> Ended:
        """Run a command of l2dm's with --json in a child; its value: exit code and what it said."""

        def work() -> tuple[int, str]:
            prepare()
            return say([*arguments, "--json"])

        return self.child(work, after)

    def do(self, arguments: list[str]) -> None:
        """Run a command that must succeed, here: what it imports late is there for the children."""
        with fewer_mixes():
            code, said = say([*arguments, "--json"])
        if code:
            raise RuntimeError(f"{arguments}: {said}")

    # ---------------------------------------------------------------- commands

    def init(self, world: Path) -> list[str]:
        return ["init", str(world), "--base", str(self.base)]

    def learn(
        self,
        world: Path,
        token: str = "<rex>",
        noun: str = "dog",
        method: str = "l2dm",
        precision: str = "float32",
        **more: Any,
    ) -> list[str]:
        name = "-".join([method, precision, *more])
        settings = self.settings(name, method=method, precision=precision, **more)
        return ["learn", str(world), str(self.photos), "--token", token, "--noun", noun, *settings]

    def bring(self, world: str, *given: Any) -> list[str]:
        """An import of what is ``given``, examined as lessons are."""
        return ["import", world, *map(str, given), *self.settings("import")]

    def settings(self, name: str, **more: Any) -> list[str]:
        """The option that names a file with settings of a short lesson, and ``more`` of them."""
        file = self.place / f"{name}.toml"
        if not file.exists():
            lines = {**LESSON, **more}.items()
            file.write_text("[learn]\n" + "".join(f"{key} = {json.dumps(value)}\n" for key, value in lines))
        return ["--settings", str(file)]

    def taught(
        self, target: Path, method: str = "l2dm", tokens: tuple[str, ...] = ("<rex>",), **more: Any
    ) -> Path:
        """A world in ``target`` that has learnt ``tokens``: dogs, but for <tom>, a cat, and <ada>, a cup;
        ``more``: settings of these lessons.
        """
        nouns = {"<tom>": "cat", "<ada>": "cup"}
        self.do(self.init(target))
        for token in tokens:
            self.do(self.learn(target, token, nouns.get(token, "dog"), method, **more))
        return target


def fewer_mixes() -> Any:
    """Four of a lesson's ninety-six, which would take half of its time."""
    return mock.patch.object(mixes, "mixes", functools.partial(mixes.mixes, count=4))


#: The command line, which typer builds from our functions: once, for it would take half of a short command's
#: time.
_parser = functools.cache(typer.main.get_command)


def say(arguments: list[str]) -> tuple[int, str]:
    """Run a command of l2dm's in this process: exit code, and what it said on either stream."""
    said = io.StringIO()
    with (
        mock.patch.object(sys, "argv", ["l2dm", *arguments]),
        mock.patch.object(typer.main, "get_command", _parser),
        redirect_stdout(said),
        redirect_stderr(said),
    ):
        try:
            main()
        except SystemExit as end:
            return int(end.code or 0), said.getvalue()
    return 0, said.getvalue()


def learns_from_one_world_only(method: str) -> bool:
    """Whether its lesson has to be a world's first one when only that lesson's photos are handed over."""
    return METHODS[method].apart or METHODS[method].memory == "photos"


# ---------------------------------------------------------------- looking at folders


def contents(folder: Path) -> dict[str, str]:
    """Name -> hash of every file under ``folder``; a link's hash is that of where it points to."""
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.is_dir() and not path.is_symlink():
            continue
        data = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
        found[str(path.relative_to(folder))] = hashlib.sha256(data).hexdigest()
    return found


_OF_THE_MOMENT = ("at", "created", "seconds", "pending")


def timeless(value: Any, names: tuple[str, ...] = _OF_THE_MOMENT) -> Any:
    """``value`` without what tables in it have under ``names``."""
    if isinstance(value, dict):
        return {k: timeless(v, names) for k, v in value.items() if k not in names}
    return [timeless(v, names) for v in value] if isinstance(value, list | tuple) else value


def story(world: Path) -> Any:
    """A world's manifest without what tells of the moment: times, seconds, what is still to be removed; None
    where there is none.
    """
    if not (world / NAME).exists():
        return None
    return timeless(dataclasses.asdict(Manifest.read(world, verify=False)))


def differences(one: Any, other: Any, place: str = "") -> Iterator[str]:
    """Where two values of JSON are not the same, and what stands there."""
    if isinstance(one, dict) and isinstance(other, dict):
        for key in {**one, **other}:
            yield from differences(one.get(key), other.get(key), f"{place}.{key}")
    elif isinstance(one, list) and isinstance(other, list) and len(one) == len(other):
        for number, pair in enumerate(zip(one, other)):
            yield from differences(*pair, f"{place}.{number}")
    elif one != other:
        yield f"{place[1:]}: {one!r}, not {other!r}"


_AT_WORK = re.compile(r"\.part-[^/]*")


def state(folder: Path) -> str:
    """A hash of all that is in ``folder`` but for what tells of the moment, and for the names of work in
    progress: what a command finds.
    """
    found = []
    for path in sorted(path for path in folder.rglob("*") if path.is_symlink() or not path.is_dir()):
        data = os.readlink(path).encode() if path.is_symlink() else path.read_bytes()
        if path.suffix == ".json":
            data = _timeless_json(data, path)
        elif zipfile.is_zipfile(path):
            with zipfile.ZipFile(path) as packed:
                data = repr([(name, packed.read(name)) for name in packed.namelist()]).encode()
        found.append(
            (_AT_WORK.sub("at work", str(path.relative_to(folder))), hashlib.sha256(data).hexdigest())
        )
    return hashlib.sha256(repr(sorted(found)).encode()).hexdigest()


def _timeless_json(data: bytes, path: Path) -> bytes:
    """With whether its checksum is right, and those that it has of such files beside it, in their place."""
    text, whole = unseal(data)
    try:
        value = json.loads(text)
    except ValueError:
        return data
    told = {}
    for name in list(value["files"]) if path.name == RECORD else ():
        beside = path.with_name(name)
        if beside.suffix == ".json" and beside.is_file():
            told[name] = value["files"].pop(name) == hashlib.sha256(beside.read_bytes()).hexdigest()
    return json.dumps([whole, told, timeless(value, ("at", "created", "seconds"))]).encode()


def fresh_copy(source: Path, target: Path) -> Path:
    shutil.rmtree(target, ignore_errors=True)
    return shutil.copytree(source, target, symlinks=True)

"""Commands over prepared worlds: what is killed, refused, and compared with an undisturbed run."""

from __future__ import annotations

import functools
import hashlib
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from l2dm.errors import L2DMError
from l2dm.methods import METHODS
from l2dm.world.exporting import SIDECAR
from l2dm.world.lock import LOCK
from l2dm.world.manifest import COPY, NAME, folder_of
from l2dm.world.names import own_file
from l2dm.world.repair import examine

from .ground import Ground, contents, differences, fresh_copy, learns_from_one_world_only, say, state, story
from .operations import CHANGES, watch

#: The method whose lesson is disturbed at every operation.
WHOLE = "l2dm"


@dataclass(frozen=True)
class Verdict:
    """Of a world after a command was disturbed: whether that is ``done``, what is wrong with the world
    (``fault``) or is so after the command was run again or the next one was (``afterwards``); ``as_end``: as
    after an undisturbed run, but for the moment; ``aside``: whether what looked damaged is in quarantine, and
    the world whole without it, and ``aside_afterwards``.
    """

    done: bool
    fault: str
    afterwards: str
    as_end: bool
    aside: bool
    aside_afterwards: bool


@dataclass
class Job:
    """One command. It runs in a copy of ``start``, a folder with ``world`` in it; pictures and pages go into
    ``out`` beside that.
    """

    ground: Ground
    name: str
    start: Path
    arguments: list[str]  # of the command, for a world in ``place``
    operations: list[str] = field(default_factory=list)  # the kinds of all of an undisturbed run, in order
    seconds: float = 0.0
    end: dict[str, str] = field(default_factory=dict)
    start_story: Any = None
    end_story: Any = None
    end_state: str = ""
    judged: dict[str, Verdict] = field(default_factory=dict)
    broken: tuple[str, ...] = ()  # versions of ``start`` that are not whole
    in_steps: bool = False  # there are states between the first and the last that are whole too
    makes: str = ""  # what an export makes in ``out``: it is done when that is there
    made: dict[str, str] = field(default_factory=dict)  # what is in ``out`` at the end, of an export
    make: Callable[[], Any] = lambda: None  # of ``start``, where it is not there

    @property
    def place(self) -> Path:
        return self.ground.place / "place"

    @property
    def world(self) -> Path:
        return self.place / "world"

    @property
    def out(self) -> Path:
        return self.place / "out"

    @property
    def verb(self) -> str:
        return self.name.split()[0]

    @property
    def changes(self) -> int:
        """How many of its operations change what is on the disk."""
        return sum(kind in CHANGES for kind in self.operations)

    def set_up(self) -> None:
        fresh_copy(self.start, self.place)

    def run_undisturbed(self) -> None:
        """Fill in ``operations``, ``seconds`` and how things are at the end, once."""
        if self.operations:
            return
        if not self.start.exists():
            self.make()
        self.set_up()

        def work() -> Any:
            kinds: list[str] = []
            watch(self.place, lambda kind, path, *half: kinds.append(kind))
            return say([*self.arguments, "--json"]), kinds

        ended = self.ground.child(work)
        if ended.trace or ended.value[0][0]:
            raise RuntimeError(f"{self.name}, undisturbed: {ended.trace or ended.value[0]}")
        self.operations, self.seconds = ended.value[1], ended.seconds
        self.start_story = story(self.start / "world")
        self.end, self.end_story, self.end_state = contents(self.world), story(self.world), state(self.place)
        self.made = exported(self.out / self.makes) if self.makes else {}

    # ---------------------------------------------------------------- what must be true

    def verdict(self) -> Verdict:
        """Judge what is in ``place``, which is changed by that; the same once more is not judged again."""
        found = state(self.place)
        if found not in self.judged:
            as_end, aside = found == self.end_state, self._aside()
            done, fault = self.stands()
            afterwards = "" if fault else self.finish(done)
            self.judged[found] = Verdict(done, fault, afterwards, as_end, aside, self._aside())
        return self.judged[found]

    def _aside(self) -> bool:
        return (self.world / "quarantine").exists() and not examine(self.world).faults

    def stands(self) -> tuple[bool, str]:
        """Whether the command's work is done, and what is wrong with the world just after the command was
        disturbed.
        """
        before = self.start / "world"
        try:
            found = story(self.world)
        except L2DMError as error:
            return False, f"does not open: {error}"
        if found is None:
            return False, "does not open: the manifest is gone" if self.start_story else ""
        for number in found["versions"]:
            was, now = folder_of(before, number), folder_of(self.world, number)
            if was.is_dir() and was.name not in self.broken and contents(was) != contents(now):
                return False, f"concept changed: version {number}"
        code, said = say(["verify", str(self.world), "--json"])
        if code and not self.broken:
            return False, f"does not open: {said}"
        if found == self.end_story:
            return not self.makes or (self.out / self.makes).exists(), ""
        return (
            False,
            ""
            if self.in_steps or found == self.start_story
            else "does not open: it is neither as before nor as after",
        )

    def finish(self, done: bool) -> str:
        """Run the command again unless it is ``done``, or the next writer; what is then other than after an
        undisturbed run.
        """
        if contents(self.place) == contents(self.start):
            return ""  # as if it had never begun
        again = (
            ["repair", str(self.world)]
            if done and self.verb not in ("report", "generate")
            else self.arguments
        )
        ended = self.ground.command(again)
        if ended.trace or ended.value[0]:
            return f"other end: {again[0]} again: {ended.trace or ended.value[1]}"
        now = contents(self.world)
        if extra := sorted(set(now) - set(self.end) - {LOCK}):
            return f"leaked: {extra}"
        beside = [self.place, self.out] if self.out.exists() else [self.place]
        if rubbish := [p.name for folder in beside for p in folder.iterdir() if p.name.startswith(".")]:
            return f"leaked: {rubbish}"
        timed = {
            name for name in self.end if "/" not in name and name in now
        }  # the manifest and what tells of it
        if other := sorted(n for n in self.end if n not in timed and now.get(n) != self.end[n]):
            return f"other end: {other}"
        if self.makes and (found := exported(self.out / self.makes)) != self.made:
            return f"other end: {sorted(set(found.items()) ^ set(self.made.items()))}"
        differing = ", ".join(differences(story(self.world), self.end_story))
        return f"other end: the manifest: {differing}" if differing else ""


def exported(path: Path) -> dict[str, str]:
    """Name -> hash of everything in what an export or a branch made, a folder or a world's zip, but of what
    tells of the moment.
    """
    if path.is_dir():
        return {name: data for name, data in contents(path).items() if name not in (SIDECAR, NAME, COPY)}
    with zipfile.ZipFile(path) as packed:
        return {name: hashlib.sha256(packed.read(name)).hexdigest() for name in packed.namelist()}


def verbs(ground: Ground) -> Iterator[Job]:
    """A job for each verb that writes, a lesson of ``WHOLE`` among them."""
    starts = ground.place / "starts"
    one, two, broken, lame, given, zipped = (
        starts / name for name in ("one", "two", "broken", "lame", "given", "zipped")
    )
    ground.taught(one / "world", WHOLE)
    fresh_copy(one, two)
    ground.do(ground.learn(two / "world", "<tom>", "cat"))
    fresh_copy(two, broken)
    fresh_copy(two, lame)
    (broken / "world/versions/0002/tokens.safetensors").write_bytes(b"x")
    for number in ("0001", "0002"):
        (lame / "world/versions" / number / own_file("<rex>")).write_bytes(b"x")
    fresh_copy(two, given)
    fresh_copy(two / "world", given / "other")
    ground.do(["rename", str(given / "other"), "<tom>", "<ada>"])
    ground.do(["export", str(two / "world"), "<tom>", "--out", str(given / "lora")])
    zipped.mkdir()
    ground.do(["export", str(two / "world"), "--format", "world", "--out", str(zipped / "world.zip")])
    (starts / "none").mkdir()
    place = ground.place / "place"
    world, out = str(place / "world"), place / "out"
    commands = {
        "init": (starts / "none", ground.init(place / "world")),
        "learn": (one, ground.learn(place / "world", "<tom>", "cat")),
        "undo": (two, ["undo", world]),
        "forget": (two, ["forget", world, "<rex>"]),
        "purge": (two, ["forget", world, "<rex>", "--purge", "--yes"]),
        "repair": (broken, ["repair", world]),
        "repair without a concept": (lame, ["repair", world]),
        "rename": (two, ["rename", world, "<rex>", "<max>"]),
        "branch": (two, ["branch", world, str(out / "branch"), "--at", "1"]),
        "import": (given, [*ground.bring(world, place / "lora"), "--token", "<max>", "--noun", "cat"]),
        "import from a world": (given, [*ground.bring(world, "--from", place / "other"), "--token", "<ada>"]),
        "import a world": (zipped, ["import", world, str(place / "world.zip")]),
        "export": (two, ["export", world, "<rex>", "--out", str(out / "lora")]),
        "export a world": (two, ["export", world, "--format", "world", "--out", str(out / "world.zip")]),
        "report": (two, ["report", world, "--html", str(place / "out" / "report.html")]),
        "generate": (two, ["generate", world, "a <rex> dog", "-n", "2", "--steps", "1", "--out", str(out)]),
    }
    made = {"branch": "branch", "export": "lora", "export a world": "world.zip"}
    (two / "out").mkdir()
    for name, (start, arguments) in commands.items():
        not_whole = {broken: ("0002",), lame: ("0001", "0002")}.get(start, ())
        yield Job(
            ground, name, start, arguments, broken=not_whole, in_steps=start == lame, makes=made.get(name, "")
        )


def lessons(ground: Ground, methods: list[str]) -> Iterator[Job]:
    """A job for each method's lesson in both precisions: the second of a world where the method can, else the
    first.
    """
    for method in methods:
        start = ground.place / "starts" / method
        before = () if learns_from_one_world_only(method) else ("<rex>",)
        make = functools.partial(ground.taught, start / "world", method, before)
        for precision in ("float32", "bfloat16"):
            command = ground.learn(ground.place / "place" / "world", "<tom>", "cat", method, precision)
            yield Job(ground, f"learn {method} {precision}", start, command, make=make)


ALL_METHODS = list(METHODS)

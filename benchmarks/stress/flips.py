"""Every kind of file in a world, damaged: a bit flipped, emptied, deleted, a link in its place. Each must be
named, with a way out that works.

Named at open, or by ``l2dm verify``, or by ``verify --deep``. The verbs that read files are tried too, where
it is deleted and with the first flip: they may refuse, or make anew what can be made anew, but not fail.
"""

from __future__ import annotations

import math
import random
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from l2dm.world import store

from .ground import Ended, Ground, fresh_copy, say
from .jobs import Job
from .kills import dying
from .operations import CHANGES

#: What an answer must have in it to be a way out.
WAY_OUT = re.compile(
    "l2dm (undo|repair|init)|from a backup|itself there|choose another|drawn anew|made anew|goes on from"
)
#: Files that hold nothing: only a link in their place is a damage.
EMPTY = (".lock",)
#: What is written to be looked at while a lesson runs, and read by nothing.
UNREAD = ("learning/log.jsonl",)


def kind_of(name: str) -> str:
    """``versions/0002/adapter-rex.safetensors`` -> ``versions/*/adapter-*.safetensors``."""
    name = re.sub(r"/(\d{4,6}|memory-\w+|[\w-]+-\d+x\d+)/", "/*/", name)
    name = re.sub(r"/(kept|sample)-[^/]+/", r"/\1-*/", name)
    return re.sub("(adapter|concept|noun|memory|short-term|sample|step|kept)-[^/]+(?=[.])", r"\1-*", name)


def flip(path: Path, rng: random.Random) -> str:
    data = bytearray(path.read_bytes())
    bit = rng.randrange(8 * len(data))
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)
    return f"bit {bit} flipped"


def empty(path: Path, rng: random.Random) -> str:
    path.write_bytes(b"")
    return "emptied"


def delete(path: Path, rng: random.Random) -> str:
    path.unlink()
    return "deleted"


def link(path: Path, rng: random.Random) -> str:
    """The file itself then lies beside the world."""
    world = next(folder for folder in path.parents if folder.name == "world")
    path.symlink_to(path.rename(world.with_name("elsewhere")))
    return "replaced by a link"


def damages(file: Path, flips: int) -> list[Callable[[Path, random.Random], str]]:
    """What is done to ``file``, one after another: the flips last."""
    return [link] if file.name in EMPTY else [link, empty, delete, *[flip] * flips]


def who_names(world: Path, name: str) -> tuple[str, str]:
    """Which command first names the damaged file (or its folder), and what it says."""
    by_folder = name.rpartition("/")[0] or name
    for by, command in (("open", ["show"]), ("verify", ["verify"]), ("verify --deep", ["verify", "--deep"])):
        try:
            code, said = say([*command, str(world)])
        except Exception as error:
            return f"{by}: traceback", repr(error)
        if code == 2 and (name in said or by_folder in said or "no world here" in said):
            return by, said
    return "nobody", ""


def follow(world: Path, said: str) -> str:
    """Do as the answer advises; what is then still wrong."""
    verb = "undo" if "l2dm undo" in said else "repair"
    for command in ([verb, str(world)], ["show", str(world)], ["verify", str(world)]):
        try:
            code, answer = say(command)
        except Exception as error:
            return f"{command[0]}: {error!r}"
        if code:
            return f"{command[0]}: {answer[:300]}"
    return ""


def worlds(ground: Ground, methods: tuple[str, ...]) -> Iterator[tuple[Path, list[list[str]]]]:
    """Folders with a ``world`` that holds every kind of file, and the commands that read them, for a world in
    ``place``.
    """
    for method in methods:
        start, place = ground.place / "flips" / method, ground.place / "place" / "world"
        kept = {"sample_every": 1}
        if method == "l2dm":  # ewc has no steps that could be picked
            kept["keep_every"] = 1
        ground.taught(start / "world", method, ("<rex>", "<tom>"), **kept)
        learn = ground.learn(place, "<ada>", "cup", method, **kept)
        job = Job(ground, "learn", start, learn)
        job.run_undisturbed()
        job.set_up()
        saved = [i for i, kind in enumerate(job.operations) if kind in CHANGES]
        ground.command(learn, prepare=dying(job, len(saved) * 3 // 5))
        store.sweep(job.world)
        fresh_copy(job.place, start)
        yield (
            start,
            [
                learn,
                [
                    "generate",
                    str(place),
                    "a <rex> dog and a <tom> cat",
                    "-n",
                    "1",
                    "--steps",
                    "1",
                    "--out",
                    str(job.out),
                ],
                ["report", str(place), "--html", str(job.out) + ".html"],
                ["undo", str(place)],
            ],
        )


@dataclass
class Tally:
    """What damages have come to so far; ``wrong``: by its kind, with file and damage."""

    kinds: Counter[str] = field(default_factory=Counter)
    named: Counter[str] = field(default_factory=Counter)
    read: int = 0
    wrong: dict[str, list[str]] = field(
        default_factory=lambda: {kind: [] for kind in ("silent", "traceback", "no way out", "way out fails")}
    )

    def note(self, kind: str, what: str) -> None:
        self.wrong[kind].append(what)
        print(f"{kind}: {what}", flush=True)

    def answer(self, world: Path, name: str, what: str) -> None:
        """Whether ``world``, whose file ``name`` is damaged, says so, with a way out that helps."""
        self.kinds[kind_of(name)] += 1
        by, said = who_names(world, name)
        self.named[by] += 1
        if by == "nobody":
            self.note("silent", what)
        elif by.endswith("traceback"):
            self.note("traceback", f"{what}: {said}")
        elif not WAY_OUT.search(said):
            self.note("no way out", f"{what}: {said[:300]}")
        elif re.search("l2dm (repair|undo)", said) and (fault := follow(world, said)):
            self.note("way out fails", f"{what}: {fault}")

    def reading(self, command: list[str], ended: Ended, what: str) -> None:
        """Whether a command that read a damaged file ended in order."""
        self.read += 1
        if ended.trace or ended.value[0] not in (0, 2):
            last = (ended.trace or ended.value[1]).strip()[-300:]
            self.note("traceback", f"{what}: {command[0]}: {last}")

    def figures(self) -> dict:
        return {
            "damages": self.kinds.total(),
            "by_kind_of_file": dict(self.kinds),
            "named_by": dict(self.named),
            "readings_of_damaged_files": self.read,
            "silent": self.wrong["silent"],
            "tracebacks": self.wrong["traceback"],
            "without_way_out": self.wrong["no way out"],
            "ways_out_that_fail": self.wrong["way out fails"],
        }


def measure(
    ground: Ground,
    flips: int,
    seed: int = 0,
    methods: tuple[str, ...] = ("l2dm", "ewc"),
    most_seconds: float = math.inf,
) -> dict:
    """Figures, over a world of each method, of ``flips`` flipped bits and the other damages of a file of each
    kind.
    """
    rng, began, tally = random.Random(seed), time.monotonic(), Tally()
    for start, commands in worlds(ground, methods):
        world = ground.place / "place" / "world"
        for file in sorted(p for p in (start / "world").rglob("*") if p.is_file()):
            name = str(file.relative_to(start / "world"))
            if kind_of(name) in tally.kinds or name in UNREAD:
                continue
            for number, damage in enumerate(damages(file, flips)):
                if time.monotonic() - began > most_seconds:
                    break
                fresh_copy(start, ground.place / "place")
                what = f"{name}: {damage(world / name, rng)}"
                tally.answer(world, name, what)
                if number not in (2, 3):  # deleted; the first flip
                    continue
                for command in commands:
                    fresh_copy(start, ground.place / "place")
                    damage(world / name, rng)
                    tally.reading(command, ground.command(command), what)
        print(f"{start.name}: {tally.kinds.total()} damages, {time.monotonic() - began:.0f} s", flush=True)
    return {
        **tally.figures(),
        "flips_of_each": flips,
        "seconds": round(time.monotonic() - began),
        "left_out": "the lock (empty, and made anew where it is missing); the running log, read by nothing",
    }

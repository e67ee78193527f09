"""Runs: a sequence of concepts learnt by one method from one seed, with its whole score matrix. What every
benchmark of sequences shares.

After each concept, every concept so far is drawn and scored. A run is a folder with its world and
``run.json``, written anew after each lesson and after each score: a run that was stopped goes on where it
was, a finished one is never repeated.
"""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, ClassVar, Protocol

import numpy as np
from PIL import Image

from ..backbone import Backbone
from ..errors import SettingsError
from ..evaluation.summary import summary
from ..generation import Picture
from ..methods import METHODS, Method
from ..settings import GenerateSettings, LearnSettings
from ..spelling import today
from ..world import store
from ..world.world import World, settings_for
from .memory import peak_mb, reset_peak
from .pool import map_jobs, run_in_subprocess
from .subjects import Subject, pictures


class Course(Protocol):
    """How a run is scored: the same for every method."""

    def scores(self, world: World, token: str, noun: str) -> dict[str, float]:
        """Of one concept as the world draws it now."""

    def sample(self, world: World, token: str, noun: str) -> Picture:
        """One picture of a concept, from a prompt and seed that are the same for every method."""

    def after(self, world: World, tokens: list[str]) -> dict[str, float]:
        """Figures of the whole run, from its last world."""


class Plan(Protocol):
    """What the runs of a benchmark share; a frozen dataclass, saved with every result."""

    name: ClassVar[str]  # of the result's files
    scores: ClassVar[tuple[str, ...]]  # what there may be a matrix of; the first is always there
    beside: ClassVar[dict[str, Any]]  # what the result holds besides the runs
    base: str
    world_clip: str
    learn: dict[str, Any]

    def sequence(self, seed: int) -> Sequence[Subject]:
        """The concepts of a run, in its order."""

    def course(self) -> Course: ...

    def card(self) -> dict[str, Any]:
        """Who judges, and what the judge is worth."""


def tell(text: str) -> None:
    """A line of progress, seen at once from any process; standard output is for answers."""
    print(text, file=sys.stderr, flush=True)


def begun(path: Path, identity: dict[str, Any], defaults: dict[str, Any] | None = None) -> dict[str, Any]:
    """The record at ``path``, or an empty one; a SettingsError when it tells of something else than
    ``identity`` (JSON values).

    ``defaults``: see ``same``.
    """
    record = today(json.loads(path.read_text(encoding="utf-8"))) if path.exists() else {}
    if record and not same(record, identity, defaults or {}):
        raise SettingsError(f"{path}: made with other settings; remove it or choose another --out")
    return record


def same(record: dict[str, Any], identity: dict[str, Any], defaults: dict[str, Any]) -> bool:
    """Whether ``record`` tells of ``identity``. ``defaults``: of groups of settings, which hold for those
    that came later than the record.
    """
    return all(
        {**defaults[name], **record.get(name, {})} == value if name in defaults else record.get(name) == value
        for name, value in identity.items()
    )


def later(plan: Plan) -> dict[str, Any]:
    """The defaults of all settings that a run's record tells of: a setting that is new leaves, by its
    default, all as it was.
    """
    settings = {"learn": LearnSettings().as_dict(), "generate": GenerateSettings().as_dict()}
    return {"plan": dataclasses.asdict(type(plan)()), "row": Method("").choices(), **settings}


def resolved(plan: Plan, method: str) -> dict[str, Any]:
    """What the runs of ``method`` learn and draw with: the base's weights, the method's row, and all
    settings, the base's own among them. Drawn is one concept at a time, without any guidance for several."""
    learn = settings_for(plan.base, "learn", {**plan.learn, "method": method})
    generate = settings_for(plan.base, "generate", {"composition": "none"})
    row = METHODS[method].choices()
    return {
        "weights": Backbone.fingerprint_of(plan.base),
        "row": row,
        "learn": learn.as_dict(),
        "generate": generate.as_dict(),
    }


def run(plan: Plan, method: str, seed: int, out: Path, tell: Callable[[str], None] = tell) -> dict[str, Any]:
    """One method, one seed, one order; resumes. Returns its record."""
    folder = out / "runs" / f"{method}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    path, identity = (
        folder / "run.json",
        {"plan": dataclasses.asdict(plan), "method": method, "seed": seed, **resolved(plan, method)},
    )
    record = begun(path, identity, later(plan))
    if record.get("finished"):
        return record
    course, apart = plan.course(), METHODS[method].apart
    sequence = plan.sequence(seed)
    tokens = [s.token for s in sequence]
    if not record:
        empty = {name: [[None] * len(sequence) for _ in sequence] for name in plan.scores}
        record = {
            **identity,
            "order": tokens,
            "matrices": empty,
            "seconds": [],
            "peak_mb": [],
            "bytes": [],
            "finished": False,
        }
    lead, world = record["matrices"][plan.scores[0]], None
    for k, subject in enumerate(sequence):
        missing = [t for t in ([k] if apart else range(k + 1)) if lead[t][k] is None]
        if not missing and k + 1 < len(sequence):
            continue
        learnt = len(record["seconds"])
        if world is None or apart:
            world = _world(
                folder / (f"world-{k}" if apart else "world"), plan, int(learnt > k) if apart else learnt
            )
        if learnt == k:
            _teach(world.path, sequence[: k + 1], plan, method, seed, record)
            world = World.open(world.path)
            store.write_json(path, record)
        for t in missing:
            if apart or k + 1 == len(sequence):
                drawn = course.sample(world, sequence[t].token, sequence[t].noun)
                drawn.save(_sample(folder, sequence[t].token))
            for name, value in course.scores(world, sequence[t].token, sequence[t].noun).items():
                for j in range(k, len(sequence)) if apart else [k]:
                    record["matrices"][name][t][j] = value
            store.write_json(path, record)
        now = np.mean([lead[t][k] for t in range(k + 1)])
        tell(
            f"{method} seed {seed}: {k + 1}/{len(sequence)} {subject.token}, "
            f"{plan.scores[0].replace('_', ' ')} so far {now:.2f}"
        )
    record |= course.after(world, tokens) | {"finished": True}
    store.write_json(path, record)
    return record


def _sample(folder: Path, token: str) -> Path:
    """Where the run in ``folder`` keeps the picture of ``token``, as it is at the end."""
    return folder / f"{token.strip('<>')}.png"


def samples(plan: Plan, out: Path, result: dict[str, Any]) -> dict[str, list[Image.Image]]:
    """ "photos" and each method -> one picture of each concept, of the runs of the first seed; methods whose
    pictures are not in ``out`` are left out."""
    first = min(run["seed"] for run in result["runs"])
    found = {
        run["method"]: [_sample(out / "runs" / f"{run['method']}-{first}", token) for token in run["order"]]
        for run in result["runs"]
        if run["seed"] == first
    }
    drawn = {
        m: [Image.open(file).convert("RGB") for file in files]
        for m, files in found.items()
        if all(file.exists() for file in files)
    }
    return {"photos": [pictures(s.learn)[0] for s in plan.sequence(first)], **drawn} if drawn else {}


def _world(place: Path, plan: Plan, known: int) -> World:
    """The run's world with the ``known`` concepts that its record knows: a lesson that was never recorded is
    taken back.
    """
    world = World.open(place) if place.exists() else World.create(place, plan.base, plan.world_clip or None)
    while len(world.concepts) > known:
        world.undo()
    return world


def _teach(
    place: Path, sequence: Sequence[Subject], plan: Plan, method: str, seed: int, record: dict[str, Any]
) -> None:
    """One lesson, of the last of ``sequence``, in a process of its own, as users learn; its seconds, its peak
    memory, and the bytes that all concepts so far take go into ``record``."""
    subject = sequence[-1]
    earlier = {s.token: s.learn for s in sequence[:-1]} if METHODS[method].memory == "photos" else None
    settings = {"report_pictures": 0, **plan.learn, "method": method, "seed": seed}
    seconds, peak, size = run_in_subprocess(_learn, place, subject, earlier, settings)
    others = record["bytes"][-1] if record["bytes"] and METHODS[method].apart else 0
    record["seconds"].append(seconds)
    record["peak_mb"].append(peak)
    record["bytes"].append(others + size)


def _learn(
    place: Path, subject: Subject, earlier: dict[str, Path] | None, settings: dict[str, Any]
) -> tuple[float, float, int]:
    """Seconds, peak MB and bytes of the new version."""
    reset_peak()
    world = World.open(place)
    version = world.learn(
        subject.learn, token=subject.token, noun=subject.noun, discard=True, earlier=earlier, **settings
    )
    return version.seconds, peak_mb(), store.size(place / "versions" / f"{version.version:04d}")


def finished(plan: Plan, place: Path) -> dict[tuple[str, int], dict[str, Any]]:
    """The runs that the results file ``place`` holds, by method and seed; a SettingsError when one was made
    with other settings.
    """
    result = today(json.loads(place.read_text(encoding="utf-8"))) if place.exists() else {"runs": []}
    records = {(record["method"], record["seed"]): record for record in result["runs"]}
    for (method, seed), record in records.items():
        identity = {
            "plan": dataclasses.asdict(plan),
            "method": method,
            "seed": seed,
            **resolved(plan, method),
        }
        if not same(record, identity, later(plan)) or result["judge"] != plan.card():
            raise SettingsError(
                f"{place}: {method}, seed {seed}: made with other settings; remove it or choose another --out"
            )
    return records


def bench(
    plan: Plan,
    methods: list[str],
    seeds: list[int],
    out: Path,
    workers: int,
    threads: int,
    ray: str | None = None,
    name: str = "",
) -> dict[str, Any]:
    """Every method with every seed (see ``pool.map_jobs``); writes ``<name>.json``, the plan's own by
    default, after each finished run.

    A run that is there already is kept and not repeated: a results file grows, and goes on on another machine
    without its worlds.
    """
    out = out.resolve()
    out.mkdir(parents=True, exist_ok=True)
    place, card = out / f"{name or plan.name}.json", plan.card()
    records = finished(plan, place)
    keys = [(method, seed) for seed in seeds for method in methods if (method, seed) not in records]

    def result() -> dict[str, Any]:
        have = {
            method: [row for _, row in sorted(records.items()) if row["method"] == method]
            for method in METHODS
        }
        return {
            "methods": {method: summary(rows) for method, rows in have.items() if rows},
            "runs": [row for rows in have.values() for row in rows],
            "settings": dataclasses.asdict(plan),
            "judge": card,
            **plan.beside,
        }

    for i, record in map_jobs(run, [(plan, *key, out) for key in keys], workers, threads, ray):
        records[keys[i]] = record
        store.write_json(place, result())
    return result()

"""The lifelong benchmark: a sequence of concepts for several methods and seeds, each with its whole score matrix.

After each concept, every concept so far is drawn from the same prompts and seeds and judged. A run is a folder with its world
and ``run.json``, written anew after each concept: a run that was stopped goes on at its next concept, a finished one is
never repeated.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from ..backbone import MINI
from ..evaluation import matrix
from ..evaluation.judge import Judge
from ..methods import METHODS
from ..world import store
from ..world.world import World
from .examiner import Examiner
from .runs import begun, each, spread, tell
from .subjects import Subjects

#: a score of every concept after every concept: name -> unit
SCORES = ("identification", "image_alignment", "text_alignment")


@dataclass(frozen=True)
class Plan:
    """What every run shares; saved with every result."""

    concepts: str = "shipped"
    base: str = MINI
    count: int = 10  # concepts of a run
    pictures: int = 2  # of each prompt
    steps: int = 12  # sampling steps
    learn: dict[str, Any] = field(default_factory=dict)  # changes of the base's learn settings


def order(subjects: Subjects, count: int, seed: int) -> list[int]:
    """Which concepts a run learns, in which order: the seed's own permutation."""
    return np.random.default_rng(seed).permutation(len(subjects.concepts))[:count].tolist()


def run(plan: Plan, method: str, seed: int, out: Path, tell: Callable[[str], None] = tell) -> dict[str, Any]:
    """One method, one seed, one order; resumes. Returns its record."""
    folder = out / "runs" / f"{method}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    path, identity = folder / "run.json", {"plan": dataclasses.asdict(plan), "method": method, "seed": seed}
    record = begun(path, identity)
    examiner = Examiner(plan.concepts, n=plan.pictures, batch=plan.pictures, steps=plan.steps)
    sequence = [examiner.subjects.concepts[i] for i in order(examiner.subjects, plan.count, seed)]
    tokens = [s.token for s in sequence]
    if not record:
        empty = {name: [[None] * len(sequence) for _ in sequence] for name in SCORES}
        record = {**identity, "order": tokens, "matrices": empty, "seconds": [], "peak_mb": [], "bytes": [], "finished": False}
    if record["finished"]:
        return record
    apart, scored = METHODS[method].apart, len(record["seconds"])
    world = None
    for k, subject in enumerate(sequence[scored:], start=scored):
        if world is None or apart:
            world = _world(folder / (f"world-{k}" if apart else "world"), plan, method, 0 if apart else scored)
        _reset_peak()
        version = world.learn(subject.learn, token=subject.token, noun=subject.noun, method=method, seed=seed, discard=True,
                              **{"previews": 0, **plan.learn})  # fmt: skip
        for t in [k] if apart else range(k + 1):
            for name, value in examiner.scores(world, sequence[t].token, sequence[t].noun).items():
                for j in range(k, len(sequence)) if apart else [k]:
                    record["matrices"][name][t][j] = value
        record["seconds"].append(version.seconds)
        record["peak_mb"].append(_peak_mb())
        record["bytes"].append(store.size(world.path / "versions" / f"{version.version:04d}"))
        store.write_json(path, record)
        now = np.mean([record["matrices"]["identification"][t][k] for t in range(k + 1)])
        tell(f"{method} seed {seed}: {k + 1}/{len(sequence)} {subject.token}, identification so far {now:.2f}")
    world = world or _world(folder / (f"world-{len(sequence) - 1}" if apart else "world"), plan, method, 1 if apart else scored)
    world.backbone()
    with world.tuner.pretrained():
        before = examiner.nouns(world, tokens)
    record |= examiner.drift(before, examiner.nouns(world, tokens)) | {"finished": True}
    store.write_json(path, record)
    return record


def _world(place: Path, plan: Plan, method: str, known: int) -> World:
    """The run's world with the ``known`` concepts that its record knows: what was learnt but never judged is taken back."""
    world = World.open(place) if place.exists() else World.create(place, plan.base, METHODS[method].tuner)
    while len(world.concepts) > known:
        world.undo()
    return world


def summary(records: list[dict[str, Any]]) -> dict[str, Any]:
    """Mean and spread over the runs of one method."""

    def of(name: str, figure: Callable) -> dict[str, float]:
        return spread([figure(np.array(r["matrices"][name], dtype=float)) for r in records])

    found = {"runs": len(records), "identification_just_learned": of("identification", matrix.just_learned)}
    for name in SCORES:
        if records[0]["matrices"][name][0][0] is not None:
            found[name] = of(name, matrix.average)
    found["image_alignment_just_learned"] = of("image_alignment", matrix.just_learned)
    found["forgetting"], found["image_forgetting"] = of("identification", matrix.forgetting), of("image_alignment", matrix.forgetting)
    found["prior_drift"], found["drift_rate"] = (spread([r[name] for r in records]) for name in ("prior_drift", "drift_rate"))
    found["seconds_per_concept"] = spread([float(np.mean(r["seconds"])) for r in records])
    if len(records[0]["seconds"]) >= 10:
        found["seconds_k10_over_k2"] = spread([r["seconds"][9] / r["seconds"][1] for r in records])
        found["peak_memory_k10_over_k2"] = spread([r["peak_mb"][9] / r["peak_mb"][1] for r in records])
    found["bytes_per_concept"] = spread([float(np.mean(np.diff([0, *r["bytes"]]))) for r in records])
    return found


def bench(plan: Plan, methods: list[str], seeds: list[int], out: Path, workers: int, threads: int) -> dict[str, Any]:
    """Every method with every seed, ``workers`` at a time; writes ``lifelong.json`` after each finished run."""
    jobs = [(method, seed) for seed in seeds for method in methods]
    records: dict[tuple[str, int], dict[str, Any]] = {}
    out.mkdir(parents=True, exist_ok=True)
    for i, record in each(run, [(plan, method, seed, out) for method, seed in jobs], workers, threads):
        records[jobs[i]] = record
        have = {m: [records[key] for key in jobs if key in records and key[0] == m] for m in methods}
        result = {
            "methods": {m: summary(rows) for m, rows in have.items() if rows},
            "runs": [records[key] for key in jobs if key in records], "settings": dataclasses.asdict(plan), "judge": Judge().card(),
        }  # fmt: skip
        store.write_json(out / "lifelong.json", result)
    return result


def _reset_peak() -> None:
    """Start measuring peak memory anew, where the system can."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def _peak_mb() -> float:
    """Peak resident memory in MB, since ``_reset_peak`` on Linux and since the start elsewhere."""
    try:
        line = next(x for x in Path("/proc/self/status").read_text().splitlines() if x.startswith("VmHWM"))
        return round(int(line.split()[1]) / 1e3, 1)
    except (OSError, StopIteration):
        import resource

        return round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3, 1)

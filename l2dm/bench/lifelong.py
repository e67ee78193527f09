"""The lifelong benchmark: a sequence of concepts for several methods and seeds, each with its whole score matrix.

After each concept, every concept so far is drawn from the same prompts and seeds and judged. A run is a folder with its world
and ``run.json``, written anew after each concept: a run that was stopped goes on at its next concept, a finished one is
never repeated.
"""

from __future__ import annotations

import dataclasses
import json
import multiprocessing
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..backbone import MINI
from ..concept.words import class_prompt
from ..errors import SettingsError
from ..evaluation import matrix
from ..evaluation.judge import Judge, pool
from ..methods import METHODS
from ..world import store
from ..world.world import World
from .subjects import Subjects, pictures

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


class Examiner:
    """Draws and judges: the same prompts, seeds and references for every method."""

    def __init__(self, plan: Plan):
        self.plan, self.subjects, self.judge = plan, Subjects.read(plan.concepts), Judge()
        self.own = {s.token: self.judge.prototype(pictures(s.unseen)) for s in self.subjects.concepts}
        self.like = {noun: [self.judge.prototype(pictures(f)) for f in folders] for noun, folders in self.subjects.like.items()}
        tokens = list(self.own)
        everything = [self.own[t] for t in tokens] + [p for group in self.like.values() for p in group]
        self.tokens, self.known = tokens, torch.stack(everything)

    def draw(self, world: World, prompt: str, seed: int = 0) -> list:
        """The pictures of one prompt."""
        return [p.image for p in world.generate(prompt, n=self.plan.pictures, steps=self.plan.steps, seed=seed, batch=self.plan.pictures)]

    def scores(self, world: World, token: str, noun: str) -> dict[str, float]:
        """Identification in [0, 1]; image alignment 100 x mean likeness; text alignment 100 x mean 2.5 max(cos, 0)."""
        images, texts = [], []
        for i, prompt in enumerate(self.subjects.prompts):
            drawn = self.draw(world, prompt.format(f"{token} {noun}"), seed=1000 + 100 * i)
            images += drawn
            texts += [prompt.format(f"a {noun}")] * len(drawn)
        like = self.judge.likeness(images, self.known)
        mine = self.tokens.index(token)
        found = {"identification": float((like.argmax(1) == mine).float().mean()), "image_alignment": 100 * float(like[:, mine].mean())}
        features = world.backbone().features
        if features is not None:
            cosines = (features.images(images) * features.texts(world.backbone().tokenizer, texts)).sum(1)
            found["text_alignment"] = 100 * float((2.5 * cosines.clamp(min=0)).mean())
        return {name: round(value, 4) for name, value in found.items()}

    def nouns(self, world: World, learnt: list[str]) -> dict[str, torch.Tensor]:
        """What the judge sees in pictures of the concepts' nouns and of unrelated ones: pooled cells ``(pictures, width)``."""
        wanted = [*dict.fromkeys(s.noun for s in self.subjects.concepts if s.token in learnt), *self.subjects.nouns]
        seen = {}
        for noun in wanted:
            cells, saliency, _, _ = self.judge.look([im for k in range(2) for im in self.draw(world, class_prompt(noun), 5000 + 100 * k)])
            seen[noun] = pool(cells, saliency)
        return seen

    def drift(self, before: dict[str, torch.Tensor], now: dict[str, torch.Tensor]) -> dict[str, float]:
        """``prior_drift``: 1 - mean cosine with the pretrained model's pictures from the same seeds. ``drift_rate``: how often a
        class noun comes out as a learnt concept of that noun rather than as any look-alike, less the pretrained model's rate."""
        apart = [float(1 - (now[noun] * before[noun]).sum(1).mean()) for noun in now]
        rates = []
        for seen in (now, before):
            taken = []
            for noun, features in seen.items():
                mine = [self.own[s.token] for s in self.subjects.concepts if s.noun == noun]
                if mine and noun in self.like:
                    nearest = (features @ torch.stack([*mine, *self.like[noun]]).T).argmax(1)
                    taken += (nearest < len(mine)).float().tolist()
            rates.append(float(np.mean(taken)) if taken else 0.0)
        return {"prior_drift": round(float(np.mean(apart)), 4), "drift_rate": round(rates[0] - rates[1], 4)}


def order(subjects: Subjects, count: int, seed: int) -> list[int]:
    """Which concepts a run learns, in which order: the seed's own permutation."""
    return np.random.default_rng(seed).permutation(len(subjects.concepts))[:count].tolist()


def run(plan: Plan, method: str, seed: int, out: Path, tell: Callable[[str], None] = print) -> dict[str, Any]:
    """One method, one seed, one order; resumes. Returns its record."""
    folder = out / "runs" / f"{method}-{seed}"
    folder.mkdir(parents=True, exist_ok=True)
    path, identity = folder / "run.json", {"plan": dataclasses.asdict(plan), "method": method, "seed": seed}
    record = json.loads(path.read_text()) if path.exists() else {}
    if record and {k: record[k] for k in identity} != identity:
        raise SettingsError(f"{path}: made with other settings; remove {folder} or choose another --out")
    examiner = Examiner(plan)
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
        earlier = {s.token: s.learn for s in sequence[:k]} if METHODS[method].memory == "photos" else None
        version = world.learn(subject.learn, token=subject.token, noun=subject.noun, method=method, seed=seed, discard=True,
                              earlier=earlier, **{"previews": 0, **plan.learn})  # fmt: skip
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

    def spread(values: list[float]) -> dict[str, float]:
        return {"mean": round(float(np.mean(values)), 4), "std": round(float(np.std(values, ddof=1)) if len(values) > 1 else 0.0, 4)}

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


def _work(plan: Plan, method: str, seed: int, out: Path, threads: int) -> dict[str, Any]:
    torch.set_num_threads(threads)
    return run(plan, method, seed, out, lambda text: print(text, flush=True))


def bench(plan: Plan, methods: list[str], seeds: list[int], out: Path, workers: int, threads: int) -> dict[str, Any]:
    """Every method with every seed, ``workers`` at a time; writes ``lifelong.json`` after each finished run."""
    jobs = [(method, seed) for seed in seeds for method in methods]
    records: dict[tuple[str, int], dict[str, Any]] = {}
    out.mkdir(parents=True, exist_ok=True)
    with ProcessPoolExecutor(workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        waiting = {pool.submit(_work, plan, method, seed, out, threads): (method, seed) for method, seed in jobs}
        for done in as_completed(waiting):
            records[waiting[done]] = done.result()
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

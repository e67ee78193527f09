"""The benchmark of several concepts in one prompt: every composition draws the same prompts from the same
seeds in the same world.

The world has learnt the benchmark's concepts before. A part is one composition, one seed and one kind of
prompt; each is a file in ``parts``, written when the part is done, so that a benchmark that was stopped goes
on and a finished part is never repeated. Another world, judge or setting is another benchmark: it is refused
in the same folder.
"""

from __future__ import annotations

import dataclasses
import itertools
import json
import time
from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ..concept.words import article
from ..errors import SettingsError
from ..evaluation.judging import SHIPPED
from ..generation.picture import save_png
from ..report import attention
from ..spelling import today
from ..world import store
from ..world.world import World
from .interactions import drawn_and_judged
from .multi_judging import judge_concepts, judge_nouns, seeing
from .multi_summary import KINDS, TOGETHER, rates, summary
from .pool import map_jobs
from .runs import begun, tell
from .scorer import Scorer
from .subjects import Subject, Subjects

#: row -> its changes of the generate settings. The peer is as its authors published it, whatever our own
#: defaults are.
ROWS: dict[str, dict[str, Any]] = {
    **{name: {"composition": name} for name in ("none", "collage", "l2dm", "artists", "caa", "oaa")},
    "unmix": {"composition": "caa", "attend_weight": 0.0},
    "attend": {"composition": "caa", "unmix_weight": 0.0},
    "attend-and-excite": {
        "composition": "attend-and-excite",
        "guidance_step": 20.0,
        "guidance_until": 0.5,
        "guidance_every": 1,
        "guidance_repeats": 1,
        "guidance_refinements": 20,
        "composition_loss_threshold": 0.0,
    },
    "self-cross": {
        "composition": "self-cross",
        "guidance_step": 20.0,
        "guidance_until": 0.5,
        "guidance_every": 1,
        "guidance_repeats": 1,
        "composition_loss_threshold": 0.0,
    },
    **{name: {"composition": name} for name in ("structure", "mudi")},
    "collage-confined": {"composition": "collage", "confine": True},
    "confined": {"composition": "confined"},
    "caa-confined": {"composition": "caa", "confine": True},
    "oaa-confined": {"composition": "oaa", "confine": True},
}

SAMPLES = 3  # pictures of a part that are kept for the page
#: what a run's record says of a part beside its rates
RECORDED = ("pictures", "by_kind", "text_alignment", "ratios", "plain_seconds", "threads")


@dataclass(frozen=True)
class Plan:
    """What every part shares; saved with every result."""

    concepts: str = "shipped"
    pictures: int = 1  # of each prompt
    triples: int = 20
    contexts: int = 0  # of the concepts' prompts, the first ones; 0: all
    judge: str = SHIPPED
    timed: int = 3  # paired runs of a part that takes the time
    #: changes of the base's generate settings, for every row
    generate: dict[str, Any] = field(default_factory=dict)


def learnt(world: World, subjects: Subjects) -> list[Subject]:
    """The benchmark's concepts that ``world`` has learnt; a SettingsError when they are fewer than two."""
    found = [s for s in subjects.concepts if world.concepts.get(s.token) == s.noun]
    if len(found) < 2:
        raise SettingsError(
            f"{world.path}: it has learnt {len(found)} of the benchmark's concepts, and two are needed; "
            "learn them first, or give the world of a run of l2dm bench lifelong"
        )
    return found


def described(world: World) -> dict[str, Any]:
    """Which world it is, and with which settings its last concept was learnt."""
    present = world.manifest.present if world.version else None
    files, learn = (world._files.files, present.settings) if present else ({}, {})
    return {"version": world.version, "concepts": world.concepts, "files": files, "learn": learn}


def groups(kind: str, concepts: list[Subject], triples: int, nouns: list[str]) -> list[tuple[Subject, ...]]:
    """What is to be together in one picture: all pairs, or ``triples`` of all triples, the same for every
    composition and seed.

    "two_of_one_noun" has the pairs that share a noun, all other kinds have none such. Of "two_plain_nouns"
    only the nouns count, and only those in ``nouns``, which the judge can name.
    """
    if kind == "two_plain_nouns":
        concepts = list({s.noun: s for s in concepts if s.noun in nouns}.values())
    found = list(itertools.combinations(concepts, 3 if kind == "three_concepts" else 2))
    found = [
        group
        for group in found
        if (len({s.noun for s in group}) == len(group)) != (kind == "two_of_one_noun")
    ]
    if kind == "three_concepts":
        found = [found[i] for i in sorted(np.random.default_rng(0).permutation(len(found))[:triples])]
    return found


def listed(words: list[str]) -> str:
    """``a, b and c``."""
    return ", ".join(words[:-1]) + " and " + words[-1]


def run(
    plan: Plan, name: str, seed: int, kind: str, place: Path, out: Path, tell: Callable[[str], None] = tell
) -> dict[str, Any]:
    """One part: row ``name`` of ROWS, one seed, one of KINDS, in the world at ``place``. Returns its
    record.
    """
    world = World.open(place)
    drawing = {**plan.generate, **ROWS[name]}
    identity = {
        "plan": dataclasses.asdict(plan),
        "composition": name,
        "seed": seed,
        "kind": kind,
        "world": described(world),
        "settings": world.settings("generate", drawing).as_dict(),
        "judge": seeing(plan.judge).card(),
    }
    path = out / "parts" / f"{name}-{seed}-{kind}.json"
    if record := begun(path, identity, {"plan": dataclasses.asdict(Plan())}):
        return record
    path.parent.mkdir(parents=True, exist_ok=True)
    scorer = Scorer(plan.concepts, plan.judge, **{**drawing, "n": plan.pictures, "batch": plan.pictures})
    concepts = learnt(world, scorer.subjects)
    if kind == "one_concept":
        found = _alone(scorer, world, concepts, seed)
    elif kind == "interactions":
        found = drawn_and_judged(scorer, world, [s.token for s in concepts], seed, path)
    elif kind == "time":
        found = _time(plan, world, scorer.subjects, concepts, ROWS[name], seed)
    else:
        found = _together(plan, scorer, world, concepts, kind, seed, path)
    record = {**identity, **found}
    store.write_json(path, record)
    tell(f"{name} seed {seed} {kind}: " + ", ".join(f"{k} {v:.2f}" for k, v in found["rates"].items()))
    return record


def _together(
    plan: Plan, scorer: Scorer, world: World, concepts: list[Subject], kind: str, seed: int, path: Path
) -> dict[str, Any]:
    """Draws and judges every group in every context; keeps a few pictures beside ``path``."""
    judge, plain = scorer.judge, kind == "two_plain_nouns"
    steps = world.settings("generate", scorer.drawing).steps
    contexts = scorer.subjects.prompts[: plan.contexts or None]
    cases = list(itertools.product(groups(kind, concepts, plan.triples, judge.nouns), contexts))
    kept = sorted(np.random.default_rng(seed).permutation(len(cases))[:SAMPLES].tolist())
    verdicts, alignments, samples = [], [], []
    world.backbone()
    with world.tuner.pretrained() if plain else nullcontext():
        for i, (group, context) in enumerate(cases):
            prompt = context.format(listed([article(s.noun) if plain else s.words for s in group]))
            looks = (steps // 3,) if i in kept and not plain else ()
            pictures = world.generate(
                prompt, seed=1_000_000 * (seed + 1) + 100 * i, show_attention=looks, **scorer.drawing
            )
            images = [picture.image for picture in pictures]
            said = judge_nouns(judge, images, group) if plain else judge_concepts(scorer, images, group)
            verdicts += [{"prompt": prompt, "seed": p.seed, **v} for p, v in zip(pictures, said)]
            text = context.format(listed([article(s.noun) for s in group]))
            alignments.append(scorer.text_alignment(world, images, [text] * len(images)))
            if i in kept:
                file = path.with_name(f"{path.stem}-{i}.png")
                pictures[0].save(file)
                samples.append({"prompt": prompt, "seed": pictures[0].seed, "file": file.name})
                if looks:
                    samples[-1]["attention"] = f"{file.stem}-attention.png"
                    overlays = attention.sheet(images[0], pictures[0].attention)
                    save_png(overlays, file.with_name(samples[-1]["attention"]))
    aligned = alignments and None not in alignments
    return {
        "rates": rates(verdicts),
        "pictures": len(verdicts),
        "text_alignment": round(float(np.mean(alignments)), 4) if aligned else None,
        "samples": samples,
        "verdicts": verdicts,
    }


def _alone(scorer: Scorer, world: World, concepts: list[Subject], seed: int) -> dict[str, Any]:
    """Each concept by itself: the scores of the lifelong benchmark, their mean over the concepts."""
    rows = [scorer.scores(world, s.token, s.noun, seed=1_000_000 * (seed + 1)) for s in concepts]
    return {"rates": {name: round(float(np.mean([row[name] for row in rows])), 4) for name in rows[0]}}


def _time(
    plan: Plan, world: World, subjects: Subjects, concepts: list[Subject], row: dict[str, Any], seed: int
) -> dict[str, Any]:
    """Seconds of paired runs, plain and guided in turn, of pairs of concepts at the settings' own number of
    pictures and batch.
    """
    pairs = list(itertools.combinations(concepts, 2))
    seconds: dict[str, list[float]] = {"plain": [], "guided": []}
    for k in range(-1, plan.timed):  # the first pair warms up and is not counted
        pair = pairs[(k + plan.timed * seed) % len(pairs)]
        prompt = subjects.prompts[k % len(subjects.prompts)].format(listed([s.words for s in pair]))
        for kind, changes in [("plain", {"composition": "none"}), ("guided", row)][:: 1 if k % 2 else -1]:
            began = time.perf_counter()
            world.generate(prompt, seed=seed, **{**plan.generate, **changes})
            if k >= 0:
                seconds[kind].append(time.perf_counter() - began)
    ratios = [round(guided / plain, 4) for plain, guided in zip(seconds["plain"], seconds["guided"])]
    return {
        "rates": {"time_over_plain": float(np.median(ratios))},
        "ratios": ratios,
        "plain_seconds": [round(s, 3) for s in seconds["plain"]],
        "threads": torch.get_num_threads(),
    }


def result(plan: Plan, out: Path) -> dict[str, Any]:
    """``multi.json``'s content, of all parts of ``plan`` in ``out``: ``compositions`` (a ``summary`` for each
    row), ``runs`` (one for each row and seed), ``settings``, with those that each seed's world was learnt
    with.
    """
    parts = [today(json.loads(file.read_text(encoding="utf-8"))) for file in (out / "parts").glob("*.json")]
    parts = sorted(
        (p for p in parts if {**dataclasses.asdict(Plan()), **p["plan"]} == dataclasses.asdict(plan)),
        key=lambda p: (p["seed"], KINDS.index(p["kind"])),
    )
    runs, rows = [], {}
    for name in ROWS:
        own = [p for p in parts if p["composition"] == name]
        for seed in dict.fromkeys(p["seed"] for p in own):
            kinds = {
                p["kind"]: {**p["rates"], **{k: p[k] for k in RECORDED if k in p}}
                for p in own
                if p["seed"] == seed
            }
            runs.append({"composition": name, "seed": seed, **kinds})
        if own:
            rows[name] = own[0]["settings"]
    return {
        "compositions": {name: summary([p for p in parts if p["composition"] == name]) for name in rows},
        "runs": runs,
        "settings": {
            "plan": dataclasses.asdict(plan),
            "generate": rows,
            "judge": seeing(plan.judge).card(),
            "worlds": {str(p["seed"]): p["world"].get("learn") for p in parts},
        },
    }


def bench(
    plan: Plan,
    names: list[str],
    seeds: list[int],
    worlds: list[Path],
    out: Path,
    workers: int,
    threads: int,
    kinds: Sequence[str] = KINDS,
) -> dict[str, Any]:
    """Every row with every seed, ``workers`` parts at a time, seed i in world i (from the first again when
    they are fewer); the times are taken at the end, one part at a time. Writes ``multi.json`` after each
    finished part: every part that the folder holds is in it. ``kinds``: of prompts, from KINDS. ``workers``
    0: all in this process.
    """
    seeing(plan.judge)  # where there is none it is said now, and not by each process
    for world in worlds:
        learnt(World.open(world), Subjects.read(plan.concepts))
    places = {seed: worlds[i % len(worlds)] for i, seed in enumerate(seeds)}
    jobs = [(plan, name, seed, kind, places[seed], out) for seed in seeds for kind in kinds for name in names]
    out.mkdir(parents=True, exist_ok=True)
    for at_once, last in ((workers, False), (min(1, workers), True)):
        for _ in map_jobs(run, [job for job in jobs if (job[3] == "time") == last], at_once, threads):
            found = result(plan, out)
            store.write_json(out / "multi.json", found)
    return found


def samples(out: Path, names: list[str], seed: int) -> dict[str, dict[str, list[dict[str, Any]]]]:
    """Kind -> row -> the kept pictures of ``seed``: prompt, seed, paths of the picture and of where it
    looked. Same prompts in each row.
    """
    found: dict[str, dict[str, list[dict[str, Any]]]] = {}
    for kind, name in itertools.product((*TOGETHER, "interactions"), names):
        if (path := out / "parts" / f"{name}-{seed}-{kind}.json").exists():
            kept = json.loads(path.read_text(encoding="utf-8"))["samples"]
            files = [{**s, **{k: path.parent / s[k] for k in ("file", "attention") if k in s}} for s in kept]
            found.setdefault(kind, {})[name] = files
    return found

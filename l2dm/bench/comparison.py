"""Every method on one ground: the lifelong benchmark of all rows, then several concepts in one prompt in each
run's own world.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..evaluation.judging import find_judge
from ..evaluation.shipped_judge import Judge
from ..evaluation.summary import summary
from ..methods import METHODS
from ..world import store
from . import multi
from .lifelong import Plan
from .runs import bench as learn_all
from .runs import tell

#: how the pictures of several concepts are drawn -> what the figure's name ends with
DRAWN = {"none": "", "l2dm": "_guided", "collage": "_collage"}
KINDS = ("two_concepts", "three_concepts")
CONTEXTS = 1  # of the prompts' four: 43 pictures of pairs and 20 of triples for a run and a way of drawing


def bench(
    plan: Plan,
    methods: list[str],
    seeds: list[int],
    out: Path,
    workers: int,
    threads: int,
    ray: str | None = None,
) -> dict[str, Any]:
    """``comparison.json``: as ``lifelong.json``, and in each run's record ``two_concepts``,
    ``three_concepts`` (success in [0, 1], plainly drawn) and the same ``_guided`` by L2DM's artists and as a
    ``_collage``. A method that keeps its concepts apart has none of these, nor has a run whose world is not
    here any more.
    """
    pairs = multi.Plan(plan.concepts, judge=plan.judge, contexts=CONTEXTS, generate={"steps": plan.steps})
    tells_apart = isinstance(find_judge(plan.judge), Judge)
    if not tells_apart:
        tell(
            f"judge {plan.judge}: it cannot say which of several things are in a picture; pairs and triples "
            "are left out"
        )
    result = learn_all(plan, methods, seeds, out, workers, threads, ray, "comparison")
    if not tells_apart:
        return result
    for method in methods:
        place = {seed: out / "runs" / f"{method}-{seed}" / "world" for seed in seeds}
        wanted = {
            run["seed"]: run
            for run in result["runs"]
            if run["method"] == method and not METHODS[method].apart
        }
        wanted = {
            seed: run
            for seed, run in wanted.items()
            if KINDS[0] not in run and seed in place and place[seed].exists()
        }
        if not wanted:
            continue
        worlds = [place[seed] for seed in wanted]
        for found in multi.bench(
            pairs, list(DRAWN), list(wanted), worlds, out / "multi" / method, workers, threads, KINDS
        )["runs"]:
            if found["seed"] not in wanted:
                continue
            rates = {
                kind + DRAWN[found["composition"]]: found[kind]["success"]
                for kind in KINDS
                if "success" in found.get(kind, {})
            }
            wanted[found["seed"]].update(rates)
        result["methods"][method] = summary([run for run in result["runs"] if run["method"] == method])
        store.write_json(out / "comparison.json", result)
    return result

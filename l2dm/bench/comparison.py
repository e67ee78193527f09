"""Every method on one ground: the lifelong benchmark of all rows, then several concepts in one prompt in each run's own world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..methods import METHODS
from ..world import store
from . import multi
from .lifelong import Plan
from .runs import bench as learn_all

#: how the pictures of several concepts are drawn -> what the figure's name ends with
DRAWN = {"none": "", "l2dm": "_guided", "collage": "_collage"}
KINDS = ("two_concepts", "three_concepts")


def bench(
    plan: Plan, methods: list[str], seeds: list[int], out: Path, workers: int, threads: int, ray: str | None = None
) -> dict[str, Any]:  # fmt: skip
    """``comparison.json``: each method's summary as in ``lifelong.json``, and ``two_concepts``, ``three_concepts`` (success in
    [0, 1], plainly drawn) and the same ``_guided`` by L2DM's artists and as a ``_collage``. A method that keeps its concepts apart
    has none of these."""
    pairs = multi.Plan(plan.concepts, generate={"steps": plan.steps})
    result = learn_all(plan, methods, seeds, out, workers, threads, ray, "comparison")
    for method in methods:
        if METHODS[method].apart:
            continue
        worlds = [out / "runs" / f"{method}-{seed}" / "world" for seed in seeds]
        found = multi.bench(pairs, list(DRAWN), seeds, worlds, out / "multi" / method, workers, threads, KINDS)["guidance"]
        for guidance, ending in DRAWN.items():
            for kind in KINDS:
                if kind in found[guidance]:
                    result["methods"][method][kind + ending] = found[guidance][kind]
        store.write_json(out / "comparison.json", result)
    return result

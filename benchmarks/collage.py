"""How large, from how many steps and with how much guidance a collage's things are best, and how the whole:
results/collage.json

python -m benchmarks.collage WORLD CONCEPTS      (a world that learnt concepts other than the benchmark's:
python -m mini_base.concepts --tuning)

``rows``: of every concept pictures are drawn alone, put together as a collage would, two and three at a time,
and judged as they are: the last steps, which join them, are left out, so that a choice costs seconds.
``joined``: whole collages, of the best of these, by how many of the steps the things have alone and whether
the rest is guided. ``--joined``: these alone, the others stay as they are.
"""

from __future__ import annotations

import argparse
import itertools
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from benchmarks.main import ROOT
from l2dm.bench.multi import Plan, groups, learnt, run
from l2dm.bench.multi_judging import judge_concepts
from l2dm.bench.scorer import Scorer
from l2dm.guidance import collage
from l2dm.world import store
from l2dm.world.world import World

PICTURES, TRIPLES = 6, 20
ALONE = {
    "5 steps": {"steps": 5},
    "8 steps": {"steps": 8},
    "5 steps of the ODE": {"steps": 5, "sampler": "dpm-solver"},
}
SCALES, SIZES = (1.0, 1.5, 2.0, 3.0), (0.95, 1.05, 1.2, 1.4)
JOINED = [
    (0.6, 1.0),
    (0.6, 0.0),
    (0.5, 0.0),
    (0.4, 0.0),
]  # share of the steps alone; guidance of the rest, as a share of the settings'
PLACE = ROOT / "results" / "collage.json"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("world", type=Path)
    parser.add_argument("concepts", type=Path)
    parser.add_argument("--joined", action="store_true")
    options = parser.parse_args()
    torch.set_num_threads(1)
    world, scorer = World.open(options.world), Scorer(str(options.concepts.resolve()))
    concepts = learnt(world, scorer.subjects)
    result = {"rows": [], "joined": [], "settings": {"concepts": [s.token for s in concepts]}}
    if options.joined:
        result = {**result, "rows": json.loads(PLACE.read_text())["rows"]}
    for kind, row in itertools.chain(
        [] if options.joined else things(world, scorer, concepts), joined(options.world, options.concepts)
    ):
        print(row, flush=True)
        result[kind].append(row)
        store.write_json(PLACE, result)


def things(world: World, scorer: Scorer, concepts: list) -> Iterator[tuple[str, dict[str, Any]]]:
    """Success of things put together, by how each was drawn and how large it is."""
    default = collage.SIZE
    contexts = list(enumerate(scorer.subjects.prompts))
    chosen = [("5 steps", scale, size) for scale, size in itertools.product(SCALES, SIZES)]
    chosen += [(how, scale, default) for how in list(ALONE)[1:] for scale in SCALES]
    for how, scale in dict.fromkeys((how, scale) for how, scale, _ in chosen):
        changes = {
            **ALONE[how],
            "guidance_scale": scale,
            "composition": "none",
            "n": PICTURES,
            "batch": PICTURES,
        }
        drawn = {
            (s.token, c): [
                p.image for p in world.generate(prompt.format(s.words), seed=900 + 10 * c, **changes)
            ]
            for s in concepts
            for c, prompt in contexts
        }
        for size in [size for *same, size in chosen if same == [how, scale]]:
            row = {"alone": how, "guidance_scale": scale, "size": size}
            collage.SIZE = size
            for kind, pictures in (("two_concepts", PICTURES), ("three_concepts", PICTURES // 2)):
                said = [
                    judge_concepts(
                        scorer,
                        [together([drawn[s.token, c][(k + i) % PICTURES] for i, s in enumerate(group)])],
                        group,
                    )[0]
                    for group in groups(kind, concepts, TRIPLES, [])
                    for c, _ in contexts
                    for k in range(pictures)
                ]
                row[kind], row[f"{kind}_pictures"] = (
                    round(float(np.mean([v["success"] for v in said])), 4),
                    len(said),
                )
            yield "rows", row
    collage.SIZE = default


def joined(world: Path, concepts: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Success of whole collages."""
    for collage.ALONE, collage.TOGETHER in JOINED:
        row = {"steps_alone": collage.ALONE, "guidance_together": collage.TOGETHER}
        for kind, pictures in (("two_concepts", 3), ("three_concepts", 2)):
            with tempfile.TemporaryDirectory() as folder:
                plan = Plan(str(concepts.resolve()), pictures, TRIPLES)
                found = run(plan, "collage", 0, kind, world, Path(folder), lambda text: None)
            row[kind], row[f"{kind}_pictures"] = found["rates"]["success"], found["pictures"]
        yield "joined", row


def together(pictures: list[Image.Image]) -> Image.Image:
    """The collage of ``pictures``, as it is before it is joined."""
    return Image.fromarray(
        collage.collage(pictures, collage.spots([None] * len(pictures)), pictures[0].size)[0]
    )


if __name__ == "__main__":
    main()

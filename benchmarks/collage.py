"""How large, from how many steps and with how much guidance a collage's things are best: results/collage.json

python -m benchmarks.collage WORLD CONCEPTS      (a world that learnt concepts other than the benchmark's: python -m base.concepts --tuning)

Of every concept pictures are drawn alone, put together as a collage would, two and three at a time, and judged as they are: the last
steps, which join them, are left out, so that a choice costs seconds.
"""

from __future__ import annotations

import argparse
import itertools
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from benchmarks.main import ROOT
from l2dm.bench.examiner import Examiner
from l2dm.bench.multi import groups, judge_concepts, learnt
from l2dm.guidance import collage
from l2dm.world import store
from l2dm.world.world import World

PICTURES, TRIPLES = 6, 20
ALONE = {"5 steps": {"steps": 5}, "8 steps": {"steps": 8}, "5 steps of the ODE": {"steps": 5, "sampler": "dpm-solver"}}
SCALES, SIZES = (1.0, 1.5, 2.0, 3.0), (0.95, 1.05, 1.2, 1.4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("world", type=Path)
    parser.add_argument("concepts", type=Path)
    options = parser.parse_args()
    torch.set_num_threads(1)
    world, examiner = World.open(options.world), Examiner(str(options.concepts.resolve()))
    concepts, rows = learnt(world, examiner.subjects), []
    contexts = list(enumerate(examiner.subjects.prompts))
    chosen = [("5 steps", scale, size) for scale, size in itertools.product(SCALES, SIZES)]
    chosen += [(how, scale, collage.SIZE) for how in list(ALONE)[1:] for scale in SCALES]
    for how, scale in dict.fromkeys((how, scale) for how, scale, _ in chosen):
        changes = {**ALONE[how], "guidance_scale": scale, "guidance": "none", "n": PICTURES, "batch": PICTURES}
        drawn = {
            (s.token, c): [p.image for p in world.generate(prompt.format(s.words), seed=900 + 10 * c, **changes)]
            for s in concepts for c, prompt in contexts
        }  # fmt: skip
        for size in [size for *same, size in chosen if same == [how, scale]]:
            rows.append({"alone": how, "guidance_scale": scale, "size": size})
            collage.SIZE = size
            for kind, pictures in (("two_concepts", PICTURES), ("three_concepts", PICTURES // 2)):
                said = [
                    judge_concepts(examiner, [together([drawn[s.token, c][(k + i) % PICTURES] for i, s in enumerate(group)])], group)[0]
                    for group in groups(kind, concepts, TRIPLES, []) for c, _ in contexts for k in range(pictures)
                ]  # fmt: skip
                rows[-1][kind], rows[-1][f"{kind}_pictures"] = round(float(np.mean([v["success"] for v in said])), 4), len(said)
            print(rows[-1], flush=True)
            store.write_json(ROOT / "results" / "collage.json", {"rows": rows, "settings": {"concepts": [s.token for s in concepts]}})


def together(pictures: list[Image.Image]) -> Image.Image:
    """The collage of ``pictures``, as it is before it is joined."""
    return Image.fromarray(collage.collage(pictures, collage.spots([None] * len(pictures)), pictures[0].size)[0])


if __name__ == "__main__":
    main()

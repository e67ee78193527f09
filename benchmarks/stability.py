"""Are the benchmark's few pictures and few sampling steps enough?  results/stability.json

python -m benchmarks.stability WORLD...      (worlds of finished runs of l2dm bench lifelong)

Every concept of each world is scored as the benchmark does it, and again with more pictures, more steps, and
other seeds.
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import numpy as np

from benchmarks.main import ROOT
from l2dm import World
from l2dm.bench.lifelong import Plan
from l2dm.bench.scorer import Scorer
from l2dm.world import store

#: name -> pictures of a prompt, sampling steps, seed of the first picture
WAYS = {
    "as the benchmark": (Plan.pictures, Plan.steps, 1000),
    "other seeds": (Plan.pictures, Plan.steps, 501_000),
    "four times the pictures": (4 * Plan.pictures, Plan.steps, 901_000),
    "twice the steps": (Plan.pictures, 2 * Plan.steps, 1000),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("worlds", type=Path, nargs="+")
    options = parser.parse_args()
    rows: dict[str, dict] = {}
    for name, (pictures, steps, seed) in WAYS.items():
        scorer = Scorer("shipped", n=pictures, steps=steps, batch=pictures)
        found = []
        for place in options.worlds:
            world = World.open(place)
            found += [scorer.scores(world, token, noun, seed) for token, noun in world.concepts.items()]
        rows[name] = {
            "pictures": pictures,
            "steps": steps,
            "seed": seed,
            **{score: round(float(np.mean([f[score] for f in found])), 4) for score in found[0]},
            "each": [f["identification"] for f in found],
        }
        print(name, {k: v for k, v in rows[name].items() if k != "each"}, flush=True)
    first = np.array(rows["as the benchmark"]["each"])
    for row in rows.values():
        row["mean_difference_of_a_concept"] = round(float(np.abs(np.array(row["each"]) - first).mean()), 4)
    result = {"ways": rows, "worlds": len(options.worlds), "concepts": len(first)}
    store.write_json(ROOT / "results" / "stability.json", result)
    print(json.dumps({name: row["identification"] for name, row in rows.items()}))


if __name__ == "__main__":
    main()

"""Two plain nouns on the bare base, by every composition: results/plain-pairs.json

python -m benchmarks.plain_pairs [--rows none,artists] [--seeds 0,1,2] [--pairs 16] [--pictures 4]
(resumes; adds to what is there)

No concept is learnt. A picture succeeds where the judge names both nouns, each with a probability of 1/2 or
more. "layout" is the oracle: the first noun in the left half and the second in the right half, by hand, from
the first step on (``confined`` with a layout).
"""

from __future__ import annotations

import argparse
import json
import subprocess
from typing import Any

import numpy as np
import torch

from benchmarks.base import both_there
from benchmarks.main import ROOT
from l2dm.backbone import Backbone
from l2dm.bench.multi import ROWS
from l2dm.concept.words import article
from l2dm.evaluation.shipped_judge import Judge
from l2dm.evaluation.summary import spread
from l2dm.generation import draw, laid_out, mentions
from l2dm.settings import GenerateSettings
from l2dm.world import store

PLACE = ROOT / "results" / "plain-pairs.json"
ORACLE = {"composition": "confined", "layout": "by hand: left and right half"}


def measure(
    backbone: Backbone, judge: Judge, row: dict[str, Any], seed: int, pairs: int, pictures: int
) -> float:
    """The share of pictures with both nouns, of ``pairs`` that the seed chooses."""
    rng, found = np.random.default_rng(seed), []
    plain = tuple(judge.nouns)
    for i in range(pairs):
        pair = tuple(rng.choice(judge.nouns, size=2, replace=False).tolist())
        prompt = "a photo of " + " and ".join(article(noun) for noun in pair)
        given = {**row, "layout": ""} if "layout" in row else row
        settings = GenerateSettings.of(
            backbone.defaults.get("generate", {}),
            given,
            {"n": pictures, "batch": pictures, "seed": 1000 * seed + 10 * i},
        )
        things = mentions(prompt, {}, backbone, plain, pair)
        if "layout" in row:
            things = laid_out(things, f"{pair[0]}: left, {pair[1]}: right", prompt)
        found += [
            both_there(judge, image, pair) for image in draw(backbone, prompt, settings, mentions=things)
        ]
    return round(float(np.mean(found)), 4)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rows", default="none,layout,artists,l2dm,confined,caa,oaa")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--pairs", type=int, default=16)
    parser.add_argument("--pictures", type=int, default=4)
    options = parser.parse_args()
    torch.set_num_threads(1)
    backbone, judge = Backbone.load(), Judge()
    found = json.loads(PLACE.read_text()) if PLACE.exists() else {"runs": []}
    head = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    for seed in map(int, options.seeds.split(",")):
        for name in options.rows.split(","):
            key = {"row": name, "seed": seed, "pairs": options.pairs, "pictures": options.pictures}
            if any(key.items() <= run.items() for run in found["runs"]):
                continue
            row = ORACLE if name == "layout" else ROWS[name]
            found["runs"].append(
                {
                    **key,
                    "success": measure(backbone, judge, row, seed, options.pairs, options.pictures),
                    "code": head,
                }
            )
            print(found["runs"][-1], flush=True)
            names = dict.fromkeys(run["row"] for run in found["runs"])
            found["rows"] = {
                n: spread([run["success"] for run in found["runs"] if run["row"] == n]) for n in names
            }
            found["settings"] = {"base": backbone.defaults.get("generate", {}), "judge": judge.card()}
            store.write_json(PLACE, found)


if __name__ == "__main__":
    main()

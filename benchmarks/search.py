"""The search for hyper-parameters, on concepts that the benchmark does not have: results/search.json.

python -m base.concepts --tuning FOLDER
python -m benchmarks.search FOLDER --out OUT [--variants NAME,NAME] [--seeds 0]      (resumes; adds to what is there)
"""

from __future__ import annotations

import argparse
import json
from pathlib import Path

from benchmarks.main import ROOT
from l2dm.bench.lifelong import Plan
from l2dm.bench.runs import bench
from l2dm.world import store

#: name -> method, and changes of the base's own learn settings
VARIANTS = {
    # how one concept is learnt: each in a world of its own
    "steps-200": ("separate", {"steps": 200}),
    "steps-350": ("separate", {"steps": 350}),
    "token-5e-3": ("separate", {"steps": 200, "token_learning_rate": 5e-3}),
    "token-5e-2": ("separate", {"steps": 200, "token_learning_rate": 5e-2}),
    "rate-1e-3": ("separate", {"steps": 200, "learning_rate": 1e-3}),
    "rate-4e-3": ("separate", {"steps": 200, "learning_rate": 4e-3}),
    # how the past is kept: one after another
    "l2dm": ("l2dm", {"steps": 200}),
    "l2dm-distil-3": ("l2dm", {"steps": 200, "distil_weight": 3.0}),
    "l2dm-distil-10": ("l2dm", {"steps": 200, "distil_weight": 10.0}),
    "l2dm-distil-30": ("l2dm", {"steps": 200, "distil_weight": 30.0}),
    "l2dm-replay-2": ("l2dm", {"steps": 200, "replay_weight": 2.0}),
    "l2dm-attention-1": ("l2dm", {"steps": 200, "attention_weight": 1.0}),
    # the default method: one seed, and none of these apart by more than chance
    "switched": ("switched", {"steps": 200}),
    "switched-cosine": ("switched", {"steps": 200, "lr_scheduler": "cosine", "learning_rate": 1e-3}),
    "switched-400-cosine": ("switched", {"steps": 400, "lr_scheduler": "cosine"}),
}
FIGURES = ("identification", "identification_just_learned", "image_alignment", "image_alignment_just_learned", "prior_drift")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("concepts", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--variants", default=",".join(VARIANTS))
    parser.add_argument("--seeds", default="0")
    parser.add_argument("--count", type=int, default=6)
    options = parser.parse_args()
    seeds, place = [int(seed) for seed in options.seeds.split(",")], ROOT / "results" / "search.json"
    found = json.loads(place.read_text()) if place.exists() else {"variants": {}}
    for name in options.variants.split(","):
        method, learn = VARIANTS[name]
        plan = Plan(str(options.concepts.resolve()), count=options.count, learn=learn)
        rows = bench(plan, [method], seeds, options.out / name, 1, 2)["methods"][method]
        figures = {figure: rows[figure] for figure in (*FIGURES, "seconds_per_concept")}
        found["variants"][name] = {"method": method, "learn": learn, "concepts": options.count, "runs": rows["runs"], **figures}
        store.write_json(place, found)
        print(name, {figure: value["mean"] for figure, value in figures.items()}, flush=True)


if __name__ == "__main__":
    main()

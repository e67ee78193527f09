"""The search for hyper-parameters, on concepts that the benchmark does not have: results/search.json.

python -m mini_base.concepts --tuning FOLDER python -m benchmarks.search FOLDER --out OUT [--variants
NAME,NAME] [--seeds 0]      (resumes; adds to what is there)
"""

from __future__ import annotations

import json

from benchmarks.main import ROOT, of_variants
from l2dm.bench.lifelong import Plan
from l2dm.bench.runs import bench
from l2dm.world import store

#: of keys and values, as the base had them and as it has them: of each variant all that it is about is told
_AS_BEFORE = {"steps": 200, "learning_rate": 2e-3, "lr_scheduler": "constant"}
_FALLING = {"steps": 200, "learning_rate": 4e-3, "lr_scheduler": "cosine", "precision": "bfloat16"}
#: name -> method, and changes of the base's own learn settings
VARIANTS = {
    # keys and values: each concept in a world of its own, and how the past is kept
    "separate-2e-3": ("separate-key-value", _AS_BEFORE),
    "separate-cosine-4e-3": ("separate-key-value", _FALLING),
    "l2dm-2e-3-distil-3": ("l2dm-published", {**_AS_BEFORE, "distil_weight": 3.0, "precision": "float32"}),
    "l2dm-2e-3-distil-10": ("l2dm-published", {**_AS_BEFORE, "distil_weight": 10.0, "precision": "float32"}),
    "l2dm-cosine-4e-3-distil-3": ("l2dm-published", {**_FALLING, "distil_weight": 3.0}),
    "l2dm-cosine-4e-3-distil-10": ("l2dm-published", {**_FALLING, "distil_weight": 10.0}),
    "l2dm-cosine-4e-3-distil-30": ("l2dm-published", {**_FALLING, "distil_weight": 30.0}),
    "l2dm-cosine-6e-3-distil-30": (
        "l2dm-published",
        {**_FALLING, "distil_weight": 30.0, "learning_rate": 6e-3},
    ),
    # how much of the earlier prompts' directions is kept, with a weight of distillation of 20
    "l2dm-kept-0.99": ("l2dm-directions", {"steps": 200, "precision": "bfloat16", "kept_share": 0.99}),
    # the default method: none of these apart by more than chance
    "switched": ("gated-lora", {"steps": 200}),
    "switched-cosine": ("gated-lora", {"steps": 200, "lr_scheduler": "cosine", "learning_rate": 1e-3}),
    "switched-400-cosine": ("gated-lora", {"steps": 400, "lr_scheduler": "cosine"}),
}
FIGURES = (
    "identification",
    "identification_just_learned",
    "image_alignment",
    "image_alignment_just_learned",
    "prior_drift",
)


def main() -> None:
    parser = of_variants(__doc__, list(VARIANTS), "0")
    parser.add_argument("--count", type=int, default=4)
    options = parser.parse_args()
    seeds, place = [int(seed) for seed in options.seeds.split(",")], ROOT / "results" / "search.json"
    found = json.loads(place.read_text()) if place.exists() else {"variants": {}}
    for name in options.variants.split(","):
        method, learn = VARIANTS[name]
        plan = Plan(str(options.concepts.resolve()), count=options.count, learn=learn)
        rows = bench(plan, [method], seeds, options.out / name, 1, 2)["methods"][method]
        figures = {figure: rows[figure] for figure in (*FIGURES, "seconds_per_concept")}
        found["variants"][name] = {
            "method": method,
            "learn": learn,
            "concepts": options.count,
            "runs": rows["runs"],
            **figures,
        }
        store.write_json(place, found)
        print(name, {figure: value["mean"] for figure, value in figures.items()}, flush=True)


if __name__ == "__main__":
    main()

"""How strongly to distil where concepts meet, on concepts that the benchmark does not have:
results/meetings.json.

python -m mini_base.concepts --tuning FOLDER python -m benchmarks.meetings FOLDER --out OUT [--variants
NAME,NAME] [--seeds 0,1,2]      (resumes; adds to what is there)

Concepts of different nouns are learnt one after another, and all their pairs drawn plainly: the learning's
own success, without the help of any guidance.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.main import ROOT, of_variants
from l2dm.bench import multi
from l2dm.bench.lifelong import Plan
from l2dm.bench.subjects import Subject, Subjects
from l2dm.evaluation.summary import spread
from l2dm.world import store
from l2dm.world.world import World

#: name -> method, and changes of the base's own learn settings
VARIANTS = {
    "without": ("l2dm-without-ecd", {}),
    "distil-1": ("l2dm", {"distil_weight": 1.0}),
    "distil-4": ("l2dm", {"distil_weight": 4.0}),
}
STEPS = 200
PICTURES = 4  # of each pair in each of four places


def sequence(concepts: str, seed: int) -> list[Subject]:
    """The seed's order, of each noun the one that ``concepts`` names first."""
    subjects = Subjects.read(concepts).concepts
    first = {s.noun: s for s in reversed(subjects)}
    return [s for s in Plan(concepts, count=len(subjects)).sequence(seed) if s == first[s.noun]]


def run(name: str, seed: int, concepts: str, out: Path) -> dict[str, Any]:
    """One variant from one seed: rates of its pairs, with the settings that its world was learnt with."""
    method, changes = VARIANTS[name]
    place = out / f"{name}-{seed}"
    world = World.open(place) if place.exists() else World.create(place)
    for subject in sequence(concepts, seed):
        if subject.token not in world.concepts:
            world.learn(
                subject.learn,
                token=subject.token,
                noun=subject.noun,
                method=method,
                seed=seed,
                steps=STEPS,
                report_pictures=0,
                discard=True,
                **changes,
            )
    part = multi.run(
        multi.Plan(concepts, PICTURES), "none", 0, "two_concepts", place, out / "multi" / f"{name}-{seed}"
    )
    return {
        "seed": seed,
        "rates": part["rates"],
        "pictures": part["pictures"],
        "learn": world.manifest.present.settings,
    }


def main() -> None:
    parser = of_variants(__doc__, list(VARIANTS), "0,1,2")
    options = parser.parse_args()
    place = ROOT / "results" / "meetings.json"
    found = json.loads(place.read_text()) if place.exists() else {}
    for name in options.variants.split(","):
        runs = [
            run(name, int(seed), str(options.concepts.resolve()), options.out)
            for seed in options.seeds.split(",")
        ]
        found[name] = {"two_concepts": spread([r["rates"]["success"] for r in runs]), "runs": runs}
        store.write_json(place, found)
        print(name, found[name]["two_concepts"], flush=True)


if __name__ == "__main__":
    main()

"""How many steps and how much guidance suit the shipped base?  results/sampling.json

python -m benchmarks.sampling [--pictures 192]      (of one noun, and as many of two, for every choice; the
judge says what it sees)
"""

from __future__ import annotations

import argparse
import itertools

import numpy as np

from benchmarks.base import of_nouns, of_pairs
from benchmarks.main import ROOT
from l2dm.backbone import MINI, Backbone
from l2dm.evaluation.shipped_judge import Judge
from l2dm.world import store

STEPS, GUIDANCE = (6, 8, 12), (2.0, 3.0, 5.0)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--pictures", type=int, default=192)
    n, backbone, judge, rows = parser.parse_args().pictures, Backbone.load(MINI), Judge(), []
    for steps, guidance in itertools.product(STEPS, GUIDANCE):
        changes = {"steps": steps, "guidance_scale": guidance}
        alone, hits = (
            of_nouns(backbone, judge, n, 50_000, **changes),
            np.array(of_pairs(backbone, judge, n, 60_000, **changes)),
        )
        rows.append(
            {
                **changes,
                "noun_accuracy": round(float(np.mean(alone)), 4),
                "pair_at_least_one": round(float((hits >= 1).mean()), 4),
                "pair_both": round(float((hits == 2).mean()), 4),
            }
        )
        print(rows[-1], flush=True)
        store.write_json(
            ROOT / "results" / "sampling.json",
            {"rows": rows, "settings": {"pictures": n, "judge": judge.card()}},
        )


if __name__ == "__main__":
    main()

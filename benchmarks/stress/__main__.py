"""Measure what worlds survive, into results/stress.json.

python -m benchmarks.stress --photos 5000 --manifests 300 --flips 20 --kills 1000 --faults all [--minutes 30]

What is left out of the command is not measured, and its figures stay. The base is a random one of four latent
cells, lessons have two steps.
"""

from __future__ import annotations

import argparse
import math
import tempfile
import time
from pathlib import Path

from benchmarks.main import ROOT, record

from . import faults, flips, kills, photos, strangers
from .ground import LESSON, Ground

RESULTS = ROOT / "results" / "stress.json"


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.stress",
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--kills", type=int, help="how many SIGKILLs")
    parser.add_argument("--faults", help="how many refusals of the file system, or all")
    parser.add_argument("--flips", type=int, help="flipped bits for each kind of file")
    parser.add_argument(
        "--manifests", type=int, help="manifests made by a fuzzer, beside the malformed inputs"
    )
    parser.add_argument("--photos", type=int, help="photos of 12 MP in one folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument(
        "--minutes", type=float, default=math.inf, help="at most, of each; what was done by then counts"
    )
    parser.add_argument(
        "--log",
        type=Path,
        help="file that faults are noted in: a run that was stopped goes on, and several may share it",
    )
    parser.add_argument("--only", help="of faults: one command alone, such as 'export a world'")
    parser.add_argument("--results", type=Path, default=RESULTS)
    asked = parser.parse_args()
    most = 60 * asked.minutes
    measures = {
        "photos": lambda g: photos.measure(g, asked.photos),
        "manifests": lambda g: strangers.measure(g, asked.manifests, asked.seed, most_seconds=most),
        "flips": lambda g: flips.measure(g, asked.flips, asked.seed, most_seconds=most),
        "kills": lambda g: kills.measure(g, asked.kills, asked.seed, most_seconds=most),
        "faults": lambda g: faults.measure(
            g,
            None if asked.faults == "all" else int(asked.faults),
            asked.seed,
            most_seconds=most,
            file=asked.log,
            only=asked.only,
        ),
    }
    for name, measure in measures.items():
        if (count := getattr(asked, name)) is None:
            continue
        with tempfile.TemporaryDirectory() as place:
            figures = measure(Ground(Path(place).resolve()))
        when = time.strftime("%Y-%m-%d", time.gmtime())
        record(
            {"lesson": LESSON, "asked": count, "seed": asked.seed, "date": when},
            asked.results,
            **{name: figures},
        )


if __name__ == "__main__":
    main()

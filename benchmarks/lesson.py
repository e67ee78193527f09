"""What a lesson takes by itself: the second and the tenth, each in a process of its own, as users learn: results/lesson.json.

python -m benchmarks.lesson RUN... [--steps 45]      (RUN: a folder of a run of l2dm bench lifelong, such as out/runs/l2dm-0)

The lifelong benchmark's own figures are of one process that learns, draws and scores ten concepts: what that leaves behind counts there.
Here the run's world is taken back to before the lesson and the lesson learnt again. The peak is there after a few dozen steps.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import torch

from benchmarks.main import ROOT, made_by
from l2dm.bench.lifelong import Plan
from l2dm.bench.memory import peak_mb
from l2dm.evaluation.summary import spread
from l2dm.world import store
from l2dm.world.world import World

LESSONS = 2, 10


def learn(run: Path, lesson: int, steps: int) -> float:
    """Peak MB of this process, which learns the ``lesson``-th concept of ``run`` again."""
    torch.set_num_threads(1)
    record = json.loads((run / "run.json").read_text())
    with tempfile.TemporaryDirectory() as place:
        shutil.copytree(run / "world", Path(place) / "world")
        world = World.open(Path(place) / "world")
        while len(world.concepts) >= lesson:
            world.undo()
        subject = Plan(**record["plan"]).sequence(record["seed"])[lesson - 1]
        changes = {"method": record["method"], "seed": record["seed"], "steps": steps, "previews": 0}
        world.learn(subject.learn, token=subject.token, noun=subject.noun, discard=True, **changes)
    return peak_mb()


def apart(run: Path, lesson: int, steps: int) -> float:
    """``learn`` in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.lesson", str(run), "--steps", str(steps), "--inside", str(lesson)]
    return float(subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True).stdout.split()[-1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("runs", type=Path, nargs="+", metavar="RUN")
    parser.add_argument("--steps", type=int, default=45)
    parser.add_argument("--inside", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        print(learn(options.runs[0], options.inside, options.steps))
        return
    found: list[dict[str, Any]] = []
    for run in options.runs:
        second, tenth = (apart(run.resolve(), lesson, options.steps) for lesson in LESSONS)
        found.append({"run": run.name, "second_mb": second, "tenth_mb": tenth, "ratio": round(tenth / second, 4)})
        print(found[-1], flush=True)
    result = {
        "peak_memory_k10_over_k2": spread([row["ratio"] for row in found]),
        "runs": found,
        "settings": made_by({"steps": options.steps}),
    }
    store.write_json(ROOT / "results" / "lesson.json", result)


if __name__ == "__main__":
    main()

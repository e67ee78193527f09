"""What each of several launched processes does in ``test_processes``: worlds are taught, by all of them
together.
"""

from __future__ import annotations

import json
import os
import signal
import sys
from pathlib import Path

from l2dm import Processes, World
from l2dm.errors import L2DMError, LearningStopped

TAUGHT = {"<rex>": "dog", "<tom>": "cat"}
METHODS = ("gated-lora", "l2dm-published", "lwf")
#: Rows of three kinds, of which some fall to one process and some to the other.
FEW = {
    "steps": 3,
    "batch": 3,
    "mixes": 3,
    "prior_pictures": 2,
    "prior_steps": 2,
    "report_pictures": 0,
    "rank": 4,
    "memory_candidates": 1,
    "memory_budget": 2,
    "learning_rate": 0.01,
    "checkpoint_every": 1,
    "precision": "float32",
    "accumulate": 2,
    "threads": 1,
}


def teach(base: str, photos: Path, place: Path, processes: Processes | None = None) -> None:
    """A world of two concepts for each method, in ``place``."""
    for method in METHODS:
        if processes is None or processes.is_main:
            World.create(place / method, base)
        if processes:
            processes.told()
        world = World.open(place / method)
        for token, noun in TAUGHT.items():
            world.learn(photos, token=token, noun=noun, method=method, processes=processes, **FEW)


def stop_and_go_on(base: str, photos: Path, place: Path, processes: Processes) -> list[str]:
    """What was raised where the main process was asked to stop after a step, and where a photo's token was no
    token; then all goes on.
    """
    if processes.is_main:
        World.create(place / "stopped", base)
    processes.told()
    world, raised = World.open(place / "stopped"), []

    def stop(progress) -> None:
        if progress.step:
            os.kill(os.getpid(), signal.SIGINT)

    told = {"token": "<rex>", "noun": "dog", "method": METHODS[0], "processes": processes, **FEW}
    for changes in (
        {"on_progress": stop},
        {"token": "rex"},
        {"batch": 1, "mixes": 0, "discard": True, "prior_weight": 0.0},
    ):
        try:
            world.learn(photos, **told | changes)
        except (LearningStopped, L2DMError) as error:
            raised.append(f"{type(error).__name__}: {error}")
        if len(raised) == 1:
            world.learn(photos, **told)
            told["token"] = "<tom>"
    return raised


def main(base: str, photos: Path, place: Path) -> None:
    processes = Processes.together()
    teach(base, photos, place, processes)
    raised = stop_and_go_on(base, photos, place, processes)
    (place / f"{processes.number}.json").write_text(json.dumps(raised))


if __name__ == "__main__":
    main(sys.argv[1], *map(Path, sys.argv[2:]))

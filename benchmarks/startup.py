"""How long a command takes to begin: results/startup.json

python -m benchmarks.startup [--rounds 9]

Processor seconds (user and system, one thread) of whole processes that take turns: ``l2dm --help``, ``show``
and ``generate -n 1`` of a world of one concept over the shipped base, and what no command can be below that
draws through diffusers: Python that imports torch alone, and diffusers' Stable Diffusion pipeline. Medians.
"""

from __future__ import annotations

import argparse
import os
import resource
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks.main import ROOT, record
from l2dm import World
from l2dm.bench.subjects import Subjects

WANTED = {"help": 0.15, "show": 0.2, "generate": 2.5}


def processor_seconds(command: list[str]) -> float:
    """Of the process and all that it starts. Raises CalledProcessError where it fails."""
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run(command, check=True, capture_output=True, env={**os.environ, "OMP_NUM_THREADS": "1"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--rounds", type=int, default=9)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as name:
        place, (subject, *_) = Path(name), Subjects.read("shipped").concepts
        world = World.create(place / "world")
        world.learn(subject.learn, token=subject.token, noun=subject.noun, steps=1, report_pictures=0)
        run = [sys.executable, "-m", "l2dm"]
        prompt, out = f"a photo of {subject.token} {subject.noun}", str(place / "out")
        commands = {
            "help": [*run, "--help"],
            "show": [*run, "show", str(world.path)],
            "generate": [*run, "generate", str(world.path), prompt, "-n", "1", "--out", out],
            "importing_torch": [sys.executable, "-c", "import torch"],
            "importing_diffusers_pipeline": [
                sys.executable,
                "-c",
                "from diffusers import StableDiffusionPipeline",
            ],
        }
        found: dict[str, list[float]] = {name: [] for name in commands}
        for turn in range(-1, rounds):  # the first fills the caches of files
            for name, command in commands.items():
                seconds = processor_seconds(command)
                if turn >= 0:
                    found[name].append(seconds)
    record(
        {"rounds": rounds, "threads": 1},
        ROOT / "results" / "startup.json",
        wanted_seconds=WANTED,
        processor_seconds={name: round(statistics.median(took), 3) for name, took in found.items()},
        ranges={name: [round(min(took), 3), round(max(took), 3)] for name, took in found.items()},
    )


if __name__ == "__main__":
    main()

"""The figures of results/scale.json: a world of hundreds of concepts beside one of few, by real lessons of
one step each.

python -m benchmarks.scale PLACE [--base tiny|mini|FOLDER] [--concepts 300] [--rounds 5] [--out FILE]

PLACE keeps the world and, as hard links, how it was at 2 and at 10 concepts; the same command again goes on
where it stopped. "tiny" is the tests' base of random weights: there nothing but the files and the lists can
grow. Each measurement is made in a process of its own, over a copy by hard links, large and small world in
turn; figures are medians of the rounds' ratios of processor time, on one thread.

setup_ratio       from the call of ``learn`` to the end of the first step, less the median of the steps after
it: N concepts over 10 step_ratio        median of the steps 2 to STEPS of a lesson: N over 10 open_draw_ratio
``World.open`` and a picture of two concepts: N over 2, imports left out disk_mb_a_concept what the world
takes on the disk (each file once, folders too), less its adapters', by N manifest_kb       manifest.json at N
concepts
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw

from benchmarks.main import ROOT, made_by
from l2dm.world import store
from l2dm.world.lock import LOCK

NOUNS = ("dog", "cat", "bird", "car", "cup", "house", "tree", "boat", "clock", "chair")
FEW, TEN, STEPS = 2, 10, 12
#: Lessons of one step, with every kind of file: a memory that is drawn, mixes, an examination with pictures.
#: Less is drawn than by default.
LESSON = {
    "method": "l2dm",
    "steps": 1,
    "prior_pictures": 1,
    "prior_steps": 2,
    "candidates": 2,
    "budget": 12,
    "previews": 1,
    "threads": 1,
}


def token(number: int) -> str:
    return f"<c{number}>"


def noun(number: int) -> str:
    return NOUNS[number % len(NOUNS)]


def photos(place: Path, number: int) -> Path:
    """Three pictures of one thing, another for every number."""
    folder = place / "photos" / f"{number:04d}"
    if not folder.exists():
        folder.mkdir(parents=True)
        for view in range(3):
            image = Image.new("RGB", (64, 64), ((37 * number) % 256, (91 * number) % 256, 40 * view))
            box = (8 + 4 * view, 8 + number % 16, 40 + 4 * view, 48)
            ImageDraw.Draw(image).ellipse(
                box, fill=((151 * number) % 256, 200 - 30 * view, (number * 7) % 256)
            )
            image.save(folder / f"{view}.png")
    return folder


def base_of(place: Path, name: str) -> str:
    if name != "tiny":
        return name
    if not (place / "base").exists():
        from benchmarks.tiny import tiny_base

        store.write_folder(place / "base", lambda folder: tiny_base(folder) and None)
    return str(place / "base")


def grow(place: Path, base: str, concepts: int) -> None:
    """Teach the world in ``place`` until it has learnt so many, and keep how it was at FEW and TEN."""
    from l2dm import World

    path = place / "world"
    world = World.open(path) if path.exists() else World.create(path, base_of(place, base))
    for number in range(len(world.concepts), concepts):
        began = time.process_time()
        world.learn(photos(place, number), token=token(number), noun=noun(number), **LESSON)
        spent, size = time.process_time() - began, (path / "manifest.json").stat().st_size
        print(f"{number + 1}: {spent:.2f} s, manifest {size / 1024:.1f} KB", flush=True)
        if number + 1 in (FEW, TEN):
            kept = place / f"world-{number + 1}"
            shutil.copytree(path, kept, copy_function=os.link, ignore=shutil.ignore_patterns(LOCK))


def measured_lesson(world: Path, place: Path) -> dict[str, float]:
    """Processor seconds before the first step, and of a step, of the next lesson."""
    from l2dm import World

    opened = World.open(world)
    opened.backbone()
    number, ends = len(opened.concepts), []
    began = time.process_time()
    opened.learn(
        photos(place, number),
        token=token(number),
        noun=noun(number),
        **{**LESSON, "steps": STEPS, "previews": 0, "checkpoint_every": STEPS + 1},
        on_progress=lambda progress: ends.append(time.process_time()) if progress.step else None,
    )
    step = statistics.median(b - a for a, b in itertools.pairwise(ends[:-1]))
    return {"setup": ends[0] - began - step, "step": step}


def measured_drawing(world: Path) -> dict[str, float]:
    """Processor seconds of opening it and drawing one picture of its first and its last concept."""
    from l2dm import World

    World.settings_for = None  # imported, before the clock starts
    began = time.process_time()
    opened = World.open(world)
    last = len(opened.concepts) - 1
    opened.generate(f"{token(0)} {noun(0)} and {token(last)} {noun(last)}", n=1, threads=1)
    return {"open and draw": time.process_time() - began}


def inside(what: str, source: Path, place: Path) -> dict[str, float]:
    """A measurement in a process of its own, over a copy of ``source`` by hard links."""
    with tempfile.TemporaryDirectory(dir=place) as scratch:
        world = Path(scratch) / "world"
        shutil.copytree(source, world, copy_function=os.link, ignore=shutil.ignore_patterns(LOCK))
        command = [
            sys.executable,
            "-m",
            "benchmarks.scale",
            str(place),
            "--inside",
            what,
            "--world",
            str(world),
        ]
        said = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    if said.returncode:
        raise SystemExit(said.stderr)
    return json.loads(said.stdout.splitlines()[-1])


def on_disk(world: Path) -> tuple[int, int]:
    """Bytes that the world takes, and of these its adapters; each file once."""
    seen: set[int] = set()
    total = adapters = 0
    for folder, _, files in os.walk(world):
        for path in (folder, *(os.path.join(folder, name) for name in files)):
            facts = os.lstat(path)
            if facts.st_ino not in seen:
                seen.add(facts.st_ino)
                total += facts.st_blocks * 512
                if os.path.basename(path).startswith("adapter-"):
                    adapters += facts.st_blocks * 512
    return total, adapters


def figures(place: Path, concepts: int, rounds: int) -> dict[str, Any]:
    few, ten, many = place / f"world-{FEW}", place / f"world-{TEN}", place / "world"
    seconds: dict[str, list[float]] = {}
    for k in range(rounds):
        jobs = [("draw", few), ("draw", many), ("lesson", ten), ("lesson", many)]
        for what, world in jobs[:: 1 if k % 2 else -1]:
            for name, value in inside(what, world, place).items():
                seconds.setdefault(f"{name}, {world.name}", []).append(value)
                print(f"{name}, {world.name}: {value:.3f} s", flush=True)

    def ratio(name: str, small: Path) -> float:
        pairs = zip(seconds[f"{name}, world"], seconds[f"{name}, {small.name}"])
        return round(statistics.median(a / b for a, b in pairs), 3)

    total, adapters = on_disk(many)
    return {
        "setup_ratio": ratio("setup", ten),
        "step_ratio": ratio("step", ten),
        "open_draw_ratio": ratio("open and draw", few),
        "disk_mb_a_concept": round((total - adapters) / concepts / 2**20, 3),
        "manifest_kb": round((many / "manifest.json").stat().st_size / 1024, 1),
        "details": {
            "concepts": concepts,
            "rounds": rounds,
            "lesson": LESSON,
            "disk_mb": round(total / 2**20, 1),
            "adapters_mb": round(adapters / 2**20, 1),
            "seconds": {name: [round(v, 3) for v in found] for name, found in seconds.items()},
        },
    }


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("place", type=Path)
    parser.add_argument("--base", default="tiny")
    parser.add_argument("--concepts", type=int, default=300)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--out", type=Path, default=ROOT / "results" / "scale.json")
    parser.add_argument("--inside", choices=("lesson", "draw"), help=argparse.SUPPRESS)
    parser.add_argument("--world", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.inside:
        work = (
            measured_lesson(options.world, options.place)
            if options.inside == "lesson"
            else measured_drawing(options.world)
        )
        return print(json.dumps(work))
    options.place.mkdir(parents=True, exist_ok=True)
    grow(options.place, options.base, options.concepts)
    found = figures(options.place, options.concepts, options.rounds)
    kept = json.loads(options.out.read_text()) if options.out.exists() else {}
    name = options.base if options.base in ("tiny", "mini") else Path(options.base).name
    store.write_json(options.out, {**kept, name: {**found, "settings": made_by({"base": name})}})
    print(options.out.read_text())


if __name__ == "__main__":
    main()

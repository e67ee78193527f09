"""The figures of results/main.json: each command measures one of them and writes it there itself.

python -m benchmarks.main time | kills | malformed | sd15 | all
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from l2dm.world.store import write_json

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "results" / "main.json"


def of_variants(description: str, variants: list[str], seeds: str) -> argparse.ArgumentParser:
    """Of a command that tries ``variants`` on concepts in a folder."""
    parser = argparse.ArgumentParser(
        description=description, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("concepts", type=Path)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--variants", default=",".join(variants))
    parser.add_argument("--seeds", default=seeds)
    return parser


def made_by(settings: dict) -> dict:
    """``settings``, with the machine and the commit."""
    commit = subprocess.run(
        ["git", "rev-parse", "--short", "HEAD"], cwd=ROOT, capture_output=True, text=True
    ).stdout.strip()
    machine = {"cores": os.cpu_count(), "machine": platform.machine(), "python": platform.python_version()}
    return {**settings, **machine, "git_commit": commit}


def record(settings: dict, results: Path = RESULTS, /, **figures) -> None:
    """Put ``figures`` into ``results``, with the settings, machine and commit that made them."""
    results.parent.mkdir(exist_ok=True)
    known = json.loads(results.read_text()) if results.exists() else {}
    known = {
        **known,
        **figures,
        "settings": {**known.get("settings", {}), **dict.fromkeys(figures, made_by(settings))},
    }
    write_json(results, known)
    print(json.dumps(figures))


def measure_time() -> None:
    """Seconds a concept on the shipped base, everything included: the three demo concepts, one after
    another.
    """
    from l2dm import World

    concepts = json.loads((ROOT / "demo" / "concepts.json").read_text())
    with tempfile.TemporaryDirectory() as place:
        world, seconds, versions = World.create(Path(place) / "world"), [], []
        for name, about in concepts.items():
            began = time.monotonic()
            versions.append(world.learn(ROOT / "demo" / "photos" / name, **about))
            seconds.append(round(time.monotonic() - began, 1))
    settings = versions[0].settings
    record(
        {"concepts": list(concepts), "each": seconds, "learn": settings},
        seconds_per_concept=max(seconds),
        steps=settings["steps"],
        batch=settings["batch"],
    )


def forked(work) -> int:
    """Run ``work`` in a forked process; returns its id."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        work()
        code = 0
    finally:
        os._exit(code)


def _weights(world: Path) -> dict:
    """All that the first version has learnt."""
    from safetensors.numpy import load_file

    files = [
        file
        for name in ("weights", "adapter-*", "tokens")
        for file in (world / "versions/0001").glob(f"{name}.safetensors")
    ]
    return {name: array for file in files for name, array in load_file(file).items()}


def measure_kills(kills: int = 30, seed: int = 0) -> None:
    """Kill -9 at random moments of ``learn``, again and again until ``kills`` are spent; compare with
    unbroken runs.

    After every kill the world must open and be whole, at the version before or after. A learning that was
    killed is run again, and again, until it ends; its weights must be those of the unbroken run.
    """
    from l2dm import World

    rng = random.Random(seed)
    options = {
        "steps": 30,
        "batch": 2,
        "prior_pictures": 4,
        "prior_steps": 3,
        "report_pictures": 1,
        "checkpoint_every": 3,
    }
    learn = {"photos": ROOT / "demo" / "photos" / "rex", "token": "<rex>", "noun": "dog", **options}

    with tempfile.TemporaryDirectory() as place:
        fresh, whole = Path(place) / "fresh", Path(place) / "whole"
        os.waitpid(forked(lambda: World.create(fresh)), 0)
        shutil.copytree(fresh, whole)
        began = time.monotonic()
        os.waitpid(forked(lambda: World.open(whole).learn(**learn)), 0)
        duration = time.monotonic() - began
        reference, survived, spent, runs, worst, moments = _weights(whole), 0, 0, 0, 0.0, []
        while spent < kills:
            world = Path(place) / f"world-{runs}"
            shutil.copytree(fresh, world)
            runs += 1
            while True:
                child = forked(lambda world=world: World.open(world).learn(**learn))
                if spent < kills:
                    moment = rng.uniform(0, duration)
                    deadline = time.monotonic() + moment
                    while time.monotonic() < deadline and os.waitpid(child, os.WNOHANG) == (0, 0):
                        time.sleep(0.002)
                    try:
                        os.kill(child, signal.SIGKILL)
                        os.waitpid(child, 0)
                        spent += 1
                        moments.append(round(moment, 2))
                        survived += World.open(world).version in (0, 1)
                        print(
                            f"kill {spent} after {moment:.1f} s: version {World.open(world).version}",
                            flush=True,
                        )
                    except (ProcessLookupError, ChildProcessError):
                        pass  # it was done before its moment came
                else:
                    os.waitpid(child, 0)
                if World.open(world).version == 1:
                    break
            found = _weights(world)
            worst = max(worst, *(float(abs(found[n] - reference[n]).max()) for n in reference))
    settings = {"learn": options, "seed": seed, "unbroken_seconds": round(duration, 1)}
    settings |= {"learnings": runs, "moments": moments}
    record(settings, kills=kills, kills_survived=survived, resume_max_difference=worst)


def measure_malformed() -> None:
    """How many of the malformed inputs get one clear error, exit code 2, and change nothing."""
    from benchmarks.malformed import photo, verdict
    from benchmarks.malformed_families import ALL
    from l2dm import World

    with tempfile.TemporaryDirectory() as place:
        world = World.create(Path(place) / "taught")
        photo(Path(place) / "photos" / "a.png")
        world.learn(
            Path(place) / "photos",
            token="<known>",
            noun="dog",
            steps=1,
            batch=1,
            prior_pictures=1,
            prior_steps=2,
            report_pictures=0,
        )
        clear = 0
        for i, case in enumerate(ALL):
            folder = Path(place) / str(i)
            shutil.copytree(world.path, folder / "world")
            said = verdict(case, folder)
            clear += not said
            print(f"{'ok ' if not said else 'BAD'} {case.name} {said}", flush=True)
    record({"cases": [case.name for case in ALL]}, malformed_inputs=len(ALL), clear_errors=clear)


def measure_sd15() -> None:
    """See ``benchmarks.sd15``."""
    from benchmarks.sd15 import measure

    measure()


COMMANDS = {
    "time": measure_time,
    "kills": measure_kills,
    "malformed": measure_malformed,
    "sd15": measure_sd15,
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=[*COMMANDS, "all"])
    what = parser.parse_known_args()[0].what
    for name in COMMANDS if what == "all" else [what]:
        print(f"== {name}", flush=True)
        if what == "all":  # each in a process of its own: peak memory and forks stay clean
            subprocess.run([sys.executable, "-m", "benchmarks.main", name], cwd=ROOT, check=True)
        else:
            COMMANDS[name]()


if __name__ == "__main__":
    main()

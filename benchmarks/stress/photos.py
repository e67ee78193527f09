"""Folders of photos that are far too many or far too large: refused at once, in little memory.

``l2dm check`` runs in a process of its own, whose seconds and peak memory the system tells; what is read is
the whole of it, Python's start too.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from .ground import Ground

#: Of 12 million pixels.
SIZE = (4000, 3000)
MOST_MB, MOST_SECONDS = 300, 1.0
#: Starts a command and tells what it took. A process of its own, and a small one: a child's peak memory is no
#: less than its parent's.
LAUNCH = """
import json, os, sys, time
began = time.monotonic()
child = os.posix_spawn(sys.argv[1], sys.argv[1:], os.environ)
_, status, used = os.wait4(child, 0)
print(json.dumps({
    "exit_code": os.waitstatus_to_exitcode(status),
    "seconds": round(time.monotonic() - began, 2),
    "processor_seconds": round(used.ru_utime + used.ru_stime, 2),
    "peak_mb": round(used.ru_maxrss / 1024),
}))
"""


def grainy(path: Path, seed: int) -> Path:
    """A JPEG of a few MB with grain, as a camera's has."""
    grain = np.random.default_rng(seed).normal(128, 24, (SIZE[1], SIZE[0], 3))
    Image.fromarray(grain.clip(0, 255).astype(np.uint8)).save(path, quality=75)
    return path


def checked(folder: Path) -> dict:
    """How ``l2dm check`` ends: its exit code and answer, seconds by the clock and of the processor, peak
    memory in MB.
    """
    command = [sys.executable, "-m", "l2dm", "check", str(folder), "--json"]
    launched = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LAUNCH, *command],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        check=True,
    )
    *said, told = launched.stdout.splitlines()
    answer = json.loads(said[-1].replace(f"{folder.parent}{os.sep}", ""))
    return {
        **json.loads(told),
        "said": answer.get("message") or answer["problems"] or f"{len(answer['photos'])} usable",
    }


def several(folder: Path, tries: int = 5) -> dict:
    """The median by the clock of ``tries``, and the slowest."""
    ended = sorted((checked(folder) for _ in range(tries)), key=lambda one: one["seconds"])
    assert len({one["exit_code"] for one in ended}) == 1
    middle = statistics.median_low(one["seconds"] for one in ended)
    chosen = next(one for one in ended if one["seconds"] == middle)
    return {**chosen, "slowest": ended[-1]["seconds"], "peak_mb": max(one["peak_mb"] for one in ended)}


def measure(ground: Ground, count: int) -> dict:
    """Figures of a folder of ``count`` photos of 12 MP, of the most that are taken, and of a PNG that is
    small on the disk alone. ``within``: refused in less than a second of one processor, all in no more than
    300 MB; the clock's seconds depend on what else runs.

    The many are hard links to five JPEGs: ``check`` counts names, and refuses before it opens any file, so
    that it cannot tell, nor gain from it that they are few; the thirty are files of their own.
    """
    place = ground.place
    many, thirty, large = (place / name for name in ("many", "thirty", "large"))
    for folder in (many, thirty, large):
        folder.mkdir()
    own = [grainy(thirty / f"{i:02d}.jpg", i) for i in range(30)]
    for i in range(count):
        os.link(own[i % 5], many / f"IMG_{i:05d}.jpg")
    Image.fromarray(np.zeros((13_000, 13_000), np.uint16)).save(large / "grey.png")
    found = {
        "photos": count,
        "pixels_each": SIZE[0] * SIZE[1],
        "mb_each": round(own[0].stat().st_size / 2**20, 1),
        "many": several(many),
        "thirty": several(thirty, 1),
        "large_png": {"mb": round((large / "grey.png").stat().st_size / 2**20, 2), **several(large, 3)},
    }
    refused = found["many"]["exit_code"] == found["large_png"]["exit_code"] == 2
    small = max(found[name]["peak_mb"] for name in ("many", "thirty", "large_png")) <= MOST_MB
    return {**found, "within": refused and small and found["many"]["processor_seconds"] < MOST_SECONDS}

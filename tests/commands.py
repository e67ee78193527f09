"""Commands that several tests give."""

from __future__ import annotations

from pathlib import Path

from benchmarks.malformed import call

#: what the learning of most tests is told of its concept
REX = ("--token", "<rex>", "--noun", "dog")


def draw_one(world: Path, *options: str) -> tuple[int, str]:
    """One picture of "a dog" in one step, beside ``world``; exit code and standard error."""
    out = ["--out", str(world.parent / "out")]
    return call(["generate", str(world), "a dog", "-n", "1", "--steps", "1", *out, *options])

"""A world with a file of every kind, and what can happen to it."""

from __future__ import annotations

import atexit
import functools
import json
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest
from conftest import QUICK, paint
from families.folders import tiny_folder
from tiny import tiny_clip

from l2dm import LearningStopped, World
from l2dm.world import recorded
from l2dm.world.manifest import COPY, NAME

LESSON = {
    **QUICK,
    "method": "l2dm",
    "candidates": 1,
    "budget": 2,
    "steps": 3,
    "prior_steps": 1,
    "previews": 1,
    "mixes": 1,
}


def interrupt(progress):
    if progress.stage == "learn" and progress.done == 2:
        os.kill(os.getpid(), signal.SIGINT)


@functools.cache
def taught() -> Path:
    """A folder with photos and a world that has a file of every kind: two versions, priors, two checkpoints and a memory."""
    place = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    (place / "photos").mkdir()
    for i in range(2):
        paint(i).save(place / "photos" / f"{i}.png")
    world = World.create(place / "world", tiny_folder("sd", place / "base"), tiny_clip(place / "clip"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("l2dm.world.past.COMPANIONS", ("tree",))
        for token in ("<rex>", "<tom>"):
            world.learn(place / "photos", token=token, noun="dog", **LESSON)
        with pytest.raises(LearningStopped):
            world.learn(place / "photos", token="<ada>", noun="cat", **LESSON, on_progress=interrupt)
    return place


def copied(target: Path) -> Path:
    """A copy of it."""
    shutil.copytree(taught(), target)
    versions = target / "world/versions"
    (versions / "0002/adapter-rex.safetensors").unlink()  # copying made two of what was one
    os.link(versions / "0001/adapter-rex.safetensors", versions / "0002/adapter-rex.safetensors")
    return target


def finish(place: Path, **changes):
    return World.open(place / "world").learn(
        place / "photos", token="<ada>", noun="cat", **{**LESSON, **changes}
    )


def files_of(world: Path) -> list[Path]:
    return sorted(p for p in world.rglob("*") if p.is_file() and p.name != ".lock")


def flip(path: Path, bit: int) -> None:
    data = bytearray(path.read_bytes())
    data[bit // 8] ^= 1 << bit % 8
    path.write_bytes(data)


def quarantined(world: Path) -> set[str]:
    return {path.name for path in (world / "quarantine").iterdir()}


def versions_hashes(world: Path) -> dict[str, str]:
    return World.open(world).manifest.present.files


def learning(place: Path) -> list[str]:
    """The command that takes its unfinished learning up."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in LESSON.items()]
    (place / "settings.toml").write_text("\n".join(["[learn]", *lines]))
    named = ["--token", "<ada>", "--noun", "cat", "--settings", str(place / "settings.toml")]
    return ["learn", str(place / "world"), str(place / "photos"), *named]


def older(world: Path) -> None:
    """Make it a world of format 1: nothing but versions' files had checksums."""
    for path in world.rglob(recorded.RECORD):
        path.unlink()
    (world / COPY).unlink()
    known = json.loads((world / NAME).read_text())
    del known["sha256"]
    (world / NAME).write_text(json.dumps({**known, "format": 1}))


def contents(folder: Path) -> set[bytes]:
    return {path.read_bytes() for path in folder.rglob("*") if path.suffix in (".safetensors", ".png")}


def again_from(source: Path, world: Path) -> None:
    shutil.rmtree(world, ignore_errors=True)
    shutil.copytree(source, world, copy_function=os.link)

"""A world with a file of every kind, and what can happen to it."""

from __future__ import annotations

import atexit
import dataclasses
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
from l2dm.world import recorded, store
from l2dm.world.manifest import COPY, NAME, Manifest, Version, folder_of
from l2dm.world.names import DRAWN, FEATURES, drawn_file, features_file
from l2dm.world.tensors import write_tensors

LESSON = {
    **QUICK,
    "checkpoint_every": 1,
    "method": "l2dm",
    "memory_candidates": 1,
    "memory_budget": 2,
    "steps": 3,
    "prior_steps": 1,
    "report_pictures": 1,
    "mixes": 1,
    "sample_every": 2,
    "keep_every": 2,
}


def interrupt(progress):
    if progress.stage == "learn" and progress.done == 2:
        os.kill(os.getpid(), signal.SIGINT)


@functools.cache
def taught() -> Path:
    """A folder with photos and a world that has a file of every kind: two versions, priors, two checkpoints
    and a memory.
    """
    place = Path(tempfile.mkdtemp())
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    (place / "photos").mkdir()
    for i in range(2):
        paint(i).save(place / "photos" / f"{i}.png")
    world = World.create(place / "world", tiny_folder("sd", place / "base"), tiny_clip(place / "clip"))
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("l2dm.world.past.CONTEXT_NOUNS", ("tree",))
        for token in ("<rex>", "<tom>"):
            world.learn(place / "photos", token=token, noun="dog", **LESSON)
        with pytest.raises(LearningStopped):
            world.learn(place / "photos", token="<ada>", noun="cat", **LESSON, on_progress=interrupt)
    return place


def copied(target: Path) -> Path:
    """A copy of it."""
    shutil.copytree(taught(), target)
    versions = target / "world/versions"
    for name in ("adapter-rex.safetensors", "memory-rex.safetensors"):
        (versions / "0002" / name).unlink()  # copying made two of what was one
        os.link(versions / "0001" / name, versions / "0002" / name)
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
    return World.open(world)._files.files


def learning(place: Path) -> list[str]:
    """The command that takes its unfinished learning up."""
    lines = [f"{name} = {json.dumps(value)}" for name, value in LESSON.items()]
    (place / "settings.toml").write_text("\n".join(["[learn]", *lines]))
    named = ["--token", "<ada>", "--noun", "cat", "--settings", str(place / "settings.toml")]
    return ["learn", str(place / "world"), str(place / "photos"), *named]


def older(world: Path, number: int = 1) -> None:
    """Make it a world of an earlier format: what is remembered and what was drawn of all concepts in one
    file, and the manifest with all checksums of versions' files. In format 1 nothing else had any."""
    manifest = Manifest.read(world)
    versions = {n: _older(world, manifest, n) for n in manifest.versions}
    for path in world.rglob(recorded.RECORD):
        if number == 1 or path.parent.parent.name == "versions":
            path.unlink()
    dataclasses.replace(manifest, format=number, versions=versions).write(world)
    if number == 1:
        (world / COPY).unlink()
        known = json.loads((world / NAME).read_text())
        del known["sha256"]
        (world / NAME).write_text(json.dumps(known))


def _older(world: Path, manifest: Manifest, number: int) -> Version:
    files, folder, version = (
        manifest.recorded(world, number),
        folder_of(world, number),
        manifest.versions[number],
    )
    features = {t: files.tensors(features_file(t))["features"] for t in version.concepts}
    drawn = {t: files.tensors(drawn_file(t)) for t in version.concepts if drawn_file(t) in files}
    for name in files.files:
        if name.startswith(("memory-", "short-term-")):
            (folder / name).unlink()
    write_tensors(folder / FEATURES, features)
    if drawn:
        write_tensors(
            folder / DRAWN, {f"{kind}/{t}": x for t, own in drawn.items() for kind, x in own.items()}
        )
    (folder / recorded.RECORD).unlink()
    digests = {path.name: store.digest(path) for path in sorted(folder.iterdir())}
    return dataclasses.replace(version, files=digests, record="", pictures=[])


def contents(folder: Path) -> set[bytes]:
    return {path.read_bytes() for path in folder.rglob("*") if path.suffix in (".safetensors", ".png")}


def again_from(source: Path, world: Path) -> None:
    shutil.rmtree(world, ignore_errors=True)
    shutil.copytree(source, world, copy_function=os.link)

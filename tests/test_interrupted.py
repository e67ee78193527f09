"""A kill, a stop or a refusal at any moment leaves a whole world, and what comes after it is as if it had not
been.
"""

from __future__ import annotations

import errno
import os
import signal
from pathlib import Path

import pytest
from crash import kill_at_each_change
from harm import again_from, contents, finish, flip, older

from l2dm import LearningStopped, World
from l2dm.errors import WorldError
from l2dm.world import store
from l2dm.world.founding import found
from l2dm.world.manifest import COPY, FORMAT, NAME, Manifest
from l2dm.world.repair import examine, repair


def harmed(world: Path) -> None:
    """A manifest, a picture, the last version's weights and a prior are damaged."""
    flip(world / NAME, 4000)
    flip(world / "versions/0001/noun-dog.png", 999)
    flip(world / "versions/0002/tokens.safetensors", 999)
    flip(world / "prior/tree-4x1/latents.safetensors", 999)


def test_repair_may_be_killed_at_any_change(place):
    world, source = place / "killed", place / "world"
    harmed(source)
    before = contents(source)
    for _ in kill_at_each_change(world, lambda: again_from(source, world), lambda: repair(world)):
        assert contents(world) == before, "nothing is lost, of the broken neither"
        repair(world)
        assert examine(world).faults == [] and contents(world) == before
        opened = World.open(world)
        assert (opened.version, list(opened.concepts)) == (1, ["<rex>"])
        assert not opened.manifest.present.shows("dog")
        assert not list(world.rglob(f"{store.PART}*"))


def test_bringing_a_world_up_to_date_may_be_killed_at_any_change(place):
    world, source = place / "killed", place / "world"
    older(source)
    before, kept = contents(source), Manifest.read(source).versions

    def write():
        World.open(world)._writing().__enter__()

    for _ in kill_at_each_change(world, lambda: again_from(source, world), write):
        assert World.open(world).version == 2 and examine(world).faults == []
        with World.open(world)._writing():
            pass
        opened = World.open(world).manifest
        assert {n: opened.recorded(world, n).files for n in opened.versions} == {
            n: v.files for n, v in kept.items()
        }
        assert opened.format == FORMAT and contents(world) == before
        assert examine(world).faults == [] and not list(world.rglob(f"{store.PART}*"))


@pytest.mark.parametrize("verb", ["undo", "forget"])
def test_a_change_may_be_killed_at_any_change_of_a_file(place, verb):
    world, source = place / "killed", place / "world"
    act = {"undo": World.undo, "forget": lambda opened: opened.forget("<rex>")}[verb]
    after = {"undo": ["<rex>"], "forget": ["<tom>"]}[verb]
    for _ in kill_at_each_change(world, lambda: again_from(source, world), lambda: act(World.open(world))):
        opened = World.open(world)
        assert examine(world).faults == []
        if list(opened.concepts) == ["<rex>", "<tom>"]:
            act(opened)
        with opened._writing():
            pass
        assert list(World.open(world).concepts) == after and not list(world.rglob(f"{store.PART}*"))
        assert {int(p.name) for p in (world / "versions").iterdir()} == set(
            World.open(world).manifest.versions
        )


def test_a_stop_at_the_last_step_is_kept_to(place):
    def at_the_end(progress):
        if progress.stage == "learn" and progress.done == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(LearningStopped, match="step 3 of 3"):
        finish(place, on_progress=at_the_end)
    assert World.open(place / "world").version == 2
    steps = []
    assert (
        finish(place, on_progress=lambda p: steps.append(p.step) if p.step else None).version == 3
        and steps == []
    )


def test_a_discarded_learning_is_not_taken_up(place):
    steps = []
    version = finish(
        place, seed=7, discard=True, on_progress=lambda p: steps.append(p.step.step) if p.step else None
    )
    assert version.version == 3 and steps == [1, 2, 3]


def test_a_world_that_could_not_be_begun_leaves_nothing(place, monkeypatch):
    def write(manifest, world):
        (world / COPY).write_bytes(b"x")
        (world / NAME).write_bytes(b"x")
        raise OSError(errno.EIO, "disk")

    monkeypatch.setattr(Manifest, "write", write)
    manifest = World.open(place / "world").manifest
    with pytest.raises(OSError):
        found(place / "new", manifest)
    assert not (place / "new").exists()
    kept = (place / "world" / COPY).read_bytes()
    with pytest.raises(WorldError, match="already exists"):
        found(place / "world", manifest)
    assert (place / "world" / COPY).read_bytes() == kept

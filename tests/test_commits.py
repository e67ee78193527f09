"""A lesson is committed whole or not at all: kills, stops, a second writer, links between versions."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import QUICK
from teaching import pixels, teach, weights

from benchmarks.malformed import state
from l2dm import LearningStopped, World
from l2dm.errors import WorldError, WorldLocked
from l2dm.world import store


def test_a_second_writer_is_turned_away(world, photos):
    hold = (
        "import sys; from filelock import FileLock\nwith FileLock(sys.argv[1]): print('held', "
        "flush=True); sys.stdin.read()"
    )
    other = [sys.executable, "-c", hold, str(world.path / ".lock")]
    with subprocess.Popen(other, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(WorldLocked, match="another process"):
            teach(world, photos)
        holder.communicate("")
    assert teach(world, photos).version == 1


def test_ctrl_c_stops_cleanly_and_the_same_command_reaches_the_same_weights(world, photos, tmp_path):
    shutil.copytree(world.path, tmp_path / "unbroken")
    unbroken = World.open(tmp_path / "unbroken")
    teach(unbroken, photos, steps=6)

    def interrupt(progress):
        if progress.stage == "learn" and progress.done == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(LearningStopped, match="step 3 of 6"):
        teach(world, photos, steps=6, checkpoint_every=100, on_progress=interrupt)
    assert world.version == 0
    steps = []
    teach(
        World.open(world.path),
        photos,
        steps=6,
        checkpoint_every=100,
        on_progress=lambda p: steps.append(p.done) if p.step else None,
    )
    assert steps == [4, 5, 6]
    assert all(torch.equal(weights(unbroken)[n], t) for n, t in weights(World.open(world.path)).items())


def test_an_unfinished_learning_is_not_thrown_away_by_another(world, photos):
    def interrupt(progress):
        if progress.stage == "learn":
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(LearningStopped):
        teach(world, photos, steps=5, on_progress=interrupt)
    with pytest.raises(WorldError, match=r"unfinished learning of <rex>.*--discard"):
        world.learn(photos, token="<tom>", noun="cat", **QUICK)
    world.learn(photos, token="<tom>", noun="cat", discard=True, **QUICK)
    assert list(world.concepts) == ["<tom>"] and not (world.path / "learning").exists()


class Killed(BaseException):
    """Stands for kill -9: nothing after it runs that a dead process would not run."""


@pytest.mark.parametrize("point", range(10))
def test_a_kill_at_any_write_leaves_before_or_after(world, photos, monkeypatch, point):
    """The n-th rename or replace of the commit never happens: the world is as before, and learning again
    succeeds.
    """
    count = [0]

    def dying(real):
        def call(*args, **kwargs):
            count[0] += 1
            if count[0] == point + 1:
                raise Killed
            return real(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(store.os, "replace", dying(os.replace))
        patch.setattr(store.Path, "rename", dying(store.Path.rename))
        patch.setattr(store, "remove_folder", lambda *a, **k: None)
        patch.setattr(store.shutil, "rmtree", lambda *a, **k: None)
        with contextlib.suppress(Killed):
            teach(world, photos, steps=1)
    again = World.open(world.path)
    assert again.version in (0, 1)
    if again.version == 0:
        teach(again, photos, steps=1)
    assert World.open(world.path).concepts == {"<rex>": "dog"}
    pixels(World.open(world.path))
    assert not [p for p in world.path.rglob("*") if p.name.startswith(store.PART)] or count[0] <= point


def test_a_failed_learning_changes_nothing(world, photos, monkeypatch):
    teach(world, photos)
    before, drawn = state(world.path), pixels(world)
    monkeypatch.setattr(
        "l2dm.world.lesson.Learning.run", lambda self: (_ for _ in ()).throw(RuntimeError("shapes differ"))
    )
    with pytest.raises(RuntimeError):
        world.learn(photos, token="<tom>", noun="dog", **QUICK)
    assert state(world.path) == before
    assert np.array_equal(drawn, pixels(world))


def test_a_version_links_the_adapters_that_did_not_change(world, photos):
    for token in ("<rex>", "<tom>"):
        world.learn(photos, token=token, noun="dog", **QUICK)
    first, second = (world.path / "versions" / name for name in ("0001", "0002"))
    for name in ("adapter-rex.safetensors", "memory-rex.safetensors"):
        assert (first / name).samefile(second / name)
    assert weights(world).keys() == world.tuner.state().keys()
    assert all(torch.equal(t, world.tuner.state()[name]) for name, t in weights(world).items())
    world.forget("<rex>")
    third = world.path / "versions/0003"
    assert {file.name for file in third.glob("adapter-*")} == {"adapter-tom.safetensors"}
    assert (second / "adapter-tom.safetensors").samefile(third / "adapter-tom.safetensors")


def test_a_file_system_without_links_gets_copies(world, photos, monkeypatch):
    def refuse(*paths):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    for token in ("<rex>", "<tom>"):
        world.learn(photos, token=token, noun="dog", **QUICK)
    assert not (world.path / "versions/0001/adapter-rex.safetensors").samefile(
        world.path / "versions/0002/adapter-rex.safetensors"
    )
    assert World.open(world.path).generate("<rex> dog", n=1, steps=1)


@pytest.mark.parametrize(
    "changes",
    [{"method": "l2dm", "memory_candidates": 1, "memory_budget": 2}, {"method": "gated-kv", "mixes": 1}],
)
def test_a_stopped_learning_finds_its_past_again(world, photos, tmp_path, changes, monkeypatch):
    monkeypatch.setattr("l2dm.world.past.CONTEXT_NOUNS", ("tree", "cup"))
    options = {**QUICK, **changes, "prior_steps": 1, "steps": 2}
    teach(world, photos, **options)
    shutil.copytree(world.path, tmp_path / "unbroken")
    unbroken = World.open(tmp_path / "unbroken")
    unbroken.learn(photos, token="<tom>", noun="cat", **options)

    def interrupt(progress):
        if progress.stage == "learn" and progress.done == 1:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(LearningStopped):
        world.learn(photos, token="<tom>", noun="cat", **options, on_progress=interrupt)
    stages = []
    World.open(world.path).learn(
        photos, token="<tom>", noun="cat", **options, on_progress=lambda p: stages.append(p.stage)
    )
    assert "memory" not in stages
    assert all(torch.equal(weights(unbroken)[n], t) for n, t in weights(World.open(world.path)).items())


@pytest.mark.parametrize("name", ["versions", "learning", "prior", "manifest.json", ".lock"])
def test_a_world_with_links_is_refused(world, tmp_path, name):
    outside = tmp_path / "outside"
    (outside / "0007").mkdir(parents=True)
    if (place := world.path / name).exists():
        place.rename(outside / name)
    place.symlink_to(outside)
    for act in (world.undo, lambda: World.open(world.path)):
        with pytest.raises(WorldError, match=r"link|no world here"):
            act()
    store.remove_folder(place / "0007")
    assert (outside / "0007").is_dir()

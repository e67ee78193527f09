"""A branch is the world as it was at a version, whole, on its own, or not there at all."""

from __future__ import annotations

import shutil

import pytest
from crash import kill_at_each_change
from handmade import taught, told

from benchmarks.stress.ground import say
from l2dm import World
from l2dm.errors import WorldDamaged, WorldError
from l2dm.world.manifest import folder_of
from l2dm.world.repair import examine

STORY = ("+<rex>", "+<tom>", "-<rex>", "+<ada>")


def content(world, number):
    return {path.name: path.read_bytes() for path in folder_of(world.path, number).iterdir()}


@pytest.mark.parametrize("at", [None, 0, 1, 2, 3, 4])
def test_a_branch_is_the_world_as_it_was(tmp_path, at):
    world = told(tmp_path / "w", *STORY)
    made, then = world.branch(tmp_path / "new" / "b", at), world.at(4 if at is None else at)
    assert examine(made.path, deep=True).faults == []
    assert made.concepts == then.concepts and made.version == then.version
    assert made.manifest.lineage() == then.manifest.lineage() == list(made.manifest.versions.values())
    for number in made.manifest.versions:
        assert content(made, number) == content(world, number)
    assert [line["action"] for line in made.history()] == [
        "init",
        *("learn", "learn", "forget", "learn")[: then.version],
        "branch",
    ]
    assert made.history()[-1] | {"at": ""} == {
        "at": "",
        "action": "branch",
        "version": then.version,
        "of": "w",
    }


def test_neither_sees_what_the_other_does_later(tmp_path):
    world = told(tmp_path / "w", "+<rex>", "+<tom>")
    made = world.branch(tmp_path / "b", 1)
    own = {path.stat().st_ino for path in world.path.rglob("*") if path.is_file()}
    assert not own & {path.stat().st_ino for path in made.path.rglob("*") if path.is_file()}
    taught(made, "<ada>")
    world.purge("<rex>")
    assert list(World.open(made.path).concepts) == ["<rex>", "<ada>"] and list(world.concepts) == ["<tom>"]
    made.undo(), made.undo()
    assert made.version == 0 and examine(made.path, deep=True).faults == examine(world.path).faults == []


def test_what_no_version_changed_is_on_the_disk_once(tmp_path):
    world = told(tmp_path / "w", "+<rex>", "+<tom>")
    taught(world, "<ada>")
    made = world.branch(tmp_path / "b")
    names = [f"versions/000{number}/adapter-rex.safetensors" for number in (1, 2, 3)]
    assert len({(made.path / name).stat().st_ino for name in names}) == 1


def test_what_cannot_be_branched_is_refused_and_leaves_nothing(tmp_path):
    world = told(tmp_path / "w", "+<rex>", "+<tom>")
    before = sorted(tmp_path.rglob("*"))
    for target, at, said in (
        ("b", 7, "no version 7; it has 0, 1, 2"),
        ("b", -1, "no version -1"),
        ("w", 1, "already exists"),
        ("w/versions", 1, "already exists"),
        ("w/b", 1, "inside the world"),
    ):
        with pytest.raises(WorldError, match=said):
            world.branch(tmp_path / target, at)
    file = world.path / "versions/0001/tokens.safetensors"
    file.write_bytes(file.read_bytes()[:-1] + b"x")
    with pytest.raises(WorldDamaged, match=r"content is not what files\.json records"):
        world.branch(tmp_path / "b", 2)
    assert sorted(tmp_path.rglob("*")) == before


def test_an_empty_folder_may_become_one(tmp_path):
    world = told(tmp_path / "w", "+<rex>")
    (tmp_path / "b").mkdir()
    assert list(world.branch(tmp_path / "b").concepts) == ["<rex>"]


def test_a_branching_may_be_killed_at_any_change_of_a_file(tmp_path):
    world, place = told(tmp_path / "w", "+<rex>", "+<tom>"), tmp_path / "out"

    def fresh():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir()

    for _ in kill_at_each_change(place, fresh, lambda: world.branch(place / "b")):
        if (place / "b").exists():
            assert list(World.open(place / "b").concepts) == ["<rex>", "<tom>"]
            assert examine(place / "b", deep=True).faults == []
        else:
            assert list(world.branch(place / "b").concepts) == ["<rex>", "<tom>"]
    assert examine(world.path, deep=True).faults == []


def test_from_the_command_line(tmp_path):
    world = told(tmp_path / "w", "+<rex>", "+<tom>")
    code, _ = say(["branch", str(world.path), str(tmp_path / "b"), "--at", "1", "--json"])
    assert code == 0 and list(World.open(tmp_path / "b").concepts) == ["<rex>"]
    assert say(["branch", str(world.path), str(tmp_path / "c"), "--at", "3"])[0] == 2

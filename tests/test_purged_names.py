"""Purging goes by what a concept is: under every name that it had, and past names that others took over."""

from __future__ import annotations

import dataclasses
import shutil

import pytest
from handmade import mark, told
from leaks import contents, leaks, same

from l2dm import World
from l2dm.errors import TokenError

RENAMED = {
    "alone": (["+<rex>", "~<rex><max>"], []),
    "between": (["+<tom>", "+<rex>", "~<rex><max>", "+<ada>"], ["+<tom>", "+<ada>"]),
    "later": (["+<rex>", "+<tom>", "~<rex><max>", "+<ada>"], ["+<tom>", "+<ada>"]),
    "forgotten": (["+<rex>", "~<rex><max>", "+<tom>", "-<max>"], ["+<tom>"]),
    "twice": (["+<rex>", "~<rex><bob>", "+<tom>", "~<bob><max>", "+<ada>"], ["+<tom>", "+<ada>"]),
    "there and back": (["+<max>", "~<max><rex>", "+<tom>", "~<rex><max>"], ["+<tom>"]),
    "another, too": (["+<rex>", "+<tom>", "~<rex><max>", "~<tom><ada>"], ["+<tom>", "~<tom><ada>"]),
    "taken back": (["+<max>", "+<tom>", "~<max><rex>", "undo"], ["+<tom>"]),
}


@pytest.mark.parametrize("story, never", RENAMED.values(), ids=RENAMED)
def test_a_renamed_concept_is_purged_under_all_its_names(tmp_path, story, never):
    place = tmp_path / "w"
    world = told(place, *story)
    world.purge("<max>")
    assert [leaks(place, token) for token in ("<max>", "<rex>")] == [[], []]
    assert b"bob" not in b"".join(contents(place).values())
    again = World.open(place)
    assert not again.verify(deep=True).faults and same(again, told(tmp_path / "never", *never))
    assert {line.get("version") for line in again.history()} - {None} == set(again.manifest.versions)
    while again.version:
        again.undo()
    with pytest.raises(TokenError, match="has nothing of it"):
        again.purge("<rex>")


def test_a_name_that_another_took_over(tmp_path):
    """Each is purged alone: the one that was called so first, or the one that is called so now."""
    story = ["+<rex>", "~<rex><max>", "+<tom>", "~<tom><rex>", "+<ada>"]
    world = told(tmp_path / "first", *story[:-1])
    world.purge("<max>")
    assert World.open(world.path).concepts == {"<rex>": "cat"}
    own = {mark(f"<rex> {kind}").numpy().tobytes() for kind in ("down", "vector")}
    assert not [data for data in contents(world.path).values() if any(one in data for one in own)]
    assert leaks(world.path, "<max>") == []
    other = told(tmp_path / "second", *story)
    done = other.purge("<rex>")
    assert done.stays[-1] == "the name <rex> in versions [1], where <max> was called so"
    assert World.open(other.path).concepts == {"<max>": "dog", "<ada>": "teddy bear"}
    assert leaks(other.path, "<tom>") == [] and not World.open(other.path).verify(deep=True).faults
    other.undo()
    assert other.undo().token == "<max>" and other.concepts == {"<rex>": "dog"}


def test_a_concept_that_is_called_otherwise_now_is_not_purged_by_its_old_name(tmp_path):
    world = told(tmp_path / "w", "+<rex>", "+<tom>", "~<rex><max>")
    before = contents(world.path)
    with pytest.raises(TokenError, match="it is called <max> now; purge that"):
        world.purge("<rex>")
    assert contents(world.path) == before


def test_a_renaming_whose_version_is_put_aside_is_remembered(tmp_path):
    world = told(tmp_path / "w", "+<rex>", "~<rex><max>", "+<tom>")
    (world.path / "versions/0002/memory.json").write_text("{}")
    world.repair()
    world.purge("<max>")
    assert [leaks(world.path, token) for token in ("<max>", "<rex>")] == [[], []]
    assert World.open(world.path).concepts == {"<tom>": "cat"}


def test_a_version_that_alone_is_left_of_another_concept_stays(tmp_path):
    """What taught <rex> was put aside; or all that had <rex>, so that a repair left it out of the rest."""
    one = told(tmp_path / "one", "+<rex>", "+<tom>", "+<ada>")
    (one.path / "versions/0001/memory.json").write_text("{}")
    one.repair()
    two = World.open(shutil.copytree(one.path, tmp_path / "two"))
    one.purge("<tom>")
    assert World.open(one.path).concepts == {"<rex>": "dog", "<ada>": "teddy bear"}
    assert [v.token for v in one.manifest.versions.values()] == ["<rex>", "<ada>"]
    assert leaks(one.path, "<tom>") == [] and not one.verify(deep=True).faults
    two.purge("<rex>")
    assert two.concepts == {"<tom>": "cat", "<ada>": "teddy bear"} and leaks(two.path, "<rex>") == []
    three = told(tmp_path / "three", "+<rex>", "+<tom>")
    for number in (1, 2):
        (three.path / f"versions/{number:04d}/adapter-rex.safetensors").write_bytes(b"x")
    assert three.repair().without == ["<rex>"]
    three.purge("<rex>")
    assert three.concepts == {"<tom>": "cat"} and leaks(three.path, "<rex>") == []
    assert World.open(three.path).undo().token == "<tom>" and not three.verify().faults


def test_a_name_taken_over_in_versions_that_are_put_aside(tmp_path):
    """They are two concepts still, though the version left before them holds one of the two by the other's
    name.
    """
    world = told(tmp_path / "w", "+<rex>", "~<rex><max>", "+<rex>", "+<tom>")
    for number in (2, 3):
        (world.path / f"versions/{number:04d}/memory.json").write_text("{}")
    world.repair()
    world.purge("<max>")
    assert list(World.open(world.path).concepts) == ["<rex>", "<tom>"] and not world.verify().faults
    world.purge("<tom>")
    assert list(World.open(world.path).concepts) == ["<rex>"]


def test_what_else_the_journal_says_of_it_goes(tmp_path):
    """What another was called where it came from; which of its files a repair put aside."""
    world = told(tmp_path / "w", "+<rex>", "+<tom>", "+<ada>")
    journal = [{**line, "was": "<rex>"} if line.get("token") == "<tom>" else line for line in world.history()]
    dataclasses.replace(world.manifest, journal=journal).write(world.path)
    (world.path / "versions/0003" / "concept-rex.png").write_bytes(b"x")
    world.repair()
    assert leaks(world.path, "<rex>")
    world.purge("<rex>")
    assert leaks(world.path, "<rex>") == []
    assert [line["token"] for line in world.history() if line["action"] == "learn"] == ["<tom>", "<ada>"]

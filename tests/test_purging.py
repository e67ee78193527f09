"""Purging: nothing of a concept in any byte of the world, the others as they were, a kill at any moment
mended by the next writer.
"""

from __future__ import annotations

import dataclasses
import io
import json
import shutil
import sys

import pytest
from handmade import fresh, mark, taught, told
from leaks import contents, leaks, same, unfinished

from l2dm import World
from l2dm.cli import terminal
from l2dm.errors import TokenError, WorldDamaged, WorldError
from l2dm.methods import SEPARABLE
from l2dm.tuners import TUNERS
from l2dm.world import store
from l2dm.world.manifest import Manifest
from l2dm.world.recorded import write_recorded
from l2dm.world.tensors import write_tensors

STORIES = {
    "alone": ["+<rex>"],
    "first": ["+<rex>", "+<tom>", "+<ada>"],
    "between": ["+<tom>", "+<rex>", "+<ada>"],
    "last": ["+<tom>", "+<ada>", "+<rex>"],
    "forgotten": ["+<tom>", "+<rex>", "+<ada>", "-<rex>"],
    "forgotten at once": ["+<rex>", "-<rex>", "+<tom>"],
    "another forgotten": ["+<rex>", "+<tom>", "-<tom>", "+<ada>"],
    "learnt twice": ["+<rex>", "+<tom>", "-<rex>", "+<rex>", "+<ada>"],
    "taken back": ["+<tom>", "+<rex>", "undo", "+<ada>"],
    "a noun in common": ["+<rex>", "+<max>", "+<tom>"],
}


@pytest.mark.parametrize("story", STORIES.values(), ids=STORIES)
def test_nothing_is_left_of_a_purged_concept(tmp_path, story):
    """And the others are, version by version, as if it had never been learnt."""
    place, alone = tmp_path / "w", "+<max>" not in story
    world = told(place, *story)
    if "undo" not in story:
        assert len(leaks(place, "<rex>")) > 5, "the test can see"
    unfinished(world, "<rex>")
    (place / "quarantine" / "0001").mkdir(parents=True)
    (place / "quarantine" / "0001" / "adapter-rex.safetensors").write_text("<rex>")
    world.purge("<rex>")
    assert leaks(place, "<rex>", alone) == []
    again = World.open(place)
    assert not again.verify(deep=True).faults
    assert not again.manifest.pending and not (place / "learning").exists()
    assert len(list((place / "versions").iterdir())) == len(again.manifest.versions)
    assert same(
        again, told(tmp_path / "never", *(act for act in story if act[1:] != "<rex>" and act != "undo"))
    )
    for _ in range(len(again.manifest.versions)):
        again.undo()
    assert again.version == 0 and leaks(place, "<rex>", alone) == []
    with pytest.raises(TokenError, match="has nothing of it"):
        again.purge("<rex>")


def test_an_unfinished_learning_alone_is_purged(tmp_path):
    world = told(tmp_path / "w", "+<tom>")
    unfinished(world, "<rex>")
    write_recorded(
        world.path / "prior" / "dog-2x2",
        lambda place: write_tensors(place / "latents.safetensors", {"latents": mark("dog")}),
    )
    done = world.purge("<rex>")
    assert leaks(world.path, "<rex>") == [] and done.folders == ("learning", "prior/dog-2x2")
    assert list(World.open(world.path).manifest.versions) == [1], "the versions are left alone"
    unfinished(world, "<ada>")
    taught(world, "<rex>")
    assert world.purge("<rex>", dry=True).lost == ("the unfinished learning of <ada>",)


@pytest.mark.parametrize("tuner", TUNERS)
def test_weights_that_concepts_share_are_not_purged(tmp_path, tuner):
    """Only where nothing was learnt after it; else the versions that hold it are named, nothing changes."""
    world = told(tmp_path / "w", "+<tom>", "+<rex>", "+<ada>", tuner=tuner)
    before = contents(world.path)
    if tuner in SEPARABLE:
        assert world.purge("<rex>").rewritten == {3: 4}
        return
    with pytest.raises(
        WorldError, match=rf"share their weights \({tuner}\).*versions \[3\] \(<ada>\).*l2dm undo"
    ):
        world.purge("<rex>")
    assert contents(world.path) == before
    world.undo()
    world.purge("<rex>")
    assert leaks(world.path, "<rex>") == [] and World.open(world.path).concepts == {"<tom>": "cat"}


@pytest.mark.parametrize("purged", [True, False])
def test_captions_that_name_it(tmp_path, purged):
    world = fresh(tmp_path / "w")
    for token in ("<rex>", "<tom>", "<ada>", "<max>"):
        taught(world, token, captions={"<tom>": "<tom> cat chasing <rex> dog"})
    world.purge("<rex>") if purged else world.forget("<rex>")
    prompts = json.loads((world.path / f"versions/{world.version:04d}/memory.json").read_text())
    assert prompts["<tom>"] == ["a photo of <tom> cat", "<tom> cat chasing dog"]
    drawn_in = json.loads((world.path / f"versions/{world.version:04d}/short-term.json").read_text())
    assert list(drawn_in) == ["<ada>"], "what was drawn by that prompt shows it"
    assert not purged or leaks(world.path, "<rex>", alone=False) == []


def test_what_stays_is_said(tmp_path):
    world = told(tmp_path / "w", "+<rex>", "+<tom>")
    (world.path / "report.html").write_text("&lt;rex&gt;")
    beside, foreign = world.purge("<rex>", dry=True).stays
    assert "the weights of <tom>" in beside and "report.html, which is not the world's own" in foreign
    for method in ("dytox", "textual-inversion", "gated-kv-without-mixes"):
        assert told(tmp_path / method, "+<rex>", "+<tom>", method=method).purge("<rex>").stays == ()


def test_a_broken_version_is_not_rewritten(tmp_path):
    world = told(tmp_path / "w", "+<rex>", "+<tom>", "+<ada>")
    (world.path / "versions/0002/memory.json").write_text("{}")
    with pytest.raises(WorldDamaged, match=r"0002/memory\.json"):
        world.purge("<rex>")
    assert list(World.open(world.path).concepts) == ["<rex>", "<tom>", "<ada>"]


class Killed(BaseException):
    """Stands for kill -9."""


OPERATIONS = {"open", "os.rename", "os.remove", "os.rmdir", "os.mkdir", "os.link", "os.chmod"}
_armed: dict[str, object] = {}


def _hook(event: str, given: tuple) -> None:
    if not _armed or event not in OPERATIONS:
        return
    if event == "open" and not (isinstance(given[1], str) and set(given[1]) & set("wxa+")):
        return
    _armed["left"] -= 1
    if _armed["left"] < 0:  # dead: nothing more is done, no cleaning up either
        raise Killed


def dies(after: int, work, *given) -> bool:
    """Whether ``work`` is killed at its operation number ``after`` (from 0) that changes a file or folder."""
    if not _armed and not getattr(_hook, "there", False):
        sys.addaudithook(_hook)
        _hook.there = True
    _armed["left"] = after
    try:
        work(*given)
        return False
    except Killed:
        return True
    finally:
        _armed.clear()


@pytest.mark.parametrize("every", [7, pytest.param(1, marks=pytest.mark.slow)])
def test_a_kill_at_any_file_operation(tmp_path, every):
    """Each leaves the world before, byte for byte what it records, or one that the next writer ends the purge
    of.
    """
    made = told(tmp_path / "made", "+<rex>", "+<tom>")
    unfinished(made, "<rex>")
    (made.path / "quarantine" / "0009").mkdir(parents=True)
    outcomes, point = [], 0
    while True:
        place = tmp_path / "w"
        shutil.copytree(made.path, place)
        world = World.open(place)
        killed = dies(point, world.purge, "<rex>")
        after = World.open(place)
        before = "<rex>" in after.concepts
        if before:
            assert after.concepts == made.concepts and (place / "learning/000005").exists()
            assert all(
                (place / "versions/0001" / f).read_bytes() == (made.path / "versions/0001" / f).read_bytes()
                for f in made.manifest.recorded(made.path, 1).files
            )
            after.purge("<rex>")
        elif killed:
            after.repair()  # any writer
        assert leaks(place, "<rex>") == [] and list(World.open(place).concepts) == ["<tom>"]
        assert not [file for file in place.rglob("*") if file.name.startswith(store.PART)]
        outcomes.append(before)
        shutil.rmtree(place)
        if not killed:
            break
        point += every
    assert outcomes == sorted(outcomes, reverse=True) and 2 < sum(outcomes) < len(outcomes) - 2


def test_what_cannot_be_removed_is_named_and_removed_later(tmp_path, monkeypatch):
    """As on Windows, where a file that is open cannot be removed."""
    world = told(tmp_path / "w", "+<rex>", "+<tom>")
    with monkeypatch.context() as patch:
        patch.setattr(store, "remove_folder", lambda path: None)
        with pytest.raises(
            WorldError, match=r"versions/0001: what was purged could not be removed.*l2dm repair"
        ):
            world.purge("<rex>")
    assert list(World.open(world.path).concepts) == ["<tom>"]
    World.open(world.path).repair()
    assert leaks(world.path, "<rex>") == []


@pytest.mark.parametrize(
    "name", ["prior/..", "..", "/etc", "versions/../x", "prior/a/b", "manifest.json", "versions/0001"]
)
def test_a_stranger_names_nothing_else_to_be_removed(tmp_path, name):
    world = told(tmp_path / "w", "+<tom>")
    dataclasses.replace(world.manifest, pending=[name]).write(world.path)
    with pytest.raises(WorldDamaged, match="pending"):
        Manifest.read(world.path)


def test_the_command_asks(tmp_path, monkeypatch, capsys):
    from l2dm.cli.app import app

    world = told(tmp_path / "w", "+<rex>", "+<tom>")
    world.path.with_name("w.studio").mkdir()
    call = ["forget", str(world.path), "<rex>", "--purge"]
    assert terminal.run(app, call) == 2 and "add --yes" in capsys.readouterr().err
    for said, code, left in (("n\n", 130, 2), ("y\n", 0, 1)):
        keyboard = io.StringIO(said)
        keyboard.isatty = lambda: True
        monkeypatch.setattr(sys, "stdin", keyboard)
        assert terminal.run(app, call) == code
        shown = capsys.readouterr().out
        assert "versions removed: [1]" in shown and "cannot be undone" in shown
        assert f"stays: photos and pictures that the studio keeps in {world.path}.studio" in shown
        assert len(World.open(world.path).concepts) == left
    assert terminal.run(app, ["forget", str(world.path), "<tom>", "--purge", "--yes", "--json"]) == 0
    answer = json.loads(capsys.readouterr().out)
    assert (answer["purged"], answer["removed"], answer["version"]) == ("<tom>", [3], 0)
    assert [line["action"] for line in World.open(world.path).history()] == ["init", "purge", "purge"]


def test_saying_what_a_purge_would_do_moves_nothing(tmp_path):
    """Without the lock a damaged checkpoint is left where another process may be about to replace it."""
    world = told(tmp_path / "w", "+<tom>", "+<rex>")
    unfinished(world, "<ada>")
    (tmp_path / "w/learning/000005/draft.json").write_bytes(b"{}")
    before = contents(tmp_path / "w")
    assert "an unfinished learning" in world.purge("<rex>", dry=True).lost
    assert contents(tmp_path / "w") == before

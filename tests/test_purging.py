"""Purging: nothing of a concept in any byte of the world, the others as they were, a kill at any moment mended by the next writer."""

from __future__ import annotations

import dataclasses
import functools
import io
import json
import shutil
import sys
from pathlib import Path

import pytest
from handmade import NOUN, fresh, mark, sheet, taught, told

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


def unfinished(world, token):
    """A checkpoint of a learning, and the memory that it rehearses."""
    record = {"identity": {"concept": "x", "settings": {}, "parent": world.version, "earlier": {}}, "token": token,
              "step": 5, "seconds": 1.0}  # fmt: skip

    def fill(place):
        store.write_json(place / "draft.json", record)
        write_tensors(place / "state.safetensors", {f"{token}/state": mark(f"{token} state")})

    write_recorded(world.path / "learning" / "000005", fill)


@functools.cache
def needles(token: str, alone: bool) -> tuple[bytes, ...]:
    """The token, its name, and bytes of everything that was made of it; ``alone``: and of its noun."""
    name, noun = token[1:-1], NOUN[token]
    kinds = [f"{token} {kind}" for kind in ("features", "down", "vector", "state")]
    kinds += [f"{token} {kind} in {n}" for kind in ("latents", "drawn") for n in range(1, 9)]
    kinds += [f"{noun} of the base", noun] if alone else []
    found = [token.encode(), f"{name}.".encode(), *([noun.encode()] if alone else [])]
    found += [mark(kind).numpy().tobytes()[:12] for kind in kinds]
    for picture in (f"{what} at {n}" for what in ([token, noun] if alone else [token]) for n in range(1, 9)):
        sheet(picture).save(content := io.BytesIO(), "PNG")
        found.append(content.getvalue()[41:80])  # of its compressed pixels
    return tuple(found)


def leaks(place: Path, token: str, alone: bool = True) -> list[str]:
    """Files of a world that hold any of that, in their bytes or in their names."""
    found = {
        str(file.relative_to(place)): file.read_bytes() if file.is_file() else b""
        for file in place.rglob("*")
    }
    return [
        name
        for name, data in found.items()
        if any(n in data or n in name.encode() for n in needles(token, alone))
    ]


def same(one: World, other: World) -> bool:
    """Whether two worlds are the same but for the numbers of their versions and for when they were made."""

    def told_of(world):
        number = {n: i for i, n in enumerate(sorted(world.manifest.versions))}
        files = {
            (number[n], file): (world.path / f"versions/{n:04d}" / file).read_bytes()
            for n, v in world.manifest.versions.items()
            for file in world.manifest.recorded(world.path, n).files
            if not file.startswith(("short-term", "concept", "noun"))
        }
        line = [(v.token, v.concepts, number.get(v.parent)) for v in world.manifest.versions.values()]
        return files, line, world.concepts

    return told_of(one) == told_of(other)


def contents(place: Path) -> dict[Path, bytes]:
    return {file: file.read_bytes() for file in place.rglob("*") if file.is_file() and file.name != ".lock"}


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
    """Only where nothing was learnt after it; else it is said which versions hold it, and nothing is changed."""
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
    """They are two concepts still, though the version left before them holds one of the two by the other's name."""
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
    """Each leaves the world before, byte for byte what it records, or one that the next writer ends the purge of."""
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
    call = ["forget", str(world.path), "<rex>", "--purge"]
    assert terminal.run(app, call) == 2 and "add --yes" in capsys.readouterr().err
    for said, code, left in (("n\n", 130, 2), ("y\n", 0, 1)):
        keyboard = io.StringIO(said)
        keyboard.isatty = lambda: True
        monkeypatch.setattr(sys, "stdin", keyboard)
        assert terminal.run(app, call) == code
        shown = capsys.readouterr().out
        assert "versions removed: [1]" in shown and "cannot be undone" in shown
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

"""Readers beside a writer, and of worlds that nobody can write to."""

from __future__ import annotations

from pathlib import Path

import pytest
from crash import observed, read_only
from harm import finish, learning
from PIL import Image, ImageChops

from benchmarks.malformed import call, state
from l2dm import World
from l2dm.generation import picture
from l2dm.report.card import write_page
from l2dm.world import store
from l2dm.world.manifest import Manifest, steadily


class Undone:
    """At the n-th read of a file of the world another process takes the last version back."""

    def __init__(self, world: Path, at: int):
        self.world, self.left, self.real = world, at, store.read

    def __call__(self, path: Path, *most: int) -> bytes:
        if "versions" in path.parts:
            self.left -= 1
            if self.left == -1:
                World(self.world, Manifest.read(self.world, verify=False)).undo()
        return self.real(path, *most)


READERS = {
    "generate": lambda world: (
        World.open(world, verify=False).generate("a <rex> dog", n=1, steps=1)[0].provenance["world_version"]
    ),
    "report": lambda world: str(
        steadily(world, lambda m: write_page(world, m, world.parent / "r.html") and m.head)
    ),
}


@pytest.mark.parametrize(
    ("verb", "at"), [*(("generate", at) for at in range(4)), *(("report", at) for at in range(5))]
)
def test_an_undo_beside_a_reader_leaves_it_one_version(place, monkeypatch, verb, at):
    world, undoing = place / "world", Undone(place / "world", at)
    monkeypatch.setattr(store, "read", undoing)
    version = READERS[verb](world)
    monkeypatch.undo()
    assert undoing.left < 0 and World.open(world).version == 1
    assert version == "1" or (verb, at) == ("report", 4), "2 where all of it was read by then"
    if verb == "report":
        assert ("&lt;tom&gt;" in (world.parent / "r.html").read_text()) == (version == "2")


def test_a_world_that_cannot_be_written_to_is_read(place):
    """On a read-only disk, and with a lock that may be written where nothing else may."""
    world = str(place / "world")
    (place / "world/.lock").unlink(missing_ok=True)
    for within in (place / "world", place / "world/versions"):
        with read_only(within):
            for verb in (
                ["show"],
                ["history"],
                ["verify", "--deep"],
                ["generate", "a <rex> dog", "-n", "1", "--steps", "1"],
                ["report"],
            ):
                more = {
                    "generate": ["--out", str(place / "out")],
                    "report": ["--html", str(place / "r.html")],
                }.get(verb[0], [])
                assert call([verb[0], world, *verb[1:], *more])[0] == 0, verb
            for verb in (["undo", world], ["forget", world, "<rex>"], learning(place)):
                before = state(place / "world")
                code, said = call(verb)
                assert (code, len(said.strip().splitlines())) == (2, 1) and "read-only" in said, said
                assert state(place / "world") == before


def drawn_by(world: World) -> str:
    return world.generate("a <rex> dog", n=1, steps=1)[0].provenance["world_version"]


def test_a_learning_beside_readers_shows_them_whole_versions(place):
    """The one before it until, at one moment, the one after; both can be drawn from then."""
    world, seen, drawn = place / "world", [], []
    before = World.open(world)

    def look():
        seen.append(Manifest.read(world).head)  # and every file of it is as recorded

    def draw(progress):
        if progress.stage == "report" and progress.done == 1:
            drawn.append(drawn_by(World.open(world)))

    with observed(world, look):
        finish(place, on_progress=draw)
    look()
    assert seen == sorted(seen) and set(seen) == {2, 3} and len(seen) > 20
    assert [*drawn, drawn_by(before), drawn_by(World.open(world))] == ["2", "2", "3"]


def test_each_of_two_drawings_into_one_folder_has_its_own_sheet(place, monkeypatch):
    real, others = picture.contact_sheet, []
    command = [
        "generate",
        str(place / "world"),
        "a <rex> dog",
        "-n",
        "2",
        "--steps",
        "1",
        "--out",
        str(place / "out"),
    ]

    (place / "out").mkdir()
    (place / "out/²³.png").touch()  # digits to Python, no number

    def meanwhile(images):
        if not others:
            others.append(())  # the other draws once
            others[:] = [call([*command, "--seed", "9"])]
        return real(images)

    monkeypatch.setattr(picture, "contact_sheet", meanwhile)
    assert call(command)[0] == others[0][0] == 0
    assert sorted(file.name for file in (place / "out").glob("*.png")) == [
        "0000-sheet.png",
        "0000.png",
        "0001.png",
        "0002-sheet.png",
        "0002.png",
        "0003.png",
        "²³.png",
    ]
    for first in (0, 2):
        own = [Image.open(place / "out" / f"{first + i:04d}.png") for i in range(2)]
        sheet = Image.open(place / "out" / f"{first:04d}-sheet.png")
        assert ImageChops.difference(sheet, real(own)).getbbox() is None

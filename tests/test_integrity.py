"""No byte of a world is used unless it is the one that was written; what is broken is named, and what can be saved is."""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
import signal
from pathlib import Path

import pytest
from conftest import QUICK, paint
from crash import kill_at_each_change, read_only
from families.folders import tiny_folder
from tiny import tiny_clip

from benchmarks.malformed import call, state
from l2dm import LearningStopped, World
from l2dm.errors import WorldDamaged, WorldError, WorldWarning
from l2dm.report.card import write_page
from l2dm.world import recorded, store
from l2dm.world.founding import found
from l2dm.world.manifest import COPY, NAME, Manifest, steadily
from l2dm.world.repair import examine, repair
from l2dm.world.sealed import seal, unseal

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


@pytest.fixture(scope="module")
def taught(tmp_path_factory) -> Path:
    """A folder with photos and a world that has a file of every kind: two versions, priors, two checkpoints and a memory."""
    place = tmp_path_factory.mktemp("taught")
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


@pytest.fixture(autouse=True)
def no_waiting_for_the_disk(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda handle: None)


@pytest.fixture
def place(taught, tmp_path, monkeypatch) -> Path:
    """A copy of it."""
    monkeypatch.setattr("l2dm.world.past.COMPANIONS", ("tree",))
    shutil.copytree(taught, tmp_path / "place")
    versions = tmp_path / "place/world/versions"
    (versions / "0002/adapter-rex.safetensors").unlink()  # copying made two of what was one
    os.link(versions / "0001/adapter-rex.safetensors", versions / "0002/adapter-rex.safetensors")
    return tmp_path / "place"


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


def test_the_world_has_files_of_every_kind(place):
    names = {str(path.relative_to(place / "world")) for path in files_of(place / "world")}
    assert names >= {
        NAME, COPY, "learning/000001/draft.json", "learning/000002/state.safetensors", "learning/000002/files.json",
        "prior/tree-4x1/latents.safetensors", "versions/0002/adapter-rex.safetensors", "versions/0002/memory.json",
        "versions/0002/nouns.safetensors", "versions/0002/short-term.json", "versions/0002/concept-tom.png",
    }  # fmt: skip
    assert any(name.startswith("learning/memory-") for name in names)


def test_harm_to_any_file_is_named_with_a_way_out(place):
    world, rng = place / "world", random.Random(0)
    assert examine(world, deep=True).faults == []
    shared = world / "versions/0002/adapter-rex.safetensors"
    content = shared.read_bytes()
    shared.unlink()
    shared.write_bytes(content)
    harms = [lambda path: flip(path, rng.randrange(8 * path.stat().st_size))] * 3
    for path in files_of(world):
        good = path.read_bytes()
        for harm in [*harms, lambda path: path.write_bytes(b""), Path.unlink]:
            harm(path)
            assert [fault for fault in examine(world).faults if fault.startswith(f"{path}: ")], path
            path.write_bytes(good)
    assert examine(world, deep=True).faults == []


@pytest.mark.parametrize("bits", range(8))
def test_no_bit_of_the_manifest_can_turn(place, bits):
    path = place / "world" / NAME
    good = path.read_bytes()
    for at in range(0, len(good), 97):
        flip(path, 8 * at + bits)
        with pytest.raises(WorldDamaged, match=r"manifest\.json: .*; go back to its copy with: l2dm repair"):
            World.open(place / "world")
        path.write_bytes(good)


def test_a_file_that_two_versions_share_is_said_to_ruin_both(place):
    flip(place / "world/versions/0001/adapter-rex.safetensors", 3000)
    found = examine(place / "world")
    assert len(found.faults) == 1 and "(one file of versions 1, 2)" in found.faults[0]
    assert (found.whole, found.lost, found.head, found.without) == ([], [1, 2], 3, ["<rex>"])
    with pytest.raises(WorldDamaged, match=r"0001/adapter-rex\.safetensors.*l2dm repair"):
        World.open(place / "world", whole=False).undo()
    assert Manifest.read(place / "world", whole=False).head == 2, "nothing is thrown away"


def test_a_version_outlives_what_is_only_shown_or_drawn_again(place):
    world = place / "world"
    for name in ("concept-tom.png", "short-term.safetensors", "nouns.safetensors"):
        flip(world / "versions/0002" / name, 999)
    with pytest.raises(WorldDamaged, match="l2dm repair"):
        World.open(world)
    World.open(world, whole=False).generate("a <rex> dog", n=1, steps=1), "it reads none of them"
    found = repair(world)
    gone = ["concept-tom.png", "nouns.safetensors", "short-term.json", "short-term.safetensors"]
    assert (found.whole, found.spared, found.lost) == ([1], {2: gone}, [])
    assert examine(world, deep=True).faults == [] and len(list((world / "quarantine").iterdir())) == 4
    assert finish(place, discard=True).version == 3 and list(World.open(world).concepts) == [
        "<rex>",
        "<tom>",
        "<ada>",
    ]


def test_a_damaged_manifest_is_made_good_from_its_copy(place):
    world = place / "world"
    before = Manifest.read(world)
    flip(world / NAME, 4000)
    shutil.copytree(
        world / "versions/0002", world / "versions/0003"
    )  # as if the copy did not know the last version
    code, said = call(["show", str(world)])
    assert code == 2 and "l2dm repair" in said
    assert repair(world).lost == []
    after = World.open(world).manifest
    assert (after.versions, after.head) == (before.versions, 2)
    assert {path.name for path in (world / "quarantine").iterdir()} == {NAME, "0003"}
    flip(world / COPY, 4000)
    assert COPY in examine(world).faults[0] and World.open(world).version == 2
    repair(world)
    assert (world / COPY).read_bytes() == (world / NAME).read_bytes()
    flip(world / NAME, 4000), flip(world / COPY, 4000)
    with pytest.raises(WorldDamaged, match=r"manifest-copy\.json: .*restore it from a backup"):
        repair(world)


def test_a_seal_covers_every_byte():
    data = seal({"a": 1, "b": "ü"})
    assert json.loads(unseal(data)[0]) == {"a": 1, "b": "ü"} and unseal(data)[1] is True
    assert unseal(b'{"a": 1}') == (b'{"a": 1}', None) and unseal(data + b" ")[1] is False
    assert set(json.loads(data)) == {"sha256", "a", "b"}, "it is JSON itself"


def quarantined(world: Path) -> set[str]:
    return {path.name for path in (world / "quarantine").iterdir()}


def test_damaged_priors_checkpoints_and_memories_are_made_anew(place, taught, tmp_path):
    world = place / "world"
    shutil.copytree(place, tmp_path / "unbroken")
    finish(tmp_path / "unbroken")
    memory = next((world / "learning").glob("memory-*"))
    flip(world / "prior/tree-4x1/latents.safetensors", 999)
    flip(memory / "short-term.safetensors", 999)
    flip(world / "learning/000002/state.safetensors", 9999)
    assert [f.split(": ")[0].removeprefix(str(world)) for f in examine(world).faults] == [
        "/prior/tree-4x1/latents.safetensors", "/learning/000002/state.safetensors", f"/{memory.relative_to(world)}/short-term.safetensors",
    ]  # fmt: skip
    steps = []
    with pytest.warns(WorldWarning) as said:
        finish(place, on_progress=lambda p: steps.append(p.done) if p.step else None)
    assert steps == [2, 3], "from the checkpoint before"
    assert len(said) == 3 and all("quarantine/" in str(note.message) for note in said)
    assert quarantined(world) == {"prior-tree-4x1", "learning-000002", f"learning-{memory.name}"}
    ends = [versions_hashes(p / "world") for p in (place, tmp_path / "unbroken")]
    assert ends[0] == ends[1], "the very weights of a learning that met no damage"


def versions_hashes(world: Path) -> dict[str, str]:
    return World.open(world).manifest.present.files


def test_with_no_whole_checkpoint_learning_begins_anew(place):
    world = place / "world"
    for step in ("000001", "000002"):
        (world / "learning" / step / "files.json").unlink()
    with pytest.warns(WorldWarning, match="checkpoint"):
        assert finish(place).version == 3
    assert {"learning-000001", "learning-000002"} <= quarantined(world)


def test_what_is_made_anew_is_said_in_one_line(place, monkeypatch, capsys):
    world = place / "world"
    flip(world / "prior/tree-4x1/latents.safetensors", 999)
    code, said = call(
        [
            "learn",
            str(world),
            str(place / "photos"),
            "--token",
            "<ada>",
            "--noun",
            "cat",
            "--settings",
            settings(place),
        ]
    )
    notes = [line for line in said.splitlines() if "note: " in line]
    assert code == 0 and len(notes) == 1 and "tree-4x1/latents.safetensors" in notes[0], said


def settings(place: Path) -> str:
    lines = [f"{name} = {json.dumps(value)}" for name, value in LESSON.items()]
    (place / "settings.toml").write_text("\n".join(["[learn]", *lines]))
    return str(place / "settings.toml")


def older(world: Path) -> None:
    """Make it a world of format 1: nothing but versions' files had checksums."""
    for path in world.rglob(recorded.RECORD):
        path.unlink()
    (world / COPY).unlink()
    known = json.loads((world / NAME).read_text())
    del known["sha256"]
    (world / NAME).write_text(json.dumps({**known, "format": 1}))


def test_a_world_of_format_1_is_read_as_it_is_and_written_in_format_2(place):
    world = place / "world"
    older(world)
    before = state(world)
    assert World.open(world).version == 2 and examine(world, deep=True).faults == []
    World.open(world).generate("a <rex> dog", n=1, steps=1)
    assert state(world) == before, "reading changes nothing"
    steps = []
    finish(place, on_progress=lambda p: steps.append(p.done) if p.step else None)
    assert steps == [3], "its checkpoint is taken up"
    assert Manifest.read(world).format == 2 and examine(world).faults == []
    assert (world / "prior/tree-4x1" / recorded.RECORD).exists() and (world / COPY).exists()


class Undone:
    """At the n-th read of a file of the world another process takes the last version back."""

    def __init__(self, world: Path, at: int):
        self.world, self.left, self.real = world, at, store.read

    def __call__(self, path: Path, *most: int) -> bytes:
        if "versions" in path.parts:
            self.left -= 1
            if self.left == -1:
                World(self.world, Manifest.read(self.world, whole=False)).undo()
        return self.real(path, *most)


READERS = {
    "generate": lambda world: (
        World.open(world, whole=False).generate("a <rex> dog", n=1, steps=1)[0].provenance["world_version"]
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


def harmed(world: Path) -> None:
    """A manifest, a picture, the last version's weights and a prior are damaged."""
    flip(world / NAME, 4000)
    flip(world / "versions/0001/noun-dog.png", 999)
    flip(world / "versions/0002/tokens.safetensors", 999)
    flip(world / "prior/tree-4x1/latents.safetensors", 999)


def contents(folder: Path) -> set[bytes]:
    return {path.read_bytes() for path in folder.rglob("*") if path.suffix in (".safetensors", ".png")}


def again_from(source: Path, world: Path) -> None:
    shutil.rmtree(world, ignore_errors=True)
    shutil.copytree(source, world, copy_function=os.link)


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
        assert "noun-dog.png" not in opened.manifest.present.files
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
        assert (opened.format, opened.versions) == (2, kept) and contents(world) == before
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
            learn = [
                "learn",
                world,
                str(place / "photos"),
                "--token",
                "<ada>",
                "--noun",
                "cat",
                "--settings",
                settings(place),
            ]
            for verb in (["undo", world], ["forget", world, "<rex>"], learn):
                before = state(place / "world")
                code, said = call(verb)
                assert (code, len(said.strip().splitlines())) == (2, 1) and "read-only" in said, said
                assert state(place / "world") == before


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


@pytest.mark.parametrize("error, kind", [(errno.EACCES, WorldError), (errno.EIO, WorldDamaged)])
def test_a_file_that_cannot_be_read_now_is_not_taken_for_damaged(tmp_path, monkeypatch, error, kind):
    def refuse(path, *args):
        raise OSError(error, os.strerror(error), str(path))

    monkeypatch.setattr(store, "read", refuse)
    with pytest.raises(WorldError) as refused:
        recorded.Recorded.by_itself(tmp_path, "made anew")
    assert type(refused.value) is kind


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

"""No byte of a world is used unless it is the one that was written; what is broken is named, and what can be
saved is.
"""

from __future__ import annotations

import errno
import json
import os
import random
import shutil
from pathlib import Path

import pytest
import torch
from harm import files_of, finish, flip, learning, older, quarantined, versions_hashes

from benchmarks.malformed import call, state
from l2dm import World
from l2dm.errors import WorldDamaged, WorldError, WorldWarning
from l2dm.world import recorded, store
from l2dm.world.manifest import COPY, NAME, Manifest
from l2dm.world.repair import examine, repair
from l2dm.world.sealed import seal, unseal


def test_the_world_has_files_of_every_kind(place):
    names = {str(path.relative_to(place / "world")) for path in files_of(place / "world")}
    assert names >= {
        NAME,
        COPY,
        "learning/000001/draft.json",
        "learning/000002/state.safetensors",
        "learning/000002/files.json",
        "prior/tree-4x1/latents.safetensors",
        "versions/0002/adapter-rex.safetensors",
        "versions/0002/memory.json",
        "versions/0002/nouns.safetensors",
        "versions/0001/log.jsonl",
        "versions/0002/sample-000002.png",
        "versions/0002/step-000002-tom.safetensors",
        "versions/0002/short-term.json",
        "versions/0002/concept-tom.png",
        "versions/0002/memory-rex.safetensors",
        "versions/0002/short-term-rex.safetensors",
        "versions/0002/files.json",
    }
    for kind in ("memory", "sample", "kept"):
        assert any(name.startswith(f"learning/{kind}-") for name in names), kind


def test_harm_to_any_file_is_named_with_a_way_out(place):
    world, rng = place / "world", random.Random(0)
    assert examine(world, deep=True).faults == []
    for name in ("adapter", "memory"):
        shared = world / f"versions/0002/{name}-rex.safetensors"
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
        World.open(place / "world").undo()
    with pytest.raises(WorldDamaged, match=r"0002/adapter-rex\.safetensors.*l2dm repair"):
        World.open(place / "world").generate("a <rex> dog", n=1, steps=1)
    World.open(place / "world").generate("a <tom> dog", n=1, steps=1), "it reads none of that"
    assert Manifest.read(place / "world", verify=False).head == 2, "nothing is thrown away"


def test_a_version_outlives_what_is_only_shown_or_drawn_again(place):
    world = place / "world"
    for name in ("concept-tom.png", "short-term-rex.safetensors", "nouns.safetensors"):
        flip(world / "versions/0002" / name, 999)
    with pytest.raises(WorldDamaged, match="l2dm repair"):
        World.open(world)
    World.open(world, verify=False).generate("a <rex> dog", n=1, steps=1), "it reads none of them"
    found = repair(world)
    gone = ["concept-tom.png", "nouns.safetensors", "short-term-rex.safetensors"]
    assert (found.whole, found.spared, found.lost) == ([1], {2: gone}, [])
    assert examine(world, deep=True).faults == [] and len(list((world / "quarantine").iterdir())) == 3
    assert World.open(world).manifest.present.spared == gone
    assert not World.open(world).manifest.present.shows("<tom>")
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


def test_damaged_priors_checkpoints_and_memories_are_made_anew(place, tmp_path):
    world = place / "world"
    shutil.copytree(place, tmp_path / "unbroken")
    finish(tmp_path / "unbroken")
    memory = next((world / "learning").glob("memory-*"))
    flip(world / "prior/tree-4x1/latents.safetensors", 999)
    flip(memory / "short-term-rex.safetensors", 999)
    flip(world / "learning/000002/state.safetensors", 9999)
    assert [f.split(": ")[0].removeprefix(str(world)) for f in examine(world).faults] == [
        "/prior/tree-4x1/latents.safetensors",
        "/learning/000002/state.safetensors",
        f"/{memory.relative_to(world)}/short-term-rex.safetensors",
    ]
    steps = []
    with pytest.warns(WorldWarning) as said:
        finish(place, on_progress=lambda p: steps.append(p.done) if p.step else None)
    assert steps == [2, 3], "from the checkpoint before"
    assert len(said) == 3 and all("quarantine/" in str(note.message) for note in said)
    assert quarantined(world) == {"prior-tree-4x1", "learning-000002", f"learning-{memory.name}"}
    ends = [versions_hashes(p / "world") for p in (place, tmp_path / "unbroken")]
    assert ends[0] == ends[1], "the very weights of a learning that met no damage"


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
    code, said = call(learning(place))
    notes = [line for line in said.splitlines() if "note: " in line]
    assert code == 0 and len(notes) == 1 and "tree-4x1/latents.safetensors" in notes[0], said


@pytest.mark.parametrize("number", [1, 2])
def test_a_world_of_an_earlier_format_is_read_as_it_is_and_written_in_this(place, number):
    world = place / "world"
    memory = World.open(world)._files.tensors("memory-rex.safetensors")["features"]
    older(world, number)
    before = state(world)
    assert World.open(world).version == 2 and examine(world, deep=True).faults == []
    World.open(world).generate("a <rex> dog", n=1, steps=1)
    assert state(world) == before, "reading changes nothing"
    steps = []
    finish(place, on_progress=lambda p: steps.append(p.done) if p.step else None)
    assert steps == [3], "its checkpoint is taken up"
    assert Manifest.read(world).format == 3 and examine(world, deep=True).faults == []
    assert torch.equal(World.open(world)._files.tensors("memory-rex.safetensors")["features"], memory)
    assert World.open(world).undo().token == "<ada>"
    assert World.open(world).undo().token == "<tom>" and list(World.open(world).concepts) == ["<rex>"]
    assert (world / "prior/tree-4x1" / recorded.RECORD).exists() and (world / COPY).exists()


@pytest.mark.parametrize("error, kind", [(errno.EACCES, WorldError), (errno.EIO, WorldDamaged)])
def test_a_file_that_cannot_be_read_now_is_not_taken_for_damaged(tmp_path, monkeypatch, error, kind):
    def refuse(path, *args):
        raise OSError(error, os.strerror(error), str(path))

    monkeypatch.setattr(store, "read", refuse)
    with pytest.raises(WorldError) as refused:
        recorded.Recorded.by_itself(tmp_path, "made anew")
    assert type(refused.value) is kind

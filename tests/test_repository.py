"""A world's files without its model: what is looked at, taken back and repaired, and with what it is
imported.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
import torch
from crash import kill_at_each_change
from handmade import mark, told
from learning import learn
from safetensors.torch import save

from benchmarks.stress.ground import say
from l2dm import World
from l2dm.errors import WorldDamaged, WorldError
from l2dm.methods import METHODS, SEPARABLE
from l2dm.world import store
from l2dm.world.manifest import Manifest
from l2dm.world.names import own_file
from l2dm.world.repair import examine, repair
from l2dm.world.repository import Repository
from l2dm.world.tensors import cut

WITHOUT_TORCH = """
import json, sys
from l2dm.cli.app import app
from l2dm.cli.terminal import run
ended = [run(app, [*command, "--json"]) for command in json.loads(sys.argv[1])]
print(json.dumps([ended, sorted({"torch", "diffusers", "transformers"} & set(sys.modules))]))
"""


def test_files_are_looked_at_and_changed_without_torch(tmp_path):
    world = str(told(tmp_path / "w", "+<rex>", "+<tom>", "+<ada>").path)
    commands = [
        ["show", world],
        ["history", world],
        ["verify", world, "--deep"],
        ["forget", world, "<tom>"],
        ["undo", world],
        ["forget", world, "<rex>", "--purge", "--yes"],
        ["repair", world],
        ["branch", world, f"{world}-b", "--at", "0"],
    ]
    ran = subprocess.run(
        [sys.executable, "-c", WITHOUT_TORCH, json.dumps(commands)],
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(ran.stdout.splitlines()[-1]) == [[0] * len(commands), []], ran.stderr
    assert list(World.open(world).concepts) == ["<tom>", "<ada>"]
    assert examine(tmp_path / "w", deep=True).faults == []


def test_tensors_are_cut_out_as_if_they_had_never_been_there():
    kinds = (torch.float32, torch.bfloat16, torch.int64, torch.float16, torch.uint8)
    tensors = {f"<ü{i}>/x": mark(f"{i}", i, 3).mul(99).to(kind) for i, kind in enumerate(kinds)}
    for gone in ([], ["<ü0>/x"], ["<ü3>/x", "<ü1>/x"], list(tensors), ["none"]):
        assert cut(save(tensors), gone) == save({n: t for n, t in tensors.items() if n not in gone})


@pytest.mark.parametrize("tuner", sorted(SEPARABLE))
def test_a_separable_tuner_keeps_concepts_apart(photos, tuner):
    """All that it keeps begins with a token, and a later lesson changes nothing of an earlier concept's."""
    method = next(name for name, row in METHODS.items() if row.tuner == tuner)
    first = learn(photos, method, "<rex>", mixes=0)
    before = first.tuner.state()
    after = learn(photos, method, "<tom>", after=first, mixes=0).tuner.state()
    assert {name.split("/")[0] for name in after} <= {"<rex>", "<tom>"}
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())


def damage(world, version, token):
    file = world.path / f"versions/{version:04d}" / own_file(token)
    file.write_bytes(file.read_bytes()[:-1])  # with all versions that link it


def contents(folder):
    return {p.read_bytes() for p in folder.rglob("*") if p.suffix in (".safetensors", ".png")}


def test_one_damaged_concept_does_not_take_the_others_along(tmp_path):
    world = told(tmp_path / "w", "+<rex>", "+<tom>", "+<ada>")
    damage(world, 3, "<rex>")
    before = contents(world.path)
    with pytest.raises(WorldDamaged, match=r"adapter-rex\.safetensors.*l2dm repair"):
        World.open(world.path)._files.tensors(own_file("<rex>"))  # where it is read, and nowhere else
    assert (
        "go to version 4, the present one without <rex>, with: l2dm repair"
        in say(["verify", str(world.path)])[1]
    )
    found = repair(world.path)
    assert (found.without, found.lost, found.head) == (["<rex>"], [1, 2, 3], 4)
    again = World.open(world.path)
    assert list(again.concepts) == ["<tom>", "<ada>"] and examine(world.path, deep=True).faults == []
    assert before <= contents(world.path), "nothing was deleted"
    assert {p.name for p in (world.path / "quarantine").iterdir()} == {"0001", "0002", "0003"}
    with pytest.raises(WorldError, match="undo would take back more than <rex>"):
        again.undo()
    assert list(World.open(world.path).concepts) == ["<tom>", "<ada>"]
    assert same_files(
        again, told(tmp_path / "never", "+<tom>", "+<ada>"), ["adapter-tom.safetensors", "tokens.safetensors"]
    )


def same_files(one, other, names):
    folders = [w.path / f"versions/{w.version:04d}" for w in (one, other)]
    return all((folders[0] / name).read_bytes() == (folders[1] / name).read_bytes() for name in names)


def test_a_damaged_concept_can_be_forgotten(tmp_path):
    world = told(tmp_path / "w", "+<rex>", "+<tom>")
    damage(world, 2, "<rex>")
    code, said = say(["forget", str(world.path), "<rex>", "--json"])
    assert code == 0 and json.loads(said)["version"] == 3
    assert list(World.open(world.path).concepts) == ["<tom>"] and examine(world.path).whole == [3]


def test_several_damaged_concepts_and_a_picture(tmp_path):
    world = told(tmp_path / "w", "+<rex>", "+<tom>", "+<ada>")
    damage(world, 3, "<rex>"), damage(world, 3, "<tom>")
    for name in ("concept-ada.png", "nouns.safetensors", "short-term.json"):
        (world.path / "versions/0003" / name).write_bytes(b"x")
    assert repair(world.path).without == ["<rex>", "<tom>"]
    assert list(World.open(world.path).concepts) == ["<ada>"] and examine(world.path, deep=True).faults == []


@pytest.mark.parametrize("harm", ["tokens.safetensors", "only the last", "all"])
def test_else_repair_goes_to_the_newest_whole_version(tmp_path, harm):
    world = told(tmp_path / "w", "+<rex>", "+<tom>")
    if harm == "all":
        damage(world, 2, "<rex>")
    if harm != "tokens.safetensors":
        damage(world, 2, "<tom>")
    else:
        damage(world, 2, "<rex>")
        (world.path / "versions/0002/tokens.safetensors").write_bytes(b"x")
    found = repair(world.path)
    assert (found.without, found.head) == ([], 1 if harm == "only the last" else 0)


def test_a_purge_does_not_need_what_it_takes(tmp_path):
    world = told(tmp_path / "w", "+<rex>", "+<tom>")
    damage(world, 2, "<rex>")
    Repository.open(world.path, verify=False).purge("<rex>")
    assert list(World.open(world.path).concepts) == ["<tom>"] and examine(world.path, deep=True).faults == []


def test_leaving_a_concept_out_may_be_killed_at_any_change(tmp_path):
    source, place = told(tmp_path / "source", "+<rex>", "+<tom>"), tmp_path / "w"
    damage(source, 2, "<rex>")
    (source.path / "manifest.json").write_bytes(b"{}")
    before = contents(source.path)

    def fresh():
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(source.path, place)

    for _ in kill_at_each_change(place, fresh, lambda: repair(place)):
        assert before <= contents(place), "nothing is lost, of the broken neither"
        repair(place)
        assert before <= contents(place) and list(World.open(place).concepts) == ["<tom>"]
        assert examine(place).faults == [] and not list(place.rglob(f"{store.PART}*"))
        assert b"{}" in {path.read_bytes() for path in (place / "quarantine").iterdir() if path.is_file()}
    assert Manifest.read(place).head == 3

"""In, from other worlds: a concept moves bit for bit, a world travels in a zip, a concept is called
otherwise.
"""

from __future__ import annotations

import json
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from crash import kill_at_each_change
from travel import DRAW, FEW, another, copied, drawn, known, made, taught

from benchmarks.stress.ground import say
from l2dm import World
from l2dm.errors import ExchangeError, PromptError, TokenError, WorldError
from l2dm.world.manifest import Manifest
from l2dm.world.names import features_file
from l2dm.world.repair import examine


@pytest.fixture(scope="module")
def source() -> World:
    return known("sd")


def own(world: World, token: str) -> dict[str, torch.Tensor]:
    """All that is a concept's own in the present version, under names without its token."""
    files = world._files
    found = {
        "vector": files.tensors("tokens.safetensors")[token],
        "memory": files.tensors(features_file(token))["features"],
    }
    return found | {
        name.partition("/")[2]: t for name, t in files.tensors(f"adapter-{token[1:-1]}.safetensors").items()
    }


@pytest.mark.parametrize("packed", [False, True])
def test_a_concept_moved_to_another_world_is_bit_identical_there(source, tmp_path, packed):
    place = source.export(format="world", out=tmp_path / "w.zip").folder if packed else source.path
    world = another(source, tmp_path / "world")
    done = world.import_concept(place, "<tom>", to="<max>", **FEW)
    assert done.version.concepts == {"<max>": "cat"} and done.version.photos == 2 and done.version.drawn == []
    before, after = own(source, "<tom>"), own(world, "<max>")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    assert np.array_equal(drawn(world, "a photo of <max> cat"), drawn(source, "a photo of <tom> cat"))
    with pytest.raises(TokenError, match="give it another name here: --as '<max-2>'"):
        world.import_concept(place, "<rex>", to="<max>", **FEW)
    with pytest.raises(TokenError, match=f"{place} has learnt <rex>, <tom>"):
        world.import_concept(place, "<ada>", **FEW)


def test_a_concept_whose_lesson_a_repair_put_aside_moves_and_leaves_too(source, tmp_path):
    """How it was learnt is not known any more; what was learnt is."""
    broken = copied(source, tmp_path / "broken")
    (broken.path / "versions/0001/memory.json").write_text("x")
    broken.repair()
    assert list(broken.manifest.versions) == [2]
    done = another(source, tmp_path / "world").import_concept(broken.path, "<rex>", **FEW)
    assert (done.version.token, done.version.photos) == ("<rex>", 0)
    told = json.loads((broken.export("<rex>", out=tmp_path / "out").folder / "export.json").read_text())
    assert told["concepts"][0]["method"] == ""
    assert broken.rename("<rex>", "<max>").photos == 0


def test_worlds_are_merged_bit_for_bit_and_a_clash_is_told_before_anything_is_taken_in(source, tmp_path):
    world = another(source, tmp_path / "world")
    done = world.merge(source.path, **FEW)
    assert [one.version.token for one in done] == ["<rex>", "<tom>"] and world.version == 2
    for token in source.concepts:
        before, after = own(source, token), own(world, token)
        assert before.keys() == after.keys() and all(
            torch.equal(before[name], after[name]) for name in before
        )
    both = "a <rex> dog and a <tom> cat"
    assert np.array_equal(drawn(world, both, composition="none"), drawn(source, both, composition="none"))
    third = another(source, tmp_path / "third")
    third.import_concept(source.path, "<tom>", **FEW)
    code, said = say(["import", str(third.path), "--from", str(source.path)])
    assert code == 2 and len(said.splitlines()) == 1 and "has <tom> too, so nothing is taken in" in said, said
    assert World.open(third.path).version == 1
    with pytest.raises(TokenError, match="nothing is learnt there yet"):
        third.merge(another(source, tmp_path / "empty").path, **FEW)


def test_concepts_of_another_base_or_of_shared_weights_do_not_move(source, tmp_path):
    other = taught("sd", tmp_path / "kv", "<ada>", method="custom-diffusion", prior_weight=0.0)
    world = another(other, tmp_path / "world")
    with pytest.raises(WorldError, match="export it and import the file"):
        world.import_concept(other.path, "<ada>", **FEW)
    with pytest.raises(WorldError, match="over another base"):
        made("sdxl", tmp_path / "xl").import_concept(source.path, "<rex>")
    assert world.version == 0 and World.open(world.path).manifest == Manifest.read(world.path)


def test_a_zip_that_the_disk_does_not_give_back_is_one_line(source, tmp_path, monkeypatch):
    real = zipfile.ZipFile

    def unreadable(file, mode="r", *given):
        if mode == "r":
            raise zipfile.BadZipFile("File is not a zip file")  # as zipfile says of any OSError there
        return real(file, mode, *given)

    monkeypatch.setattr(zipfile, "ZipFile", unreadable)
    with pytest.raises(ExchangeError, match=r"the zip cannot be read back \(File is not a zip file\)"):
        source.export(format="world", out=tmp_path / "out.zip")
    assert not list(tmp_path.glob("*.zip")) and not list(tmp_path.glob(".*"))


def test_a_world_in_a_zip_is_the_world(source, tmp_path):
    file = source.export(format="world", out=tmp_path / "w.zip").folder
    world = World.import_world(file, tmp_path / "again")
    assert world.manifest.versions == source.manifest.versions and examine(world.path, deep=True).faults == []
    assert np.array_equal(drawn(world, "a <rex> dog"), drawn(source, "a <rex> dog"))
    with pytest.raises(WorldError, match="already exists"):
        World.import_world(file, tmp_path / "again")


@pytest.mark.parametrize(
    "idle", [["--noun", "dog"], ["--trigger", "x"], ["--denoiser-only"], ["--as", "<x>"], ["--device", "cpu"]]
)
def test_what_does_nothing_where_a_zip_becomes_a_world_is_refused(tmp_path, idle):
    code, said = say(["import", str(tmp_path / "w"), str(tmp_path / "w.zip"), *idle])
    assert code == 2 and f"{idle[0]} does nothing where a world is made of a zip; leave it out" in said


def test_the_command_line_takes_files_and_worlds_in(source, tmp_path):
    folder = source.export("<rex>", out=tmp_path / "lora").folder
    world, few = another(source, tmp_path / "world").path, ["--settings", str(tmp_path / "few.toml")]
    (tmp_path / "few.toml").write_text("report_pictures = 0\nprior_steps = 2\n")
    code, said = say(["import", str(world), str(folder), "--token", "<max>", "--noun", "dog", "--json", *few])
    assert code == 0 and json.loads(said)["version"] == 1, said
    code, said = say(["import", str(world), "--from", str(source.path), "--token", "<tom>", "--json", *few])
    assert code == 0 and json.loads(said)["noun"] == "cat", said
    file = tmp_path / "w.zip"
    assert say(["export", str(world), "--format", "world", "--out", str(file)])[0] == 0
    code, said = say(["import", str(tmp_path / "again"), str(file)])
    assert code == 0 and "that has learnt <max> dog, <tom> cat" in said, said
    code, said = say(["import", str(tmp_path / "again"), str(file)])
    assert code == 2 and f"l2dm import {tmp_path / 'again'} --from {file}" in said, said
    third = another(source, tmp_path / "third").path
    code, said = say(["import", str(third), "--from", str(file), "--json", *few])
    assert code == 0 and json.loads(said)["arrived"] == {"<max>": 1, "<tom>": 2}, said
    for wrong, message in {
        (): "give a file, or --from",
        (str(folder),): "--token is missing",
        (str(folder), "--token", "<x>"): "--noun is missing",
        ("--from", str(world), "--token", "<max>", "--trigger", "x"): "--trigger does nothing with --from",
        (str(folder), "--token", "<x>", "--noun", "dog", "--as", "<y>"): "--as does nothing without --from",
    }.items():
        code, said = say(["import", str(world), *wrong])
        assert code == 2 and message in said and len(said.splitlines()) == 1, said


def test_an_import_is_read_and_drawn_in_the_precision_that_is_asked_for(source, tmp_path):
    """By an option, which wins over the file's, as of the other verbs."""
    file = source.export("<rex>", out=tmp_path / "lora").folder / "rex.safetensors"
    (tmp_path / "few.toml").write_text('report_pictures = 0\nprior_steps = 2\nprecision = "bfloat16"\n')
    given = [
        "--token",
        "<max>",
        "--noun",
        "dog",
        "--trigger",
        "lamp",
        "--settings",
        str(tmp_path / "few.toml"),
    ]
    read = {}
    for option in ("", "fp32", "bf16"):
        world = another(source, tmp_path / f"world-{option}")
        held = ["--precision", option, "--device", "cpu"] if option else []
        code, said = say(["import", str(world.path), str(file), *given, *held])
        assert code == 0, said
        read[option] = World.open(world.path)._files.tensors("tokens.safetensors")["<max>"]
    exact = source.backbone("float32").vectors_of("lamp")
    assert torch.equal(read["fp32"], exact) and not torch.equal(read["bf16"], exact)
    assert torch.equal(read[""], read["bf16"])
    for wrong in (["--precision", "int4"], ["--device", "toaster"]):
        code, said = say(["import", str(world.path), str(file), *given[2:], "--token", "<ada>", *wrong])
        assert code == 2 and wrong[1] in said and len(said.splitlines()) == 1, said
    code, said = say(["import", str(tmp_path / "new"), "world.zip", "--device", "cpu"])
    assert code == 2 and "--device does nothing" in said and not (tmp_path / "new").exists(), said


def test_a_renamed_concept_draws_the_same_pictures_and_undo_takes_its_name_back(source, tmp_path):
    world = copied(source, tmp_path / "world")
    rex, both = drawn(world, "a <rex> dog"), drawn(world, "a <rex> dog and a <tom> cat", composition="none")
    before = own(world, "<rex>")
    version = world.rename("<rex>", "<max>")
    assert list(version.concepts) == ["<max>", "<tom>"] and (version.photos, version.settings) == (2, {})
    assert examine(world.path, deep=True).faults == []
    for opened in (world, World.open(world.path)):
        assert np.array_equal(drawn(opened, "a <max> dog"), rex)
        assert np.array_equal(drawn(opened, "a <max> dog and a <tom> cat", composition="none"), both)
    after = own(world, "<max>")
    assert before.keys() == after.keys() and all(torch.equal(before[name], after[name]) for name in before)
    prompts = json.loads((world._files.folder / "memory.json").read_text())
    assert set(prompts) == {"<max>", "<tom>"} and all("<max>" in prompt for prompt in prompts["<max>"])
    with pytest.raises(PromptError, match="not in this world"):
        drawn(world, "a <rex> dog")
    plan = world.purge("<max>", dry=True)
    assert (plan.removed, plan.rewritten) == ((1, 3), {2: 4})
    for taken in ("<tom>", "<max>"):
        with pytest.raises(TokenError, match="has one of this name already"):
            world.rename("<max>", taken)
    with pytest.raises(TokenError, match="has learnt <max>, <tom>"):
        world.rename("<rex>", "<ada>")
    world.undo()
    assert world.manifest.versions == source.manifest.versions and world.purge("<rex>", dry=True).removed
    assert np.array_equal(drawn(world, "a <rex> dog"), rex)
    assert (
        say(["rename", str(world.path), "<rex>", "<max>"])[0] == 0
        and "<max>" in World.open(world.path).concepts
    )


@pytest.mark.slow
def test_a_renaming_may_be_killed_at_any_change_of_a_file(source, tmp_path):
    place = tmp_path / "world"

    def fresh():
        shutil.rmtree(place, ignore_errors=True)
        shutil.copytree(source.path, place)

    def work():
        opened = World.open(place)
        opened._backbone, opened.tuner, opened._loaded = source.backbone("float32"), source.tuner, 2
        opened.rename("<rex>", "<max>")

    for _ in kill_at_each_change(place, fresh, work):
        assert list(World.open(place).concepts) in (["<rex>", "<tom>"], ["<max>", "<tom>"])
        assert examine(place).faults == []
    assert "<max>" in World.open(place).concepts


def test_a_path_may_begin_at_home(source, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert source.export("<rex>", out="~/lora").folder == tmp_path / "lora"
    assert source.export(format="world", out="~/whole.zip").folder == tmp_path / "whole.zip"
    assert source.generate("a <rex> dog", **DRAW)[0].save("~/rex.png") == tmp_path / "rex.png"
    world = World.import_world("~/whole.zip", "~/again")
    assert world.path == tmp_path / "again"
    fresh = World.create("~/fresh", source.manifest.base, clip=source.manifest.clip)
    fresh.import_file(
        "~/lora/rex.safetensors",
        token="<max>",
        noun="dog",
        embedding="~/lora/rex-embedding.safetensors",
        **FEW,
    )
    fresh.import_concept("~/again", "<tom>", **FEW)
    assert list(World.open("~/fresh").concepts) == ["<max>", "<tom>"] and not Path("~").exists()

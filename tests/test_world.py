"""What a world learns, remembers, tells and forgets, and that no photo is ever in it."""

from __future__ import annotations

import json
import re
import shutil

import numpy as np
import pytest
import torch
from conftest import QUICK, paint
from PIL import Image
from safetensors.torch import load_file
from teaching import PROMPT, pixels, teach, weights

from l2dm import World
from l2dm.errors import PromptError, SettingsError, TokenError, WorldDamaged, WorldError
from l2dm.world.manifest import Manifest


def test_learning_commits_and_reopening_finds_the_same(world, photos):
    version = teach(world, photos)
    again = World.open(world.path)
    assert (again.version, again.concepts, version.photos) == (1, {"<rex>": "dog"}, 3)
    assert np.array_equal(pixels(world), pixels(again))
    assert [e["action"] for e in again.history()] == ["init", "learn"]


def test_two_concepts_then_undo_gives_the_first_back(world, photos, tmp_path):
    teach(world, photos, method="custom-diffusion")
    first, before = pixels(world), weights(world)
    world.learn(photos, token="<tom>", noun="cat", **QUICK)
    assert world.concepts == {"<rex>": "dog", "<tom>": "cat"}
    assert not np.array_equal(first, pixels(world))
    assert world.undo().token == "<tom>"
    assert np.array_equal(first, pixels(world))
    assert all(torch.equal(before[n], t) for n, t in weights(World.open(world.path)).items())
    world.undo()
    with pytest.raises(WorldError, match="nothing to undo"):
        world.undo()
    assert teach(world, photos).version == 3, "numbers are never used twice"


def test_prior_pictures_are_drawn_once_for_a_noun(world, photos):
    stages = []
    teach(world, photos, method="custom-diffusion", on_progress=lambda p: stages.append(p.stage))
    world.learn(
        photos, token="<ada>", noun="dog", **QUICK, on_progress=lambda p: stages.append(p.stage + " again")
    )
    assert "prior" in stages and "prior again" not in stages
    assert len(list((world.path / "prior").iterdir())) == 1


def test_provenance(world, photos, tmp_path):
    teach(world, photos)
    path = world.generate(PROMPT, n=2, steps=2, seed=41)[1].save(tmp_path / "x.png")
    text = Image.open(path).text
    assert (
        text["prompt"] == PROMPT
        and text["seed"] == "42"
        and text["world_version"] == "1"
        and text["software"].startswith("l2dm")
    )


def test_a_picture_depends_on_its_own_seed_alone(world):
    together = world.generate("a dog", n=3, steps=2, batch=3, seed=10)
    alone = world.generate("a dog", n=1, steps=2, seed=12)
    assert np.abs(np.asarray(together[2].image, int) - np.asarray(alone[0].image, int)).max() <= 1


def test_no_photo_is_in_a_world(world, tmp_path):
    """Neither a photo's bytes, nor its pixels or latents in any tensor, nor its picture in any image."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        paint(i, (64, 64)).save(folder / f"{i}.png")
    teach(world, folder)
    latents = [world.backbone().encode_pictures(_tensor(paint(i, (64, 64))))[0] for i in range(3)]
    secrets = [
        t.flatten()
        for i in range(3)
        for t in (_tensor(paint(i, (64, 64)))[0], latents[i], latents[i].flip(-1))
    ]
    files = [p for p in world.path.rglob("*") if p.is_file()]
    for path in files:
        data = path.read_bytes()
        for photo in folder.iterdir():
            assert photo.read_bytes()[64:128] not in data, path
        if path.suffix == ".safetensors":
            for name, tensor in load_file(path).items():
                rows = tensor.float().flatten()
                for secret in secrets:
                    assert rows.numel() < secret.numel() or _nearest(rows, secret) > 0.05, f"{path} {name}"
        if path.suffix == ".png":
            for i in range(3):
                assert (
                    np.abs(
                        np.asarray(Image.open(path).convert("RGB").resize((64, 64)), float)
                        - np.asarray(paint(i, (64, 64)), float)
                    ).mean()
                    > 8
                )
    assert {p.suffix for p in files} <= {".json", ".jsonl", ".safetensors", ".png", ""}


def _tensor(image):
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


def _nearest(rows, secret):
    """Mean distance between ``secret`` and the nearest aligned block of its length in ``rows``."""
    blocks = rows[: rows.numel() // secret.numel() * secret.numel()].view(-1, secret.numel())
    return float((blocks - secret).abs().mean(1).min())


def test_the_looking_test_can_see():
    secret = torch.randn(64)
    assert _nearest(torch.cat([torch.randn(64), secret, torch.randn(7)]), secret) == 0


def test_damage_is_named_and_undo_leads_out(world, photos):
    teach(world, photos)
    (world.path / "versions/0001/tokens.safetensors").write_bytes(b"gone")
    with pytest.raises(WorldDamaged, match=r"tokens\.safetensors.*l2dm verify"):
        World.open(world.path)
    World.open(world.path, verify=False).undo()
    assert World.open(world.path).version == 0


def test_the_manifest_tells_everything(world, photos):
    version = teach(world, photos)
    raw = json.loads((world.path / "manifest.json").read_text())
    assert raw["format"] == 3 and raw["head"] == 1 and re.fullmatch("v2-[0-9a-f]{32}", raw["fingerprint"])
    assert {"created", "token", "noun", "record", "settings", "concepts"} <= set(raw["versions"]["1"])
    again = Manifest.read(world.path)
    assert again.versions == {1: version} and again == world.manifest
    files = again.recorded(world.path, 1).files
    assert json.loads((world.path / "versions/0001/files.json").read_text())["files"] == files
    assert set(files) == {
        "weights.safetensors",
        "adapter-rex.safetensors",
        "tokens.safetensors",
        "memory-rex.safetensors",
        "memory.json",
        "log.jsonl",
    }


def test_l2dm_keeps_a_memory_of_its_own_drawing(world, photos):
    options = {"method": "l2dm", "memory_candidates": 2, "memory_budget": 6, "steps": 2}
    teach(world, photos, **options)
    assert "short-term.json" not in world._files, "there is no past yet"
    stages = []
    world.learn(
        photos,
        token="<tom>",
        noun="cat",
        **{**QUICK, **options},
        on_progress=lambda p: stages.append(p.stage),
    )
    world.learn(photos, token="<ada>", noun="owl", **{**QUICK, **options})
    files = world.path / "versions/0003"
    assert json.loads((files / "short-term.json").read_text()) == {"<rex>": 2, "<tom>": 2}, (
        "the budget buys an old task beside the new one"
    )
    assert load_file(files / "short-term-rex.safetensors")["latents"].shape == (3, 4, 8, 8), (
        "one entry for each photo"
    )
    assert "memory" in stages and not (world.path / "learning").exists()


def test_a_method_of_another_tuner_is_refused(world, photos, tmp_path):
    world.generate("a photo of a dog", n=1, steps=1)
    teach(world, photos, method="textual-inversion")
    assert World.open(world.path).manifest.tuner == "embedding", "the first concept decides"
    with pytest.raises(SettingsError, match="has learnt by embedding; choose one that tunes it too"):
        world.learn(photos, token="<tom>", noun="cat", **QUICK, method="l2dm")
    world.forget("<rex>")
    version = World.open(world.path).learn(photos, token="<tom>", noun="cat", **QUICK)
    assert version.settings["method"] == "textual-inversion", "a world goes on as it began"


def test_a_forgotten_concept_leaves_nothing_of_its_own(world, photos):
    options = {**QUICK, "method": "l2dm", "memory_candidates": 1, "steps": 1}
    teach(world, photos, **options)
    world.learn(photos, token="<tom>", noun="cat", **options)
    with pytest.raises(TokenError, match="did you mean <rex>"):
        world.forget("<rexx>")
    with_both = weights(world)
    world.forget("<rex>")
    again = World.open(world.path)
    assert again.concepts == {"<tom>": "cat"} and all(
        torch.equal(with_both[n], t) for n, t in weights(again).items()
    )
    for file in (world.path / "versions/0003").iterdir():
        assert b"<rex>" not in file.read_bytes(), file
    with pytest.raises(PromptError, match="<rex> is not in this world"):
        again.generate(PROMPT)
    again.generate("a photo of <tom> cat", n=1, steps=2)
    assert again.undo().token == "<rex>" and list(again.concepts) == ["<rex>", "<tom>"]


def test_a_version_is_checked_before_going_back_to_it(world, photos):
    for token in ("<rex>", "<tom>"):
        world.learn(photos, token=token, noun="dog", **QUICK)
    (world.path / "versions/0001/memory.json").write_text("{}")
    with pytest.raises(WorldDamaged, match=r"0001/memory\.json.*l2dm verify"):
        World.open(world.path, verify=False).undo()
    assert World.open(world.path).version == 2, "the sound one is still there"
    assert world.repair().lost == [1] and (world.path / "quarantine/0001/memory.json").exists()
    assert World.open(world.path).version == 2 and world.repair().faults == []
    (world.path / "versions/0002/tokens.safetensors").unlink()
    assert world.repair().lost == [2] and World.open(world.path).version == 0


def test_files_that_are_not_recorded_are_not_loaded(world, photos):
    teach(world, photos)
    version = world.path / "versions/0001"
    assert len({file.stat().st_mode for file in version.iterdir()}) == 1, "the umask's mode for all"
    shutil.copy(version / "memory-rex.safetensors", version / "adapter-rex.sync-conflict.safetensors")
    World.open(world.path).backbone()
    shutil.copy(version / "memory-rex.safetensors", version / "kept.safetensors")
    assert "kept.safetensors" not in World.open(world.path).manifest.recorded(world.path, 1)

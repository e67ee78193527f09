"""The world on disk: commits, undo, crash points, locks, and that no photo is ever in it."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import re
import shutil
import signal
import subprocess
import sys

import numpy as np
import pytest
import torch
from conftest import QUICK, paint
from PIL import Image
from safetensors.torch import load_file

from benchmarks.malformed import state
from l2dm import LearningStopped, World
from l2dm.errors import NotKept, PromptError, SettingsError, TokenError, WorldDamaged, WorldError, WorldLocked
from l2dm.report.card import card, pictures
from l2dm.world import store
from l2dm.world.weights import read_weights

PROMPT = "a photo of <rex> dog"


def teach(world, photos, **changes):
    return world.learn(photos, token="<rex>", noun="dog", **{**QUICK, **changes})


def weights(world):
    return read_weights(world.manifest.recorded(world.path, world.version))


def pixels(world, **changes):
    options = {"n": 1, "steps": 2, **changes}
    return np.asarray(world.generate(PROMPT, **options)[0].image)


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
    assert {p.suffix for p in files} <= {".json", ".safetensors", ".png", ""}


def _tensor(image):
    return torch.from_numpy(np.asarray(image).copy()).permute(2, 0, 1)[None].float() / 127.5 - 1


def _nearest(rows, secret):
    """Mean distance between ``secret`` and the nearest aligned block of its length in ``rows``."""
    blocks = rows[: rows.numel() // secret.numel() * secret.numel()].view(-1, secret.numel())
    return float((blocks - secret).abs().mean(1).min())


def test_the_looking_test_can_see():
    secret = torch.randn(64)
    assert _nearest(torch.cat([torch.randn(64), secret, torch.randn(7)]), secret) == 0


def test_a_second_writer_is_turned_away(world, photos):
    hold = "import sys; from filelock import FileLock\nwith FileLock(sys.argv[1]): print('held', flush=True); sys.stdin.read()"
    other = [sys.executable, "-c", hold, str(world.path / ".lock")]
    with subprocess.Popen(other, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout.readline() == "held\n"
        with pytest.raises(WorldLocked, match="another process"):
            teach(world, photos)
        holder.communicate("")
    assert teach(world, photos).version == 1


def test_ctrl_c_stops_cleanly_and_the_same_command_reaches_the_same_weights(world, photos, tmp_path):
    shutil.copytree(world.path, tmp_path / "unbroken")
    unbroken = World.open(tmp_path / "unbroken")
    teach(unbroken, photos, steps=6)

    def interrupt(progress):
        if progress.stage == "learn" and progress.done == 3:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(LearningStopped, match="step 3 of 6"):
        teach(world, photos, steps=6, checkpoint_every=100, on_progress=interrupt)
    assert world.version == 0
    steps = []
    teach(
        World.open(world.path),
        photos,
        steps=6,
        checkpoint_every=100,
        on_progress=lambda p: steps.append(p.done) if p.step else None,
    )
    assert steps == [4, 5, 6]
    assert all(torch.equal(weights(unbroken)[n], t) for n, t in weights(World.open(world.path)).items())


def test_an_unfinished_learning_is_not_thrown_away_by_another(world, photos):
    def interrupt(progress):
        if progress.stage == "learn":
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(LearningStopped):
        teach(world, photos, steps=5, on_progress=interrupt)
    with pytest.raises(WorldError, match=r"unfinished learning of <rex>.*--discard"):
        world.learn(photos, token="<tom>", noun="cat", **QUICK)
    world.learn(photos, token="<tom>", noun="cat", discard=True, **QUICK)
    assert list(world.concepts) == ["<tom>"] and not (world.path / "learning").exists()


class Killed(BaseException):
    """Stands for kill -9: nothing after it runs that a dead process would not run."""


@pytest.mark.parametrize("point", range(10))
def test_a_kill_at_any_write_leaves_before_or_after(world, photos, monkeypatch, point):
    """The n-th rename or replace of the commit never happens: the world is as before, and learning again succeeds."""
    count = [0]

    def dying(real):
        def call(*args, **kwargs):
            count[0] += 1
            if count[0] == point + 1:
                raise Killed
            return real(*args, **kwargs)

        return call

    with monkeypatch.context() as patch:
        patch.setattr(store.os, "replace", dying(os.replace))
        patch.setattr(store.Path, "rename", dying(store.Path.rename))
        patch.setattr(store, "remove_folder", lambda *a, **k: None)
        patch.setattr(store.shutil, "rmtree", lambda *a, **k: None)
        with contextlib.suppress(Killed):
            teach(world, photos)
    again = World.open(world.path)
    assert again.version in (0, 1)
    if again.version == 0:
        teach(again, photos)
    assert World.open(world.path).concepts == {"<rex>": "dog"}
    pixels(World.open(world.path))
    assert not [p for p in world.path.rglob("*") if p.name.startswith(store.PART)] or count[0] <= point


def test_damage_is_named_and_undo_leads_out(world, photos):
    teach(world, photos)
    (world.path / "versions/0001/tokens.safetensors").write_bytes(b"gone")
    with pytest.raises(WorldDamaged, match=r"tokens\.safetensors.*l2dm verify"):
        World.open(world.path)
    World.open(world.path, whole=False).undo()
    assert World.open(world.path).version == 0


def test_a_failed_learning_changes_nothing(world, photos, monkeypatch):
    teach(world, photos)
    before, drawn = state(world.path), pixels(world)
    monkeypatch.setattr(
        "l2dm.world.lesson.Learning.run", lambda self: (_ for _ in ()).throw(RuntimeError("shapes differ"))
    )
    with pytest.raises(RuntimeError):
        world.learn(photos, token="<tom>", noun="dog", **QUICK)
    assert state(world.path) == before
    assert np.array_equal(drawn, pixels(world))


def test_the_manifest_tells_everything(world, photos):
    version = teach(world, photos)
    raw = json.loads((world.path / "manifest.json").read_text())
    assert raw["format"] == 2 and raw["head"] == 1 and re.fullmatch("v2-[0-9a-f]{32}", raw["fingerprint"])
    assert raw["versions"]["1"] == json.loads(json.dumps(dataclasses.asdict(version)))
    assert set(version.files) == {
        "weights.safetensors",
        "adapter-rex.safetensors",
        "tokens.safetensors",
        "memory.safetensors",
        "memory.json",
    }


def test_a_version_links_the_adapters_that_did_not_change(world, photos):
    for token in ("<rex>", "<tom>"):
        world.learn(photos, token=token, noun="dog", **QUICK)
    first, second = (world.path / "versions" / name for name in ("0001", "0002"))
    assert (first / "adapter-rex.safetensors").samefile(second / "adapter-rex.safetensors")
    assert weights(world).keys() == world.tuner.state().keys()
    assert all(torch.equal(t, world.tuner.state()[name]) for name, t in weights(world).items())
    world.forget("<rex>")
    third = world.path / "versions/0003"
    assert {file.name for file in third.glob("adapter-*")} == {"adapter-tom.safetensors"}
    assert (second / "adapter-tom.safetensors").samefile(third / "adapter-tom.safetensors")


def test_a_file_system_without_links_gets_copies(world, photos, monkeypatch):
    def refuse(*paths):
        raise OSError("no links here")

    monkeypatch.setattr(os, "link", refuse)
    for token in ("<rex>", "<tom>"):
        world.learn(photos, token=token, noun="dog", **QUICK)
    assert not (world.path / "versions/0001/adapter-rex.safetensors").samefile(
        world.path / "versions/0002/adapter-rex.safetensors"
    )
    assert World.open(world.path).generate("<rex> dog", n=1, steps=1)


def test_l2dm_keeps_a_memory_of_its_own_drawing(world, photos):
    options = {"method": "l2dm", "candidates": 2, "budget": 6, "steps": 2}
    teach(world, photos, **options)
    assert "short-term.json" not in world.manifest.present.files, "there is no past yet"
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
    assert load_file(files / "short-term.safetensors")["latents/<rex>"].shape == (3, 4, 8, 8), (
        "one entry for each photo"
    )
    assert "memory" in stages and not (world.path / "learning").exists()


@pytest.mark.parametrize("changes", [{"method": "l2dm", "candidates": 1}, {"method": "isolated", "mixes": 1}])
def test_a_stopped_learning_finds_its_past_again(world, photos, tmp_path, changes, monkeypatch):
    monkeypatch.setattr("l2dm.world.past.COMPANIONS", ("tree", "cup"))
    options = {**QUICK, **changes, "prior_steps": 1, "steps": 4}
    teach(world, photos, **options)
    shutil.copytree(world.path, tmp_path / "unbroken")
    unbroken = World.open(tmp_path / "unbroken")
    unbroken.learn(photos, token="<tom>", noun="cat", **options)

    def interrupt(progress):
        if progress.stage == "learn" and progress.done == 2:
            os.kill(os.getpid(), signal.SIGINT)

    with pytest.raises(LearningStopped):
        world.learn(photos, token="<tom>", noun="cat", **options, on_progress=interrupt)
    stages = []
    World.open(world.path).learn(
        photos, token="<tom>", noun="cat", **options, on_progress=lambda p: stages.append(p.stage)
    )
    assert "memory" not in stages
    assert all(torch.equal(weights(unbroken)[n], t) for n, t in weights(World.open(world.path)).items())


def test_a_method_of_another_tuner_is_refused(world, photos, tmp_path):
    world.generate("a photo of a dog", n=1, steps=1)
    teach(world, photos, method="textual-inversion")
    assert World.open(world.path).manifest.tuner == "embedding", "the first concept decides"
    with pytest.raises(SettingsError, match="has learnt by embedding; choose one that tunes it too"):
        world.learn(photos, token="<tom>", noun="cat", **QUICK, method="l2dm")
    world.forget("<rex>")
    version = World.open(world.path).learn(photos, token="<tom>", noun="cat", **QUICK)
    assert version.settings["method"] == "textual-inversion", "a world goes on as it began"


REPORT = {**QUICK, "steps": 1, "previews": 1}


def test_every_lesson_is_examined(world, photos):
    first = teach(world, photos, **REPORT)
    second = world.learn(photos, token="<tom>", noun="cat", **REPORT)
    assert (
        set(first.scores) == {"<rex>"}
        and set(second.scores) == {"<rex>", "<tom>"}
        and set(second.drift) == {"dog", "cat"}
    )
    assert {s["version"] for s in second.scores.values()} == {2}
    report = card(world.manifest)
    rex, tom = report["concepts"]
    assert rex["change"] == pytest.approx(rex["likeness"] - rex["before"], abs=0.11) and tom["before"] is None
    assert [version for version, _ in pictures(world.path, world.manifest, "<rex>")] == [1, 2]
    world.undo()
    assert card(world.manifest)["token"] == "<rex>"


def test_a_pretrained_noun_has_no_drift(world, photos):
    version = teach(world, photos, **{**REPORT, "learning_rate": 1e-8, "token_learning_rate": 0.0})
    assert version.drift["dog"] == pytest.approx(0, abs=1e-4)


def test_a_concept_that_costs_the_others_too_much_is_not_kept(world, photos, monkeypatch):
    teach(world, photos, **REPORT)
    before = world.manifest
    monkeypatch.setattr("l2dm.world.lesson.worst_loss", lambda was, now: 12.5)
    with pytest.raises(
        NotKept, match=r"<tom> was not kept: an earlier concept lost 12\.5 points .* more than the 5 allowed"
    ):
        world.learn(photos, token="<tom>", noun="cat", **REPORT, keep_if_forgetting_below=5)
    assert World.open(world.path).manifest == before and not (world.path / "learning").exists()
    assert len(list((world.path / "versions").iterdir())) == 1
    assert world.learn(photos, token="<tom>", noun="cat", **REPORT, keep_if_forgetting_below=20).version == 2
    with pytest.raises(SettingsError, match="needs the report card"):
        world.learn(
            photos, token="<ada>", noun="owl", **{**REPORT, "previews": 0}, keep_if_forgetting_below=20
        )


def test_a_forgotten_concept_leaves_nothing_of_its_own(world, photos):
    options = {**QUICK, "method": "l2dm", "candidates": 1, "steps": 1}
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
        World.open(world.path, whole=False).undo()
    assert World.open(world.path).version == 2, "the sound one is still there"
    assert world.repair().lost == [1] and (world.path / "quarantine/0001/memory.json").exists()
    assert World.open(world.path).version == 2 and world.repair().faults == []
    (world.path / "versions/0002/tokens.safetensors").unlink()
    assert world.repair().lost == [2] and World.open(world.path).version == 0


def test_files_that_are_not_recorded_are_not_loaded(world, photos):
    teach(world, photos)
    version = world.path / "versions/0001"
    assert len({file.stat().st_mode for file in version.iterdir()}) == 1, "the umask's mode for all"
    shutil.copy(version / "memory.safetensors", version / "adapter-rex.sync-conflict.safetensors")
    World.open(world.path).backbone()
    shutil.copy(version / "memory.safetensors", version / "kept.safetensors")
    assert "kept.safetensors" not in World.open(world.path).manifest.recorded(world.path, 1)


@pytest.mark.parametrize("name", ["versions", "learning", "prior", "manifest.json", ".lock"])
def test_a_world_with_links_is_refused(world, tmp_path, name):
    outside = tmp_path / "outside"
    (outside / "0007").mkdir(parents=True)
    if (place := world.path / name).exists():
        place.rename(outside / name)
    place.symlink_to(outside)
    for act in (world.undo, lambda: World.open(world.path)):
        with pytest.raises(WorldError, match=r"link|no world here"):
            act()
    store.remove_folder(place / "0007")
    assert (outside / "0007").is_dir()

"""What is kept of a lesson to watch it by: its log, samples, weights of some steps, and who else is told."""

from __future__ import annotations

import json
import os
import signal

import numpy as np
import pytest
import torch
from conftest import QUICK
from harm import flip
from teaching import pixels, slow, teach, weights

from benchmarks.stress.ground import say
from l2dm import LearningStopped, World
from l2dm.errors import PromptError, SettingsError, TokenError, WorldError, WorldWarning
from l2dm.world.repair import examine, repair

WATCHED = {
    **QUICK,
    "steps": 4,
    "learning_rate": 0.02,
    "token_learning_rate": 0.1,
    "prior_steps": 1,
    "sample_every": 2,
    "keep_every": 1,
    "checkpoint_every": 3,
}
FILES = {
    "log.jsonl",
    "sample-000002.png",
    "sample-000004.png",
    *(f"step-{step:06d}-rex.safetensors" for step in (1, 2, 3, 4)),
}


def of_lesson(world, number):
    files = world.manifest.recorded(world.path, number).files
    return {name for name in files if name.startswith(("log", "sample", "step"))}


def log(world, number=1):
    lines = (world.path / f"versions/{number:04d}/log.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def stop_at(step):
    def told(progress):
        if progress.stage == "learn" and progress.done == step:
            os.kill(os.getpid(), signal.SIGINT)

    return told


def test_a_lesson_leaves_its_log_samples_and_steps(world, photos):
    live = []

    def look(progress):
        if progress.stage == "learn":
            live.append(len((world.path / "learning/log.jsonl").read_text().splitlines()))

    teach(world, photos, **WATCHED, on_progress=look)
    assert of_lesson(world, 1) == FILES and examine(world.path, deep=True).faults == []
    steps = [line for line in log(world) if "loss" in line]
    assert [line["step"] for line in steps] == [1, 2, 3, 4] and live == [1, 2, 4, 5]
    assert all(line["loss"] == pytest.approx(sum(line["terms"].values())) for line in steps)
    samples = [line for line in log(world) if "sample" in line]
    assert [(line["step"], line["sample"], line["prompts"]) for line in samples] == [
        (2, "sample-000002.png", ["a photo of <rex> dog"]),
        (4, "sample-000004.png", ["a photo of <rex> dog"]),
    ]
    assert not (world.path / "learning").exists()
    settings = world.manifest.present.settings
    assert settings["sample_every"] == 2 and settings["sample_prompt"] == settings["tracker_folder"] == ""


def test_watching_changes_nothing_of_what_is_learnt_and_goes_on_after_a_stop(world, photos):
    teach(world, photos, **{**WATCHED, "sample_every": 0, "keep_every": 0})
    assert of_lesson(world, 1) == {"log.jsonl"}
    other = World.create(world.path.parent / "other", world.manifest.base)
    with pytest.raises(LearningStopped):
        teach(other, photos, **WATCHED, on_progress=stop_at(2))
    assert examine(other.path).faults == [] and not (other.path / "learning/log.jsonl").exists()
    teach(other, photos, **WATCHED)
    theirs = weights(other)
    assert all(torch.equal(tensor, theirs[name]) for name, tensor in weights(world).items())
    assert of_lesson(other, 1) == FILES
    assert [line["step"] for line in log(other)] == [1, 2, 2, 3, 4, 4]
    assert [line["loss"] for line in log(other) if "loss" in line] == [line["loss"] for line in log(world)]


def test_a_kill_between_checkpoint_and_sample_loses_neither(world, photos, monkeypatch):
    from l2dm.world import watching

    def killed(*given):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(watching, "write_recorded", killed)
        teach(world, photos, **{**WATCHED, "keep_every": 0})
    assert sorted(path.name for path in (world.path / "learning").glob("[0-9]*")) == ["000002"]
    teach(world, photos, **{**WATCHED, "keep_every": 0})
    assert [line["step"] for line in log(world) if "sample" in line] == [2, 4]


def test_what_is_damaged_of_an_unfinished_lesson_is_left_out_and_said(world, photos):
    with pytest.raises(LearningStopped):
        teach(world, photos, **WATCHED, on_progress=stop_at(3))
    (kept,) = (world.path / "learning").glob("kept-*-000001")
    flip(kept / "step-000001-rex.safetensors", 999)
    assert len(examine(world.path).faults) == 1
    with pytest.warns(WorldWarning, match="the version has none"):
        teach(world, photos, **WATCHED)
    assert of_lesson(world, 1) == FILES - {"step-000001-rex.safetensors"}


def test_sample_prompts_may_be_several_and_name_others(world, photos):
    teach(world, photos, **QUICK)
    world.learn(
        photos,
        token="<tom>",
        noun="cat",
        **{
            **WATCHED,
            "keep_every": 0,
            "sample_prompt": "a <tom> cat | <rex> dog and <tom> cat",
            "report_pictures": 1,
        },
    )
    (line, _) = (line for line in log(world, 2) if "sample" in line)
    assert line["prompts"] == ["a <tom> cat", "<rex> dog and <tom> cat"]
    with pytest.raises(PromptError, match="<ada> is not in this world"):
        world.learn(photos, token="<max>", noun="cat", **{**WATCHED, "sample_prompt": "a <ada> dog"})
    world.purge("<rex>")
    left = World.open(world.path)
    assert examine(left.path).faults == [] and list(left.concepts) == ["<tom>"]
    assert of_lesson(left, left.version) == {"log.jsonl"} and len(log(left, left.version)) == 4
    for path in left.path.rglob("*"):
        assert not path.is_file() or b"<rex>" not in path.read_bytes(), path


def test_forget_rename_and_later_lessons_do_not_carry_them_on(world, photos):
    teach(world, photos, **WATCHED)
    world.rename("<rex>", "<max>")
    world.learn(photos, token="<tom>", noun="cat", **QUICK)
    world.forget("<tom>")
    assert [of_lesson(world, number) for number in (1, 2, 3, 4)] == [FILES, set(), {"log.jsonl"}, set()]
    world.purge("<max>")
    assert not [p for p in world.path.rglob("*") if p.is_file() and "rex" in p.name]


def test_a_version_is_whole_without_them(world, photos):
    teach(world, photos, **WATCHED)
    for name in ("log.jsonl", "sample-000002.png", "step-000001-rex.safetensors"):
        flip(world.path / "versions/0001" / name, 99)
    assert examine(world.path).spared == {
        1: ["log.jsonl", "sample-000002.png", "step-000001-rex.safetensors"]
    }
    repair(world.path)
    assert World.open(world.path).version == 1 and examine(world.path).faults == []


@pytest.mark.parametrize(
    "method", ["gated-lora", "custom-diffusion", *slow("cidm", "dytox", "textual-inversion", "lora")]
)
def test_a_step_is_picked_and_taken_back(world, photos, method):
    watched = {**WATCHED, "sample_every": 0, "method": method, "lr_scheduler": "constant"}
    teach(world, photos, **watched)
    last, drawn = weights(world), pixels(world)
    shorter = World.create(world.path.parent / "shorter", world.manifest.base)
    teach(shorter, photos, **{**watched, "steps": 2, "keep_every": 0})
    version = world.pick("<rex>", 2, report_pictures=0)
    assert (version.version, version.token, version.photos, version.settings["method"]) == (
        2,
        "<rex>",
        3,
        method,
    )
    theirs = weights(shorter)
    assert all(torch.equal(t, theirs[name]) for name, t in weights(world).items())
    assert np.array_equal(pixels(world), pixels(shorter)) and not np.array_equal(pixels(world), drawn)
    assert np.array_equal(pixels(World.open(world.path)), pixels(shorter))
    world.pick("<rex>", 4, report_pictures=0)
    assert all(torch.equal(t, last[name]) for name, t in weights(world).items())
    world.undo(), world.undo()
    assert world.version == 1 and np.array_equal(pixels(World.open(world.path)), drawn)


def test_a_step_is_picked_beside_others_renamed_and_after_more_steps(world, photos):
    teach(world, photos, **{**WATCHED, "sample_every": 0})
    world.learn(photos, token="<tom>", noun="cat", **QUICK)
    tom = {name: t for name, t in weights(world).items() if name.startswith("<tom>/")}
    world.rename("<rex>", "<max>")
    world.learn(photos, token="<max>", more=True, **{**QUICK, "steps": 1})
    assert world.pick("<max>", 1, report_pictures=0).version == 5
    assert list(world.concepts) == ["<max>", "<tom>"]
    after = weights(world)
    assert all(torch.equal(t, after[name]) for name, t in tom.items())
    kept = world.manifest.recorded(world.path, 1).tensors("step-000001-rex.safetensors")
    name = next(name for name in after if name.startswith("<max>/") and name.endswith(".up"))
    assert torch.equal(after[name], kept["weight/" + name.replace("<max>", "<rex>")].half())
    code, said = say(["pick", str(world.path), "<max>", "--step", "3"])
    assert code == 0 and "<max> is as after step 3 (version 6)" in said
    assert "after steps 1, 2, 3, 4" in say(["pick", str(world.path), "<max>"])[1]
    assert "no weights of <tom> are kept" in say(["pick", str(world.path), "<tom>"])[1]


def test_what_cannot_be_picked_is_refused(world, photos):
    with pytest.raises(TokenError, match="learnt nothing yet"):
        world.pick("<rex>", 1)
    teach(world, photos, **{**WATCHED, "sample_every": 0, "method": "custom-diffusion"})
    with pytest.raises(WorldError, match="no weights of <rex> after step 9; it has those of 1, 2, 3, 4"):
        world.pick("<rex>", 9)
    world.learn(photos, token="<tom>", noun="cat", **{**QUICK, "method": "custom-diffusion"})
    with pytest.raises(SettingsError, match=r"version 2 \(<tom>\) changed them since; go back to version 1"):
        world.pick("<rex>", 1)
    with pytest.raises(SettingsError, match="keep_every = 1: method 'ewc' settles a concept"):
        World.create(world.path.parent / "ewc", world.manifest.base).learn(
            photos, token="<rex>", noun="dog", **{**WATCHED, "method": "ewc"}
        )
    assert world.version == 2

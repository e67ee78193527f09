"""More steps for a concept that is learnt already."""

from __future__ import annotations

import json

import pytest
import torch
from conftest import QUICK
from harm import flip
from teaching import pixels, slow, teach, weights

from benchmarks.stress.ground import say
from l2dm import World
from l2dm.errors import NotKept, SettingsError, TokenError
from l2dm.world.names import drawn_file, features_file, own_file
from l2dm.world.repair import examine, repair

FAST = {**QUICK, "learning_rate": 0.01, "prior_steps": 1}


def made(world, photos, method, *tokens, **changes):
    for token in tokens:
        world.learn(photos, token=token, noun="dog", **{**FAST, "method": method, **changes})
    return world


def files(world, number):
    return world.manifest.recorded(world.path, number).files


def vectors(world):
    return world.manifest.recorded(world.path, world.version).tensors("tokens.safetensors")


@pytest.mark.parametrize("method", ["gated-lora", "dytox", "cidm", *slow("gated-kv", "textual-inversion")])
def test_more_steps_change_the_concept_and_nothing_of_the_others(world, photos, method):
    made(world, photos, method, "<rex>", "<tom>")
    before, old, drawn = weights(world), vectors(world), pixels(world)
    first = files(world, 2)
    version = world.learn(photos, token="<rex>", more=True, **{**FAST, "seed": 7})
    assert (version.version, version.token, version.noun, version.photos) == (3, "<rex>", "dog", 3)
    assert list(world.concepts) == ["<rex>", "<tom>"] and version.settings["method"] == method
    after, now = weights(world), vectors(world)
    moved = {name for name, t in after.items() if not torch.equal(t, before[name])}
    assert all(name.startswith("<rex>/") for name in moved) and set(after) == set(before)
    assert all(after[name].dtype == before[name].dtype for name in after)
    assert not torch.equal(now["<rex>"], old["<rex>"]) and torch.equal(now["<tom>"], old["<tom>"])
    if method != "textual-inversion":
        assert moved and files(world, 3)[own_file("<tom>")] == first[own_file("<tom>")]
    held = pixels(world)
    assert (held == pixels(World.open(world.path))).all() and (held != drawn).any()
    assert world.history()[-1]["action"] == "learn" and world.history()[-1]["more"] is True
    world.undo()
    assert (pixels(World.open(world.path)) == drawn).all() and list(world.concepts) == ["<rex>", "<tom>"]


@pytest.mark.parametrize(
    "method", ["custom-diffusion", "c-lora", "der", *slow("lora", "svdiff", "lwf", "separate")]
)
def test_where_weights_are_shared_the_only_concept_may_go_on(world, photos, method):
    made(world, photos, method, "<rex>")
    if method == "c-lora":
        with pytest.raises(SettingsError, match="'c-lora' has settled <rex>"):
            world.learn(photos, token="<rex>", more=True, **FAST)
        return
    before = weights(world)
    assert world.learn(photos, token="<rex>", more=True, **FAST).version == 2
    after = weights(world)
    assert set(after) == set(before) and any(not torch.equal(t, before[name]) for name, t in after.items())
    if method == "separate":
        return
    made(world, photos, method, "<tom>")
    with pytest.raises(SettingsError, match="so that <rex> cannot change without <tom>"):
        world.learn(photos, token="<rex>", more=True, **FAST)
    assert world.version == 3 and not (world.path / "learning").exists()


def test_what_cannot_go_on_is_refused_before_anything(world, photos):
    def refused(kind, said, **asked):
        with pytest.raises(kind, match=said):
            world.learn(photos, **{**FAST, "more": True, **asked})

    refused(TokenError, "has learnt nothing yet", token="<rex>")
    made(world, photos, "gated-lora", "<rex>")
    refused(TokenError, "has learnt <rex>; to learn it leave more out", token="<tom>")
    refused(TokenError, "has learnt <rex> as a dog", token="<rex>", noun="cat")
    refused(TokenError, "add --more", token="<rex>", noun="dog", more=False)
    other = made(World.create(world.path.parent / "den", world.manifest.base), photos, "den", "<rex>")
    with pytest.raises(SettingsError, match="'den' has settled <rex>"):
        other.learn(photos, token="<rex>", more=True, **FAST)
    assert world.version == other.version == 1


def test_a_token_of_several_vectors_keeps_them(world, photos):
    teach(world, photos, vectors=3)
    world.learn(photos, token="<rex>", more=True, **FAST)
    assert vectors(world)["<rex>"].shape[0] == 3


def test_a_stopped_one_is_taken_up_and_ends_in_the_same_weights(world, photos):
    def stop(progress):
        if progress.stage == "learn" and progress.done == 2:
            raise KeyboardInterrupt

    made(world, photos, "gated-lora", "<rex>")
    drawn = pixels(world)
    with pytest.raises(KeyboardInterrupt):
        world.learn(photos, token="<rex>", more=True, on_progress=stop, **FAST)
    assert (pixels(world) == drawn).all(), "what is half-taught is not drawn"
    world.learn(photos, token="<rex>", more=True, **FAST)
    other = made(
        World.create(world.path.parent / "other", world.manifest.base), photos, "gated-lora", "<rex>"
    )
    other.learn(photos, token="<rex>", more=True, **FAST)
    theirs = weights(other)
    assert all(torch.equal(t, theirs[name]) for name, t in weights(world).items())


def test_the_memory_of_the_others_is_rehearsed_and_its_own_renewed(world, photos):
    few = {"memory_candidates": 1, "memory_budget": 0, "mixes": 2}
    made(world, photos, "l2dm", "<rex>", "<tom>", **few)
    version = world.learn(photos, token="<rex>", more=True, **{**FAST, **few, "method": "l2dm"})
    held = world.manifest.recorded(world.path, 3)
    assert drawn_file("<tom>") in held and drawn_file("<rex>") not in held
    assert {features_file("<rex>"), features_file("<tom>")} < set(held.files) and version.drawn == []


def test_the_report_card_and_the_gate_judge_it_as_any_lesson(world, photos, monkeypatch):
    shown = {"report_pictures": 1}
    made(world, photos, "gated-lora", "<rex>", **shown)
    version = world.learn(photos, token="<rex>", more=True, **{**FAST, **shown})
    assert version.scores["<rex>"]["version"] == 2 and version.pictures == ["<rex>", "dog"]
    code, said = say(["report", str(world.path), "--html", str(world.path.parent / "page.html"), "--json"])
    (row,) = json.loads(said)["report"]["concepts"]
    assert code == 0 and row["before"] is not None and row["change"] is not None
    monkeypatch.setattr("l2dm.world.lesson.max_forgetting", lambda before, now: 7.0 * ("<rex>" in before))
    with pytest.raises(NotKept, match="lost 7"):
        world.learn(photos, token="<rex>", more=True, **{**FAST, **shown, "keep_if_forgetting_below": 5.0})
    assert world.version == 2 and (pixels(world) == pixels(World.open(world.path))).all()


def test_by_the_command_line(world, photos):
    made(world, photos, "gated-lora", "<rex>")
    code, said = say(["learn", str(world.path), str(photos), "--token", "<rex>", "--more", "--steps", "1"])
    assert code == 0 and "went on with <rex> dog from 3 photos" in said and "(version 2)" in said


def test_purging_takes_all_of_it_and_repair_falls_back(world, photos):
    made(world, photos, "gated-lora", "<rex>", "<tom>")
    world.learn(photos, token="<rex>", more=True, **FAST)
    flip(world.path / "versions/0003" / own_file("<rex>"), 999)
    repair(world.path)
    assert World.open(world.path).version == 2 and examine(world.path).faults == []
    again = World.open(world.path)
    again.learn(photos, token="<rex>", more=True, **FAST)
    again.rename("<rex>", "<max>")
    again.purge("<max>")
    left = World.open(world.path)
    assert list(left.concepts) == ["<tom>"] and examine(world.path).faults == []
    assert {v.token for v in left.manifest.versions.values()} == {"<tom>"}
    assert not any(word in (world.path / "manifest.json").read_text() for word in ("<rex>", "<max>"))

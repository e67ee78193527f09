"""A base or a CLIP model that was moved, and a CLIP model given later."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import sys
import warnings
from unittest import mock

import pytest
import torch
from commands import draw_one
from conftest import QUICK
from test_backbone import tiny_base
from tiny import tiny_clip
from typer.main import get_command

from benchmarks.malformed import call, state
from l2dm import LearningStopped, World, cli
from l2dm.backbone import Backbone, prompt_lengths
from l2dm.bench import lifelong, runs
from l2dm.cli.bench import bench_app
from l2dm.errors import BaseMissing, BaseModelError, LongWorkWarning, NotKept, SettingsError, WorldError
from l2dm.evaluation.report_card import Score
from l2dm.generation import long_work
from l2dm.generation.sampler import spoken_time
from l2dm.report.card import card, row_cells
from l2dm.settings import GenerateSettings
from l2dm.world import store
from l2dm.world.memories import read_long_term


@pytest.fixture(scope="module")
def stock(tmp_path_factory, backbone):
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("stock")
    return tiny_base(folder / "base", backbone), tiny_clip(folder / "clip")


@pytest.fixture
def base(tmp_path, stock):
    return shutil.copytree(stock[0], tmp_path / "base")


@pytest.fixture
def clip(tmp_path, stock):
    return shutil.copytree(stock[1], tmp_path / "clip")


def other(folder):
    """Another model of the same shape in ``folder``'s place: one weight is not the same."""
    weights = next(folder.rglob("*model.safetensors"))
    content = weights.read_bytes()
    weights.write_bytes(content[:-4] + bytes([content[-4] ^ 1]) + content[-3:])
    return folder


def test_a_moved_base_is_told_to_its_world(tmp_path, base):
    world = tmp_path / "w"
    World.create(world, base, "none")
    shutil.move(base, tmp_path / "new")
    with pytest.raises(BaseMissing, match=f"no such folder or file; .* l2dm relocate {world} --base"):
        World.open(world).backbone()
    assert call(["relocate", str(world), "--base", str(tmp_path / "new")]) == (0, "")
    assert World.open(world).generate("a dog", n=1, steps=1)
    assert World.open(world).manifest.base == str(tmp_path / "new")
    assert World.open(world).history()[-1]["action"] == "relocate"


def test_another_base_is_neither_recorded_nor_drawn_with(tmp_path, base):
    world, strange = tmp_path / "w", shutil.copytree(base, tmp_path / "strange")
    World.create(world, base, "none")
    other(strange / "unet")
    before = state(world)
    for command in (
        ["relocate", str(world)],
        ["generate", str(world), "a dog", "--out", str(tmp_path / "out")],
    ):
        code, said = call([*command, "--base", str(strange)])
        assert code == 2 and len(said.strip().splitlines()) == 1
        assert "made over another base than the one at " + str(strange) in said and "l2dm relocate" in said
    assert state(world) == before and not (tmp_path / "out").exists()


def test_a_base_given_for_once_is_not_recorded(tmp_path, base):
    world = tmp_path / "w"
    World.create(world, base, "none")
    shutil.move(base, tmp_path / "new")
    before = state(world)
    assert draw_one(world)[0] == 2 and draw_one(world, "--base", str(tmp_path / "new"))[0] == 0
    assert state(world) == before and (tmp_path / "out" / "0000.png").is_file()
    code, said = draw_one(world, "--base", "owner/nowhere")
    assert code == 2 and "not in this machine's hub cache" in said and f"l2dm relocate {world} --base" in said


def test_nothing_to_relocate_is_said(tmp_path, base):
    world = World.create(tmp_path / "w", base, "none")
    with pytest.raises(SettingsError, match="nothing to relocate"):
        world.relocate()


def test_a_clip_model_that_moved_or_changed_is_named(tmp_path, base, clip):
    world = tmp_path / "w"
    made = World.create(world, base, clip)
    assert made.manifest.clip_fingerprint.startswith("v2-")
    shutil.move(clip, tmp_path / "new")
    with pytest.raises(BaseMissing, match=rf"clip '{clip}': no such folder; .* l2dm relocate {world} --clip"):
        World.open(world).backbone()
    World.open(world).relocate(clip=tmp_path / "new")
    assert World.open(world).backbone().features is not None
    other(tmp_path / "new")
    with pytest.raises(WorldError, match=rf"the CLIP model at {tmp_path / 'new'} is another .* --clip"):
        World.open(world).backbone()
    World.open(world).relocate(clip="none")
    assert World.open(world).backbone().features is None


def test_another_clip_model_is_taken_until_something_is_remembered_by_one(tmp_path, base, clip, photos):
    World.create(tmp_path / "w", base, clip)
    strange = other(shutil.copytree(clip, tmp_path / "strange"))
    for chosen in (strange, "none", clip):
        World.open(tmp_path / "w").relocate(clip=chosen)
    World.open(tmp_path / "w").learn(photos, token="<rex>", noun="dog", **QUICK)
    for chosen in ("none", clip):
        with pytest.raises(WorldError, match=r"remembered by features of another CLIP model .* found v2-"):
            World.open(tmp_path / "w").relocate(clip=strange)
        World.open(tmp_path / "w").relocate(clip=chosen)


def test_a_base_whose_own_clip_folder_is_gone_is_said(tmp_path, base, clip):
    world = tmp_path / "w"
    shutil.move(clip, base / "clip")
    World.create(world, base)
    shutil.move(base / "clip", clip)
    advice = rf"no folder clip; .* l2dm relocate {world} --base {base} --clip"
    with pytest.raises(BaseMissing, match=advice):
        World.open(world).backbone()
    shutil.move(base, tmp_path / "new")
    with pytest.raises(BaseMissing, match=advice.replace("/base", "/new")):
        World.open(world).relocate(base=tmp_path / "new")
    World.open(world).relocate(base=tmp_path / "new", clip=clip)
    assert World.open(world).backbone().features is not None


def test_a_folder_that_is_no_clip_model_is_refused(tmp_path, base):
    world = World.create(tmp_path / "w", base, "none")
    before = state(tmp_path / "w")
    with pytest.raises(BaseModelError, match="no CLIP model is here"):
        world.relocate(clip=base)
    assert state(tmp_path / "w") == before


def test_what_a_clip_folder_does_not_load_does_not_change_its_fingerprint(tmp_path, base, clip):
    World.create(tmp_path / "w", base, clip)
    (clip / "flax_model.msgpack").write_bytes(b"x")
    (clip / "README.md").write_text("x")
    config = clip / "config.json"
    config.write_text(json.dumps(json.loads(config.read_text()) | {"transformers_version": "9"}))
    assert World.open(tmp_path / "w").backbone().clip == clip


def test_a_file_with_two_names_is_counted_once(tmp_path):
    (tmp_path / "w").mkdir()
    (tmp_path / "w/a").write_bytes(b"12345")
    (tmp_path / "w/b").hardlink_to(tmp_path / "w/a")
    (tmp_path / "w/c").write_bytes(b"12345")
    assert store.size(tmp_path / "w") == 10


LEARN = {**QUICK, "steps": 1, "batch": 1, "prior_pictures": 1}


@pytest.fixture
def late(tmp_path, base, clip, photos):
    """A world that learnt <rex> without a CLIP model, and was given one then."""
    World.create(tmp_path / "w", base, "none").learn(photos, token="<rex>", noun="dog", **LEARN)
    assert World.open(tmp_path / "w").relocate(clip=clip) == ["<rex>"]
    return World.open(tmp_path / "w")


def test_what_was_learnt_without_a_clip_model_is_remembered_by_drawings_and_said_so(late, photos):
    settings = LEARN | {"method": "l2dm", "report_pictures": 1, "keep_if_forgetting_below": 200.0}
    learnt = late.learn(photos, token="<tom>", noun="cat", **settings)
    assert learnt.drawn == ["<rex>"] and set(learnt.scores) == {"<rex>", "<tom>"}
    long = read_long_term(late.manifest.recorded(late.path, learnt.version))
    assert long.prompts["<rex>"] == ["a photo of <rex> dog"] * 3 and long.features["<rex>"].shape == (3, 16)
    assert torch.allclose(long.features["<rex>"].norm(dim=1), torch.ones(3))
    rows = {row["token"]: row for row in card(late.manifest)["concepts"]}
    assert (rows["<rex>"]["of"], rows["<tom>"]["of"]) == ("drawings", "photos")
    assert row_cells(rows["<rex>"])[0] == "<rex> dog (to drawings)"
    later = late.learn(photos, token="<ada>", noun="dog", **LEARN)
    kept = read_long_term(late.manifest.recorded(late.path, later.version))
    assert later.drawn == ["<rex>"] and torch.equal(kept.features["<rex>"], long.features["<rex>"])
    purged = World.open(shutil.copytree(late.path, late.path.with_name("purged")))
    purged.purge("<rex>")
    assert "<rex>" not in (purged.path / "manifest.json").read_text()
    assert late.forget("<rex>").drawn == []


def test_a_stopped_lesson_recollects_once_and_ends_in_the_same_memory(late, photos, monkeypatch):
    copy = World.open(shutil.copytree(late.path, late.path.with_name("copy")))

    def stop(progress):
        if progress.stage == "learn" and progress.step.step == 1:
            os.kill(os.getpid(), signal.SIGINT)

    settings = LEARN | {"steps": 2, "method": "l2dm"}
    with pytest.raises(LearningStopped):
        late.learn(photos, token="<tom>", noun="cat", **settings, on_progress=stop)
    stages = []
    late.learn(photos, token="<tom>", noun="cat", **settings, on_progress=lambda p: stages.append(p.stage))
    assert "memory" not in stages
    copy.learn(photos, token="<tom>", noun="cat", **settings)
    assert late._files.files == copy._files.files


def test_the_gate_compares_with_what_was_never_examined(late, photos, monkeypatch):
    """Without recorded scores it would compare with nothing, and keep whatever came."""
    worse = iter([Score(0.9, 1.0, 1), Score(0.5, 1.0, 2), Score(0.5, 1.0, 2)])
    monkeypatch.setattr("l2dm.world.examining.score", lambda *given: next(worse))
    with pytest.raises(NotKept, match=r"lost 40\.0 points"):
        late.learn(
            photos, token="<tom>", noun="cat", **LEARN | {"report_pictures": 1}, keep_if_forgetting_below=5.0
        )
    assert list(late.concepts) == ["<rex>"]


def test_pictures_many_times_as_large_are_warned_of_before_they_are_drawn(tmp_path, base):
    world = World.create(tmp_path / "w", base, "none")
    code, said = draw_one(tmp_path / "w", "--height", "48", "--width", "48")
    assert code == 0 and re.search(
        r"note: 1 picture of 48 x 48 pixels in 1 step: at least [\d.]+ s, .* 9 times", said
    )
    assert said.index("note: ") < said.index("drawing")
    assert "note" not in draw_one(tmp_path / "w", "--height", "32", "--width", "32")[1]
    code, said = draw_one(tmp_path / "w", "--height", "48", "--width", "49")
    assert code == 2 and "note" not in said and "width = 49: this base draws multiples of" in said
    drawn = []
    with pytest.raises(LongWorkWarning), warnings.catch_warnings():
        warnings.simplefilter("error", LongWorkWarning)
        world.generate("a dog", n=1, steps=1, height=64, width=64, on_picture=drawn.append)
    assert not drawn


def test_check_names_captions_that_a_base_does_not_read_whole(tmp_path, base, photos, capsys):
    (photos / "0.txt").write_text("a dog " * 15)
    (photos / "1.txt").write_text("a dog " * 16)
    World.create(tmp_path / "w", base, "none")
    for more in (["--base", str(base)], ["--world", str(tmp_path / "w")]):
        with mock.patch.object(sys, "argv", ["l2dm", "check", str(photos), *more, "--json"]):
            cli.main()
        notes = [row["notes"] for row in json.loads(capsys.readouterr().out)["photos"]]
        assert notes[1] == ["its caption has 32 tokens; this base reads 30, so its end is lost: shorten it"]
        assert notes[0] == notes[2] == []
    code, said = call(["check", str(photos), "--base", str(tmp_path / "nowhere")])
    assert code == 2 and "no such folder or file; give a folder" in said


def test_lengths_told_without_weights_are_the_backbones_own(base):
    loaded = Backbone.load(base)
    loaded.add_token("<rex>", loaded.word_vector("dog"))
    count, most = prompt_lengths(loaded.source, ["<rex>"])
    assert most == loaded.longest_prompt
    for prompt in ("", "a photo of a dog", "<rex> dog, <rex>'s unpronounceable xyzzy"):
        assert count(prompt) == loaded.count_tokens(prompt)


def test_a_benchmarks_worlds_remember_by_the_clip_model_it_is_given(tmp_path, base, clip):
    plan = lifelong.Plan(base=str(base), world_clip=str(clip))
    assert runs._world(tmp_path / "w", plan, 0).manifest.clip == str(clip)
    with pytest.raises(BaseModelError, match="--clip none"):
        runs._world(tmp_path / "other", lifelong.Plan(base=str(base)), 0)
    for command, option in (("lifelong", "--clip"), ("all", "--clip"), ("cifc10", "--world-clip")):
        assert option in [name for p in get_command(bench_app).commands[command].params for name in p.opts]


def test_long_work_is_told_in_minutes_by_one_step_that_was_measured(base):
    backbone, clock = Backbone.load(base, clip="none"), iter([100.0, 130.0, 150.0])
    line = long_work(backbone, GenerateSettings(n=2, steps=10, height=48, width=48), lambda: next(clock))
    assert line.startswith("2 pictures of 48 x 48 pixels in 10 steps: at least 60 minutes, "), (
        "2 * 10 * 20 s * 9"
    )
    assert "a step at this base's own 16 x 16 took 20 s" in line
    assert [spoken_time(seconds) for seconds in (0.04, 59, 90, 7000, 7200, 90000)] == [
        "0.0 s",
        "59 s",
        "1.5 minutes",
        "117 minutes",
        "2.0 hours",
        "25 hours",
    ]

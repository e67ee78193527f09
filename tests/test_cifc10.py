"""The CIFC-10 protocol: its data, its order, its metric on pictures that the world drew, and what a check of
it says.
"""

from __future__ import annotations

import dataclasses
import json
import sys

import pytest
import torch
from conftest import QUICK, paint
from PIL import Image
from reference.alignment import literal_image_alignment, literal_text_alignment
from tiny import mini, tiny_clip, tiny_dino

from l2dm import cli
from l2dm.backbone import Source, load_encoder
from l2dm.bench import cifc10, runs
from l2dm.bench.cifc10 import CONCEPTS, Course, Plan, learning, own_pair, read
from l2dm.bench.subjects import pictures
from l2dm.concept import Concept
from l2dm.errors import SettingsError
from l2dm.generation import Picture
from l2dm.world.world import World


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """The protocol's layout with painted photos, and tiny encoders."""
    place = tmp_path_factory.mktemp("cifc10")
    for c, (name, _, noun, kind) in enumerate(CONCEPTS):
        (place / "data" / name).mkdir(parents=True)
        for i in range(2):
            paint(10 * c + i).save(place / "data" / name / f"{i}.jpg")
            (place / "data" / name / f"{i}.txt").write_text(f"{noun} on a table")
        (place / "data" / "prompts").mkdir(exist_ok=True)
        (place / "data" / "prompts" / f"test_{kind}.txt").write_text(
            "A <TOK>, in the forest\n\nAn angry <TOK>\nA red <TOK>\n"
        )
    tiny_clip(place / "clip"), tiny_dino(place / "dino")
    return place


@pytest.fixture
def plan(place):
    return Plan(
        str(place / "data"),
        base=mini(),
        clip=str(place / "clip"),
        dino=str(place / "dino"),
        count=2,
        prompts=2,
        images=2,
        steps=1,
        batch=2,
        learn=learning({**QUICK, "steps": 1}),
    )


def test_the_defaults_are_the_published_protocol():
    plan = Plan()
    assert (plan.prompts, plan.images, plan.steps, plan.guidance_scale, plan.count, plan.order) == (
        20,
        50,
        50,
        7.5,
        10,
        "published",
    )
    assert (plan.clip, plan.dino) == ("openai/clip-vit-base-patch32", "facebook/dino-vits16")
    assert [c[0] for c in CONCEPTS] == [
        "dog",
        "duck_toy",
        "cat",
        "backpack",
        "teddybear",
        "painting",
        "dog2",
        "drawing",
        "cat2",
        "ink_painting",
    ]
    assert len({c[1] for c in CONCEPTS}) == 10
    assert learning({"steps": 3}) == {"captions_only": True, "steps": 3}


def test_pictures_of_one_colour_are_like_nothing(plan):
    class Dark(Course):
        def _drawn(self, world, prompt, n):
            return [Picture(Image.new("RGB", (32, 32)), prompt, 0, {})] * n

    found = Dark(plan).scores(None, "<dog1>", "dog")
    assert set(found) == set(Plan.scores) and not any(found.values())


def test_orders_are_the_published_one_or_the_seeds_own(plan):
    def tokens(**changes):
        return [s.token for s in dataclasses.replace(plan, count=10, **changes).sequence(1)]

    assert tokens() == [c[1] for c in CONCEPTS]
    assert sorted(tokens(order="shuffled")) == sorted(tokens()) != tokens(order="shuffled")


def test_captions_alone_are_learnt_from(place):
    concept = Concept.read(place / "data" / "dog", "<dog1>", "dog")
    assert concept.prompts(concept.photos[0], captions_only=True) == ["<dog1> dog on a table"]


def test_the_scores_are_the_literal_metric_of_what_the_world_draws(place, plan, tmp_path):
    world, clip = World.create(tmp_path / "world", mini()), load_encoder(place / "clip")
    world.learn(place / "data" / "dog", token="<dog1>", noun="dog", **plan.learn)
    found = Course(plan).scores(world, "<dog1>", "dog")
    about = {"n": 2, "steps": 1, "batch": 2, "seed": 2024, "guidance_scale": 7.5, "sampler": "dpm-solver"}
    images, texts = [], []
    for words in ("A {}, in the forest", "An angry {}"):
        images += [p.image for p in world.generate(words.format("<dog1> dog"), **about)]
        texts += [words.format("dog")] * 2
    drawn, known = clip.images(images).tolist(), clip.images(pictures(place / "data" / "dog")).tolist()
    assert found["image_alignment"] == pytest.approx(literal_image_alignment(drawn, known), abs=1e-3)
    assert found["text_alignment"] == pytest.approx(
        literal_text_alignment(drawn, clip.texts(texts).tolist()), abs=1e-3
    )
    dino = load_encoder(place / "dino")
    wanted = literal_image_alignment(
        dino.images(images).tolist(), dino.images(pictures(place / "data" / "dog")).tolist()
    )
    assert found["dino_alignment"] == pytest.approx(wanted, abs=1e-3)


def test_dpm_solver_keeps_the_bases_own_noise(world, backbone):
    chosen, own = backbone.pipeline("dpm-solver").scheduler, backbone.pipeline().scheduler
    assert type(chosen).__name__ == "DPMSolverMultistepScheduler" and torch.equal(
        chosen.alphas_cumprod, own.alphas_cumprod
    )
    assert chosen.config.prediction_type == own.config.prediction_type
    assert (chosen.config.algorithm_type, own.config.algorithm_type) == ("dpmsolver++", "sde-dpmsolver++"), (
        "the named one is no other"
    )


def test_a_run_killed_between_two_scores_repeats_none(plan, tmp_path, monkeypatch):
    whole = runs.run(plan, "sequential", 0, tmp_path / "whole", lambda text: None)
    scored, scores = [], Course.scores

    def counted(course, world, token, noun):
        if len(scored) == 2:
            scored.append("killed")
            raise KeyboardInterrupt
        scored.append(token)
        return scores(course, world, token, noun)

    monkeypatch.setattr(Course, "scores", counted)
    with pytest.raises(KeyboardInterrupt):
        runs.run(plan, "sequential", 0, tmp_path / "broken", lambda text: None)
    again = runs.run(plan, "sequential", 0, tmp_path / "broken", lambda text: None)
    assert (
        scored == ["<dog1>", "<dog1>", "killed", "<duck1>"]
        and again["matrices"] == whole["matrices"]
        and again["finished"]
    )
    assert len(again["seconds"]) == 2, "nor was a concept learnt twice"


def test_the_command_by_the_bases_own_pair_is_labelled_a_check(place, tmp_path, monkeypatch, capsys):
    quick = tmp_path / "quick.toml"
    quick.write_text("[learn]\n" + "".join(f"{k} = {v}\n" for k, v in {**QUICK, "steps": 1}.items()))
    monkeypatch.setattr(
        runs, "map_jobs", lambda work, jobs, *where: ((i, work(*job)) for i, job in enumerate(jobs))
    )
    sizes = [x for name in ("count", "prompts", "images", "steps") for x in (f"--{name}", "1")]
    said = (
        f"bench cifc10 --data {place / 'data'} --out {tmp_path / 'out'} --clip base --dino= --methods "
        "sequential --seeds 4"
    )
    monkeypatch.setattr(sys, "argv", ["l2dm", *said.split(), *sizes, "--settings", str(quick), "--json"])
    cli.main()
    answer = json.loads(capsys.readouterr().out)
    result = json.loads((tmp_path / "out" / "cifc10.json").read_text())
    assert result["methods"] == answer["methods"] and "check of the machinery" in result["judge"]["note"]
    found = result["methods"]["sequential"]
    assert {"image_alignment", "text_alignment", "text_cosine", "image_forgetting", "peak_memory_mb"} <= set(
        found
    )
    assert (
        "dino_alignment" not in found
        and "prior_drift" not in found
        and result["settings"]["learn"]["captions_only"]
    )
    page = (tmp_path / "out" / "cifc10.html").read_text()
    assert (
        "check of the machinery" in page
        and "Published, for Stable Diffusion 1.5" in page
        and page.count("data:image/png") == 2 + 2 + 2 + 2
    )


def test_data_that_is_not_the_protocols_is_refused(place, tmp_path):
    with pytest.raises(
        SettingsError, match=r"dog is missing; give the folder that holds dog, duck_toy, .* and prompts"
    ):
        read(tmp_path, 1)
    with pytest.raises(
        SettingsError, match=r"test_pet\.txt: 3 prompts, and 20 are asked for; add some, or pass --prompts 3"
    ):
        read(place / "data", 20)
    for c in CONCEPTS:
        (tmp_path / c[0]).mkdir()
    with pytest.raises(SettingsError, match=r"test_pet\.txt cannot be read"):
        read(tmp_path, 1)
    (tmp_path / "prompts").mkdir()
    (tmp_path / "prompts" / "test_pet.txt").write_text("a dog\n")
    with pytest.raises(SettingsError, match="'a dog' does not name the concept; write <TOK> in its place"):
        read(tmp_path, 1)


def test_a_base_without_a_pair_cannot_judge_itself(tmp_path, monkeypatch):
    monkeypatch.setattr(cifc10, "find_base", lambda base: Source(base, tmp_path))
    with pytest.raises(
        SettingsError, match=r"--clip base: .*clip holds no CLIP pair; give --clip a folder or hub id"
    ):
        own_pair("x")

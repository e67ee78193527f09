"""The worked examples of docs/extending are what they say: short, whole, and at work."""

import copy
import dataclasses
import re

import numpy as np
import pytest
import torch
from diffusers import LatentConsistencyModelPipeline, LCMScheduler
from families import unets
from families.parts import unet as tiny_unet
from learning import begin, fresh, learn
from tiny import mini

from benchmarks.main import ROOT
from l2dm import World
from l2dm.backbone import families
from l2dm.errors import PromptWarning
from l2dm.generation import composition, guided
from l2dm.learner import retentions
from l2dm.methods import METHODS
from l2dm.retention import PENALTIES, Retention
from l2dm.settings import COMPOSITIONS
from l2dm.tuners import TUNERS


@pytest.fixture
def example(request):
    """What the Python of the test's page defines; the tables are as they were afterwards."""
    tables = (METHODS, TUNERS, PENALTIES, composition.KINDS, guided.LOSSES)
    before = [dict(table) for table in tables], list(COMPOSITIONS)
    text = (ROOT / "docs/extending" / f"{request.param}.md").read_text(encoding="utf-8")
    (code,) = re.findall(r"^```python\n(.*?)^```", text, re.M | re.S)
    assert code.count("\n") < 60
    defined = {"__name__": request.param}
    exec(compile(code, f"docs/extending/{request.param}.md", "exec"), defined)
    yield defined
    for table, as_it_was in zip(tables, before[0]):
        table.clear(), table.update(as_it_was)
    COMPOSITIONS[:] = before[1]


def of_page(name: str):
    return pytest.mark.parametrize("example", [name], indirect=True)


@of_page("tuner")
def test_a_tuner_of_biases_moves_nothing_but_biases(example, photos):
    backbone = fresh()
    before = copy.deepcopy(backbone.denoiser.state_dict())
    learning = learn(photos, "bitfit", "<rex>", after=None)
    after = learning.backbone.denoiser.state_dict()
    moved = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert moved and all(name.endswith(".bias") for name in moved) and moved <= set(learning.tuner.parameters)


@of_page("retention")
def test_a_penalty_holds_weights_where_the_last_concept_left_them(example, photos):
    first = learn(photos, "l2-sp", "<rex>")
    left = first.tuner.values()
    moved = {}
    for weight in (0.0, 1e9):
        backbone = fresh()
        tuner = TUNERS["key_value"](backbone)
        tuner.load(left)
        past = type(first.past)(kept=left)
        second = begin(photos, "l2-sp", "<tom>", backbone, tuner, past, penalty_weight=weight, steps=3)
        assert float(second.penalty()) == 0
        list(second.run())
        moved[weight] = sum(float((p - left[name]).square().sum()) for name, p in tuner.parameters.items())
    literal = 0.5 * sum(((p - left[name]) ** 2).sum() for name, p in tuner.parameters.items())
    assert torch.isclose(second.penalty(), literal) and 0 < moved[1e9] < moved[0.0]
    assert second.finish().keys() == left.keys(), "what the next one is held to"


@of_page("composition")
def test_a_composition_descends_its_overlap_and_without_size_changes_nothing(example, photos, tmp_path):
    maps = torch.tensor([[[[1.0, 0.0]], [[1.0, 0.0]]], [[[1.0, 0.0]], [[0.0, 1.0]]]])
    assert example["segregation_loss"](maps).tolist() == [0.5, 0.0]
    world = World.create(tmp_path / "w", mini(), "none")
    draw = {"n": 1, "steps": 2, "seed": 1}
    still, moved = (
        world.generate("a dog and a cat", **draw, composition="a-star", guidance_step=size)[0]
        for size in (0.0, 50.0)
    )
    assert (
        moved.provenance["composition"].startswith("a-star")
        and moved.image.tobytes() != still.image.tobytes()
    )
    with pytest.warns(PromptWarning, match="a-star needs two things or more"):
        assert world.generate("a dog", **draw, composition="a-star")[0].provenance["guidance"] == "none"


@of_page("family")
def test_a_family_is_told_draws_as_its_pipeline_and_learns(example, photos, tmp_path, monkeypatch):
    monkeypatch.setattr(families, "FAMILIES", (*families.FAMILIES, example["LatentConsistency"]()))
    with torch.random.fork_rng():
        torch.manual_seed(0)
        parts = unets.sd().components | {"unet": tiny_unet(time_cond_proj_dim=8)}
    parts["scheduler"] = LCMScheduler()
    pipe = LatentConsistencyModelPipeline(**parts, requires_safety_checker=False)
    pipe.set_progress_bar_config(disable=True)
    pipe.save_pretrained(tmp_path / "lcm")
    world = World.create(tmp_path / "w", tmp_path / "lcm", "none")
    assert world.backbone().family.name.startswith("Latent consistency")
    assert world.settings("generate").steps == 4
    ours = world.generate("a dog", n=1, seed=1)[0].image
    theirs = pipe("a dog", num_inference_steps=4, generator=torch.Generator().manual_seed(1)).images[0]
    assert np.array_equal(ours, theirs)
    world.learn(photos, token="<rex>", noun="dog", steps=1, batch=1, mixes=0, report_pictures=0)
    assert np.array_equal(world.generate("a dog", n=1, seed=1)[0].image, ours), "no adapter of its acts"
    assert not np.array_equal(world.generate("a <rex> dog", n=1, seed=1)[0].image, ours)


def test_a_way_of_ones_own_is_asked_at_every_place(photos, monkeypatch):
    met = []

    class Watching(Retention):
        @classmethod
        def asked(cls, task):
            return task.concept.token == "<rex>"

        def begin(self):
            met.append("begin")

        def rows(self, photos, draw):
            return [dataclasses.replace(photos, term="once more", weight=0.5)]

        def before_step(self):
            assert all(p.grad is not None for p in self.task.tuner.parameters.values())
            met.append("before")

        def after_step(self):
            met.append("after")

        def keep(self, losses):
            return {"watched": torch.ones(1)}

    monkeypatch.setattr(retentions, "RETENTIONS", [*retentions.RETENTIONS, Watching])
    learning = begin(photos, "ewc", steps=2)
    first, _ = learning.run()
    kept = learning.finish()
    assert met == ["begin", *["before", "after"] * 2] and set(first.terms) >= {"concept", "once more"}
    assert "watched" in kept and any(name.startswith("fisher/") for name in kept), "beside the penalty's"
    assert learning.retention(Watching).state() == {}
    assert begin(photos, "ewc", "<tom>").retention(Watching) is None

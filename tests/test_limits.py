"""Where learning meets a limit: numbers that are no longer finite, memory, a long caption, Ctrl-C at the last
step.
"""

from __future__ import annotations

import signal

import pytest
import torch
from conftest import QUICK
from learning import begin

from benchmarks.malformed import call
from l2dm.errors import LearningDiverged, LearningStopped, OutOfMemory, PhotoError, out_of_memory
from l2dm.learner import Rows, objective
from l2dm.retention import Past
from l2dm.world.tensors import write_tensors
from l2dm.world.world import World

REX = {"token": "<rex>", "noun": "dog"}


def learnt_nothing(world: World) -> bool:
    return World.open(world.path).version == 0 and not list((world.path / "learning").glob("[0-9]*"))


def test_a_rate_that_is_too_high_stops_at_the_first_step_that_is_not_finite(world, photos):
    rates = {"learning_rate": 1.0, "token_learning_rate": 1.0}
    with pytest.raises(LearningDiverged, match=r"<rex>: step \d+ of 40: .* learning_rate = 1,"):
        world.learn(photos, **REX, **{**QUICK, **rates, "steps": 40, "checkpoint_every": 1})
    assert learnt_nothing(world)
    assert world.learn(photos, **REX, **QUICK).version == 1, "no checkpoint of it is in the way"


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_a_gradient_that_is_not_finite_ends_the_learning(photos, bad):
    learning = begin(photos, "sequential", past=Past(), steps=2)
    learning.named["token"].requires_grad_(True).register_hook(lambda grad: torch.full_like(grad, bad))
    with pytest.raises(LearningDiverged, match="step 1 of 2"):
        list(learning.run())
    assert learning.done == 0


def test_nothing_that_is_not_finite_is_written(tmp_path):
    with pytest.raises(LearningDiverged, match=r"tokens.safetensors: <rex> is no longer finite"):
        write_tensors(
            tmp_path / "tokens.safetensors", {"<tom>": torch.ones(2), "<rex>": torch.tensor([1, torch.nan])}
        )
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("[enforce fail] DefaultCPUAllocator: not enough memory: you tried to allocate 9 bytes"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes"),
    ],
)
def test_out_of_memory_is_one_line(world, photos, monkeypatch, error):
    def full(*args, **kwargs):
        raise error

    monkeypatch.setattr("l2dm.learner.loop.objective", full)
    with pytest.raises(OutOfMemory, match="batch = 2, mixes = 0, precision = auto: out of memory") as raised:
        world.learn(photos, **REX, **QUICK)
    assert "\n" not in str(raised.value) and learnt_nothing(world)


def test_a_base_that_memory_does_not_hold_is_one_line(tmp_path, monkeypatch):
    def full(*args, **kwargs):
        raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")

    monkeypatch.setattr("l2dm.backbone.backbone.load", full)
    with pytest.raises(
        OutOfMemory, match="base 'mini': loading it: out of memory; choose precision = bfloat16"
    ):
        World.create(tmp_path / "w")
    assert not (tmp_path / "w").exists()
    monkeypatch.setattr(World, "open", full)
    code, said = call(["export", str(tmp_path / "w"), "<rex>", "--out", str(tmp_path / "out")])
    assert (code, said) == (2, "error: l2dm export: out of memory; close other programs and try again\n")


def test_other_errors_pass():
    with pytest.raises(RuntimeError, match="shapes"), out_of_memory("learning", "less"):
        raise RuntimeError("shapes differ")


def test_a_caption_that_comes_to_the_concept_too_late_is_named(world, photos):
    (photos / "1.txt").write_text("far " * 60 + "<rex> dog")
    with pytest.raises(PhotoError, match=r"1\.png: its caption has \d+ tokens and names <rex> at number \d+"):
        world.learn(photos, **REX, **QUICK)
    assert learnt_nothing(world)
    (photos / "1.txt").write_text("<rex> dog" + " far" * 60)
    assert world.learn(photos, **REX, **QUICK).version == 1


@pytest.mark.parametrize("method", ["gated-lora", "gated-kv", "sequential"])
def test_a_step_whose_rows_name_nobody_is_a_step(photos, method):
    for name in "012":
        (photos / f"{name}.txt").write_text("far " * 60 + "<rex> dog")
    learning = begin(photos, method, steps=2, mixes=0, captions_only=True)
    assert [step.step for step in learning.run()] == [1, 2]


def test_a_gated_adapter_leaves_prior_pairs_as_the_pretrained_model_draws_them(photos):
    """So the row l2dm has none of Eq. 4's: their gradient is zero."""
    learning = begin(photos, "l2dm", steps=2, mixes=0)
    prior = [Rows("prior", 1.0, learning._buckets[0].latents[:, 0], ["a photo of a dog"] * 3)]

    def loss():
        return objective(learning.backbone, prior, torch.Generator().manual_seed(1), read=learning.texts)[0]

    with torch.no_grad():
        before = loss()
    list(learning.run())
    with learning._training():
        after = loss()
        found = (
            torch.autograd.grad(after, list(learning.named.values()), allow_unused=True)
            if after.requires_grad
            else []
        )
    assert torch.equal(before, after.detach())
    assert all(grad is None or not grad.any() for grad in found)


def test_ctrl_c_at_the_last_step_is_heard(world, photos):
    def press(progress):
        if progress.step and progress.step.step == progress.step.steps:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(LearningStopped, match="stopped at step 3 of 3"):
        world.learn(photos, **REX, **QUICK, on_progress=press)
    assert World.open(world.path).version == 0
    assert world.learn(photos, **REX, **QUICK).version == 1

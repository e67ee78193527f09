"""Adapters that a prompt switches: at a concept's own words, and in the pictures that name it."""

from __future__ import annotations

import copy
import dataclasses

import numpy as np
import pytest
import torch
from conftest import QUICK
from learning import PLAIN, REX, TOM, begin, fresh, learn, predicted
from tiny import mini

from l2dm import World
from l2dm.backbone import Backbone, Conditioning
from l2dm.tuners.prompt_gated import own_words
from l2dm.world.weights import read_weights


@pytest.fixture(scope="module")
def backbone():
    """The tiny base, for tests that leave it as it is."""
    return fresh()


def test_own_words_are_the_token_and_the_noun_right_after_it():
    ids = torch.tensor([[1, 9, 5, 6, 7, 5], [9, 5, 1, 9, 5, 6], [5, 6, 1, 1, 1, 1], [1, 1, 1, 1, 1, 9]])
    assert own_words(ids, (9,), [5, 6]).int().tolist() == [
        [0, 1, 1, 1, 0, 0],
        [1, 0, 0, 1, 1, 1],
        [0] * 6,
        [0, 0, 0, 0, 0, 1],
    ]
    assert own_words(ids, (9, 5), [6]).equal(own_words(ids, (9,), [5, 6]) | (ids == 5)), "several vectors"


@pytest.mark.parametrize("method", ["gated-kv", "gated-lora"])
def test_concepts_apart_leave_every_other_prompt_alone_bit_for_bit(photos, tmp_path, method):
    world = World.create(tmp_path / "w", mini())
    options = {**QUICK, "method": method, "steps": 2, "rank": 2, "learning_rate": 0.01}
    drawing = {"n": 1, "steps": 2, "negative_prompt": "a cat"}
    others = [world.generate(PLAIN, **drawing)[0].image]
    world.learn(photos, token="<tom>", noun="cat", **options)
    others.append(world.generate(PLAIN, **drawing)[0].image)
    tom, plain = predicted(world.backbone(), TOM), predicted(Backbone.load(mini()), PLAIN)
    world.learn(photos, token="<rex>", noun="dog", **options)
    others.append(world.generate(PLAIN, **drawing)[0].image)
    assert all(np.array_equal(others[0], other) for other in others[1:])
    backbone = world.backbone()
    assert torch.equal(predicted(backbone, PLAIN), plain) and torch.equal(predicted(backbone, TOM), tom)
    mixed = predicted(backbone, PLAIN, TOM, REX)
    with world.tuner.holding({n: t for n, t in world.tuner.now.items() if not n.startswith("<rex>/")}):
        without = predicted(backbone, PLAIN, TOM, REX)
    assert torch.equal(mixed[:2], without[:2]) and not torch.equal(mixed[2], without[2]), (
        "also within one batch"
    )
    assert {t.dtype for n, t in world.tuner.state().items() if "/noun" not in n} == {torch.float16}
    again = World.open(world.path)
    assert torch.equal(
        predicted(again.backbone(), f"{REX} and {TOM}"), predicted(backbone, f"{REX} and {TOM}")
    )
    again.forget("<rex>")
    assert not any(name.startswith("<rex>") for name in read_weights(again.manifest.recorded(again.path, 3)))
    assert torch.equal(predicted(World.open(world.path).backbone(), TOM), tom)
    again.undo()
    assert torch.equal(predicted(World.open(world.path).backbone(), PLAIN, TOM, REX), mixed)


def test_switched_is_the_sum_of_the_weights_in_pictures_that_are_named_and_in_their_negatives(photos):
    learning = learn(photos, "gated-lora", "<rex>", steps=2)
    tuner, backbone = learning.tuner, learning.backbone
    negative, named = backbone.read([PLAIN]), backbone.read([REX])
    beside = dataclasses.replace(negative, named=named.named)
    batch = Conditioning.cat([negative, named, beside])
    noisy, seen = (
        torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0)).expand(3, -1, -1, -1),
        {},
    )
    names = [
        "mid_block.resnets.0.conv1",
        "mid_block.attentions.0.transformer_blocks.0.attn1.to_q",
        "up_blocks.1.resnets.0.time_emb_proj",
    ]
    for name in names:
        watched = backbone.unet.get_submodule(name)
        watched.register_forward_hook(
            lambda layer, inputs, output, name=name: seen.update({name: (inputs[0], output)})
        )
    backbone.predict(noisy, torch.full((3,), 500), batch)
    for name in names:
        x, out = seen[name]
        layer, (down, up) = tuner.layers[name], tuner.factors("<rex>", name)
        summed = copy.deepcopy(layer)
        summed.weight += (up.flatten(1) @ down.flatten(1)).view_as(layer.weight)
        assert torch.allclose(out[1:], summed(x[1:]), atol=1e-5) and torch.equal(out[0], layer(x)[0])
        assert not torch.allclose(out[1:], layer(x[1:]), atol=1e-5)
    few, many = (
        backbone.predict(noisy[:1].expand(n, -1, -1, -1), torch.full((n,), 500), named[[0] * n])
        for n in (1, 4)
    )
    assert tuner.always == ["<rex>"] and torch.allclose(few[0], many[0], atol=1e-4), (
        "added to what the weights give, or to the weights"
    )
    assert not tuner.gates(batch)[2].any(), "at no word of the negative"


def test_while_one_is_trained_switched_adapters_act_side_by_side_as_each_alone(photos):
    known = learn(photos, "gated-lora", "<rex>", "<tom>", steps=2)
    learning = begin(photos, "gated-lora", "<ada>", known.backbone, known.tuner, rank=12)
    tuner, backbone, prompts = (
        learning.tuner,
        learning.backbone,
        (PLAIN, REX, TOM, f"{REX} and <ada> teddy bear"),
    )
    assert tuner.most == 2, "the new concept, and an earlier one in every other mix"
    for name, p in tuner.parameters.items():
        if name.endswith(".up"):
            p.data.normal_(std=0.05, generator=torch.Generator().manual_seed(len(name)))
    alone = predicted(backbone, *prompts)
    assert not tuner.joined and len(tuner.on) == 3

    def ranks():
        (found,) = tuner.together
        return [rank for _, rank in found]

    for p in tuner.parameters.values():
        p.requires_grad_(True)
    together = predicted(backbone, *prompts)
    assert ranks() == [1, 1, 3] and torch.allclose(together, alone, atol=1e-4)
    tuner.most = 3
    fewer = predicted(backbone, PLAIN, REX)
    assert ranks() == [1, 1, 3] and torch.allclose(fewer, alone[:2], atol=1e-4), (
        "what is not named is there and does nothing"
    )
    assert not torch.allclose(alone, predicted(backbone, PLAIN, PLAIN, PLAIN, PLAIN), atol=1e-2), (
        "they do something"
    )

"""A move of the latents: where its maps come from, which steps make one, and what it does to each picture."""

from __future__ import annotations

import sys
from types import SimpleNamespace

import pytest
import torch

from l2dm.generation import mentions
from l2dm.generation.guided import Guide
from l2dm.guidance import attend_and_excite
from l2dm.guidance.attend_and_excite import goals
from l2dm.guidance.attention import AttentionMaps, map_size, watched, without_start
from l2dm.settings import GenerateSettings


def _ready(backbone, prompt, seed=0, count=2):
    torch.manual_seed(seed)
    return torch.randn(count, 4, 16, 16), torch.tensor(700), backbone.encode_text([prompt] * count)


def test_maps_are_the_largest_up_to_16_pixels_that_are_coarser_than_the_latents():
    def unet(*kinds):
        return SimpleNamespace(config=SimpleNamespace(down_block_types=kinds))

    crossed, plain = "CrossAttnDownBlock2D", "DownBlock2D"
    assert map_size(unet(crossed, crossed, crossed, plain), 64, 64) == (16, 16), "Stable Diffusion at 512 px"
    assert map_size(unet(crossed, crossed, crossed, plain), 64, 96) == (8, 12)
    assert map_size(unet(crossed, crossed, crossed), 16, 16) == (8, 8), "not at the latents' own size"
    assert map_size(unet(plain, crossed, crossed), 16, 16) == (8, 8)
    assert map_size(unet(plain, plain, plain), 16, 16) == (4, 4), "the middle block alone has attention"


@pytest.mark.parametrize("goal", [None, 0.0, 0.99])
def test_attend_and_excite_is_that_of_diffusers(backbone, monkeypatch, goal):
    """The same loss and the same moved latents as diffusers' own pipeline, for one step; also after
    refinement to a ``goal``.
    """
    size = 20.0 if goal is None else 0.01  # several large steps would enlarge the rounding
    from diffusers import StableDiffusionAttendAndExcitePipeline as Theirs

    prompt = "a photo of a dog and a cat"
    z, t, context = _ready(backbone, prompt)
    own, plain = dict(backbone.unet.attn_processors), backbone.pipeline()
    parts = (plain.vae, plain.text_encoder, plain.tokenizer, plain.unet, plain.scheduler)
    theirs = Theirs(*parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    latents = z[:1].clone().requires_grad_()
    try:
        theirs.attention_store = sys.modules[Theirs.__module__].AttentionStore(
            map_size(backbone.unet, 16, 16)
        )
        theirs.register_attention_control()
        theirs.unet(latents, t, encoder_hidden_states=context[:1])
        loss = theirs._compute_loss(theirs._aggregate_and_get_max_attention_per_token(indices=[5, 8]))
        if goal is not None:
            loss, latents, _ = theirs._perform_iterative_refinement_step(
                latents, [5, 8], loss, goal, context[:1], size, t, 3
            )
        moved = theirs._update_latent(latents, loss, size)
    finally:
        backbone.unet.set_attn_processor(own)
    settings = GenerateSettings(
        composition="attend-and-excite",
        guidance_step=size,
        steps=1,
        guidance_until=1.0,
        guidance_refinements=0 if goal is None else 3,
    )
    things = mentions(prompt, {}, backbone, ("dog", "cat"))
    assert [thing.noun for thing in things] == [(5,), (8,)]

    class Still:
        order, timesteps = 1, torch.tensor([700])

        @staticmethod
        def scale_model_input(x, t):
            return x

    # diffusers softens over all but the first and the last of the padded prompt
    guide = Guide(backbone, things, range(1, backbone.longest_prompt + 1), settings, (16, 16))
    monkeypatch.setattr(attend_and_excite, "GOALS", {0.0: goal or 0.0})
    ours = guide.move(Still, 0, z[:1].clone(), context[:1])
    assert len(guide.history) == {None: 1, 0.0: 2, 0.99: 4}[goal], (
        "one look tells that an easy goal is reached"
    )
    assert guide.history[-1][0] == pytest.approx(loss.item(), abs=1e-5)
    assert torch.allclose(ours, moved.detach(), atol=1e-4)


def test_a_forward_for_the_maps_ends_with_the_last_and_its_gradient_is_the_same(backbone):
    z, t, context = _ready(backbone, "a dog and a cat")
    maps, found, ran = AttentionMaps(map_size(backbone.unet, 16, 16)), [], []
    hook = backbone.unet.conv_out.register_forward_hook(lambda *args: ran.append(1))
    try:
        for way in ("watched", "whole", "short"):
            x = z.clone().requires_grad_()
            if way == "watched":
                with watched(backbone.unet, maps):
                    backbone.unet(x, t, context)
                    seen = maps.probabilities()
            else:
                seen = maps.of(backbone, x, t, context)
            found.append((seen.detach(), *torch.autograd.grad(without_start(seen)[:, 2].square().sum(), x)))
    finally:
        hook.remove()
    assert len(ran) == 2 and all(torch.equal(a, b) for other in found[1:] for a, b in zip(found[0], other))
    assert found[0][1].abs().max() > 0


@pytest.mark.parametrize("kind", ["l2dm", "attend-and-excite"])
def test_four_pictures_move_as_each_alone(backbone, kind):
    prompt = "a dog and a cat"
    z, _, context = _ready(backbone, prompt, count=4)
    things, scheduler = mentions(prompt, {}, backbone, ("dog", "cat")), backbone.pipeline().scheduler
    scheduler.set_timesteps(1)
    settings = GenerateSettings(
        composition=kind, steps=1, guidance_until=1.0, guidance_step=1.0, guidance_refinements=2
    )
    together = Guide(backbone, things, range(1, 6), settings, (16, 16)).move(scheduler, 0, z, context)
    for i in range(4):
        alone = Guide(backbone, things, range(1, 6), settings, (16, 16)).move(
            scheduler, 0, z[i : i + 1], context[:1]
        )
        assert (
            torch.allclose(together[i : i + 1], alone, atol=1e-4) and (alone - z[i : i + 1]).abs().max() > 0
        )


def test_which_steps_are_guided(backbone, monkeypatch):
    assert (
        goals(50) == {0: 0.05, 10: 0.5, 20: 0.8}
        and goals(20) == {0: 0.05, 4: 0.5, 8: 0.8}
        and goals(1) == {0: 0.8}
    )
    settings = GenerateSettings(composition="l2dm", steps=10, guidance_until=0.5, guidance_every=2)
    guide, moved = Guide(backbone, [], range(1, 6), settings, (16, 16)), []
    monkeypatch.setattr(
        guide,
        "_moved",
        lambda scheduler, index, *rest: moved.append(index) or (torch.ones(1), torch.zeros(1, 4, 16, 16)),
    )
    for order, indices in ((1, [0, 2, 4]), (2, [0, 4, 8])):  # of order 2: two calls a step
        scheduler = SimpleNamespace(order=order, timesteps=torch.arange(10 * order))
        for index in range(10 * order):
            guide.move(scheduler, index, torch.zeros(1, 4, 16, 16), None)
        assert moved == indices
        moved.clear()


def test_a_move_goes_down(backbone):
    prompt = "a dog and a cat"
    z, _, context = _ready(backbone, prompt)
    settings = GenerateSettings(
        composition="l2dm", guidance_step=0.1, guidance_repeats=4, steps=1, guidance_until=1.0
    )
    guide = Guide(backbone, mentions(prompt, {}, backbone, ("dog", "cat")), range(1, 6), settings, (16, 16))
    scheduler = backbone.pipeline().scheduler
    scheduler.set_timesteps(1)
    guide.move(scheduler, 0, z, context)
    assert all(last < first for first, last in zip(guide.history[0], guide.history[-1]))


def test_pictures_that_have_enough_are_left_alone(backbone):
    z, _, context = _ready(backbone, "a dog and a cat")
    settings = GenerateSettings(
        composition="l2dm", composition_loss_threshold=1e6, guidance_repeats=3, steps=1, guidance_until=1.0
    )
    guide = Guide(
        backbone, mentions("a dog and a cat", {}, backbone, ("dog", "cat")), range(1, 6), settings, (16, 16)
    )
    scheduler = backbone.pipeline().scheduler
    scheduler.set_timesteps(1)
    for _ in range(2):
        assert torch.equal(guide.move(scheduler, 0, z, context), z) and len(guide.history) == 1, (
            "nor looked at again"
        )

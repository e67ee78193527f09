"""Attention maps, the artists' losses against hand-made maps and loops, guided sampling against plain, words of prompts."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch
from reference.artists import literal_attend, literal_centroid, literal_smooth, literal_unmix

from l2dm.errors import PromptError, SettingsError
from l2dm.generation import Glances, Mention, chosen, draw, mentions
from l2dm.generation import guided as guided_file
from l2dm.generation.guided import Guide
from l2dm.guidance import attend_and_excite
from l2dm.guidance.attend_and_excite import goals, most_neglected_loss
from l2dm.guidance.attention import AttentionMaps, map_size, smooth, watched, without_start
from l2dm.guidance.concept_attention_artist import attend_loss, unmix_loss
from l2dm.guidance.orthogonal_attention_artist import orthogonal_loss
from l2dm.guidance.regions import centroids, masks
from l2dm.guidance.structure import structured, values_from
from l2dm.settings import GenerateSettings

HALVES = torch.zeros(1, 2, 4, 4)
HALVES[:, 0, :, :2] = 1
HALVES[:, 1, :, 2:] = 1
KNOWN = {"<rex>": "dog", "<ducky>": "duck toy"}


def test_unmix_is_the_share_outside():
    maps = HALVES.clone()
    assert unmix_loss(maps, HALVES).item() == 0
    assert unmix_loss(maps.flip(1), HALVES).item() == 2
    maps[0, 0] = 0.3
    assert unmix_loss(maps, HALVES).item() == pytest.approx(0.5)


def test_the_weaker_concept_is_attended_to_more():
    maps = torch.zeros(1, 2, 3, 3)
    maps[0, 0, 1, 1], maps[0, 1, 0, 2] = 0.9, 0.2
    tau = 0.25
    weights = [math.exp(0.1 / tau), math.exp(0.8 / tau)]
    expected = 2 * (weights[0] * 0.1 + weights[1] * 0.8) / sum(weights)
    assert attend_loss(maps, tau).item() == pytest.approx(expected)
    maps.requires_grad_()
    gradient = torch.autograd.grad(attend_loss(maps, tau).sum(), maps)[0]
    assert gradient[0, 1, 0, 2] < gradient[0, 0, 1, 1] < 0 and gradient.count_nonzero() == 2
    assert most_neglected_loss(maps).item() == pytest.approx(0.8)


def test_orthogonal_loss_against_loops():
    torch.manual_seed(0)
    personal, nouns = torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4)
    for b, got in enumerate(orthogonal_loss(personal, nouns).tolist()):
        expected = 0.0
        for i in range(3):
            for j in range(3):
                v, n = personal[b, i].flatten(), nouns[b, j].flatten()
                g = float(v @ n / (v.norm() * n.norm()))
                expected += (1 - g) ** 2 if i == j else g**2
        assert got == pytest.approx(expected, rel=1e-5)
    assert orthogonal_loss(HALVES, HALVES).item() == pytest.approx(0, abs=1e-6)
    assert orthogonal_loss(HALVES, HALVES.flip(1)).item() == pytest.approx(4)


@pytest.mark.parametrize("loss", [lambda m: unmix_loss(m, HALVES.double()), lambda m: orthogonal_loss(m, m.flip(1) + 0.1)])
def test_gradients(loss):
    torch.manual_seed(1)
    assert torch.autograd.gradcheck(loss, torch.rand(1, 2, 4, 4, dtype=torch.double, requires_grad=True))


def test_regions_follow_the_maps_and_the_words():
    assert torch.equal(masks(HALVES, [None, None]), HALVES) and torch.equal(masks(HALVES.flip(1), [None, None]), HALVES.flip(1))
    above = HALVES.transpose(2, 3)
    assert torch.equal(masks(above, [None, None]), above)
    assert torch.equal(masks(HALVES, ["right", None]), HALVES.flip(1)), "words are stronger than maps"
    assert centroids(HALVES)[0].tolist() == [pytest.approx([-2 / 3, 0]), pytest.approx([2 / 3, 0])]
    three = masks(torch.rand(5, 3, 8, 8), [None] * 3)
    assert torch.equal(three.sum(1), torch.ones(5, 8, 8)) and (three.sum((2, 3)) >= 12).all()


def test_smoothing_keeps_what_is_flat():
    flat = torch.full((1, 1, 5, 5), 0.3)
    assert torch.allclose(smooth(flat), flat)


def test_against_slow_twins_on_odd_sizes():
    torch.manual_seed(2)
    maps = torch.rand(2, 3, 5, 7, dtype=torch.double, requires_grad=True)
    halves = masks(maps, [None] * 3)
    attend, unmix, where = attend_loss(maps), unmix_loss(maps, halves), centroids(maps)
    (slope,) = torch.autograd.grad(attend.sum(), maps)
    for b, picture in enumerate(maps.detach().tolist()):
        value, slopes = literal_attend(picture, 0.25)
        assert attend[b].item() == pytest.approx(value) and slope[b].numpy() == pytest.approx(np.array(slopes))
        assert unmix[b].item() == pytest.approx(literal_unmix(picture, halves[b].tolist()))
        assert where[b].tolist() == [pytest.approx(literal_centroid(one)) for one in picture]
        assert smooth(maps)[b].detach().numpy() == pytest.approx(np.array([literal_smooth(one) for one in picture]))


def _ready(backbone, prompt, seed=0, count=2):
    torch.manual_seed(seed)
    return torch.randn(count, 4, 16, 16), torch.tensor(700), backbone.encode_text([prompt] * count)


def test_watching_changes_nothing_and_ends_even_with_an_error(backbone):
    z, t, context = _ready(backbone, "a photo of a dog and a cat")
    maps = AttentionMaps(map_size(backbone.unet, 16, 16))
    own = dict(backbone.unet.attn_processors)
    with torch.no_grad():
        plain = backbone.unet(z, t, context).sample
        with watched(backbone.unet, maps):
            assert torch.equal(backbone.unet(z, t, context).sample, plain)
            seen = maps.probabilities()
            assert torch.allclose(backbone.unet(z[1:], t, context[1:]).sample, plain[1:], atol=1e-5)
            assert torch.allclose(maps.probabilities(), seen[1:], atol=1e-5), "each picture's maps are its own"
    assert seen.shape == (2, 32, 8, 8) and torch.allclose(seen.sum(1), torch.ones(2, 8, 8), atol=1e-5)
    assert torch.allclose(without_start(seen)[:, 1:].sum(1), torch.ones(2, 8, 8), atol=1e-5)
    with pytest.raises(ZeroDivisionError), watched(backbone.unet, maps):
        raise ZeroDivisionError
    assert all(backbone.unet.attn_processors[name] is processor for name, processor in own.items())
    with pytest.raises(RuntimeError, match="no cross-attention layer"):
        maps.probabilities()


@pytest.mark.parametrize("goal", [None, 0.0, 0.99])
def test_attend_and_excite_is_that_of_diffusers(backbone, monkeypatch, goal):
    """The same loss and the same moved latents as diffusers' own pipeline, for one step; also after refinement to a ``goal``."""
    size = 20.0 if goal is None else 0.5  # several large steps would enlarge the rounding
    from diffusers import StableDiffusionAttendAndExcitePipeline as Theirs

    prompt = "a photo of a dog and a cat"
    z, t, context = _ready(backbone, prompt)
    own, plain = dict(backbone.unet.attn_processors), backbone.pipeline()
    parts = (plain.vae, plain.text_encoder, plain.tokenizer, plain.unet, plain.scheduler)
    theirs = Theirs(*parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    latents = z[:1].clone().requires_grad_()
    try:
        theirs.attention_store = sys.modules[Theirs.__module__].AttentionStore(map_size(backbone.unet, 16, 16))
        theirs.register_attention_control()
        theirs.unet(latents, t, encoder_hidden_states=context[:1])
        loss = theirs._compute_loss(theirs._aggregate_and_get_max_attention_per_token(indices=[5, 8]))
        if goal is not None:
            loss, latents, _ = theirs._perform_iterative_refinement_step(latents, [5, 8], loss, goal, context[:1], size, t, 3)
        moved = theirs._update_latent(latents, loss, size)
    finally:
        backbone.unet.set_attn_processor(own)
    settings = GenerateSettings(
        guidance="attend-and-excite", guidance_step=size, steps=1, guidance_until=1.0, guidance_refinements=0 if goal is None else 3
    )
    things = mentions(prompt, {}, backbone, ("dog", "cat"))
    assert [thing.noun for thing in things] == [(5,), (8,)]

    class Still:
        timesteps = torch.tensor([700])

        @staticmethod
        def scale_model_input(x, t):
            return x

    # diffusers softens over all but the first and the last of the padded prompt
    guide = Guide(backbone, things, backbone.longest_prompt, settings, (16, 16))
    monkeypatch.setattr(attend_and_excite, "GOALS", {0.0: goal or 0.0})
    ours = guide.move(Still, 0, z[:1].clone(), context[:1])
    assert len(guide.history) == {None: 1, 0.0: 2, 0.99: 4}[goal], "one look tells that an easy goal is reached"
    assert guide.history[-1][0] == pytest.approx(loss.item(), abs=1e-5 if goal is None else 1e-4)
    assert torch.allclose(ours, moved.detach(), atol=1e-4 if goal is None else 2e-2)


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
                seen = maps.of(backbone.unet, x, t, context)
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
    settings = GenerateSettings(guidance=kind, steps=1, guidance_until=1.0, guidance_step=1.0, guidance_refinements=2)
    together = Guide(backbone, things, 5, settings, (16, 16)).move(scheduler, 0, z, context)
    for i in range(4):
        alone = Guide(backbone, things, 5, settings, (16, 16)).move(scheduler, 0, z[i : i + 1], context[:1])
        assert torch.allclose(together[i : i + 1], alone, atol=1e-4) and (alone - z[i : i + 1]).abs().max() > 0


def test_an_error_in_a_step_leaves_the_model_as_it_was(backbone, monkeypatch):
    prompt, own = "a dog and a cat", dict(backbone.unet.attn_processors)
    things = mentions(prompt, {}, backbone, ("dog", "cat"))
    plain = GenerateSettings(n=1, steps=2, seed=1)
    before = draw(backbone, prompt, plain)

    def broken(*args):
        raise ZeroDivisionError

    monkeypatch.setattr(guided_file, "attend_loss", broken)
    with pytest.raises(ZeroDivisionError):
        draw(backbone, prompt, GenerateSettings(n=1, steps=2, guidance="l2dm"), things=things, glances=Glances((0,)))
    assert all(backbone.unet.attn_processors[name] is processor for name, processor in own.items())
    assert np.array_equal(before[0], draw(backbone, prompt, plain)[0])


def test_which_steps_are_guided(backbone, monkeypatch):
    assert goals(50) == {0: 0.05, 10: 0.5, 20: 0.8} and goals(20) == {0: 0.05, 4: 0.5, 8: 0.8} and goals(1) == {0: 0.8}
    settings = GenerateSettings(guidance="l2dm", steps=10, guidance_until=0.5, guidance_every=2)
    guide, moved = Guide(backbone, [], 5, settings, (16, 16)), []
    monkeypatch.setattr(guide, "_moved", lambda scheduler, index, *rest: moved.append(index) or (torch.ones(1), torch.zeros(1, 4, 16, 16)))
    for index in range(10):
        guide.move(None, index, torch.zeros(1, 4, 16, 16), None)
    assert moved == [0, 2, 4]


def test_auto_guides_two_concepts_and_nothing_else():
    a, b = Mention("<a>", (1,), (2,)), Mention("<b>", (4,), ())
    dog = Mention("dog", (), (6,))
    assert [chosen("auto", things) for things in ([], [a], [a, dog], [a, b], [a, b, dog])] == ["none"] * 3 + ["l2dm"] * 2
    assert chosen("caa", []) == "caa"


def test_pictures_that_are_not_square(backbone):
    things = mentions("a dog and a cat", {}, backbone, ("dog", "cat"))
    glances = Glances((0, 1))
    (image,) = draw(backbone, "a dog and a cat", GenerateSettings(n=1, steps=2, guidance="l2dm", width=96), things=things, glances=glances)
    assert image.size == (96, 64) and [g.map.shape for g in glances.pictures[0]] == [(8, 12)] * 4


@pytest.mark.parametrize("guidance", ["none", "l2dm"])
def test_glances_change_nothing_and_are_each_pictures_own(backbone, guidance):
    prompt = "a dog and a cat"
    things = mentions(prompt, {}, backbone, ("dog", "cat"))
    settings = GenerateSettings(n=3, batch=2, steps=3, guidance=guidance, guidance_step=1.0)
    glances, alone = Glances((0, 2)), Glances((0, 2))
    watched_ones = draw(backbone, prompt, settings, things=things, glances=glances)
    assert all(np.array_equal(a, b) for a, b in zip(watched_ones, draw(backbone, prompt, settings, things=things)))
    assert [[(g.step, g.name) for g in picture] for picture in glances.pictures] == [[(0, "dog"), (0, "cat"), (2, "dog"), (2, "cat")]] * 3
    draw(backbone, prompt, GenerateSettings.of(settings.as_dict(), {"n": 1, "seed": 1}), things=things, glances=alone)
    for own, other, neighbour in zip(alone.pictures[0], glances.pictures[1], glances.pictures[0]):
        assert 0 < own.map.max() <= 1 and np.abs(own.map - other.map).max() < 0.05 * np.abs(own.map - neighbour.map).max()


def test_guidance_of_size_zero_is_plain_sampling_bit_for_bit(backbone):
    plain = GenerateSettings(n=2, steps=3, seed=5)
    things = mentions("a dog and a cat", {}, backbone, ("dog", "cat"))
    still = GenerateSettings(n=2, steps=3, seed=5, guidance="l2dm", guidance_step=0.0)
    for a, b in zip(draw(backbone, "a dog and a cat", plain), draw(backbone, "a dog and a cat", still, things=things)):
        assert np.array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("kind", ["caa", "oaa", "l2dm", "attend-and-excite", "structure"])
def test_a_guided_batch_is_its_pictures_drawn_alone(backbone, kind):
    prompt = "a dog on the left and a cat"
    things = mentions(prompt, {}, backbone, ("dog", "cat"))
    settings = GenerateSettings(n=2, steps=2, seed=3, guidance=kind, guidance_until=1.0, guidance_refinements=0)
    together = draw(backbone, prompt, settings, things=things)
    alone = draw(backbone, prompt, GenerateSettings.of(settings.as_dict(), {"n": 1, "seed": 4}), things=things)
    plain = draw(backbone, prompt, GenerateSettings.of(settings.as_dict(), {"guidance": "none"}))
    apart = [np.abs(np.asarray(together[1], int) - np.asarray(other, int)).mean() for other in (alone[0], plain[1])]
    assert apart[0] < 0.5 and apart[1] > 4 * apart[0], "up to rounding, which guidance enlarges"


def test_structure_is_the_mean_over_the_phrases_values(backbone):
    """Against the paper's own form: attention once, applied to each encoding's values, then averaged."""
    z, t, context = _ready(backbone, "a dog and a cat")
    phrases = {"dog": (2,), "cat": (5,)}
    read = backbone.encode_text
    both = [context.clone(), context.clone()]
    for changed, (words, (position,)) in zip(both, phrases.items()):
        changed[:, position] = read([words])[0, 1]
    layer = backbone.unet.mid_block.attentions[0].transformer_blocks[0].attn2
    hidden = torch.randn(2, 16, layer.to_q.in_features)
    with torch.no_grad():
        expected = sum(_attend(layer, hidden, context, values) for values in (context, *both)) / 3
        with values_from(backbone.unet, structured(context, phrases, read)):
            got = layer(hidden, encoder_hidden_states=context)
            moved = backbone.unet(z, t, context).sample
        assert torch.allclose(got, expected, atol=1e-5)
        plain = backbone.unet(z, t, context).sample
        assert not torch.equal(moved, plain)
        with values_from(backbone.unet, context):
            assert torch.equal(backbone.unet(z, t, context).sample, plain), "its own values change nothing"


def _attend(layer, hidden, context, values):
    query, key, value = layer.to_q(hidden), layer.to_k(context), layer.to_v(values)
    query, key, value = (x.unflatten(-1, (layer.heads, -1)).transpose(1, 2) for x in (query, key, value))
    mixed = (query @ key.mT * layer.scale).softmax(-1) @ value
    return layer.to_out[0](mixed.transpose(1, 2).flatten(2))


def test_a_move_goes_down(backbone):
    prompt = "a dog and a cat"
    z, _, context = _ready(backbone, prompt)
    settings = GenerateSettings(guidance="l2dm", guidance_step=0.1, guidance_repeats=4, steps=1, guidance_until=1.0)
    guide = Guide(backbone, mentions(prompt, {}, backbone, ("dog", "cat")), 5, settings, (16, 16))
    scheduler = backbone.pipeline().scheduler
    scheduler.set_timesteps(1)
    guide.move(scheduler, 0, z, context)
    assert all(last < first for first, last in zip(guide.history[0], guide.history[-1]))


def test_pictures_that_have_enough_are_left_alone(backbone):
    z, _, context = _ready(backbone, "a dog and a cat")
    settings = GenerateSettings(guidance="l2dm", guidance_enough=1e6, guidance_repeats=3, steps=1, guidance_until=1.0)
    guide = Guide(backbone, mentions("a dog and a cat", {}, backbone, ("dog", "cat")), 5, settings, (16, 16))
    scheduler = backbone.pipeline().scheduler
    scheduler.set_timesteps(1)
    for _ in range(2):
        assert torch.equal(guide.move(scheduler, 0, z, context), z) and len(guide.history) == 1, "nor looked at again"


def words_of(backbone, prompt, concepts=KNOWN, plain=()):
    pieces = backbone.tokenizer.convert_ids_to_tokens(backbone.tokenizer(prompt).input_ids)
    found = mentions(prompt, concepts, backbone, plain)
    return [(m.name, [pieces[i] for i in m.personal], [pieces[i].removesuffix("</w>") for i in m.noun], m.side) for m in found]


@pytest.fixture
def taught():
    """A backbone that knows two tokens."""
    from l2dm.backbone import Backbone

    loaded = Backbone.load()
    for token in KNOWN:
        loaded.add_token(token, torch.randn(loaded.tokens.base.embedding_dim))
    return loaded


def test_words_of_prompts(taught):
    rex, ducky = ("<rex>", ["<rex>"], ["dog"]), ("<ducky>", ["<ducky>"], ["duck", "toy"])
    assert words_of(taught, "A photo of <rex> dog, and <ducky> duck toy's on the BEACH") == [(*rex, None), (*ducky, None)]
    assert words_of(taught, "<rex> dog on the left of <ducky> duck toy") == [(*rex, "left"), (*ducky, "right")]
    assert words_of(taught, "<ducky> duck toy above <rex> dog") == [(*ducky, "top"), (*rex, "bottom")]
    assert words_of(taught, "<rex> dog on the right and <ducky> duck toy on the left") == [(*rex, "right"), (*ducky, "left")]
    assert words_of(taught, "<rex> and a cat", plain=("cat", "dog")) == [("<rex>", ["<rex>"], [], None), ("cat", [], ["cat"], None)]
    assert words_of(taught, "<rex> dog and a dog", plain=("dog",)) == [(*rex, None), ("dog", [], ["dog"], None)], "two of one noun"
    assert words_of(taught, "a teddy bear", {}, ("bear", "teddy bear")) == [("teddy bear", [], ["teddy", "bear"], None)]
    with pytest.raises(PromptError, match="lies beyond what this base reads"):
        mentions("very " * 30 + "<rex> dog", KNOWN, taught)


def test_guidance_says_what_it_cannot_do():
    with pytest.raises(SettingsError, match="expected one of none, caa, oaa, l2dm, attend-and-excite, structure, auto"):
        GenerateSettings(guidance="cca")

"""Attention maps, the artists' losses against hand-made maps and loops, guided sampling against plain, words of prompts."""

from __future__ import annotations

import math
import sys

import numpy as np
import pytest
import torch

from l2dm.errors import PromptError, SettingsError
from l2dm.generation import draw, mentions
from l2dm.generation.guided import Guide
from l2dm.guidance.attend_and_excite import most_neglected_loss
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


def _ready(backbone, prompt, seed=0):
    torch.manual_seed(seed)
    return torch.randn(2, 4, 16, 16), torch.tensor(700), backbone.encode_text([prompt] * 2)


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


def test_attend_and_excite_is_that_of_diffusers(backbone):
    """The same loss and the same moved latents as diffusers' own pipeline, for one step."""
    from diffusers import StableDiffusionAttendAndExcitePipeline as Theirs

    prompt, size = "a photo of a dog and a cat", map_size(backbone.unet, 16, 16)
    z, t, context = _ready(backbone, prompt)
    own, plain = dict(backbone.unet.attn_processors), backbone.pipeline()
    parts = (plain.vae, plain.text_encoder, plain.tokenizer, plain.unet, plain.scheduler)
    theirs = Theirs(*parts, safety_checker=None, feature_extractor=None, requires_safety_checker=False)
    latents = z[:1].clone().requires_grad_()
    try:
        theirs.attention_store = sys.modules[Theirs.__module__].AttentionStore(size)
        theirs.register_attention_control()
        theirs.unet(latents, t, encoder_hidden_states=context[:1])
        loss = theirs._compute_loss(theirs._aggregate_and_get_max_attention_per_token(indices=[5, 8]))
        moved = theirs._update_latent(latents, loss, 20.0)
    finally:
        backbone.unet.set_attn_processor(own)
    settings = GenerateSettings(guidance="attend-and-excite", guidance_step=20.0, steps=1, guidance_until=1.0)
    things = mentions(prompt, {}, backbone, ("dog", "cat"))
    assert [thing.noun for thing in things] == [(5,), (8,)]

    class Still:
        timesteps = torch.tensor([700])

        @staticmethod
        def scale_model_input(x, t):
            return x

    # diffusers softens over all but the first and the last of the padded prompt
    guide = Guide(backbone, things, backbone.longest_prompt, settings, (16, 16))
    ours = guide.move(Still, 0, z[:1].clone(), context[:1])
    assert guide.history[0][0] == pytest.approx(loss.item(), abs=1e-5)
    assert torch.allclose(ours, moved.detach(), atol=1e-4)


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
    settings = GenerateSettings(n=2, steps=2, seed=3, guidance=kind, guidance_until=1.0)
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


def test_guidance_says_what_it_cannot_do(backbone):
    things = mentions("a dog", {}, backbone, ("dog",))
    with pytest.raises(SettingsError, match="square"):
        draw(backbone, "a dog", GenerateSettings(n=1, steps=1, guidance="caa", width=96), things=things)
    with pytest.raises(SettingsError, match="expected one of none, caa, oaa, l2dm, attend-and-excite, structure"):
        GenerateSettings(guidance="cca")

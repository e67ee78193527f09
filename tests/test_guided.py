"""Attention maps, and guided sampling against plain sampling and diffusers' Attend-and-Excite."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch

from l2dm.backbone.samplers import deterministic
from l2dm.errors import SettingsError
from l2dm.generation import AttentionRecorder, draw, mentions
from l2dm.generation import guided as guided_file
from l2dm.generation.by_phrases import phrases_of
from l2dm.guidance.attention import AttentionMaps, map_size, watched, without_start
from l2dm.guidance.structure import structured, values_from
from l2dm.settings import GenerateSettings


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
            assert torch.allclose(maps.probabilities(), seen[1:], atol=1e-5), (
                "each picture's maps are its own"
            )
    assert seen.shape == (2, 32, 8, 8) and torch.allclose(seen.sum(1), torch.ones(2, 8, 8), atol=1e-5)
    assert torch.allclose(without_start(seen)[:, 1:].sum(1), torch.ones(2, 8, 8), atol=1e-5)
    with pytest.raises(ZeroDivisionError), watched(backbone.unet, maps):
        raise ZeroDivisionError
    assert all(backbone.unet.attn_processors[name] is processor for name, processor in own.items())
    with pytest.raises(RuntimeError, match="no cross-attention layer"):
        maps.probabilities()


def test_an_error_in_a_step_leaves_the_model_as_it_was(backbone, monkeypatch):
    prompt, own = "a dog and a cat", dict(backbone.unet.attn_processors)
    things = mentions(prompt, {}, backbone, ("dog", "cat"))
    plain = GenerateSettings(n=1, steps=2, seed=1)
    before = draw(backbone, prompt, plain)

    def broken(*args):
        raise ZeroDivisionError

    monkeypatch.setattr(guided_file, "attend_loss", broken)
    with pytest.raises(ZeroDivisionError):
        draw(
            backbone,
            prompt,
            GenerateSettings(n=1, steps=2, composition="l2dm"),
            mentions=things,
            recorder=AttentionRecorder((0,)),
        )
    assert all(backbone.unet.attn_processors[name] is processor for name, processor in own.items())
    assert np.array_equal(before[0], draw(backbone, prompt, plain)[0])


def test_pictures_that_are_not_square(backbone):
    things = mentions("a dog and a cat", {}, backbone, ("dog", "cat"))
    recorder = AttentionRecorder((0, 1))
    (image,) = draw(
        backbone,
        "a dog and a cat",
        GenerateSettings(n=1, steps=2, composition="l2dm", width=96),
        mentions=things,
        recorder=recorder,
    )
    assert image.size == (96, 64) and [g.map.shape for g in recorder.pictures[0]] == [(8, 12)] * 4


@pytest.mark.parametrize("guidance", ["none", "l2dm"])
def test_recording_changes_nothing_and_are_each_pictures_own(backbone, guidance):
    prompt = "a dog and a cat"
    things = mentions(prompt, {}, backbone, ("dog", "cat"))
    settings = GenerateSettings(n=3, batch=2, steps=3, composition=guidance, guidance_step=1.0)
    recorder, alone = AttentionRecorder((0, 2)), AttentionRecorder((0, 2))
    watched_ones = draw(backbone, prompt, settings, mentions=things, recorder=recorder)
    assert all(
        np.array_equal(a, b) for a, b in zip(watched_ones, draw(backbone, prompt, settings, mentions=things))
    )
    assert [[(g.step, g.name) for g in picture] for picture in recorder.pictures] == [
        [(0, "dog"), (0, "cat"), (2, "dog"), (2, "cat")]
    ] * 3
    draw(
        backbone,
        prompt,
        GenerateSettings.of(settings.as_dict(), {"n": 1, "seed": 1}),
        mentions=things,
        recorder=alone,
    )
    for own, other, neighbour in zip(alone.pictures[0], recorder.pictures[1], recorder.pictures[0]):
        assert (
            0 < own.map.max() <= 1
            and np.abs(own.map - other.map).max() < 0.05 * np.abs(own.map - neighbour.map).max()
        )


def test_guidance_of_size_zero_is_plain_sampling_bit_for_bit(backbone):
    """Of the deterministic sampler that guidance takes."""
    backbone = dataclasses.replace(backbone, scheduler=deterministic(backbone.scheduler)[0])
    plain = GenerateSettings(n=2, steps=3, seed=5)
    things = mentions("a dog and a cat", {}, backbone, ("dog", "cat"))
    still = GenerateSettings(n=2, steps=3, seed=5, composition="artists", guidance_step=0.0)
    for a, b in zip(
        draw(backbone, "a dog and a cat", plain), draw(backbone, "a dog and a cat", still, mentions=things)
    ):
        assert np.array_equal(np.asarray(a), np.asarray(b))


@pytest.mark.parametrize("kind", ["caa", "oaa", "l2dm", "attend-and-excite", "structure"])
def test_a_guided_batch_is_its_pictures_drawn_alone(backbone, kind):
    prompt = "a sock on the left and a spoon"  # what the base knows is attended to anyway: nothing to excite
    things = mentions(prompt, {}, backbone, ("sock", "spoon"))
    settings = GenerateSettings(
        n=2, steps=2, seed=3, composition=kind, guidance_until=1.0, guidance_refinements=0
    )
    together = draw(backbone, prompt, settings, mentions=things)
    alone = draw(
        backbone, prompt, GenerateSettings.of(settings.as_dict(), {"n": 1, "seed": 4}), mentions=things
    )
    plain = draw(backbone, prompt, GenerateSettings.of(settings.as_dict(), {"composition": "none"}))
    apart = [
        np.abs(np.asarray(together[1], int) - np.asarray(other, int)).mean() for other in (alone[0], plain[1])
    ]
    assert apart[0] < 0.5 and apart[1] > 4 * apart[0], "up to rounding, which guidance enlarges"


def test_structure_is_the_mean_over_the_phrases_values(backbone):
    """Against the paper's own form: attention once, applied to each encoding's values, then averaged."""
    z, t, context = _ready(backbone, "a dog and a cat")
    phrases = [("dog", (2,), (1,)), ("cat", (5,), (1,))]
    read = backbone.encode_text
    both = [context.clone(), context.clone()]
    for changed, (words, (position,), _) in zip(both, phrases):
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


def test_guidance_says_what_it_cannot_do():
    with pytest.raises(
        SettingsError,
        match="expected one of none, caa, oaa, l2dm, artists, attend-and-excite, self-cross, structure, "
        "mudi, confined, collage, auto",
    ):
        GenerateSettings(composition="cca")


def test_structure_reads_whole_noun_phrases(backbone):
    prompt = "a photo of a black dog and a black dog"
    found = phrases_of(backbone, prompt, mentions(prompt, {}, backbone))
    assert [words for words, *_ in found] == ["a black dog"] * 2
    assert [len(places) for _, places, _ in found] == [backbone.count_tokens("a black dog")] * 2
    assert not set(found[0][1]) & set(found[1][1])


@pytest.mark.parametrize(
    "prompt, expected",
    [
        ("a red car and a blue <dash> car", ["a red car", "a blue <dash> car"]),
        (
            "a photo of a small red car next to my <dash> car in the snow",
            ["a small red car", "my <dash> car"],
        ),
        ("two white dogs and the black cat", ["two white dogs", "the black cat"]),
    ],
)
def test_structure_reads_a_things_own_adjectives_with_it(backbone, prompt, expected):
    """ "red" belongs to "a red car": it is encoded with it, and its place in the prompt gets what is read
    there.
    """
    things = mentions(prompt, {"<dash>": "car"}, backbone, ("dog", "cat", "car"))
    phrases = phrases_of(backbone, prompt, things)
    assert [words for words, *_ in phrases] == expected
    for words, places, alone in phrases:
        assert places == backbone.places(prompt, (prompt.index(words), prompt.index(words) + len(words)))
        assert len(places) == len(alone) and alone[0] == backbone.start

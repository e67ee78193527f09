"""Confinement: each thing in its own part, and nothing else anywhere."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from learning import learn

from l2dm.backbone.conditioning import resized
from l2dm.backbone.sites import text_attention
from l2dm.generation import AttentionRecorder, draw, mentions, provenance, resolve_composition
from l2dm.guidance.confinement import Confinement
from l2dm.settings import GenerateSettings

BOTH = "<rex> dog and <tom> cat"
SIDE = 8  # cells of the tiny base's latents


@pytest.fixture
def taught(photos):
    """The tiny base with two switched adapters, <rex> (dog) and <tom> (cat), that do something."""
    return learn(photos, "gated-lora", "<rex>", "<tom>", steps=2)


def halves(count: int = 1) -> torch.Tensor:
    """(count, 2, 8, 8): the left half is the first thing's, the right half the second's."""
    left = torch.zeros(count, SIDE, SIDE)
    left[..., : SIDE // 2] = 1
    return torch.stack([left, 1 - left], 1)


def confinement_of(backbone) -> Confinement:
    things = mentions(BOTH, {"<rex>": "dog", "<tom>": "cat"}, backbone)
    return Confinement(backbone, [one.all for one in things], [one.name for one in things])


def test_an_adapter_acts_in_its_own_part_alone_in_every_layer_of_the_picture(taught):
    backbone, tuner = taught.backbone, taught.tuner
    confinement = confinement_of(backbone)
    reading = confinement.put(halves(), backbone.read([BOTH]))
    seen, names = (
        {},
        ["mid_block.resnets.0.conv1", "down_blocks.0.attentions.0.transformer_blocks.0.ff.net.2"],
    )
    for name in names:
        backbone.unet.get_submodule(name).register_forward_hook(
            lambda layer, inputs, output, name=name: seen.update({name: (inputs[0], output)})
        )
    backbone.predict(torch.randn(1, 4, SIDE, SIDE), torch.tensor([500]), reading)
    for name in names:
        x, out = seen[name]
        plain, alone = tuner.layers[name](x), {}
        for token in ("<rex>", "<tom>"):
            down, up = tuner.factors(token, name)
            layer = tuner.layers[name]
            if x.dim() == 4:
                hidden = torch.nn.functional.conv2d(x, down, None, layer.stride, layer.padding)
                alone[token] = torch.nn.functional.conv2d(hidden, up)
            else:
                alone[token] = x @ down.T @ up.T
        cells = out.shape[-2] * out.shape[-1] if out.dim() == 4 else out.shape[1]
        where = resized(halves(), cells)
        where = where[:, :, None] if out.dim() == 4 else where.flatten(2)[..., None]
        wanted = plain + where[:, 0] * alone["<rex>"] + where[:, 1] * alone["<tom>"]
        assert torch.allclose(out, wanted, atol=1e-5), name
        assert not torch.allclose(out, plain + alone["<rex>"] + alone["<tom>"], atol=1e-5), name


def test_a_part_that_is_the_whole_picture_is_no_confinement(taught):
    backbone = taught.backbone
    confinement, reading = confinement_of(backbone), backbone.read([BOTH])
    everywhere = confinement.put(torch.ones(1, 2, SIDE, SIDE), reading)
    noisy, t = torch.randn(1, 4, SIDE, SIDE), torch.tensor([500])
    plain = backbone.predict(noisy, t, reading)
    with confinement.acting():
        assert torch.equal(plain, backbone.predict(noisy, t, reading)), "what was not put is not confined"
        assert torch.allclose(plain, backbone.predict(noisy, t, everywhere), atol=1e-5)


def test_words_are_seen_from_their_own_part_alone_and_negatives_as_ever(taught):
    backbone = taught.backbone
    confinement, reading = confinement_of(backbone), backbone.read([BOTH])
    confinement.put(halves(), reading)
    both = dataclasses.replace(type(reading).cat([reading, reading]), negative=torch.tensor([True, False]))
    length = reading.features.shape[1]
    bias = confinement.bias(both, 16, length)
    assert bias.shape == (2, 16, length) and not bias[0].any()
    shares = bias[1].softmax(-1).unflatten(0, (4, 4))
    for thing, words in enumerate(confinement.words):
        own = shares[:, 2 * thing : 2 * thing + 2, list(words)]
        other = shares[:, 2 - 2 * thing : 4 - 2 * thing, list(words)]
        assert (own > 0.01).all() and (other == 0).all()
    assert torch.allclose(shares.sum(-1), torch.ones(4, 4))


def test_a_thing_named_twice_has_both_its_parts_and_other_concepts_are_left_alone(taught):
    backbone = taught.backbone
    confinement = Confinement(backbone, [(1,), (5,)], ["<rex>", "<rex>"])
    regions = confinement.put(halves(), backbone.read([BOTH])).regions
    assert (regions == 1).all(), "<rex> in both, <tom> is no thing of this prompt"


def test_own_processors_are_back_after_an_error(taught):
    backbone = taught.backbone
    own = [layer.processor for layer in text_attention(backbone.denoiser).values()]
    with pytest.raises(ZeroDivisionError), confinement_of(backbone).acting():
        raise ZeroDivisionError
    assert own == [layer.processor for layer in text_attention(backbone.denoiser).values()]


@pytest.mark.parametrize("sampler", ["base", "dpm-solver"])
def test_confined_sampling_differs_only_where_there_are_two_things(taught, sampler):
    backbone = taught.backbone
    concepts = {"<rex>": "dog", "<tom>": "cat"}

    def drawn(prompt: str, guidance: str) -> np.ndarray:
        settings = GenerateSettings(composition=guidance, steps=4, n=2, sampler=sampler)
        return np.stack(draw(backbone, prompt, settings, mentions=mentions(prompt, concepts, backbone)))

    assert np.array_equal(drawn("a photo of <rex> dog", "confined"), drawn("a photo of <rex> dog", "none"))
    confined = drawn(BOTH, "confined")
    assert not np.array_equal(confined, drawn(BOTH, "none"))
    assert np.array_equal(confined, drawn(BOTH, "confined"))
    left = "<rex> dog on the left and <tom> cat on the right"
    assert not np.array_equal(drawn(left, "confined"), drawn(left, "none"))


def test_sizes_that_are_no_grid_of_a_part_are_named():
    regions = halves()
    assert torch.equal(resized(regions, 16)[0, 0], halves()[0, 0][::2, ::2])
    with pytest.raises(ValueError, match="15 cells are no picture of 8 x 8"):
        resized(regions, 15)


def test_provenance_tells_of_what_was_confined(taught):
    backbone, things = taught.backbone, mentions(BOTH, {"<rex>": "dog", "<tom>": "cat"}, taught.backbone)

    def told(**changes) -> str:
        settings = GenerateSettings(**{"steps": 4, "confine": True, **changes})
        composition = resolve_composition(settings.composition, things)
        return provenance(backbone, BOTH, things, composition, settings)["composition"]

    assert "; confined" in told(composition="artists") and "confined" not in told(
        composition="artists", confine=False
    )
    assert "; confined" in told(composition="l2dm", confine=False), (
        "it is the artists and confinement together"
    )
    for guidance in ("confined", "l2dm"):
        assert "one step, so nothing is confined" in told(composition=guidance, steps=1)
    assert "confined" not in told(composition="none")


def test_parts_are_found_also_where_no_step_is_guided(taught):
    def drawn(**changes) -> np.ndarray:
        settings = GenerateSettings(steps=4, n=1, composition="artists", guidance_until=0.0, **changes)
        things = mentions(BOTH, {"<rex>": "dog", "<tom>": "cat"}, taught.backbone)
        return np.stack(draw(taught.backbone, BOTH, settings, mentions=things))

    assert not np.array_equal(drawn(confine=True), drawn(confine=False))


@pytest.mark.parametrize("guidance", ["confined", "l2dm", "collage", "none"])
def test_each_step_shows_the_part_that_a_thing_is_held_to(taught, guidance):
    backbone, prompt = taught.backbone, BOTH
    things = mentions(prompt, {"<rex>": "dog", "<tom>": "cat"}, backbone)
    settings = GenerateSettings(steps=8, n=3, batch=2, composition=guidance, guidance_until=1.0)
    recorder = AttentionRecorder((0, 7))
    draw(backbone, prompt, settings, mentions=things, recorder=recorder)
    for snapshots in recorder.pictures:
        first, last = snapshots[:2], snapshots[2:]
        if guidance == "none":
            assert all(shot.region is None for shot in snapshots)
            continue
        assert guidance == "collage" or all(shot.region is None for shot in first), "not chosen yet"
        rex, tom = (shot.region for shot in last)
        assert rex.dtype == bool and rex.any() and tom.any() and (rex ^ tom).all()


def test_artists_look_at_the_attention_of_the_base_itself(taught):
    """Their moves are made with adapters off; the sampling's own forwards with them on."""
    backbone, on, moved = taught.backbone, [], []
    hook = backbone.denoiser.register_forward_hook(
        lambda *_: (moved if torch.is_grad_enabled() else on).append(len(taught.tuner.on))
    )
    settings = GenerateSettings(steps=4, n=1, composition="l2dm", guidance_until=1.0, guidance_scale=3.0)
    draw(backbone, BOTH, settings, mentions=mentions(BOTH, {"<rex>": "dog", "<tom>": "cat"}, backbone))
    hook.remove()
    assert set(on) == {2} and set(moved) == {0} and len(moved) == 1, "later moves end before the last layer"

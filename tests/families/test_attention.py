"""Maps of joint attention against an explicit softmax, in every family that has it, while its own pipeline
draws.
"""

import inspect

import pytest
import torch
from diffusers import DiffusionPipeline
from reference.cross_attention import literal_cross_attention
from reference.joint_attention import literal_text_attention

from families.folders import DRAWING, FAMILIES
from l2dm.backbone.sites import (
    is_joint,
    key_value_layers,
    map_size,
    patch,
    picture_layers,
    text_attention,
    text_layers,
)
from l2dm.guidance.attention import AttentionMaps, watched

JOINT = ["sd3", "flux", "flux2", "z_image", "deepfloyd_if"]


def made(family, place) -> tuple[DiffusionPipeline, torch.nn.Module]:
    with torch.random.fork_rng():
        torch.manual_seed(0)
        pipe = FAMILIES[family]()
    pipe.set_progress_bar_config(disable=True)
    pipe.to(*place)
    for part in pipe.components.values():
        if isinstance(part, torch.nn.Module):
            part.eval()
    return pipe, getattr(pipe, "transformer", None) or pipe.unet


def near(ours, slow, place) -> bool:
    """As close as the precision that the queries and keys are in."""
    return torch.allclose(
        ours.float().cpu(), slow.float().cpu(), atol=1e-5 if place[1] == torch.float32 else 0.02
    )


def draw(pipe, family):
    side = 32 if family == "sana" else 16
    settings = {
        "num_inference_steps": 2,
        "height": side,
        "width": side,
        "output_type": "np" if family == "deepfloyd_if" else "latent",
        "guidance_scale": 0,
    }
    if "max_sequence_length" in inspect.signature(pipe.__call__).parameters:
        settings["max_sequence_length"] = 40
    prompts = ["a dog", "a photo of a red car at night in the city, on a road with grass and trees"]
    generators = [torch.Generator().manual_seed(i) for i in range(2)]
    return pipe(prompt=prompts, generator=generators, **settings, **DRAWING.get(family, {})).images


@pytest.mark.parametrize("family", JOINT)
def test_maps_are_an_explicit_softmax_and_watching_changes_no_bit(family, place):
    pipe, denoiser = made(family, place)
    cells = 16 if family == "deepfloyd_if" else 8
    maps, calls = AttentionMaps(map_size(denoiser, cells, cells)), []
    found = text_attention(denoiser)
    assert found and all(is_joint(name, layer) for name, layer in found.items())

    def keep(layer, args, kwargs):
        calls.append((layer, inspect.signature(type(layer).forward).bind(layer, *args, **kwargs).arguments))

    plain = draw(pipe, family)
    hooks = [layer.register_forward_pre_hook(keep, with_kwargs=True) for layer in found.values()]
    with torch.no_grad(), watched(denoiser, maps):
        assert (draw(pipe, family) == plain).all()
        seen = list(maps.layers)
        for hook in hooks:
            hook.remove()
        pixels = maps.height * maps.width
        looked = [
            (layer, {**call, **call.pop("kwargs", {}), **call.pop("cross_attention_kwargs", {})})
            for layer, call in calls
            if call["hidden_states"].ndim == 3 or call["hidden_states"][0, 0].numel() == pixels
        ]
        assert len(seen) == len(looked) > 0
        seen = seen[: len(seen) // 2]  # of the first step
        expected = [literal_text_attention(*one, pixels, seen[0].shape[-1]) for one in looked[: len(seen)]]
    for ours, slow in zip(seen, expected):
        assert ours.shape == slow.shape and near(ours, slow, place)
        assert near(ours.sum(-1), torch.ones(2, pixels), place)
    assert not any("forward" in vars(module) for module in denoiser.modules()), "put back"


@torch.no_grad()
@pytest.mark.parametrize("family", ["sd", "sdxl", "pixart", "sana"])
def test_maps_of_cross_attention_are_an_explicit_softmax(family, place):
    pipe, denoiser = made(family, place)
    cells, calls = 8, []
    maps = AttentionMaps(map_size(denoiser, cells, cells))

    def keep(layer, args, kwargs):
        given = inspect.signature(type(layer).forward).bind(layer, *args, **kwargs).arguments
        if given["hidden_states"].shape[1] == maps.height * maps.width:
            calls.append(
                (layer, *map(given.get, ("hidden_states", "encoder_hidden_states", "attention_mask")))
            )

    for layer in text_attention(denoiser).values():
        layer.register_forward_pre_hook(keep, with_kwargs=True)
    with watched(denoiser, maps):
        draw(pipe, family)
        assert len(maps.layers) == len(calls) > 0
        for ours, call in zip(maps.layers, calls):
            assert near(ours, literal_cross_attention(*call), place)


@pytest.mark.parametrize("family", ["pixart", "pixart_sigma"])
def test_masked_words_have_no_share_of_cross_attention(family, place):
    pipe, denoiser = made(family, place)
    maps = AttentionMaps(map_size(denoiser, 8, 8))
    plain = draw(pipe, family)
    with torch.no_grad(), watched(denoiser, maps):
        assert (draw(pipe, family) == plain).all()
        seen = maps.probabilities()
    assert near(seen.sum(1), torch.ones(2, 4, 4), place)
    words = [len(pipe.tokenizer(text).input_ids) for text in ("a dog", "a photo")]
    assert words == [3, 3] and seen[0, 3:].max() == 0 and seen[0, :3].min() > 0
    assert seen[1, 3:15].min() > 0


def test_a_gradient_reaches_the_picture_through_the_maps(place):
    denoiser = made("sd3", place)[1]
    z, words, pooled = (torch.randn(s).to(*place) for s in ((1, 4, 8, 8), (1, 9, 32), (1, 32)))
    z, read = z.requires_grad_(), {"encoder_hidden_states": words, "pooled_projections": pooled}
    maps = AttentionMaps(map_size(denoiser, 8, 8))
    with watched(denoiser, maps):
        denoiser(z, timestep=torch.tensor([500.0]).to(*place), **read)
        (gradient,) = torch.autograd.grad(maps.probabilities()[:, 2].square().sum(), z)
    assert gradient.abs().max() > 0


@pytest.mark.parametrize("family", [*JOINT, "pixart"])
def test_layers_of_the_text_read_tokens_alone_and_all_can_be_adapted(family, place):
    pipe, denoiser = made(family, place)
    shapes, hooks = {}, []
    for name, layer in picture_layers(denoiser).items():
        hooks.append(
            layer.register_forward_pre_hook(lambda m, args, name=name: shapes.update({name: args[0].shape}))
        )
    draw(pipe, family)
    for hook in hooks:
        hook.remove()
    readers = text_layers(denoiser)
    assert set(readers) <= set(picture_layers(denoiser)) == set(shapes), (
        "every layer that can be adapted takes part"
    )
    lengths = {shapes[name][1] for name in readers}
    assert len(lengths) == (0 if family == "z_image" else 1), (
        "one stream has no projections of the text alone"
    )
    shared = set(key_value_layers(denoiser))
    assert shared == (set(readers) or {f"layers.0.attention.{end}" for end in ("to_k", "to_v")})
    assert family == "deepfloyd_if" or patch(denoiser) == 2

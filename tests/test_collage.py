"""The collage: prompts of one thing each, where things go, and that nothing else changes."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    HeunDiscreteScheduler,
    PNDMScheduler,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
)
from learning import loaded
from PIL import Image

from l2dm.backbone.samplers import begin_later
from l2dm.generation import AttentionRecorder, draw, mentions, resolve_composition
from l2dm.generation.mentions import single_subject_prompts
from l2dm.guidance.collage import collage, grid, spots
from l2dm.settings import GenerateSettings

PLAIN = ("dog", "cat", "tree")
COLLAGE = GenerateSettings(n=2, steps=4, guidance_scale=3.0, composition="collage", batch=2)


@pytest.mark.parametrize(
    "prompt, expected",
    [
        (
            "a photo of a dog and a cat in the snow",
            ["a photo of a dog in the snow", "a photo of a cat in the snow"],
        ),
        ("A dog, the cat and a tree", ["A dog", "the cat", "a tree"]),
        ("a dog on the left and a cat on the right at night", ["a dog at night", "a cat at night"]),
        ("a dog to the left of a cat on the beach", ["a dog on the beach", "a cat on the beach"]),
        ("a dog is above the cat", ["a dog", "the cat"]),
        (
            "photo of dog in a red hat next to my cat, at night",
            ["photo of dog in a red hat, at night", "photo of my cat, at night"],
        ),
        ("a dog in a red hat to the right of a cat", ["a dog in a red hat", "a cat"]),
        ("a dog with a cat with a hat", ["a dog with a hat", "a cat with a hat"]),
    ],
)
def test_each_thing_gets_the_prompt_without_the_others(backbone, prompt, expected):
    assert single_subject_prompts(prompt, mentions(prompt, {}, backbone, PLAIN)) == expected


def test_places():
    row = torch.tensor([[-0.5, 0.0], [0.5, 0.0]])
    assert spots([None, None]).allclose(row, atol=1e-6), "in the prompt's order"
    assert spots(["right", None]).allclose(-row, atol=1e-6) and spots(["top", "bottom"])[0].tolist() == [
        0.0,
        -0.5,
    ]
    assert spots(["left", "left"]).allclose(row, atol=1e-6), "there is no room for both"
    assert [grid(count) for count in (2, 3, 4, 5, 7)] == [[2], [2, 1], [2, 2], [3, 2], [3, 2, 2]]
    assert spots([None] * 3).tolist() == [[-0.5, -0.5], [0.5, -0.5], [0.0, 0.5]], "in reading order"
    for count in (3, 4, 5, 7):
        points = spots([None] * count)
        assert points.shape == (count, 2) and torch.pdist(points).min() > 0.5


@pytest.mark.parametrize(
    "sides, size",
    [([None, None], (64, 64)), ([None, None], (96, 64)), ([None] * 3, (64, 64)), (["top", None], (64, 64))],
)
def test_every_picture_lies_whole_about_its_spot(sides, size):
    tones = [(250, 0, 0), (0, 250, 0), (0, 0, 250)][: len(sides)]
    points = spots(sides)
    pixels, inside = collage([Image.new("RGB", (64, 64), tone) for tone in tones], points, size)
    assert pixels.shape == (size[1], size[0], 3) and inside.shape == pixels.shape[:2] and inside.mean() > 0.4
    for (x, y), tone in zip(((points + 1) / 2 * torch.tensor(size)).int().tolist(), tones):
        assert (pixels[y - 8 : y + 8, x - 8 : x + 8] == tone).all() and inside[
            y - 8 : y + 8, x - 8 : x + 8
        ].all()
    assert {tuple(c) for c in pixels.reshape(-1, 3).tolist()} == set(tones), (
        "edges are drawn out, nothing is left empty"
    )


def test_a_collage_is_for_two_things_or_more(backbone):
    prompt = "a photo of a dog on the beach"
    things = mentions(prompt, {}, backbone, PLAIN)
    assert (
        resolve_composition("collage", things).name == "none"
        and resolve_composition("collage", things * 2).name == "collage"
    )
    plain, same = (
        draw(backbone, prompt, GenerateSettings.of(COLLAGE.as_dict(), {"composition": g}), mentions=things)
        for g in ("none", "collage")
    )
    assert all(np.array_equal(a, b) for a, b in zip(plain, same))


@pytest.mark.parametrize("steps", [1, 4])
def test_each_picture_of_a_batch_is_its_own_and_recording_changes_nothing(backbone, steps):
    prompt = "a photo of a dog and a cat"
    things = mentions(prompt, {}, backbone, PLAIN)
    settings = GenerateSettings.of(COLLAGE.as_dict(), {"steps": steps})
    both = draw(backbone, prompt, settings, mentions=things)
    alone_ones = draw(
        backbone, prompt, GenerateSettings.of(settings.as_dict(), {"batch": 1}), mentions=things
    )
    for a, b in zip(both, alone_ones):
        assert np.abs(np.asarray(a, int) - np.asarray(b, int)).max() <= 2
    assert not np.array_equal(both[0], both[1])
    recorder = AttentionRecorder((0, steps - 1))
    seen = draw(backbone, prompt, settings, mentions=things, recorder=recorder)
    assert all(np.array_equal(a, b) for a, b in zip(both, seen))
    assert [g.name for g in recorder.pictures[1]] == ["dog", "cat"] * len({max(0, steps - 2), steps - 1})


def test_what_was_drawn_alone_stays_where_it_was_put(backbone, monkeypatch):
    """Until the last step, and so very nearly to the end."""
    from l2dm.generation import alone

    made = []
    monkeypatch.setattr(alone, "collage", lambda *about: made.append(collage(*about)) or made[-1])
    prompt = "a photo of a dog and a cat"
    (drawn,) = draw(
        backbone,
        prompt,
        GenerateSettings(n=1, steps=8, guidance_scale=3.0, composition="collage"),
        mentions=mentions(prompt, {}, backbone, PLAIN),
    )
    ((pixels, inside),) = made
    apart = np.abs(np.asarray(drawn, int) - pixels).mean(-1)
    assert apart[inside].mean() < 25, "of 255"


@pytest.mark.parametrize(
    "kind", [DDIMScheduler, PNDMScheduler, EulerDiscreteScheduler, HeunDiscreteScheduler]
)
def test_every_scheduler_draws_a_collage(backbone, kind):
    other = dataclasses.replace(
        backbone, scheduler=kind.from_config(backbone.scheduler.config, skip_prk_steps=True)
    )
    prompt = "a photo of a dog and a cat"
    drawn = draw(other, prompt, COLLAGE, mentions=mentions(prompt, {}, backbone, PLAIN))
    assert len(drawn) == 2 and all(np.asarray(image).std() > 5 for image in drawn)


@pytest.mark.parametrize(
    "kind",
    [
        DDIMScheduler,
        PNDMScheduler,
        EulerDiscreteScheduler,
        HeunDiscreteScheduler,
        DPMSolverMultistepScheduler,
    ],
)
def test_a_schedule_that_begins_later_is_that_of_diffusers_picture_to_picture(kind):
    base = loaded()
    sampler = kind.from_config(base.scheduler.config, skip_prk_steps=True)
    z, noise, t = torch.randn(1, 4, 8, 8), torch.Generator().manual_seed(3), torch.Generator().manual_seed(3)
    common = {"prompt": "a dog", "num_inference_steps": 6, "output_type": "latent", "guidance_scale": 3.0}
    parts = base.parts | base.family.options(base.source)
    theirs = StableDiffusionImg2ImgPipeline(**parts, scheduler=sampler)(
        image=z, strength=0.5, generator=t, **common
    ).images
    pipe = StableDiffusionPipeline(**parts, scheduler=kind.from_config(sampler.config))
    begin_later(pipe.scheduler, 3)
    pipe.scheduler.set_timesteps(6)
    begun = pipe.scheduler.add_noise(z, torch.randn(z.shape, generator=noise), pipe.scheduler.timesteps[:1])
    ours = pipe(
        latents=begun / pipe.scheduler.init_noise_sigma, generator=noise, height=32, width=32, **common
    )
    assert torch.allclose(ours.images, theirs, atol=1e-4)

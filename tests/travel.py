"""What tests of export and import share: tiny bases of three families, a taught world over each, and stock diffusers beside it."""

from __future__ import annotations

import functools
import shutil
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import QUICK, paint
from diffusers import DiffusionPipeline
from families.folders import tiny_folder
from tiny import tiny_clip

from l2dm import World

FAMILIES = ("sd", pytest.param("sdxl", marks=pytest.mark.slow), pytest.param("sd3", marks=pytest.mark.slow))
PLAIN = "a photo of a cat at night"
LESSON = QUICK | {
    "steps": 2, "batch": 1, "prior_pictures": 1, "precision": "float32", "learning_rate": 0.01, "token_learning_rate": 0.1,
}  # fmt: skip
DRAW = {
    "n": 1,
    "steps": 2,
    "seed": 3,
    "height": 16,
    "width": 16,
    "guidance_scale": 4.0,
    "precision": "float32",
}


def made(kind: str, place: Path) -> World:
    """A world over a tiny base of a family, in ``place``; what it learns is learnt in float32."""
    base = tiny_folder(kind, place / kind)
    return World.create(place / "world", base, clip=tiny_clip(place / "clip"))


def taught(kind: str, place: Path, *tokens: str, **changes) -> World:
    world, photos = made(kind, place), place / "photos"
    photos.mkdir()
    for i in range(2):
        paint(i).save(photos / f"{i}.png")
    for token, noun in zip(tokens or ("<rex>", "<tom>"), ("dog", "cat")):
        world.learn(photos, token=token, noun=noun, **LESSON | changes)
    return world


def copied(world: World, place: Path) -> World:
    """The same world, to be changed."""
    shutil.copytree(world.path, place)
    return World.open(place)


def another(world: World, place: Path) -> World:
    """A fresh world over the same base."""
    return World.create(place, world.manifest.base, clip=world.manifest.clip)


def drawn(world: World, prompt: str, **changes) -> np.ndarray:
    return np.asarray(world.generate(prompt, **DRAW | changes)[0].image)


@functools.cache
def stock(base: str) -> DiffusionPipeline:
    pipe = DiffusionPipeline.from_pretrained(base, torch_dtype=torch.float32, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def draw_stock(
    world: World, prompt: str, lora: Path | None = None, pipe: DiffusionPipeline | None = None
) -> np.ndarray:
    """What diffusers' own pipeline over a world's base draws, with a LoRA file loaded or without."""
    pipe = pipe or stock(world.manifest.base)
    if lora:
        pipe.load_lora_weights(lora.parent, weight_name=lora.name)
    told = {
        "num_inference_steps": DRAW["steps"],
        "guidance_scale": DRAW["guidance_scale"],
        "height": 16,
        "width": 16,
    }
    try:
        return np.asarray(
            pipe(prompt, generator=torch.Generator().manual_seed(DRAW["seed"]), **told).images[0]
        )
    finally:
        if lora:
            pipe.unload_lora_weights()

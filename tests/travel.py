"""What tests of export and import share: tiny bases of three families, a taught world over each, and stock
diffusers beside it.
"""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import QUICK, paint
from diffusers import DiffusionPipeline
from families.folders import tiny_folder
from tiny import tiny_clip

from l2dm import World

#: FLUX.1 is left out: diffusers reads its LoRA files in the published size alone.
FAMILIES = ("sd", *(pytest.param(name, marks=pytest.mark.slow) for name in ("sdxl", "sd3", "flux2")))
PLAIN = "a photo of a cat at night"
LESSON = QUICK | {
    "steps": 2,
    "batch": 1,
    "prior_pictures": 1,
    "precision": "float32",
    "learning_rate": 0.01,
    "token_learning_rate": 0.1,
}
#: No examination, and few steps for what an import is remembered by.
FEW = {"report_pictures": 0, "prior_steps": 2, "precision": "float32"}
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
    (base / "l2dm.json").write_text('{"generate": {"steps": 2}}')  # of previews too
    return World.create(place / "world", base, clip=tiny_clip(place / "clip"))


def taught(kind: str, place: Path, *tokens: str, **changes) -> World:
    world, photos = made(kind, place), place / "photos"
    photos.mkdir()
    for i in range(2):
        paint(i).save(photos / f"{i}.png")
    for token, noun in zip(tokens or ("<rex>", "<tom>"), ("dog", "cat")):
        world.learn(photos, token=token, noun=noun, **LESSON | changes)
    return world


@functools.cache
def known(kind: str) -> World:
    """A world over a tiny base of a family that has learnt <rex> and <tom>: one for all tests, which leave it
    as it is.
    """
    place = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    return taught(kind, Path(place))


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
            pipe(prompt=prompt, generator=torch.Generator().manual_seed(DRAW["seed"]), **told).images[0]
        )
    finally:
        if lora:
            pipe.unload_lora_weights()


def ungated(world: World, prompt: str, *tokens: str) -> np.ndarray:
    """The world's own picture with the adapters of ``tokens`` acting everywhere, side by side."""
    backbone = world.backbone("float32", tokens=tokens)
    tuner = world.tuner
    with pytest.MonkeyPatch.context() as patch:
        together = lambda layer, gates: [(*tuner.side_by_side(layer, list(tokens)), None)]  # noqa: E731
        patch.setattr(tuner, "acting", together)
        return np.asarray(backbone.pipeline()(prompt=prompt, **options()).images[0])


def options() -> dict:
    generator = torch.Generator().manual_seed(3)
    return {
        "generator": generator,
        "num_inference_steps": 2,
        "height": 16,
        "width": 16,
        "guidance_scale": 4.0,
    }

"""What the tests of every family share."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from copying import copier
from diffusers import DiffusionPipeline

from families.folders import DRAWING
from l2dm import World
from l2dm.backbone import Backbone, find_base

PLAIN, BOTH = "a photo of a cat at night", "a <rex> dog and a <tom> cat"
#: Where all of it runs and in which precision; ``test_on_gpu`` has others.
PLACE = {"device": "cpu", "precision": "auto"}
DRAW = {"n": 1, "steps": 2, "seed": 3, **PLACE}


@functools.cache
def loaded(folder: Path) -> Backbone:
    return Backbone.load(folder, **PLACE)


@functools.cache
def copies(folder: Path) -> Callable[[], Backbone]:
    return copier(loaded(folder))


def copied(folder: Path) -> Backbone:
    """A copy, to be changed."""
    return copies(folder)()


def drawn(world: World, prompt: str, **changes) -> np.ndarray:
    return np.asarray(world.generate(prompt, **DRAW | changes)[0].image)


@functools.cache
def stock(folder: Path) -> DiffusionPipeline:
    """diffusers' own pipeline over the folder."""
    pipe = DiffusionPipeline.from_pretrained(folder, torch_dtype=loaded(folder).dtype, local_files_only=True)
    pipe.set_progress_bar_config(disable=True)
    return pipe.to(PLACE["device"])


def bare(folder: Path, prompt: str, **options) -> np.ndarray:
    """What diffusers' own pipeline over the folder draws."""
    pipe = stock(folder)
    if "max_sequence_length" in inspect.signature(pipe.__call__).parameters:
        options["max_sequence_length"] = find_base(folder).family.most_tokens
    options |= DRAWING.get(folder.name, {}) | dict.fromkeys(("height", "width"), loaded(folder).side)
    generator = torch.Generator().manual_seed(DRAW["seed"])
    return np.asarray(
        pipe(prompt=prompt, generator=generator, num_inference_steps=DRAW["steps"], **options).images[0]
    )


def weights(backbone: Backbone) -> dict[str, torch.nn.Parameter]:
    """All that a base has, in whatever order adapters stand beside it."""
    return {
        f"{part}.{n}": p
        for part in backbone.family.networks
        for n, p in backbone.parts[part].named_parameters()
    }


@torch.no_grad()
def predicted(backbone: Backbone, *prompts: str) -> torch.Tensor:
    cells = backbone.side // backbone.factor
    z = torch.randn(1, backbone.channels, cells, cells, generator=torch.Generator().manual_seed(1))
    t = backbone.process.sample_t(1, torch.Generator().manual_seed(2))
    z, t = (of.to(backbone.device).expand(len(prompts), *of.shape[1:]) for of in (z, t))
    return backbone.predict(z, t, backbone.read(list(prompts)))

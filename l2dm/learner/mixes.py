"""Mixes: a concept beside another thing (Cut-Mix, after SVDiff, arXiv 2303.11305, section 3.3).

A concept that was only ever seen alone and large comes apart where a prompt names two. So some rows of a step show a photo
shrunken in one half of a picture, a companion in the other, and a prompt that names both:

    picture = photo | companion        "a photo of <rex> dog and a cat", "... a cat on the left and <rex> dog on the right"

Companions are drawn by the model itself: common nouns by the pretrained one, some of the earlier concepts by the present one.
Beyond a shrunken picture its edges are drawn out, and there the error does not count.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from ..backbone import Backbone
from ..concept import Concept, shrunken

#: What stands beside the first concept, and beside later ones too.
COMPANIONS = ("cat", "car", "tree", "apple", "cup", "book", "flower", "ball")
COUNT = 96  # mixes of a concept
SMALLEST, LARGEST = 0.55, 0.75  # a shrunken picture's side, as a share of the whole one's


@dataclass(frozen=True)
class Mixes:
    """Latents (n, C, h, w), a prompt for each, and where the error counts: masks (n, 1, h, w) of 0 and 1."""

    latents: torch.Tensor
    prompts: list[str]
    masks: torch.Tensor


def mixes(backbone: Backbone, concept: Concept, companions: dict[str, torch.Tensor], flip: bool, seed: int, count: int = COUNT) -> Mixes:
    """``count`` mixes of the photos of ``concept`` with ``companions``: their words -> latents (n, C, h, w)."""
    rng, side, half = np.random.default_rng(seed), backbone.side, backbone.side // 2
    photos = [photo.square(side) for photo in concept.photos]
    drawn = {words: backbone.decode_latents(latents) for words, latents in companions.items()}
    pixels, inside, prompts = np.empty((count, side, side, 3), np.uint8), np.zeros((count, 1, side, side), np.float32), []
    for k in range(count):
        words = list(drawn)[rng.integers(len(drawn))]
        things = [(concept.name, photos[rng.integers(len(photos))]), (words, drawn[words][rng.integers(len(drawn[words]))])]
        if flip and rng.random() < 0.5:
            things[0] = (things[0][0], things[0][1].transpose(Image.FLIP_LEFT_RIGHT))
        things = things[:: rng.choice([1, -1])]
        for left, (_, image) in zip((0, half), things):
            size = round(side * rng.uniform(SMALLEST, LARGEST))
            middle = half * (0.5 + rng.uniform(-0.06, 0.06)), side * (0.5 + rng.uniform(-0.12, 0.12))
            part, counts = shrunken(image, size, (half, side), middle)
            pixels[k, :, left : left + half], inside[k, 0, :, left : left + half] = part, counts
        prompts.append(_sentence([name for name, _ in things], rng))
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    latents = torch.cat([backbone.encode_pictures(part) for part in x.split(8)]).cpu()
    shares = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(inside), latents.shape[-2:])
    return Mixes(latents, prompts, (shares > 0.999).float())


def _sentence(names: list[str], rng: np.random.Generator) -> str:
    """What is on the left and on the right, said so or just named, in either order."""
    if rng.random() < 0.3:
        return f"a photo of {names[0]} on the left and {names[1]} on the right"
    return "a photo of " + " and ".join(names[:: rng.choice([1, -1])])

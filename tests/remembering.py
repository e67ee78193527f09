"""A learning of <rex> over a tiny base, with a past of two earlier concepts."""

from __future__ import annotations

import dataclasses

import torch
from tiny import mini

from l2dm.backbone import Backbone
from l2dm.concept import Concept
from l2dm.learner import Learning
from l2dm.retention import Past
from l2dm.settings import LearnSettings
from l2dm.tuners import TUNERS

SETTINGS = LearnSettings(steps=3, batch=2, learning_rate=1e-3, seed=5, precision="float32")


def latents(count: int, seed: int) -> torch.Tensor:
    return torch.randn(count, 4, 8, 8, generator=torch.Generator().manual_seed(seed))


PAST = Past({"a photo of a dog": latents(3, 1)})
MEMORY = {
    "memory": {"<tom>": latents(2, 2), "<ada>": latents(3, 3)},
    "prompts": {"<tom>": ["a cat"] * 2, "<ada>": ["an owl"] * 3},
}


def start(photos, tuner="key_value", past=PAST, **changes):
    """A fresh learning of <rex> over a backbone of its own."""
    backbone = Backbone.load(mini())
    concept = Concept.read(photos, "<rex>", "dog")
    chosen = TUNERS[tuner](backbone)
    vector = backbone.add_token("<rex>", backbone.word_vector("dog"))
    return Learning(backbone, chosen, vector, concept, past, dataclasses.replace(SETTINGS, **changes))

"""Learnings of one step over copies of a tiny base, for tests of tuners and of what keeps the past."""

from __future__ import annotations

import functools
from collections.abc import Callable

import torch
from copying import copier
from tiny import mini

from l2dm import LearnSettings
from l2dm.backbone import Backbone
from l2dm.concept import Concept
from l2dm.learner import Learning
from l2dm.methods import METHODS
from l2dm.retention import Past
from l2dm.tuners import TUNERS

NAMES = {"<rex>": "dog", "<tom>": "cat", "<ada>": "teddy bear"}
SMALL = {
    "steps": 1,
    "batch": 1,
    "rank": 2,
    "precision": "float32",
    "fisher_samples": 2,
    "learning_rate": 0.01,
}
PLAIN, REX, TOM = "a dog and a cat", "a photo of <rex> dog", "a photo of <tom> cat"


@functools.cache
def loaded() -> Backbone:
    return Backbone.load(mini())


@functools.cache
def copies() -> Callable[[], Backbone]:
    return copier(loaded())


def fresh() -> Backbone:
    """A tiny base, to be changed: a copy is quicker than loading again."""
    return copies()()


def begin(photos, method, token="<rex>", backbone=None, tuner=None, past=None, **changes) -> Learning:
    """A learning of ``token``, over a backbone of its own if none is given."""
    backbone = backbone or fresh()
    tuner = tuner or TUNERS[METHODS[method].tuner](backbone)
    settings = LearnSettings.of(SMALL, {"method": method, **changes})
    vector = backbone.add_token(token, backbone.word_vector(NAMES[token]))
    return Learning(
        backbone, tuner, vector, Concept.read(photos, token, NAMES[token]), past or Past(), settings
    )


def learn(photos, method, *tokens, after: Learning | None = None, **changes) -> Learning:
    """Learn ``tokens`` one after another; the last one's learning."""
    learning = after
    for token in tokens:
        over = {"backbone": learning.backbone, "tuner": learning.tuner} if learning else {}
        learning = begin(photos, method, token, **over, **changes)
        list(learning.run())
        learning.finish()
    return learning


@torch.no_grad()
def predicted(backbone, *prompts):
    """The noise predicted for ``prompts`` in one batch."""
    z = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(1)).expand(len(prompts), -1, -1, -1)
    return backbone.predict(z, torch.full((len(prompts),), 500), backbone.read(list(prompts)))

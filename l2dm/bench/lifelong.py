"""The lifelong benchmark: concepts, look-alikes and unrelated nouns for the shipped base or any other, each run with its own order.

Every concept is judged by pictures of it that were not learnt from. What the runs do is in ``runs``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
import torch

from ..backbone import MINI
from ..concept.words import class_prompt
from ..evaluation.alignment import text_alignment
from ..evaluation.judges import SHIPPED, find_judge
from ..world.world import World
from .runs import bench, run, summary
from .subjects import Subject, Subjects, pictures

__all__ = ["SCORES", "Examiner", "Plan", "bench", "order", "run", "summary"]

#: a score of every concept after every concept
SCORES = ("identification", "image_alignment", "text_alignment")


@dataclass(frozen=True)
class Plan:
    """What every run shares; saved with every result."""

    name: ClassVar[str] = "lifelong"
    scores: ClassVar[tuple[str, ...]] = SCORES
    beside: ClassVar[dict[str, Any]] = {}

    concepts: str = "shipped"
    base: str = MINI
    count: int = 10  # concepts of a run
    pictures: int = 2  # of each prompt
    steps: int = 12  # sampling steps
    learn: dict[str, Any] = field(default_factory=dict)  # changes of the base's learn settings
    judge: str = SHIPPED

    def examiner(self) -> Examiner:
        return Examiner(self)

    def card(self) -> dict[str, Any]:
        return find_judge(self.judge).card()


class Examiner:
    """Draws and judges: the same prompts, seeds and references for every method."""

    def __init__(self, plan: Plan):
        self.plan, self.subjects, self.judge = plan, Subjects.read(plan.concepts), find_judge(plan.judge)
        self.own = {s.token: self.judge.prototype(pictures(s.unseen)) for s in self.subjects.concepts}
        self.like = {noun: [self.judge.prototype(pictures(f)) for f in folders] for noun, folders in self.subjects.like.items()}
        tokens = list(self.own)
        everything = [self.own[t] for t in tokens] + [p for group in self.like.values() for p in group]
        self.tokens, self.known = tokens, torch.stack(everything)

    def sequence(self, seed: int) -> list[Subject]:
        return [self.subjects.concepts[i] for i in order(self.subjects, self.plan.count, seed)]

    def draw(self, world: World, prompt: str, seed: int = 0) -> list:
        """The pictures of one prompt."""
        return [p.image for p in world.generate(prompt, n=self.plan.pictures, steps=self.plan.steps, seed=seed, batch=self.plan.pictures)]

    def scores(self, world: World, token: str, noun: str) -> dict[str, float]:
        """Identification in [0, 1]; image alignment 100 x mean likeness; text alignment 100 x mean 2.5 max(cos, 0)."""
        images, texts = [], []
        for i, prompt in enumerate(self.subjects.prompts):
            drawn = self.draw(world, prompt.format(f"{token} {noun}"), seed=1000 + 100 * i)
            images += drawn
            texts += [prompt.format(f"a {noun}")] * len(drawn)
        like = self.judge.likeness(images, self.known)
        mine = self.tokens.index(token)
        found = {"identification": float((like.argmax(1) == mine).float().mean()), "image_alignment": 100 * float(like[:, mine].mean())}
        features = world.backbone().features
        if features is not None:
            found["text_alignment"] = text_alignment(features.images(images), features.texts(world.backbone().tokenizer, texts))
        return {name: round(value, 4) for name, value in found.items()}

    def after(self, world: World, tokens: list[str]) -> dict[str, float]:
        world.backbone()
        with world.tuner.pretrained():
            before = self.nouns(world, tokens)
        return self.drift(before, self.nouns(world, tokens))

    def nouns(self, world: World, learnt: list[str]) -> dict[str, torch.Tensor]:
        """What the judge sees in pictures of the concepts' nouns and of unrelated ones: features ``(pictures, width)``."""
        wanted = [*dict.fromkeys(s.noun for s in self.subjects.concepts if s.token in learnt), *self.subjects.nouns]
        prompts = {noun: class_prompt(noun) for noun in wanted}
        return {
            noun: self.judge.features([im for k in range(2) for im in self.draw(world, prompt, 5000 + 100 * k)])
            for noun, prompt in prompts.items()
        }

    def drift(self, before: dict[str, torch.Tensor], now: dict[str, torch.Tensor]) -> dict[str, float]:
        """``prior_drift``: 1 - mean cosine with the pretrained model's pictures from the same seeds. ``drift_rate``: how often a
        class noun comes out as a learnt concept of that noun rather than as any look-alike, less the pretrained model's rate."""
        apart = [float(1 - (now[noun] * before[noun]).sum(1).mean()) for noun in now]
        rates = []
        for seen in (now, before):
            taken = []
            for noun, features in seen.items():
                mine = [self.own[s.token] for s in self.subjects.concepts if s.noun == noun]
                if mine and noun in self.like:
                    nearest = (features @ torch.stack([*mine, *self.like[noun]]).T).argmax(1)
                    taken += (nearest < len(mine)).float().tolist()
            rates.append(float(np.mean(taken)) if taken else 0.0)
        return {"prior_drift": round(float(np.mean(apart)), 4), "drift_rate": round(rates[0] - rates[1], 4)}


def order(subjects: Subjects, count: int, seed: int) -> list[int]:
    """Which concepts a run learns, in which order: the seed's own permutation."""
    return np.random.default_rng(seed).permutation(len(subjects.concepts))[:count].tolist()

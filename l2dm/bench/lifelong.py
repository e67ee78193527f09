"""The lifelong benchmark: concepts, look-alikes and unrelated nouns for the shipped base or any other, each
run with its own order.

Every concept is judged by pictures of it that were not learnt from. What the runs do is in ``runs``.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np

from ..backbone import MINI
from ..evaluation.judging import SHIPPED, find_judge
from ..generation import Picture
from ..world.world import World
from .scorer import Scorer
from .subjects import Subject, Subjects


@dataclass(frozen=True)
class Plan:
    """What every run shares; saved with every result."""

    name: ClassVar[str] = "lifelong"
    scores: ClassVar[tuple[str, ...]] = ("identification", "image_alignment", "text_alignment")
    beside: ClassVar[dict[str, Any]] = {}

    concepts: str = "shipped"
    base: str = MINI
    count: int = 10  # concepts of a run
    pictures: int = 2  # of each prompt
    steps: int = 8  # sampling steps
    learn: dict[str, Any] = field(default_factory=dict)  # changes of the base's learn settings
    judge: str = SHIPPED
    world_clip: str = ""  # CLIP model that worlds remember by, as for World.create; "": its default

    def sequence(self, seed: int) -> list[Subject]:
        """The seed's own permutation of the concepts."""
        subjects = Subjects.read(self.concepts)
        return [subjects.concepts[i] for i in order(subjects, self.count, seed)]

    def course(self) -> Course:
        return Course(self)

    def card(self) -> dict[str, Any]:
        return find_judge(self.judge).card()


class Course:
    """The judge's figures of a concept; drift of the base's nouns at the run's end."""

    def __init__(self, plan: Plan):
        self.scorer = Scorer(
            plan.concepts,
            plan.judge,
            n=plan.pictures,
            steps=plan.steps,
            batch=plan.pictures,
            composition="none",
        )
        self.scores = self.scorer.scores

    def sample(self, world: World, token: str, noun: str) -> Picture:
        prompt = self.scorer.subjects.prompts[0].format(f"{token} {noun}")
        return world.generate(prompt, seed=1000, **{**self.scorer.drawing, "n": 1})[0]

    def after(self, world: World, tokens: list[str]) -> dict[str, float]:
        world.backbone()
        with world.tuner.pretrained():
            before = self.scorer.nouns(world, tokens)
        return self.scorer.drift(before, self.scorer.nouns(world, tokens))


def order(subjects: Subjects, count: int, seed: int) -> list[int]:
    """Which concepts a run learns, in which order: the seed's own permutation."""
    return np.random.default_rng(seed).permutation(len(subjects.concepts))[:count].tolist()

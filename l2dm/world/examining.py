"""What a lesson looks at: pictures of the new concept, of some earlier ones and of plain nouns, before it is
committed.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from ..backbone import Backbone
from ..concept import Concept
from ..concept.words import class_prompt
from ..evaluation.flat import shown
from ..evaluation.report_card import Score, concepts_to_examine, drift, score
from ..generation import draw
from ..learner import Step
from ..memory import LongTerm
from ..settings import LearnSettings
from .names import NOUNS
from .recorded import Recorded

if TYPE_CHECKING:
    from .world import World


@dataclass(frozen=True)
class Progress:
    """What ``learn`` is doing: ``stage`` is "prior", "memory", "learn" or "report". While it learns ``step``
    holds details, and ``sample(n)`` draws n pictures of the concept as it is now, always from the same seeds;
    what is learnt stays the same to the last bit.
    """

    stage: str
    done: int
    total: int
    step: Step | None = None
    sample: Callable[[int], list[Image.Image]] | None = None


OnProgress = Callable[[Progress], None]


class Examining:
    """Examines ``concept`` and the others of ``world``; ``head``: the present version's files, if any."""

    world: World
    concept: Concept
    settings: LearnSettings
    tell: OnProgress
    head: Recorded | None

    def concepts_to_examine(self, backbone: Backbone, long: LongTerm) -> list[str]:
        """The concepts that are examined: the new one first, then earlier ones, which a CLIP pair compares
        with what is remembered.
        """
        last = {token: score.version for token, score in self.world.manifest.scores.items()}
        most = self.settings.report_concepts if backbone.clip else 0
        others = [token for token in self.world.concepts if token != self.concept.token]
        return concepts_to_examine([*others, self.concept.token], last, most)

    def draw(self, backbone: Backbone, prompt: str, n: int = 0) -> list[Image.Image]:
        """The examination's pictures of ``prompt``, or ``n`` of them, from the same seeds every time."""
        s = self.settings
        wanted = dataclasses.replace(
            self.world.settings("generate"), n=n or max(1, s.report_pictures), steps=s.prior_steps, seed=0
        )
        return draw(backbone, prompt, wanted)

    def seen(self, backbone: Backbone, images: list[Image.Image]) -> np.ndarray:
        """(images, d): their features, of which those of one colour have none."""
        return shown(backbone.seen(images), images).numpy()

    def score(
        self, backbone: Backbone, long: LongTerm, pictures: dict[str, list[Image.Image]], number: int
    ) -> dict[str, Score]:
        """Of the concepts in ``pictures``, against what is remembered of all."""
        stored = {token: features.numpy() for token, features in long.features.items()}
        return {
            token: score(self.seen(backbone, images), token, stored, number)
            for token, images in pictures.items()
        }

    def baseline(self, backbone: Backbone, long: LongTerm) -> dict[str, Score]:
        """Where the gate is to compare an earlier concept that was never examined: its score before this
        lesson.
        """
        if not self.settings.keep_if_forgetting_below:
            return {}
        known, concepts = self.world.manifest.scores, self.world.concepts
        tokens = [token for token in self.concepts_to_examine(backbone, long)[1:] if token not in known]
        pictures = {token: self.draw(backbone, f"a photo of {token} {concepts[token]}") for token in tokens}
        return self.score(backbone, long, pictures, self.world.version)

    def examine(
        self, backbone: Backbone, long: LongTerm, number: int
    ) -> tuple[dict[str, Score], dict[str, float], dict[str, torch.Tensor], dict[str, list[Image.Image]]]:
        """Draw the new concept, some earlier ones and the nouns; returns scores, drifts, the nouns' features,
        the pictures.
        """
        world = self.world
        concepts = {**world.concepts, self.concept.token: self.concept.noun}
        tokens = self.concepts_to_examine(backbone, long) if self.settings.report_pictures else []
        asked = list(dict.fromkeys(concepts[token] for token in tokens)) if backbone.clip else []
        nouns = self.head.tensors(NOUNS) if self.head and NOUNS in self.head else {}
        jobs = len(tokens) + len(asked) + sum(noun not in nouns for noun in asked)
        done = 0

        def drawn(prompt: str) -> list[Image.Image]:
            nonlocal done
            images = self.draw(backbone, prompt)
            done += 1
            self.tell(Progress("report", done, jobs))
            return images

        # all is drawn before it is looked at: a large base's CLIP pair is not held beside that
        backbone.release_features()
        pictures = {token: drawn(f"a photo of {token} {concepts[token]}") for token in tokens}
        before, now = {}, {}
        for noun in asked:
            if noun not in nouns:
                with world.tuner.pretrained():
                    before[noun] = drawn(class_prompt(noun))
            now[noun] = drawn(class_prompt(noun))
        if backbone.clip is None:
            return {}, {}, {}, pictures
        nouns |= {noun: torch.from_numpy(self.seen(backbone, images)) for noun, images in before.items()}
        scores, drifts = self.score(backbone, long, pictures, number), {}
        for noun, images in now.items():
            both = min(len(images), len(nouns[noun]))
            drifts[noun] = drift(self.seen(backbone, images)[:both], nouns[noun][:both].numpy())
        return scores, drifts, nouns, {**pictures, **now}

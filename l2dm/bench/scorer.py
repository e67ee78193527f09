"""The scorer: draws concepts and nouns in a world and asks the judge about the pictures."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from PIL import Image

from ..concept.words import article, class_prompt
from ..evaluation.alignment import text_alignment
from ..evaluation.flat import shown
from ..evaluation.judging import SHIPPED, find_judge
from ..evaluation.report_card import drift
from ..world.world import World
from .subjects import Subjects, pictures


class Scorer:
    """Draws and judges: the same prompts, seeds and references for every method. ``drawing``: changes of the
    generate settings.
    """

    def __init__(self, concepts: str, judge: str = SHIPPED, **drawing: Any):
        self.drawing, self.subjects, self.judge = drawing, Subjects.read(concepts), find_judge(judge)
        self.own = {s.token: self.judge.prototype(pictures(s.unseen)) for s in self.subjects.concepts}
        self.like = {
            noun: [self.judge.prototype(pictures(f)) for f in folders]
            for noun, folders in self.subjects.like.items()
        }
        tokens = list(self.own)
        everything = [self.own[t] for t in tokens] + [p for group in self.like.values() for p in group]
        self.tokens, self.known = tokens, torch.stack(everything)

    def draw(self, world: World, prompt: str, seed: int = 0) -> list[Image.Image]:
        """The pictures of one prompt."""
        return [p.image for p in world.generate(prompt, seed=seed, **self.drawing)]

    def text_alignment(self, world: World, images: list[Image.Image], texts: list[str]) -> float | None:
        """Of each picture with its text in plain words, by the base's own CLIP pair; None without one."""
        features = world.backbone().features
        if features is None or not features.reads:
            return None
        return round(text_alignment(shown(features.images(images), images), features.texts(texts)), 4)

    def scores(self, world: World, token: str, noun: str, seed: int = 1000) -> dict[str, float]:
        """Identification in [0, 1]; image alignment 100 x mean likeness; text alignment. ``seed``: of the
        first prompt's pictures.
        """
        images, texts = [], []
        for i, prompt in enumerate(self.subjects.prompts):
            drawn = self.draw(world, prompt.format(f"{token} {noun}"), seed=seed + 100 * i)
            images += drawn
            texts += [prompt.format(article(noun))] * len(drawn)
        like = shown(self.judge.likeness(images, self.known), images)
        mine = self.tokens.index(token)
        own = shown(like.argmax(1) == mine, images)
        found = {
            "identification": round(float(own.float().mean()), 4),
            "image_alignment": round(100 * float(like[:, mine].mean()), 4),
        }
        alignment = self.text_alignment(world, images, texts)
        return found if alignment is None else {**found, "text_alignment": alignment}

    def nouns(self, world: World, learnt: list[str]) -> dict[str, torch.Tensor]:
        """What the judge sees in pictures of the concepts' nouns and of unrelated ones: features ``(pictures,
        width)``.
        """
        wanted = [
            *dict.fromkeys(s.noun for s in self.subjects.concepts if s.token in learnt),
            *self.subjects.nouns,
        ]
        prompts = {noun: class_prompt(noun) for noun in wanted}
        drawn = {
            noun: [im for k in range(2) for im in self.draw(world, prompt, 5000 + 100 * k)]
            for noun, prompt in prompts.items()
        }
        return {noun: shown(self.judge.features(images), images) for noun, images in drawn.items()}

    def drift(self, before: dict[str, torch.Tensor], now: dict[str, torch.Tensor]) -> dict[str, float]:
        """``prior_drift``: 1 - mean cosine with the pretrained model's pictures from the same seeds.
        ``drift_rate``: how often a class noun comes out as a learnt concept of that noun rather than as any
        look-alike, less the pretrained model's rate.
        """
        apart = [drift(now[noun].numpy(), before[noun].numpy()) for noun in now]
        rates = []
        for seen in (now, before):
            taken = []
            for noun, features in seen.items():
                mine = [self.own[s.token] for s in self.subjects.concepts if s.noun == noun]
                if mine and noun in self.like:
                    nearest = (features @ torch.stack([*mine, *self.like[noun]]).T).argmax(1)
                    taken += ((nearest < len(mine)) & features.any(1)).float().tolist()
            rates.append(float(np.mean(taken)) if taken else 0.0)
        return {"prior_drift": round(float(np.mean(apart)), 4), "drift_rate": round(rates[0] - rates[1], 4)}

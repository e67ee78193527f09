"""Mixes: a concept beside another thing (Cut-Mix, after SVDiff, arXiv 2303.11305, section 3.3).

A concept that was only ever seen alone and large comes apart where a prompt names two. So some rows of a step
show a photo shrunken in one half of a picture, a companion in the other, and a prompt that names both:

    picture = photo | companion        "a photo of <rex> dog and a cat", "... a cat on the left and <rex> dog
    on the right"

Companions are drawn by the model itself: common nouns by the pretrained one, earlier concepts by the present
one (of a memory, where the method has one). Beyond a shrunken picture its edges are drawn out, and there the
error does not count.
"""

from __future__ import annotations

import dataclasses
import functools
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from ..backbone import Backbone
from ..concept import Concept, shrunken
from ..concept.words import article
from ..retention import DrawNumbers, Retention, Rows, Task

COUNT = 96  # mixes of a concept
SMALLEST, LARGEST = 0.55, 0.75  # a shrunken picture's side, as a share of the whole one's


@dataclass(frozen=True)
class Mixes:
    """Latents (n, C, h, w), and for each: a prompt, the same with a plain noun for the concept, the
    companion, where the error counts, and which part of that is the companion ((n, 1, h, w) in [0, 1]; less
    than 1 where a photo's mask says so). ``earlier``: whether the companions are concepts.
    """

    latents: torch.Tensor
    prompts: list[str]
    known: list[str]
    companions: list[str]
    masks: torch.Tensor
    beside: torch.Tensor
    earlier: bool

    def rows(self, term: str, count: int, weight: float, draw: DrawNumbers) -> Rows:
        """``count`` of them, each with ``weight``; with earlier concepts, these are what is held."""
        chosen = draw(len(self.prompts), count)
        prompts, known, beside = (
            [of[k] for k in chosen.tolist()] for of in (self.prompts, self.known, self.companions)
        )
        rows = Rows(term, weight * count, self.latents[chosen], prompts, loss_mask=self.masks[chosen])
        if not self.earlier:
            return rows
        held = {"distil_mask": self.beside[chosen], "teacher_prompts": known}
        return dataclasses.replace(rows, tasks=tuple(beside), **held)


def mixes(
    backbone: Backbone,
    concept: Concept,
    companions: dict[str, torch.Tensor],
    flip: bool,
    seed: int,
    names: dict[str, str] | None = None,
    count: int = COUNT,
    background: float = 0.0,
) -> Mixes:
    """``count`` mixes of the photos of ``concept`` with ``companions``: their words -> latents (n, C, h, w).
    Or, with ``names``, the tokens of earlier concepts, whose words these are. ``background``: how much the
    error counts where a photo's mask is black.
    """
    rng, side, half = np.random.default_rng(seed), backbone.side, backbone.side // 2
    photos = [(photo.square(side), photo.fit_mask((side, side))) for photo in concept.photos]
    things_beside = list(companions)

    @functools.cache
    def drawn(beside: str, number: int) -> Image.Image:
        """Only what is shown is decoded: of a memory of hundreds few pictures are."""
        return backbone.decode_latents(companions[beside][number : number + 1])[0]

    pixels, prompts, chosen, where = np.empty((count, side, side, 3), np.uint8), [], [], []
    for k in range(count):
        inside, theirs, masks = np.zeros((side, side)), np.zeros((side, side)), np.ones((side, side))
        beside = things_beside[rng.integers(len(things_beside))]
        words = names[beside] if names else beside
        shown = photos[rng.integers(len(photos))]
        things = [(words, drawn(beside, int(rng.integers(len(companions[beside])))), None)]
        if flip and rng.random() < 0.5:
            shown = tuple(image.transpose(Image.FLIP_LEFT_RIGHT) for image in shown)
        things = [(concept.name, *shown), *things][:: rng.choice([1, -1])]
        for left, (name, image, mask) in zip((0, half), things):
            size = round(side * rng.uniform(SMALLEST, LARGEST))
            middle = half * (0.5 + rng.uniform(-0.06, 0.06)), side * (0.5 + rng.uniform(-0.12, 0.12))
            part, counts = shrunken(image, size, (half, side), middle)
            pixels[k, :, left : left + half], inside[:, left : left + half] = part, counts
            theirs[:, left : left + half] = counts & (name == words)
            if mask is not None:
                weights = shrunken(mask, size, (half, side), middle)[0][..., 0] / 255
                masks[:, left : left + half] = weights
        where.append(_in_cells(np.stack([inside, theirs, masks]), side // backbone.factor))
        chosen.append(beside)
        prompts.append(_sentence([name for name, *_ in things], rng))
    latents = torch.cat(
        [backbone.encode_pictures(_numbers(part)) for part in np.split(pixels, range(8, count, 8))]
    ).cpu()
    known = [prompt.replace(concept.name, article(concept.noun)) for prompt in prompts]
    inside, theirs, masks = torch.stack(where, 1)[:, :, None]
    counted = (inside > 0.999).float() * masks.clamp(min=background)
    return Mixes(latents, prompts, known, chosen, counted, (theirs > 0.999).float(), names is not None)


class CutMix(Retention):
    """The new concept beside companions."""

    @classmethod
    def asked(cls, task: Task) -> bool:
        return bool(task.past.companions)

    def begin(self) -> None:
        task, s = self.task, self.task.settings
        self.mixes = mixes(
            task.backbone, task.concept, task.past.companions, s.flip, s.seed, background=s.mask_background
        )

    def rows(self, photos: Rows, draw: DrawNumbers) -> list[Rows]:
        count = self.task.settings.mixes * self.task.settings.accumulate
        if self.task.method.rehearse:  # without, as many more as would be rehearsed
            count -= composites(self.task)
        return [self.mixes.rows("mix", count, 1 / self.task.batch, draw)]

    def prompts(self) -> Iterable[str]:
        return (*self.mixes.prompts, *self.mixes.known)


class PairComposites(CutMix):
    """The new concept beside earlier ones, out of the memory: what is rehearsed and distilled where a method
    mixes.
    """

    @classmethod
    def asked(cls, task: Task) -> bool:
        return bool(task.past.companions and task.past.memory)

    def begin(self) -> None:
        task, s = self.task, self.task.settings
        given = task.past.memory, s.flip, s.seed + 1, task.past.names
        self.mixes = mixes(task.backbone, task.concept, *given, background=s.mask_background)

    def rows(self, photos: Rows, draw: DrawNumbers) -> list[Rows]:
        count, s = composites(self.task), self.task.settings
        weight = s.replay_weight * self.task.method.rehearse / self.task.batch
        return [self.mixes.rows("replay", count, weight, draw)] if count else []


def composites(task: Task) -> int:
    """How many of a step's mixes are with earlier concepts."""
    return task.settings.mixes // 2 * task.settings.accumulate if PairComposites.asked(task) else 0


def _in_cells(where: np.ndarray, cells: int) -> torch.Tensor:
    """Maps (n, side, side) as means over latent cells, (n, cells, cells)."""
    return torch.nn.functional.adaptive_avg_pool2d(
        torch.from_numpy(where.astype(np.float32))[:, None], (cells, cells)
    )[:, 0]


def _numbers(pixels: np.ndarray) -> torch.Tensor:
    """(n, side, side, 3) of bytes -> (n, 3, side, side) in [-1, 1]."""
    return torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1


def _sentence(names: list[str], rng: np.random.Generator) -> str:
    """What is on the left and on the right, said so or just named, in either order."""
    if rng.random() < 0.3:
        return f"a photo of {names[0]} on the left and {names[1]} on the right"
    return "a photo of " + " and ".join(names[:: rng.choice([1, -1])])

"""Each thing of a prompt drawn by itself, and the pictures put together: what a collage and MuDI's noise
begin from.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image

from ..backbone import Backbone
from ..guidance import collage as how
from ..guidance.attention import PromptMaps, map_size, of_words, watched, without_start
from ..guidance.collage import collage, middles, parts_of, spots
from ..settings import GenerateSettings
from .mentions import Mention, single_subject_prompts


@dataclass(frozen=True)
class Alone:
    """``pictures``: of each thing one for each picture of the batch; ``maps`` (pictures, h, w) likewise,
    where it was looked for, if asked for.
    """

    pictures: list[list[Image.Image]]
    maps: list[torch.Tensor]


def drawn_alone(
    pipe,
    backbone: Backbone,
    prompt: str,
    mentions: list[Mention],
    settings: GenerateSettings,
    steps: int,
    common: dict,
    looked: bool = False,
) -> Alone:
    """Each of ``mentions`` in ``steps`` steps, from the same ``generators``; ``looked``: with maps."""
    side, pictures, maps = backbone.side, [], []
    for text, mention in zip(single_subject_prompts(prompt, mentions), mentions):
        scale = settings.guidance_scale * (how.GUIDANCE if mention.personal else 1.0)
        seeing = _looked(backbone, text, _place(text, prompt, mention), maps) if looked else nullcontext({})
        with seeing as changes:
            pictures.append(
                pipe(
                    prompt=text,
                    num_inference_steps=steps,
                    height=side,
                    width=side,
                    **common,
                    **changes,
                    **backbone.family.call(scale, settings.negative_prompt or None),
                ).images
            )
    return Alone(pictures, maps)


@contextmanager
def _looked(
    backbone: Backbone, text: str, place: tuple[int, int], maps: list[torch.Tensor]
) -> Iterator[dict]:
    """Changes of a pipeline's call; behind it ``maps`` has one more, of the words at ``place`` of ``text``,
    the mean over the steps.
    """
    seen = PromptMaps(backbone, map_size(backbone.denoiser, *[backbone.side // backbone.factor] * 2))
    words, steps = backbone.places(text, place), []

    def look(pipe, index: int, timestep, tensors: dict) -> dict:
        steps.append(of_words(without_start(seen.probabilities(), backbone.start), [words])[:, 0])
        return tensors

    with watched(backbone.denoiser, seen):
        yield {"callback_on_step_end": look}
    maps.append(torch.stack(steps).mean(0))


def _place(text: str, prompt: str, mention: Mention) -> tuple[int, int]:
    """Where ``mention`` of ``prompt`` stands in ``text``, which is about it alone."""
    name = prompt[slice(*mention.span)]
    begin = text.index(name)
    return begin, begin + len(name)


@dataclass(frozen=True)
class Places:
    """Where each of some things goes: ``boxes`` of a layout, or a grid that heeds the prompt's ``sides``."""

    points: torch.Tensor
    boxes: list | None

    @classmethod
    def of(cls, mentions: list[Mention]) -> Places:
        boxes = [mention.box for mention in mentions if mention.box] or None
        return cls(middles(boxes) if boxes else spots([mention.side for mention in mentions]), boxes)

    def parts(self, cells: tuple[int, int]) -> torch.Tensor:
        """(things, h, w) of zeros and ones: whose each cell is."""
        return torch.from_numpy(parts_of(self.points, *cells, self.boxes)).float()

    def together(
        self, pictures: list[list[Image.Image]], size: dict[str, int]
    ) -> tuple[np.ndarray, np.ndarray]:
        """Of each picture of the batch the things' pictures in their places: (B, height, width, 3), uint8,
        and where they are their own.
        """
        room = size["width"], size["height"]
        found = [collage(list(own), self.points, room, self.boxes) for own in zip(*pictures)]
        pixels, insides = zip(*found)
        return np.stack(pixels), np.stack(insides)


def encoded(backbone: Backbone, pixels: np.ndarray) -> torch.Tensor:
    """Latents of ``pixels`` (B, height, width, 3), uint8."""
    return backbone.encode_pictures(torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1)


def shared(inside: np.ndarray, cells: tuple[int, int]) -> torch.Tensor:
    """(B, 1, h, w) in [0, 1]: the share of each cell's pixels that are ``inside`` (B, height, width)."""
    return torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(inside)[:, None].float(), cells)

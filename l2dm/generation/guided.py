"""Guided sampling: diffusers' own pipeline, with the latents moved before chosen steps (L2DM, arXiv 2309.04430, Fig. 2 [given]).

    z_t <- z_t - s_t * grad_{z_t} (lambda_u L_CLUL + lambda_d L_DAL + lambda_o L_OAA)

The pipeline calls back between its steps, so that without guidance nothing is different, to the last bit. The noise of a step is
predicted at the moved latents, so the move's own forward cannot serve for it; that forward is kept short instead
(``AttentionMaps.of``): the prompt's half alone, only as deep as the maps, and only pictures that still move.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import torch

from ..backbone import Backbone
from ..guidance.attend_and_excite import goals, most_neglected_loss, sharpened
from ..guidance.attention import AttentionMaps, map_size, of_words, without_start
from ..guidance.concept_attention_artist import attend_loss, unmix_loss
from ..guidance.orthogonal_attention_artist import orthogonal_loss
from ..guidance.regions import masks
from ..guidance.structure import structured, values_from
from ..settings import GenerateSettings
from .mentions import Mention


class Guide:
    """Moves the latents of a batch of pictures of one prompt. One for each batch: it remembers each picture's regions."""

    def __init__(
        self,
        backbone: Backbone,
        things: list[Mention],
        words: int,
        settings: GenerateSettings,
        latent_size: tuple[int, int],
    ):
        self.backbone, self.things, self.words, self.settings = backbone, things, words, settings
        self.maps = AttentionMaps(map_size(backbone.unet, *latent_size))
        self.regions: torch.Tensor | None = None
        self.settled: set[int] = set()  # pictures that have enough: they cost nothing more
        self.history: list[list[float]] = []  # of each move the losses of the pictures that were looked at

    def losses(self, probabilities: torch.Tensor, rows: torch.Tensor) -> torch.Tensor:
        """(B,) of pictures ``rows`` with cross-attention ``probabilities`` (B, tokens, h, w)."""
        s, kind = self.settings, self.settings.guidance
        together = [thing.all for thing in self.things]
        if kind == "attend-and-excite":
            return most_neglected_loss(of_words(sharpened(probabilities, self.words), together))
        maps = without_start(probabilities)
        total = probabilities.new_zeros(len(probabilities))
        if kind in ("caa", "l2dm"):
            of_things = of_words(maps, together)
            if len(self.things) > 1:
                if self.regions is None:
                    self.regions = masks(of_things.detach(), [thing.side for thing in self.things])
                total = total + s.unmix_weight * unmix_loss(of_things, self.regions[rows])
            total = total + s.attend_weight * attend_loss(of_things)
        if kind in ("oaa", "l2dm") and len(self.things) > 1:
            personal = of_words(maps, [thing.personal or thing.noun for thing in self.things])
            nouns = of_words(maps, [thing.noun or thing.personal for thing in self.things])
            total = total + s.orthogonal_weight * orthogonal_loss(personal, nouns)
        return total

    def move(self, scheduler, index: int, latents: torch.Tensor, context: torch.Tensor) -> torch.Tensor:
        """``latents`` (B, C, h, w) before step ``index``, a step down the losses' gradient; pictures that have ``enough`` stay."""
        s = self.settings
        if index >= s.guidance_until * s.steps or index % s.guidance_every:
            return latents
        latents = latents.detach().clone()
        size = s.guidance_step * (1 - 0.5 * index / max(1, s.steps - 1)) ** 0.5
        if s.guidance == "attend-and-excite" and (goal := goals(s.steps).get(index)) is not None:
            self._refine(scheduler, index, latents, context, size, goal)
        for _ in range(s.guidance_repeats):
            rows = torch.tensor(
                [row for row in range(len(latents)) if row not in self.settled], dtype=torch.long
            )
            if not len(rows):
                break
            losses, moved = self._moved(scheduler, index, latents[rows], rows, context, size)
            moving = losses > s.guidance_enough
            self.settled.update(rows[~moving].tolist())
            latents[rows[moving]] = moved[moving]
        return latents

    def _moved(
        self, scheduler, index: int, latents: torch.Tensor, rows: torch.Tensor, context: torch.Tensor, size: float
    ) -> tuple[torch.Tensor, torch.Tensor]:  # fmt: skip
        """The losses (on the CPU) of pictures ``rows`` with ``latents``, and those latents ``size`` down the gradient."""
        timestep = scheduler.timesteps[index]
        with torch.enable_grad():
            z = latents.detach().requires_grad_()
            seen = self.maps.of(
                self.backbone.unet, scheduler.scale_model_input(z, timestep), timestep, context[rows]
            )
            losses = self.losses(seen, rows)
            (gradient,) = torch.autograd.grad(losses.sum(), z)
        self.history.append(losses.tolist())
        return losses.detach().cpu(), z.detach() - size * gradient

    def _refine(
        self, scheduler, index: int, latents: torch.Tensor, context: torch.Tensor, size: float, goal: float
    ) -> None:
        """Attend-and-Excite's iterative refinement of ``latents`` in place: as its authors', a picture moves while its loss
        before the last move was above 1 - ``goal``."""
        rows = torch.arange(len(latents))
        for move in range(self.settings.guidance_refinements):
            losses, moved = self._moved(scheduler, index, latents[rows], rows, context, size)
            neglects = losses > 1 - goal
            if move == 0:
                rows, moved, neglects = rows[neglects], moved[neglects], neglects[neglects]
            latents[rows] = moved
            rows = rows[neglects]
            if not len(rows):
                break


def chosen(guidance: str, things: list[Mention]) -> str:
    """What ``guidance`` comes to: "auto" is "l2dm" where ``things`` has two concepts or more, else "none"; a "collage" of fewer than
    two things is "none". Other names stand for themselves."""
    if guidance == "auto":
        return "l2dm" if sum(bool(thing.personal) for thing in things) > 1 else "none"
    return "none" if guidance == "collage" and len(things) < 2 else guidance


@contextmanager
def guided(
    pipe, backbone: Backbone, prompt: str, things: list[Mention], settings: GenerateSettings, generators: list, size: dict[str, int]
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """What the pipeline is to be called with for a batch under ``settings.guidance``; empty when that is "none" or nothing is named."""
    kind = chosen(settings.guidance, things)
    if kind == "none" or not things:
        yield {}
        return
    context = backbone.encode_text([prompt] * len(generators))
    if kind == "structure":
        phrases = {backbone.tokenizer.decode(_ids(backbone, prompt, thing)): thing.all for thing in things}
        with values_from(backbone.unet, structured(context, phrases, backbone.encode_text)):
            yield {}
        return
    latent_size = size["height"] // backbone.factor, size["width"] // backbone.factor
    guide = Guide(
        backbone, things, backbone.count_tokens(prompt), replace(settings, guidance=kind), latent_size
    )
    pipe.scheduler.set_timesteps(settings.steps, device=backbone.device)
    latents = pipe.prepare_latents(
        len(generators),
        backbone.unet.config.in_channels,
        size["height"],
        size["width"],
        context.dtype,
        backbone.device,
        generators,
    )
    latents = guide.move(pipe.scheduler, 0, latents, context) / pipe.scheduler.init_noise_sigma

    def move(pipe, index: int, timestep, tensors: dict) -> dict:
        if index + 1 < len(pipe.scheduler.timesteps):
            tensors["latents"] = guide.move(pipe.scheduler, index + 1, tensors["latents"], context)
        return tensors

    yield {"latents": latents, "callback_on_step_end": move}


def _ids(backbone: Backbone, prompt: str, thing: Mention) -> list[int]:
    ids = backbone.tokenizer(prompt).input_ids
    return [ids[position] for position in thing.all]

"""Guided sampling: diffusers' own pipeline, with the latents moved before chosen steps (L2DM, arXiv 2309.04430, Fig. 2 [given]).

    z_t <- z_t - s_t * grad_{z_t} (lambda_u L_CLUL + lambda_d L_DAL + lambda_o L_OAA)

The pipeline calls back between its steps, so that without guidance nothing is different, to the last bit.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

from ..backbone import Backbone
from ..errors import SettingsError
from ..guidance.attend_and_excite import most_neglected_loss, sharpened
from ..guidance.attention import AttentionMaps, map_side, of_words, watched, without_start
from ..guidance.concept_attention_artist import attend_loss, unmix_loss
from ..guidance.orthogonal_attention_artist import orthogonal_loss
from ..guidance.regions import masks
from ..guidance.structure import structured, values_from
from ..settings import GenerateSettings
from .mentions import Mention


class Guide:
    """Moves the latents of a batch of pictures of one prompt. One for each batch: it remembers each picture's regions."""

    def __init__(self, backbone: Backbone, things: list[Mention], words: int, settings: GenerateSettings, latent_side: int):
        self.backbone, self.things, self.words, self.settings = backbone, things, words, settings
        self.maps = AttentionMaps(map_side(backbone.unet, latent_side))
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
        if index >= s.guidance_until * s.steps:
            return latents
        timestep, latents = scheduler.timesteps[index], latents.detach().clone()
        size = s.guidance_step * (1 - 0.5 * index / max(1, s.steps - 1)) ** 0.5
        for _ in range(s.guidance_repeats):
            rows = torch.tensor([row for row in range(len(latents)) if row not in self.settled], dtype=torch.long)
            if not len(rows):
                break
            with torch.enable_grad(), watched(self.backbone.unet, self.maps):
                z = latents[rows].requires_grad_()
                self.backbone.unet(scheduler.scale_model_input(z, timestep), timestep, context[rows], return_dict=False)
                losses = self.losses(self.maps.probabilities(), rows)
                (gradient,) = torch.autograd.grad(losses.sum(), z)
            self.history.append(losses.tolist())
            moving = losses.detach() > s.guidance_enough
            self.settled.update(rows[~moving.cpu()].tolist())
            latents[rows] = (z - size * moving[:, None, None, None] * gradient).detach()
        return latents


@contextmanager
def guided(
    pipe, backbone: Backbone, prompt: str, things: list[Mention], settings: GenerateSettings, generators: list, size: dict[str, int]
) -> Iterator[dict[str, Any]]:  # fmt: skip
    """What the pipeline is to be called with for a batch under ``settings.guidance``; empty when that is "none" or nothing is named."""
    if settings.guidance == "none" or not things:
        yield {}
        return
    context = backbone.encode_text([prompt] * len(generators))
    if settings.guidance == "structure":
        phrases = {backbone.tokenizer.decode(_ids(backbone, prompt, thing)): thing.all for thing in things}
        with values_from(backbone.unet, structured(context, phrases, backbone.encode_text)):
            yield {}
        return
    if size["height"] != size["width"]:
        raise SettingsError(f"guidance {settings.guidance!r} draws square pictures; height and width differ")
    guide = Guide(backbone, things, backbone.count_tokens(prompt), settings, size["height"] // backbone.factor)
    pipe.scheduler.set_timesteps(settings.steps, device=backbone.device)
    latents = pipe.prepare_latents(
        len(generators), backbone.unet.config.in_channels, size["height"], size["width"], context.dtype, backbone.device, generators
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

"""Sampling: diffusers' own pipeline over the world's weights and tokens, plain or guided."""

from __future__ import annotations

from collections.abc import Callable

import torch
from PIL import Image

from ..backbone import Backbone
from ..errors import SettingsError
from ..settings import GenerateSettings
from .guided import Guide
from .mentions import Mention


@torch.no_grad()
def draw(
    backbone: Backbone, prompt: str, settings: GenerateSettings, on_picture: Callable[[int], None] = lambda done: None,
    things: list[Mention] | None = None,
) -> list[Image.Image]:  # fmt: skip
    """``settings.n`` pictures of ``prompt``; picture i depends on seed + i alone, whatever the batch.

    ``things`` are what ``settings.guidance`` looks after; without it, or with none of them, sampling is plain.
    """
    size = {}
    for name in ("height", "width"):
        value, grain = getattr(settings, name), backbone.factor * 2 ** (len(backbone.unet.config.block_out_channels) - 1)
        if value % grain:
            raise SettingsError(f"{name} = {value}: this base draws multiples of {grain} pixels, such as {value // grain * grain + grain}")
        size[name] = value or backbone.side
    pipe, images = backbone.pipeline(), []
    for first in range(0, settings.n, settings.batch):
        count = min(settings.batch, settings.n - first)
        generators = [torch.Generator().manual_seed(settings.seed + first + i) for i in range(count)]
        guided = {} if settings.guidance == "none" or not things else _guided(pipe, backbone, prompt, things, settings, generators, size)
        images += pipe(
            prompt, negative_prompt=settings.negative_prompt or None, num_images_per_prompt=count, generator=generators,
            num_inference_steps=settings.steps, guidance_scale=settings.guidance_scale, **size, **guided,
        ).images  # fmt: skip
        on_picture(len(images))
    return images


def _guided(pipe, backbone: Backbone, prompt: str, things: list[Mention], settings: GenerateSettings, generators: list, size: dict) -> dict:
    """The pipeline's arguments for a guided batch: first latents, moved already, and the callback that moves them later."""
    if size["height"] != size["width"]:
        raise SettingsError(f"guidance {settings.guidance!r} draws square pictures; height and width differ")
    guide = Guide(backbone, things, backbone.count_tokens(prompt), settings, size["height"] // backbone.factor)
    context = backbone.encode_text([prompt] * len(generators))
    pipe.scheduler.set_timesteps(settings.steps, device=backbone.device)
    latents = pipe.prepare_latents(
        len(generators), backbone.unet.config.in_channels, size["height"], size["width"], context.dtype, backbone.device, generators
    )
    latents = guide.move(pipe.scheduler, 0, latents, context) / pipe.scheduler.init_noise_sigma

    def move(pipe, index: int, timestep, tensors: dict) -> dict:
        if index + 1 < len(pipe.scheduler.timesteps):
            tensors["latents"] = guide.move(pipe.scheduler, index + 1, tensors["latents"], context)
        return tensors

    return {"latents": latents, "callback_on_step_end": move}

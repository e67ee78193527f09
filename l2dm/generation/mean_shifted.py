"""MuDI's begun noise drawn with diffusers' own pipeline: each thing alone, cut out, put in its place, and the
whole from noise that is shifted to it.
"""

from __future__ import annotations

from contextlib import nullcontext

from PIL import Image

from ..guidance.mean_shifted_noise import cut_out, mean_shifted
from .alone import Places, drawn_alone, encoded, shared
from .batch import Batch


def from_mean_shifted_noise(pipe, batch: Batch) -> list[Image.Image]:
    """The pictures of ``batch``; see ``guidance.mean_shifted_noise``."""
    backbone, mentions, settings = batch.backbone, batch.mentions, batch.settings
    generators, size, recorder = batch.generators, batch.size, batch.recorder
    count, family, places = len(generators), backbone.family, Places.of(mentions)
    cells = size["height"] // backbone.factor, size["width"] // backbone.factor
    noise = family.noise(backbone, generators, *cells)  # the one that a plain picture of the seed begins from
    common = {"num_images_per_prompt": count, "generator": generators}
    each = drawn_alone(pipe, backbone, batch.prompt, mentions, settings, settings.steps, common, looked=True)
    pixels, _ = places.together(each.pictures, size)
    masks = [cut_out(maps, backbone.side) for maps in each.maps]
    white, own = places.together(masks, size)
    latents = encoded(backbone, pixels)
    inside = (shared((white[..., 0] > 127) & own, cells) > 0.5).to(noise)
    begun = mean_shifted(noise, latents.to(noise), inside)
    with recorder.during(backbone, mentions, {}, count, size) if recorder else nullcontext({}) as changes:
        return pipe(
            prompt=batch.prompt,
            latents=family.begun(begun),
            num_inference_steps=settings.steps,
            **common,
            **family.call(settings.guidance_scale, settings.negative_prompt or None),
            **size,
            **changes,
        ).images

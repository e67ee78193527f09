"""A collage drawn with diffusers' own pipeline: each thing alone, then all of them from the step where their
pictures are put together.

With ``confine`` that second phase holds no picture to what was drawn alone: it is guided as ever, so that the
whole may become one picture, and each thing acts in its own place alone.
"""

from __future__ import annotations

from contextlib import nullcontext

import torch
from PIL import Image

from ..backbone.samplers import begin_later
from ..backbone.sites import finest
from ..guidance import collage as how
from .alone import Places, drawn_alone, encoded, shared
from .batch import Batch
from .confined import confined


def collaged(pipe, batch: Batch) -> list[Image.Image]:
    """The pictures of ``batch``; see ``guidance.collage``."""
    backbone, mentions, settings = batch.backbone, batch.mentions, batch.settings
    generators, size, recorder = batch.generators, batch.size, batch.recorder
    count, family = len(generators), backbone.family
    apart = max(family.fewest_steps, round(how.ALONE * settings.steps))
    left_out = settings.steps - max(1, settings.steps - apart)
    common = {"num_images_per_prompt": count, "generator": generators}

    joint, places = backbone.pipeline(settings.sampler), Places.of(mentions)
    begin_later(joint.scheduler, left_out)
    each = drawn_alone(pipe, backbone, batch.prompt, mentions, settings, apart, common)
    pixels, insides = places.together(each.pictures, size)
    latents = encoded(backbone, pixels)
    cells = latents.shape[-2:]
    noise = family.noise(backbone, generators, *cells)
    latents = latents.to(noise)
    inside = (shared(insides[:1], cells) > 0.999).to(latents.device)

    family.set_timesteps(backbone, joint.scheduler, settings.steps, *cells)
    noisier = backbone.process if family.flow else joint.scheduler
    begun = noisier.add_noise(latents, noise, joint.scheduler.timesteps[:1].expand(count))

    def hold(pipe, index: int, timestep, tensors: dict) -> dict:
        following, held = pipe.scheduler.timesteps[index + 1 : index + 2], latents
        if len(following):
            fresh = torch.stack([torch.randn(latents.shape[1:], generator=one) for one in generators])
            held = noisier.add_noise(latents, fresh.to(latents), following)
        drawn = family.unpacked(tensors["latents"], *cells)
        tensors["latents"] = family.packed(torch.where(inside, held, drawn))
        return tensors

    joint.regions = places.parts(cells)[None]
    scale = settings.guidance_scale * (1.0 if settings.confine else how.TOGETHER)
    parts = places.parts(finest(backbone.denoiser, *cells))
    holding = {"callback_on_step_end": hold}
    with (
        confined(joint, backbone, mentions, cells, {}, known=parts)
        if settings.confine
        else nullcontext(holding) as changes,
        recorder.during(backbone, mentions, changes, count, size, left_out)
        if recorder
        else nullcontext(changes) as changes,
    ):
        return joint(
            prompt=batch.prompt,
            latents=family.begun(begun / getattr(joint.scheduler, "init_noise_sigma", 1.0)),
            num_inference_steps=settings.steps,
            **common,
            **family.call(scale, settings.negative_prompt or None),
            **size,
            **changes,
        ).images

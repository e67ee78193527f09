"""A collage drawn with diffusers' own pipeline: each thing alone, then all of them from the step where their pictures are put together."""

from __future__ import annotations

from contextlib import nullcontext

import numpy as np
import torch
from PIL import Image

from ..backbone import Backbone
from ..backbone.samplers import begin_later
from ..guidance import collage as how
from ..guidance.collage import collage, middles, parts_of, spots
from ..settings import GenerateSettings
from .attention_recorder import AttentionRecorder
from .mentions import Mention, single_subject_prompts


def collaged(
    pipe, backbone: Backbone, prompt: str, mentions: list[Mention], settings: GenerateSettings, generators: list, size: dict[str, int],
    recorder: AttentionRecorder | None,
) -> list[Image.Image]:  # fmt: skip
    """One picture of ``prompt`` for each of ``generators``; see ``guidance.collage``."""
    count, family = len(generators), backbone.family
    apart = max(family.fewest_steps, round(how.ALONE * settings.steps))
    left_out = settings.steps - max(1, settings.steps - apart)
    common = {"num_images_per_prompt": count, "generator": generators}

    def call(times: float) -> dict:
        return common | backbone.family.call(
            settings.guidance_scale * times, settings.negative_prompt or None
        )

    joint = backbone.pipeline(settings.sampler)
    begin_later(joint.scheduler, left_out)
    own = {"num_inference_steps": apart, "height": backbone.side, "width": backbone.side}
    each = [
        pipe(prompt=text, **own, **call(how.GUIDANCE if mention.personal else 1.0)).images
        for text, mention in zip(single_subject_prompts(prompt, mentions), mentions)
    ]
    boxes = [mention.box for mention in mentions if mention.box] or None
    points = middles(boxes) if boxes else spots([mention.side for mention in mentions])
    room = size["width"], size["height"]
    pixels, insides = zip(*(collage(list(pictures), points, room, boxes) for pictures in zip(*each)))
    x = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1
    latents = backbone.encode_pictures(x)
    cells = latents.shape[-2:]
    noise = family.noise(backbone, generators, *cells)
    latents = latents.to(noise)
    shares = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(insides[0])[None, None].float(), cells)
    inside = (shares > 0.999).to(latents.device)

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

    changes = {"callback_on_step_end": hold}
    joint.regions = torch.from_numpy(parts_of(points, *cells, boxes))[None]
    with (
        recorder.during(backbone, mentions, changes, count, size, left_out)
        if recorder
        else nullcontext(changes) as changes
    ):
        return joint(
            prompt=prompt, latents=family.begun(begun / getattr(joint.scheduler, "init_noise_sigma", 1.0)),
            num_inference_steps=settings.steps, **call(how.TOGETHER), **size, **changes,
        ).images  # fmt: skip

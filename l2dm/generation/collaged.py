"""A collage drawn with diffusers' own pipelines: text to image for each thing alone, then image to image for all of them."""

from __future__ import annotations

import inspect
from contextlib import nullcontext

import numpy as np
import torch
from PIL import Image

from ..backbone import Backbone
from ..guidance import collage as how
from ..guidance.collage import collage, spots
from ..settings import GenerateSettings
from .attention_recorder import AttentionRecorder
from .mentions import Mention, single_subject_prompts


def collaged(
    pipe, backbone: Backbone, prompt: str, mentions: list[Mention], settings: GenerateSettings, generators: list, size: dict[str, int],
    recorder: AttentionRecorder | None,
) -> list[Image.Image]:  # fmt: skip
    """One picture of ``prompt`` for each of ``generators``; see ``guidance.collage``. ``pipe`` draws from text alone."""
    count, apart = len(generators), max(1, round(how.ALONE * settings.steps))
    together = max(1, settings.steps - apart)
    common = {"num_images_per_prompt": count, "generator": generators}

    def call(times: float) -> dict:
        return common | backbone.family.call(
            settings.guidance_scale * times, settings.negative_prompt or None
        )

    family, joint = backbone.family, backbone.pipeline(settings.sampler, from_pictures=True)
    own = {"num_inference_steps": apart, "height": backbone.side, "width": backbone.side}
    each = [
        pipe(prompt=text, **own, **call(how.GUIDANCE if mention.personal else 1.0)).images
        for text, mention in zip(single_subject_prompts(prompt, mentions), mentions)
    ]
    points = spots([mention.side for mention in mentions])
    pixels, insides = zip(
        *(collage(list(pictures), points, (size["width"], size["height"])) for pictures in zip(*each))
    )
    x = torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2).float() / 127.5 - 1
    latents = backbone.encode_pictures(x).to(backbone.dtype)
    shares = torch.nn.functional.adaptive_avg_pool2d(
        torch.from_numpy(insides[0])[None, None].float(), latents.shape[-2:]
    )
    inside = (shares > 0.999).to(latents.device)

    def hold(pipe, index: int, timestep, tensors: dict) -> dict:
        following = pipe.scheduler.timesteps[(settings.steps - together) * pipe.scheduler.order :][
            index + 1 : index + 2
        ]
        held = latents
        if len(following):
            noise = torch.stack(
                [torch.randn(latents.shape[1:], generator=generator) for generator in generators]
            ).to(latents)
            noisier = backbone.process if family.flow else pipe.scheduler
            held = noisier.add_noise(latents, noise, following)
        drawn = family.unpacked(tensors["latents"], *latents.shape[-2:])
        tensors["latents"] = family.packed(torch.where(inside, held, drawn))
        return tensors

    changes = {"callback_on_step_end": hold}
    if "height" in inspect.signature(joint.__call__).parameters:
        common |= size
    # of steps that are no whole number, pipelines of betas drop the rest of those to go, the others that of those left out
    strength = (together - 0.25 if family.flow else together + 0.5) / settings.steps
    with (
        recorder.during(backbone, mentions, changes, count, size, settings.steps - together)
        if recorder
        else nullcontext(changes) as changes
    ):
        return joint(
            prompt=prompt, image=latents, strength=min(1.0, strength), num_inference_steps=settings.steps,
            **call(how.TOGETHER), **changes,
        ).images  # fmt: skip

"""A collage drawn with diffusers' own pipelines: text to image for each thing alone, then image to image for all of them."""

from __future__ import annotations

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

    joint = backbone.pipeline(settings.sampler, from_pictures=True)
    each = [
        pipe(text, num_inference_steps=apart, **call(how.GUIDANCE if mention.personal else 1.0)).images
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
            held = pipe.scheduler.add_noise(latents, noise, following)
        tensors["latents"] = torch.where(inside, held, tensors["latents"])
        return tensors

    changes = {"callback_on_step_end": hold}
    with (
        recorder.during(backbone, mentions, changes, count, size, settings.steps - together)
        if recorder
        else nullcontext(changes) as changes
    ):
        return joint(
            prompt, image=latents, strength=min(1.0, (together + 0.5) / settings.steps), num_inference_steps=settings.steps,
            **call(how.TOGETHER), **changes,
        ).images  # fmt: skip

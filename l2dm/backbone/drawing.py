"""diffusers' own pipeline, unchanged, which says while it draws what the denoiser reads.

A pipeline hands its denoiser features alone. Here the words and concepts behind them are told beside, in the order of the pipeline's
batch: negatives first where there is classifier-free guidance, and every prompt as often as it is drawn.
"""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from diffusers import DiffusionPipeline

from ..errors import SettingsError
from .conditioning import Conditioning

if TYPE_CHECKING:
    from .backbone import Backbone


def after_steps(pipe: DiffusionPipeline, then: Callable[..., dict[str, Any]]) -> dict[str, Any]:
    """How ``pipe`` is told to call ``then`` after its steps: as its ``callback_on_step_end``, or, of older pipelines, as the ``callback``
    that is shown the latents and can change them where they lie alone."""
    if "callback_on_step_end" in inspect.signature(pipe.__call__).parameters:
        return {"callback_on_step_end": then}

    def shown(step: int, timestep: Any, latents: torch.Tensor) -> None:
        last = (step + 1) * pipe.scheduler.order - 1  # the sampler's call that ended the step
        latents.copy_(then(pipe, last, timestep, {"latents": latents})["latents"])

    return {"callback": shown, "callback_steps": 1}


def telling(kind: type[DiffusionPipeline], backbone: Backbone) -> type[DiffusionPipeline]:
    """The pipeline ``kind``; during a call ``backbone.conditioning`` is that of its batch."""
    asked, family = inspect.signature(kind.encode_prompt), backbone.family

    class Telling(kind):
        @functools.wraps(kind.__call__)
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            if (steps := kwargs.get("num_inference_steps", family.fewest_steps)) < family.fewest_steps:
                raise SettingsError(
                    f"steps = {steps}: {family.name} draws in {family.fewest_steps} steps or more"
                )
            if then := kwargs.pop("callback_on_step_end", None):
                kwargs |= after_steps(self, then)
            with backbone.reading(None):
                return super().__call__(*args, **kwargs)

        def encode_prompt(self, *args: Any, **kwargs: Any) -> tuple:
            bound = asked.bind(self, *args, **kwargs)
            bound.apply_defaults()
            given = bound.arguments
            output = super().encode_prompt(*args, **kwargs)
            if (prompt := given["prompt"]) is None:  # features were given, and nobody knows their words
                return output
            prompts = [prompt] if isinstance(prompt, str) else list(prompt)
            told, beside = backbone.conditioned(family.told(output), prompts), None
            if given.get("do_classifier_free_guidance"):
                negative = given.get("negative_prompt")
                texts = negative if isinstance(negative, list) else [negative or ""] * len(prompts)
                beside = replace(backbone.conditioned(family.told(output, "-"), texts), named=told.named)
            backbone.conditioning = Conditioning.cat([beside, told]) if beside else told
            return family.untold(output, told, beside)

    Telling.__name__ = Telling.__qualname__ = kind.__name__
    return Telling

"""diffusers' own pipeline, unchanged, which says while it draws what the denoiser reads.

A pipeline hands its denoiser features alone. Here the words and concepts behind them are told beside, in the order of the pipeline's
batch: negatives first where there is classifier-free guidance, and every prompt as often as it is drawn.
"""

from __future__ import annotations

import inspect
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from diffusers import DiffusionPipeline

from .conditioning import Conditioning

if TYPE_CHECKING:
    from .backbone import Backbone


def telling(kind: type[DiffusionPipeline], backbone: Backbone) -> type[DiffusionPipeline]:
    """The pipeline ``kind``; during a call ``backbone.conditioning`` is that of its batch."""
    asked, family = inspect.signature(kind.encode_prompt), backbone.family

    class Telling(kind):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
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

"""diffusers' own pipeline, unchanged, which says while it draws what the denoiser reads.

A pipeline hands its denoiser features alone. Here the words and concepts behind them are told beside, in the order of the pipeline's
batch: negatives first where there is classifier-free guidance, and every prompt as often as it is drawn.
"""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import torch
from diffusers import DiffusionPipeline

from .conditioning import Conditioning

if TYPE_CHECKING:
    from .backbone import Backbone


def telling(kind: type[DiffusionPipeline], backbone: Backbone) -> type[DiffusionPipeline]:
    """The pipeline ``kind``; during a call ``backbone.conditioning`` is that of its batch."""

    class Telling(kind):
        def __call__(self, *args: Any, **kwargs: Any) -> Any:
            with backbone.reading(None):
                return super().__call__(*args, **kwargs)

        def encode_prompt(
            self, prompt: str | list[str] | None, device: torch.device, count: int, guided: bool,
            negative: str | list[str] | None = None, **others: Any,
        ) -> tuple[torch.Tensor, torch.Tensor | None]:  # fmt: skip
            features, negatives = super().encode_prompt(prompt, device, count, guided, negative, **others)
            if prompt is None:  # features were given, and nobody knows their words
                return features, negatives
            prompts = [prompt] if isinstance(prompt, str) else list(prompt)
            told = backbone.conditioned(features, prompts)
            if guided:
                texts = negative if isinstance(negative, list) else [negative or ""] * len(prompts)
                beside = replace(backbone.conditioned(negatives, texts), named=told.named)
                told = Conditioning.cat([beside, told])
            backbone.conditioning = told
            return features, negatives

    Telling.__name__ = Telling.__qualname__ = kind.__name__
    return Telling

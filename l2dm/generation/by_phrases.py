"""Structure Diffusion (arXiv 2212.05032) in a drawing: each mention's values come from its own noun
phrase.
"""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

from ..backbone import Backbone
from ..backbone.sites import entering, reads_features
from ..errors import SettingsError
from ..guidance.structure import Phrase, structured, values_from
from .mentions import Mention


def by_phrases(
    backbone: Backbone, prompt: str, mentions: list[Mention], features: torch.Tensor
) -> AbstractContextManager[None]:
    """Within the block values come from each mention's phrase alone (Structure Diffusion)."""
    if not reads_features(backbone.denoiser):
        raise SettingsError(
            f"composition = structure: in {backbone.family.name} text and picture go through the blocks "
            "together, so that no phrase can be read alone; choose another composition"
        )

    def enter(features: torch.Tensor) -> torch.Tensor:
        return entering(backbone.denoiser, features)

    phrases = phrases_of(backbone, prompt, mentions)
    values = structured(enter(features), phrases, lambda texts: enter(backbone.encode_text(texts)))
    return values_from(backbone.denoiser, values)


def phrases_of(backbone: Backbone, prompt: str, mentions: list[Mention]) -> list[Phrase]:
    """Each mention's noun phrase, article and adjectives included, and where its tokens stand in the prompt
    and alone.
    """
    spans = [(min(mention.phrase[0], mention.span[0]), mention.span[1]) for mention in mentions]
    return [
        (
            prompt[low:high],
            backbone.places(prompt, (low, high)),
            backbone.places(prompt[low:high], (0, high - low)),
        )
        for low, high in spans
    ]

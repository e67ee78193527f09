"""DyTox (Douillard et al., arXiv 2111.11326), carried over from classification to diffusion: a token for each task.

There: one transformer serves all tasks; a task is a learnt token that is attended to together with the picture's patches and makes the
shared features its own; earlier tokens are frozen. Here: one denoiser serves all concepts; a concept's task token is one more
word beside the prompt's words, a vector th_i (width,) of the space that the keys and values are read from. It stands in the
padding at the end of each prompt that names the concept:

    c_{end-j} <- c_{end-j} + th_i      for the j-th concept named (in the order of learning), th_i at first 0

Shared weights and earlier task tokens stay as they are, so a prompt without concepts is the pretrained model's, bit for bit.
Left out: training the shared weights on, with the rehearsal, distillation and divergence loss that this needs there.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F

from ..backbone import Backbone
from ..concept import Concept
from ..settings import LearnSettings
from .beside import Beside


def on_reading(backbone: Backbone, change: Any) -> None:
    """``change(ids, features)`` -> the features (B, length, width or more) that the text encoder gives instead."""

    def hook(module: torch.nn.Module, args: tuple, kwargs: dict[str, Any], output: Any) -> Any:
        ids = args[0] if args else kwargs["input_ids"]
        output.last_hidden_state = change(ids, output.last_hidden_state)
        return output

    backbone.text_encoder.register_forward_hook(hook, with_kwargs=True)


class TaskToken(Beside):
    """``now``: ``<token>/task_token`` (width,)."""

    separable = True

    def attach(self, backbone: Backbone) -> None:
        on_reading(
            backbone, lambda ids, features: features + self.placed(ids).to(features) if self.now else features
        )

    def placed(self, ids: torch.Tensor) -> torch.Tensor:
        """(B, length, width): the task tokens of prompts ``ids`` (B, length) where they stand, 0 elsewhere."""
        ids_of = {token: several[0] for token, several in self.backbone.tokens.ids.items()}
        names, length = (
            [name for token in ids_of if (name := f"{token}/task_token") in self.now],
            ids.shape[1],
        )
        named = torch.stack(
            [(ids == ids_of[name.split("/")[0]]).any(1) for name in names], 1
        ).long()  # (B, concepts)
        slots = (length - named.cumsum(1)).clamp(max=length - 1)
        placed = F.one_hot(slots, length) * named[..., None]  # (B, concepts, length)
        return placed.mT.float() @ torch.stack([self.now[name] for name in names])

    def begin(self, concept: Concept, settings: LearnSettings) -> None:
        self.train({f"{concept.token}/task_token": torch.zeros(self.backbone.text_width)})

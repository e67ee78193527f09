"""DyTox (Douillard et al., arXiv 2111.11326), carried over from classification to diffusion: a token for each
task.

There: one transformer serves all tasks; a task is a learnt token that is attended to together with the
picture's patches and makes the shared features its own; earlier tokens are frozen. Here: one denoiser serves
all concepts; a concept's task token is one more word beside the prompt's words, a vector th_i (width,) of the
space that the keys and values are read from. It stands in the padding at the end of each prompt that names
the concept:

    c_{end-j} <- c_{end-j} + th_i      for the j-th concept named (in the order of learning), th_i at first 0

Shared weights and earlier task tokens stay as they are, so a prompt without concepts is the pretrained
model's, bit for bit. Left out: training the shared weights on, with the rehearsal, distillation and
divergence loss that this needs there.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import torch
import torch.nn.functional as F

from ..backbone import Backbone, Conditioning
from ..concept import Concept
from ..errors import SettingsError
from ..settings import LearnSettings
from .adapter_tuner import AdapterTuner
from .factors import Factors


class TaskToken(AdapterTuner):
    """``now``: ``<token>/task_token`` (width,)."""

    def attach(self, backbone: Backbone) -> None:
        backbone.changes.append(self.beside)

    def beside(self, reading: Conditioning) -> Conditioning:
        """What was read, with the task tokens in it; where they stand, padding is read too."""
        if not self.now:
            return reading
        mask = reading.mask
        if mask is not None:
            mask = torch.maximum(mask, self.slots(reading.ids).amax(1).to(mask))
        return replace(
            reading, features=reading.features + self.placed(reading.ids).to(reading.features), mask=mask
        )

    def _tokens(self) -> list[str]:
        return [token for token in self.backbone.tokens.ids if f"{token}/task_token" in self.now]

    def slots(self, ids: torch.Tensor) -> torch.Tensor:
        """(B, concepts, length) of 0 and 1: where in prompts ``ids`` (B, length) each task token stands."""
        named = self.backbone.naming(ids)[:, self.backbone.tokens.places(self._tokens())].long()
        length = ids.shape[1]
        places = (length - named.cumsum(1)).clamp(max=length - 1)
        return F.one_hot(places, length) * named[..., None]

    def placed(self, ids: torch.Tensor) -> torch.Tensor:
        """(B, length, width): task tokens where they stand in prompts ``ids`` (B, length), 0 elsewhere."""
        tokens = torch.stack([self.now[f"{token}/task_token"] for token in self._tokens()])
        return self.slots(ids).mT.float() @ tokens

    def begin(self, concept: Concept, settings: LearnSettings) -> None:
        self.train({f"{concept.token}/task_token": torch.zeros(self.backbone.text_width)})

    def resume(self, concept: Concept, settings: LearnSettings) -> None:
        self.train({name: self.now[name] for name in [f"{concept.token}/task_token"]})

    def low_rank(self, tokens: Sequence[str]) -> dict[str, Factors]:
        raise self._stays(tokens)

    def merged(
        self, tokens: Sequence[str], plain: Mapping[str, torch.Tensor], strength: float = 1.0
    ) -> dict[str, torch.Tensor]:
        raise self._stays(tokens)

    @staticmethod
    def _stays(tokens: Sequence[str]) -> SettingsError:
        return SettingsError(
            f"{', '.join(tokens)}: a task token stands in the padding of prompts, where no other program "
            "puts one; move it to another world: "
            "l2dm import OTHER_WORLD --from WORLD --token TOKEN"
        )

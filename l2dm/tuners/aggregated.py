"""Elastic weight aggregation of CIDM (Dong et al., arXiv 2410.17594, Eq. 3): the prompt decides how strongly
each concept's adapter acts.

    M_i = max over the prompt's words p of  <c_p, e_i>,     psi = M^2 / ||M^2||,     W = W_0 + sum_i psi_i U_i
    D_i

e_i is what the text encoder makes of concept i's own words ("<rex> dog"), averaged over them, kept when the
concept has been learnt. While it is learnt its adapter acts alone and fully. Each row of a batch is
aggregated by its own prompt.

Ours: <,> is a cosine, cut off at 0, and the start token is left out; its feature is the same in all prompts
and larger than all others. Left out of CIDM: the concept consolidation loss with its layer-wise tokens, and
the control by regions.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F

from ..backbone import Conditioning
from ..concept import Concept
from ..settings import LearnSettings
from .prompt_gated import PromptGated


def aggregation(features: torch.Tensor, keys: torch.Tensor, start: int = 1) -> torch.Tensor:
    """psi (B, concepts) of prompts with ``features`` (B, length, width) and concepts with ``keys`` (concepts,
    width); the first ``start`` tokens are no words."""
    cosines = F.normalize(features[:, start:], dim=-1) @ F.normalize(keys, dim=-1).mT
    return F.normalize(cosines.amax(1).clamp(min=0).square(), dim=-1)


class Aggregated(PromptGated):
    """``now`` also has ``<token>/key``: e_i (width,)."""

    def gates(self, reading: Conditioning) -> torch.Tensor:
        if self.parameters:
            weights = torch.zeros(len(reading), len(self.adapters)).to(reading.features)
            weights[:, self._own] = 1
        else:
            keys = torch.stack([self.now[f"{name}/key"] for name in self.adapters])
            weights = aggregation(reading.features, keys.to(reading.features), self.backbone.start)
        return weights[:, None].expand(-1, reading.ids.shape[1], -1)

    @property
    def _own(self) -> int:
        """Which adapter the learnt concept has: the last one, but where an earlier one learns on."""
        return list(self.adapters).index(self.learning.token)

    def begin(self, concept: Concept, settings: LearnSettings) -> None:
        super().begin(concept, settings)
        self.learning = concept

    def resume(self, concept: Concept, settings: LearnSettings) -> None:
        super().resume(concept, settings)
        self.learning = concept

    @torch.no_grad()
    def finish(self) -> None:
        ids = self.backbone.tokenize([self.learning.name])
        features = self.backbone.encode_text([self.learning.name])[0]
        key = features[self.words(ids)[0, :, self._own]].mean(0)
        self.now, self.parameters = {**self.now, f"{self.learning.token}/key": key}, {}

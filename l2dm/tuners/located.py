"""Located: one change of keys and values for all concepts, which acts at the concepts' own words only (ours).

    K_p = W_K c_p + [p is one of some concept's words] U D c_p,    V alike

A concept's words are its token V* and the class noun right after it (as in ``isolated``, where every concept has a U_i D_i of its
own). The pretrained weights stay, so a prompt that names no concept gives the base's bits at every k and needs no prior
pairs; what concepts learn is shared, so they can lose one another, and what keeps the past has work to do.
"""

from __future__ import annotations

import torch

from ..concept import Concept
from ..settings import LearnSettings
from .by_prompt import ByPrompt

SHARED = "shared"


class Located(ByPrompt):
    """One adapter, "shared"; each concept only says at which words it acts."""

    def concepts(self) -> list[str]:
        return [name.split("/")[0] for name in self.now if name.endswith("/noun")]

    def gates(self, ids: torch.Tensor, features: torch.Tensor) -> torch.Tensor:
        if not self.concepts():  # all forgotten
            return features.new_zeros(*ids.shape, 1)
        return self.words(ids).any(-1, keepdim=True)

    def begin(self, concept: Concept, settings: LearnSettings) -> None:
        self.locate(concept)
        self.train({name: t for name, t in self.now.items() if name.startswith(f"{SHARED}/")} or self.fresh(SHARED, settings))

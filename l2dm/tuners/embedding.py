"""Nothing but the new token's vector, as in Textual Inversion (arXiv 2208.01618)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..backbone import Backbone
from .factors import Factors
from .tuner import Tuner


class Embedding(Tuner):
    """No weight of the backbone."""

    changes_weights = False

    def select(self, backbone: Backbone) -> dict[str, torch.nn.Parameter]:
        return {}

    def low_rank(self, tokens: Sequence[str]) -> dict[str, Factors]:
        return {}

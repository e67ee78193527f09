"""Nothing but the new token's vector, as in Textual Inversion (arXiv 2208.01618)."""

from __future__ import annotations

import torch

from ..backbone import Backbone
from .tuner import Tuner


class Embedding(Tuner):
    """No weight of the backbone."""

    changes_weights = False

    def select(self, backbone: Backbone) -> dict[str, torch.nn.Parameter]:
        return {}

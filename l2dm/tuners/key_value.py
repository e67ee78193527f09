"""Key and value projections of the cross-attention layers, as in Custom Diffusion (arXiv 2212.04488)."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from ..backbone import Backbone
from ..backbone.sites import key_value_layers
from .factors import Factors
from .tuner import Tuner


class KeyValue(Tuner):
    """W_K and W_V themselves."""

    loses = "nothing; but concepts share these weights, so what the others taught goes along"

    def select(self, backbone: Backbone) -> dict[str, torch.nn.Parameter]:
        return {f"{name}.weight": layer.weight for name, layer in key_value_layers(backbone.denoiser).items()}

    def low_rank(self, tokens: Sequence[str]) -> dict[str, Factors]:
        """The whole difference of each layer, which all concepts share."""
        changes = {name: p.detach() - self.pretrained_values[name] for name, p in self.parameters.items()}
        return {name.removesuffix(".weight"): Factors.exactly(change) for name, change in changes.items()}

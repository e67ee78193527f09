"""Key and value projections of the cross-attention layers, as in Custom Diffusion (arXiv 2212.04488)."""

from __future__ import annotations

import torch

from ..backbone import Backbone
from ..backbone.sites import key_value_layers
from .tuner import Tuner


class KeyValue(Tuner):
    """W_K and W_V themselves."""

    def select(self, backbone: Backbone) -> dict[str, torch.nn.Parameter]:
        return {f"{name}.weight": layer.weight for name, layer in key_value_layers(backbone.denoiser).items()}

"""Key and value projections of the cross-attention layers, as in Custom Diffusion (arXiv 2212.04488)."""

from __future__ import annotations

import torch

from ..backbone import Backbone
from .tuner import Tuner


def key_value_layers(unet: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """W_K and W_V of every cross-attention layer of the denoiser: the layers that read the prompt."""
    return {
        name: module for name, module in unet.named_modules() if name.endswith(("attn2.to_k", "attn2.to_v"))
    }


class KeyValue(Tuner):
    """W_K and W_V themselves."""

    def select(self, backbone: Backbone) -> dict[str, torch.nn.Parameter]:
        return {f"{name}.weight": layer.weight for name, layer in key_value_layers(backbone.unet).items()}

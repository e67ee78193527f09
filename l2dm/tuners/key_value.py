"""Key and value projections of the cross-attention layers, as in Custom Diffusion (arXiv 2212.04488)."""

from __future__ import annotations

import torch

from ..backbone import Backbone
from .tuner import Tuner


class KeyValue(Tuner):
    """W_K and W_V of every cross-attention layer of the denoiser: the weights that read the prompt."""

    def select(self, backbone: Backbone) -> dict[str, torch.nn.Parameter]:
        return {name: p for name, p in backbone.unet.named_parameters() if name.endswith(("attn2.to_k.weight", "attn2.to_v.weight"))}

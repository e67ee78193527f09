"""Everything: every weight of the denoiser, as in DreamBooth (arXiv 2208.12242). The text encoder stays
frozen.
"""

from __future__ import annotations

import torch

from ..backbone import Backbone
from .tuner import Tuner


class Full(Tuner):
    """All parameters of the denoiser. Here alone the pretrained values are a second denoiser in memory, and a
    version one on disk.
    """

    loses = "nothing; but concepts share these weights, so what the others taught goes along"

    def select(self, backbone: Backbone) -> dict[str, torch.nn.Parameter]:
        return dict(backbone.denoiser.named_parameters())

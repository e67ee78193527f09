"""Prior pairs: pictures of the class noun drawn by the pretrained model (L2DM, arXiv 2309.04430, Eqs. 2-3
[given]; class-specific prior preservation of DreamBooth, arXiv 2208.12242).

    L_PR = E || eps - eps_theta(z_t^p | c^p) ||^2,   (z^p, c^p) = (a latent drawn for "a photo of a dog", that
    prompt)
"""

from __future__ import annotations

from collections.abc import Callable

import torch

from ..backbone import Backbone
from ..tuners import Tuner


def draw_prior(
    backbone: Backbone,
    tuner: Tuner,
    prompt: str,
    count: int,
    steps: int,
    guidance_scale: float,
    seed: int = 0,
    on_batch: Callable[[int], None] = lambda done: None,
) -> torch.Tensor:
    """``count`` latents (count, C, h, w) of ``prompt`` by the pretrained weights, never decoded."""
    with tuner.pretrained():
        return backbone.draw_latents([prompt] * count, steps, guidance_scale, seed, on_batch=on_batch)

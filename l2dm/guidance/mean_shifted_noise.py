"""MuDI's initialization (Jang et al., arXiv 2404.04243): sampling begins from noise that already knows where
each thing is.

    x_T = eps + gamma M z          z: the latents of a picture of all things, each cut out of a picture of its
    own; M: 1 where they are

[given: segmented subjects put beside each other, "mean-shifted noise created from segmented subjects"; the
whole sampling follows] [reconstructed:] gamma, M in the cells of the latents, and, without a segmentation
model at hand, what a thing is in its own picture: the cells above Otsu's threshold of its attention map, the
mean over that picture's steps. Its size is told in the latents that the denoiser is given.
"""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from .otsu import otsu

GAMMA = 0.3


def cut_out(maps: torch.Tensor, side: int) -> list[Image.Image]:
    """For each of ``maps`` (B, h, w) a picture ``side`` pixels square, white where the thing is and black
    elsewhere.
    """
    inside = otsu(maps[:, None])[:, 0].cpu().numpy()
    return [
        Image.fromarray(np.uint8(255 * one)).resize((side, side), Image.Resampling.BILINEAR) for one in inside
    ]


def mean_shifted(
    noise: torch.Tensor, latents: torch.Tensor, inside: torch.Tensor, gamma: float = GAMMA
) -> torch.Tensor:
    """x_T (B, C, h, w) of ``noise`` and ``latents``, both of that shape, and ``inside`` (B, 1, h, w) of zeros
    and ones.
    """
    return noise + gamma * inside * latents

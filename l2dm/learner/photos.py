"""Photos as the denoiser learns them."""

from __future__ import annotations

import numpy as np
import torch
from PIL import Image

from ..backbone import Backbone
from ..concept import Photo

#: Sides of shrunken photos, as shares of the picture's.
SMALLEST, LARGEST = 0.4, 0.65


def photo_latents(backbone: Backbone, photos: tuple[Photo, ...], flip: bool) -> torch.Tensor:
    """(photos, 1 or 2, C, h, w): latents of each photo, and of its mirror image with ``flip``; on the CPU, as all rows are."""
    pixels = np.stack([np.asarray(photo.square(backbone.side)) for photo in photos])
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    views = [x, x.flip(-1)] if flip else [x]
    return torch.stack([torch.cat([backbone.encode_pictures(row[None]) for row in view]) for view in views], 1).cpu()


def shrunken_latents(backbone: Backbone, photos: tuple[Photo, ...], count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Of each photo ``count`` copies at ``SMALLEST`` to ``LARGEST`` of its size, anywhere in a picture of its own mean colour.

    Latents (photos, count, C, h, w), and masks (photos, count, 1, h, w) that are 1 where a latent sees the photo alone and 0
    elsewhere: after the augmentation of Custom Diffusion (arXiv 2212.04488, section 4), whose loss leaves out the rest too.
    """
    rng, side = np.random.default_rng(seed), backbone.side
    pixels, inside = np.empty((len(photos), count, side, side, 3), np.uint8), np.zeros((len(photos), count, 1, side, side), np.float32)
    for i, photo in enumerate(photos):
        whole = photo.square(side)
        for view in range(count):
            small = round(side * rng.uniform(SMALLEST, LARGEST))
            x, y = (int(v) for v in rng.integers(0, side - small + 1, size=2))
            pixels[i, view] = np.asarray(whole).mean((0, 1))
            pixels[i, view, y : y + small, x : x + small] = np.asarray(whole.resize((small, small), Image.LANCZOS))
            inside[i, view, :, y : y + small, x : x + small] = 1
    x = torch.from_numpy(pixels).permute(0, 1, 4, 2, 3).float() / 127.5 - 1
    latents = torch.stack([torch.cat([backbone.encode_pictures(view[None]) for view in views]) for views in x]).cpu()
    shares = torch.nn.functional.adaptive_avg_pool2d(torch.from_numpy(inside).flatten(0, 1), latents.shape[-2:])
    return latents, (shares > 0.999).float().unflatten(0, (len(photos), count))

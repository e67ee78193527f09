"""Photos as the denoiser learns them."""

from __future__ import annotations

import numpy as np
import torch

from ..backbone import Backbone
from ..concept import Photo


def photo_latents(backbone: Backbone, photos: tuple[Photo, ...], flip: bool) -> torch.Tensor:
    """(photos, 1 or 2, C, h, w): latents of each photo, and of its mirror image with ``flip``; on the CPU, as all rows are."""
    pixels = np.stack([np.asarray(photo.square(backbone.side)) for photo in photos])
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    views = [x, x.flip(-1)] if flip else [x]
    return torch.stack(
        [torch.cat([backbone.encode_pictures(row[None]) for row in view]) for view in views], 1
    ).cpu()

"""A picture of one colour, such as a black one, shows nobody: whatever an encoder sees in it counts as
nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

import numpy as np
import torch
from PIL import Image

#: A picture whose colours differ by no more than this is of one colour.
LEVELS = 8

Seen = TypeVar("Seen", np.ndarray, torch.Tensor)


def flat(images: Sequence[Image.Image]) -> np.ndarray:
    """(images,) of bool: which are of one colour (levels within ``LEVELS`` of 255)."""
    return np.array(
        [all(np.ptp(np.asarray(image.convert("RGB")), (0, 1)) <= LEVELS) for image in images], dtype=bool
    )


def shown(values: Seen, images: Sequence[Image.Image]) -> Seen:
    """``values`` (images, ...), what was seen in each picture as an array or tensor: features, likeness, or
    yes and no; with 0 or False in the rows of flat pictures, so that they are like nothing, and nobody."""
    keep = ~flat(images).reshape(-1, *[1] * (values.ndim - 1))
    if isinstance(values, torch.Tensor):
        return values * torch.as_tensor(keep, device=values.device)
    return values * keep

"""Photos as the denoiser learns them: as centre squares, or in buckets, each in its own aspect ratio.

A bucket has a base's area, nearly, in a shape that its photos nearly have. All rows of one forward have one
shape, so a step draws its photos from one bucket, and every photo is as likely as without; what else it
learns from (prior pairs, mixes, memory) stays square.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F

from ..backbone import Backbone
from ..concept import Photo
from ..errors import PhotoError
from ..settings import LearnSettings

#: The longest bucket; a longer photo is cropped to it.
LONGEST = 2.25
#: Steps of a bucket's sides, as a share of the square's.
STEP = 1 / 16


@dataclass(frozen=True)
class Bucket:
    """Photos of one shape, by their numbers: latents (photos, views, C, h, w), and how much the error counts
    where, (photos, views, 1, h, w), if not everywhere alike; on the CPU, as all rows are."""

    photos: list[int]
    latents: torch.Tensor
    masks: torch.Tensor | None


def buckets(backbone: Backbone, photos: tuple[Photo, ...], settings: LearnSettings) -> list[Bucket]:
    """All of ``photos``, and their mirror images with ``flip``; without ``settings.buckets`` in one square.
    Raises PhotoError where a mask has nothing white in what is learnt of a photo."""
    shapes: dict[tuple[int, int], list[int]] = {}
    for number, photo in enumerate(photos):
        shape = shape_for(photo.size, backbone) if settings.buckets else (backbone.side, backbone.side)
        shapes.setdefault(shape, []).append(number)
    masked, found = any(photo.mask is not None for photo in photos), []
    for shape, numbers in shapes.items():
        alike = [photos[number] for number in numbers]
        latents, masks = _latents(backbone, alike, shape, settings.flip), None
        if masked:
            views = [
                mask_weights(photo, shape, latents.shape[-2:], settings.mask_background) for photo in alike
            ]
            masks = torch.stack(views)[:, None]
            masks = torch.cat([masks, masks.flip(-1)], 1) if settings.flip else masks
        found.append(Bucket(numbers, latents, masks))
    return found


def check_masks(backbone: Backbone, photos: tuple[Photo, ...], settings: LearnSettings) -> None:
    """Raises, before anything is drawn, what ``buckets`` would."""
    for photo in photos:
        shape = shape_for(photo.size, backbone) if settings.buckets else (backbone.side, backbone.side)
        cells = shape[1] // backbone.factor, shape[0] // backbone.factor
        mask_weights(photo, shape, cells, settings.mask_background)


def shape_for(size: tuple[int, int], backbone: Backbone) -> tuple[int, int]:
    """Width and height in pixels of the bucket that a photo of ``size`` goes to: of at most the base's area,
    no longer than LONGEST, and of all such the one whose aspect ratio differs by the smallest factor."""
    step = backbone.grain * max(1, round(backbone.side * STEP / backbone.grain))
    squares = max(1, backbone.side // step)
    longest = math.isqrt(int(LONGEST * squares * squares))
    pairs = [(wide, squares * squares // wide) for wide in range(squares, longest + 1)]
    pairs = [pair for pair in pairs if pair[0] <= LONGEST * pair[1]]
    pairs += [pair[::-1] for pair in pairs]
    aspect = math.log(size[0] / size[1])
    wide, high = min(pairs, key=lambda pair: (abs(math.log(pair[0] / pair[1]) - aspect), -pair[0] * pair[1]))
    return (backbone.side, backbone.side) if wide == high else (wide * step, high * step)


def photo_latents(backbone: Backbone, photos: tuple[Photo, ...], flip: bool) -> torch.Tensor:
    """(photos, 1 or 2, C, h, w): latents of the centre square of each photo, and of its mirror image with
    ``flip``; on the CPU.
    """
    return _latents(backbone, list(photos), (backbone.side, backbone.side), flip)


def _latents(backbone: Backbone, photos: list[Photo], shape: tuple[int, int], flip: bool) -> torch.Tensor:
    pixels = np.stack([np.asarray(photo.fit(shape)) for photo in photos])
    x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
    views = [x, x.flip(-1)] if flip else [x]
    return torch.stack(
        [torch.cat([backbone.encode_pictures(row[None]) for row in view]) for view in views], 1
    ).cpu()


def mask_weights(
    photo: Photo, shape: tuple[int, int], cells: tuple[int, int], background: float
) -> torch.Tensor:
    """(1, h, w) in [background, 1]: how much of each of the latent's ``cells`` (h, w) the mask has, but never
    less than ``background``.
    """
    mask = torch.from_numpy(np.asarray(photo.fit_mask(shape), np.float32) / 255)[None]
    share = F.adaptive_avg_pool2d(mask, tuple(cells))
    if share.max() < 0.5:
        raise PhotoError(
            f"{photo.path}: its mask has nothing white in the part that is learnt, {shape[0]} x {shape[1]} "
            "about the centre; crop the photo about its "
            "subject, or mend the mask"
        )
    return share.clamp(min=background)

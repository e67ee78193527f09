"""Published encoders that look at whole pictures: CLIP (arXiv 2103.00020) and DINO (2104.14294), from a
folder or hub id.

Both give unit vectors, on the CPU. They belong to no base: nothing is learnt from them.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from transformers import AutoConfig, ViTModel

from ..errors import BaseModelError, first_line
from .features import ImageFeatures

#: pictures at once
BATCH = 64
#: mean and deviation of ImageNet's channels: how DINO was trained to see
_MEAN, _STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)
#: kind of model -> what it is called, and where it is published
KINDS = {"clip": ("CLIP", "openai/clip-vit-base-patch32"), "vit": ("DINO", "facebook/dino-vits16")}


class ClipEncoder:
    """A CLIP pair with its own tokenizer and preprocessing: ``images`` and ``texts``, both ``(B,
    projection)``.
    """

    kind = "clip"

    def __init__(self, where: str):
        self.name, self.pair = where, ImageFeatures(where, _device())
        self.tokenizer = self.pair.tokenizer
        self.side, self.width = (
            self.pair.model.config.image_size,
            self.pair.model.config.projection_dim,
        )

    def images(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        return _in_batches(self.pair.images, pictures)

    def texts(self, prompts: Sequence[str]) -> torch.Tensor:
        """Each distinct prompt goes through the encoder once."""
        distinct = list(dict.fromkeys(prompts))
        read = _in_batches(lambda part: self.pair.texts(part), distinct)
        return read[[distinct.index(prompt) for prompt in prompts]]


class DinoEncoder:
    """A DINO vision transformer: ``images`` gives its class token after the last norm, ``(B, width)``.

    Pictures are prepared as the CIFC protocol does, for an encoder of side s (224): the short side to s * 256
    / 224, bicubic, then the centre square.
    """

    kind = "vit"

    def __init__(self, where: str):
        self.name, self.model = (
            where,
            ViTModel.from_pretrained(where, add_pooling_layer=False, dtype=torch.float32),
        )
        self.model.eval().requires_grad_(False).to(_device())
        self.side, self.width = self.model.config.image_size, self.model.config.hidden_size

    def images(self, pictures: Sequence[Image.Image]) -> torch.Tensor:
        return _in_batches(self._look, pictures)

    @torch.no_grad()
    def _look(self, pictures: list[Image.Image]) -> torch.Tensor:
        pixels = np.stack([np.asarray(self._square(picture.convert("RGB"))) for picture in pictures])
        x = (torch.from_numpy(pixels).float() / 255 - torch.tensor(_MEAN)) / torch.tensor(_STD)
        seen = self.model(pixel_values=x.permute(0, 3, 1, 2).to(self.model.device)).last_hidden_state[:, 0]
        return F.normalize(seen, dim=-1).cpu()

    def _square(self, picture: Image.Image) -> Image.Image:
        short = round(self.side * 256 / 224)
        wide, high = (int(short * length / min(picture.size)) for length in picture.size)
        left, top = round((wide - self.side) / 2), round((high - self.side) / 2)
        return picture.resize((wide, high), Image.Resampling.BICUBIC).crop(
            (left, top, left + self.side, top + self.side)
        )


def load_encoder(
    where: str | Path, kind: str | None = None, option: str = "judge"
) -> ClipEncoder | DinoEncoder:
    """The encoder in a folder or of a hub id, told by its configuration. ``kind``: "clip" or "vit", if only
    that will do.

    Raises BaseModelError, naming ``option``, when it is missing, cannot be had, or is of another kind.
    """
    said, where = f"{option} {str(where)!r}", str(Path(where).expanduser())
    wanted = " or ".join(f"a {KINDS[k][0]} model such as {KINDS[k][1]}" for k in ([kind] if kind else KINDS))
    local = Path(where).is_dir()
    if not local and (where.count("/") != 1 or where.startswith((".", "/", "~")) or os.path.exists(where)):
        raise BaseModelError(f"{said}: no such folder; give the folder or hub id of {wanted}")
    if local and not (Path(where) / "config.json").is_file():
        raise BaseModelError(
            f"{said}: {Path(where) / 'config.json'} is missing, so no encoder is here; give the folder or "
            f"hub id of {wanted}"
        )
    try:
        found = AutoConfig.from_pretrained(where).model_type
    except Exception as error:
        why = "its config.json cannot be read" if local else "no such folder, and the hub could not be asked"
        raise BaseModelError(
            f"{said}: {why} ({first_line(error)}); give the folder or hub id of {wanted}"
        ) from error
    if found not in ([kind] if kind else KINDS):
        raise BaseModelError(f"{said}: it is a {found} model; expected {wanted}")
    try:
        return (ClipEncoder if found == "clip" else DinoEncoder)(where)
    except Exception as error:
        raise BaseModelError(
            f"{said}: cannot be loaded ({first_line(error)}); it needs weights and, for CLIP, its tokenizer"
        ) from error


def _in_batches(look: Callable[[list], torch.Tensor], items: Sequence) -> torch.Tensor:
    return torch.cat([look(list(items[first : first + BATCH])) for first in range(0, len(items), BATCH)])


def _device() -> str:
    return "cuda" if torch.cuda.is_available() else "cpu"

"""What a benchmark asks of a judge, and the two who can answer: the shipped one, and a published encoder for
real bases.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from PIL import Image

from ..backbone import ClipEncoder, DinoEncoder, load_encoder
from ..errors import SettingsError
from .shipped_judge import Judge

#: Name of the judge that is in the package.
SHIPPED = "shipped"


class Judging(Protocol):
    """Anything that knows things by their looks. ``Judge`` says what each method gives."""

    def features(self, images: Sequence[Image.Image]) -> torch.Tensor: ...

    def prototype(self, references: Sequence[Image.Image]) -> torch.Tensor: ...

    def likeness(self, images: Sequence[Image.Image], prototypes: torch.Tensor) -> torch.Tensor: ...

    def presence(self, images: Sequence[Image.Image], prototypes: torch.Tensor) -> torch.Tensor: ...

    def card(self) -> dict[str, Any]: ...


class EncoderJudge:
    """CLIP or DINO as the judge: a picture is one direction, and likeness the cosine of the two.

        prototype of a thing = normalised mean of its reference pictures' features
        likeness(picture, thing) = cos(features of the picture, prototype)         in [-1, 1]

    ``card`` holds no measured worth: nobody measured these on things like the user's.
    """

    def __init__(self, encoder: ClipEncoder | DinoEncoder):
        self.encoder = encoder

    def features(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """``(images, width)``, of unit length."""
        return self.encoder.images(images)

    def prototype(self, references: Sequence[Image.Image]) -> torch.Tensor:
        """``(width,)``, of unit length."""
        return F.normalize(self.features(references).mean(0), dim=0)

    def likeness(self, images: Sequence[Image.Image], prototypes: torch.Tensor) -> torch.Tensor:
        """``(images, prototypes)`` in [-1, 1]."""
        return self.features(images) @ prototypes.T

    def presence(self, images: Sequence[Image.Image], prototypes: torch.Tensor) -> torch.Tensor:
        """Not to be had: a SettingsError that says so."""
        raise SettingsError(
            f"judge {self.encoder.name!r}: it sees a picture as a whole, so it cannot say which of several "
            "things are in it; "
            f"use --judge {SHIPPED}, or the folder of a judge trained with: python -m mini_base.judge"
        )

    def card(self) -> dict[str, Any]:
        return {
            "encoder": self.encoder.name,
            "kind": self.encoder.kind,
            "side": self.encoder.side,
            "width": self.encoder.width,
        }


def find_judge(source: str = SHIPPED) -> Judging:
    """The judge called ``source``: "shipped", a folder that ``python -m mini_base.judge`` filled, or CLIP's
    or DINO's folder or hub id.

    Raises BaseModelError when there is none.
    """
    if source == SHIPPED:
        return Judge()
    return Judge(source) if (Path(source) / "judge.json").exists() else EncoderJudge(load_encoder(source))

"""The judge: which things are in a picture, each with its own looks, and where it was taken.

Not part of any base: networks of their own, trained on composed pictures of known content
(``mini_base/judge.py``), never on generated ones. One small convolutional network looks at a picture and
gives each of 8 x 8 cells a direction in a space where drawings of one and the same thing lie together,
whatever their place, size or background:

    prototype of a thing = normalised mean over its reference pictures of their cells, weighted by saliency
    likeness(picture, thing) = max over cells of cos(cell, prototype)          in [-1, 1]
    presence = sigmoid(sharpness * likeness - threshold)                       calibrated on unseen things

Its own precision, recall and calibration are in ``card()``; they belong beside every figure that it gives.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors import SafetensorError
from safetensors.torch import load_file

from ..errors import BaseModelError, first_line

SHIPPED = Path(__file__).parent / "judge"
SIDE, WIDTH = 64, 96


class Block(torch.nn.Module):
    """Two 3 x 3 convolutions and a way around them."""

    def __init__(self, channels: int):
        super().__init__()
        self.body = torch.nn.Sequential(
            torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            torch.nn.BatchNorm2d(channels),
            torch.nn.ReLU(),
            torch.nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            torch.nn.BatchNorm2d(channels),
        )

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return F.relu(x + self.body(x))


def _down(inside: int, out: int) -> torch.nn.Sequential:
    return torch.nn.Sequential(
        torch.nn.Conv2d(inside, out, 3, 2, 1, bias=False), torch.nn.BatchNorm2d(out), torch.nn.ReLU()
    )


class JudgeNet(torch.nn.Module):
    """``(B, 3, 64, 64)`` in [-1, 1] -> unit cells ``(B, 64, WIDTH)``, saliency ``(B, 64)``, noun logits,
    background logits.
    """

    def __init__(self, nouns: int, backgrounds: int):
        super().__init__()
        self.trunk = torch.nn.Sequential(
            _down(3, 32),
            Block(32),
            _down(32, 64),
            Block(64),
            _down(64, 128),
            Block(128),
            Block(128),
            Block(128),
        )
        # centred, or all cells of a network of ReLUs would point the same way
        self.cells = torch.nn.Sequential(
            torch.nn.Conv2d(128, WIDTH, 1, bias=False), torch.nn.BatchNorm2d(WIDTH, affine=False)
        )
        self.saliency = torch.nn.Conv2d(128, 1, 1)
        self.nouns, self.backgrounds = torch.nn.Conv2d(128, nouns, 1), torch.nn.Linear(128, backgrounds)
        self.sharpness, self.threshold = (
            torch.nn.Parameter(torch.tensor(10.0)),
            torch.nn.Parameter(torch.tensor(6.0)),
        )

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        seen = self.trunk(x)
        cells = F.normalize(self.cells(seen).flatten(2).mT, dim=-1)
        return (
            cells,
            self.saliency(seen).flatten(1),
            self.nouns(seen).amax((2, 3)),
            self.backgrounds(seen.mean((2, 3))),
        )


def pool(cells: torch.Tensor, saliency: torch.Tensor) -> torch.Tensor:
    """One direction a picture, ``(B, WIDTH)``: its cells weighted by softmax of saliency."""
    return F.normalize((saliency.softmax(1)[..., None] * cells).sum(1), dim=-1)


def likeness(cells: torch.Tensor, prototypes: torch.Tensor) -> torch.Tensor:
    """``(B, P)`` in [-1, 1]: the best cell of each picture for each prototype ``(P, WIDTH)``."""
    return torch.einsum("bcw,pw->bpc", cells, prototypes).amax(-1)


class Judge:
    """The trained network and what it was measured to be worth. ``folder``: where it lies, if not in the
    package.

    Raises BaseModelError when there is none, or it is damaged.
    """

    def __init__(self, folder: str | Path | None = None):
        folder = Path(folder or SHIPPED)
        if not (folder / "judge.json").exists():
            raise BaseModelError(f"{folder}: no judge here; train one with: python -m mini_base.judge")
        try:
            self.facts = json.loads((folder / "judge.json").read_text(encoding="utf-8"))
            self.nouns, self.backgrounds = self.facts["nouns"], self.facts["backgrounds"]
            #: likenesses: above the first something of the kind is there (calibrated against things of other
            #: nouns, at even odds before looking), above the second the thing itself (calibrated against
            #: look-alikes too)
            self.found = self.facts["found"]
            weights = load_file(folder / "judge.safetensors")
            self.net = JudgeNet(len(self.nouns), len(self.backgrounds)).eval().requires_grad_(False)
            self.net.load_state_dict({name: tensor.float() for name, tensor in weights.items()})
        except (ValueError, KeyError, TypeError, OSError, RuntimeError, SafetensorError) as error:
            raise BaseModelError(
                f"{folder}: this judge cannot be read ({first_line(error)}); copy it again, whole, or train "
                "one with: python -m mini_base.judge"
            ) from error
        self.sure = float(self.net.threshold / self.net.sharpness)

    @torch.no_grad()
    def look(
        self, images: Sequence[Image.Image]
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """What the network says about pictures of any size: see ``JudgeNet``."""
        pixels = np.stack(
            [
                np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.LANCZOS))
                for image in images
            ]
        )
        x = torch.from_numpy(pixels).permute(0, 3, 1, 2).float() / 127.5 - 1
        cells, saliency, nouns, backgrounds = zip(*(self.net(part) for part in x.split(64)), strict=True)
        return torch.cat(cells), torch.cat(saliency), torch.cat(nouns), torch.cat(backgrounds)

    def features(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """``(images, WIDTH)``, of unit length: where each picture as a whole lies."""
        cells, saliency, _, _ = self.look(images)
        return pool(cells, saliency)

    def prototype(self, references: Sequence[Image.Image]) -> torch.Tensor:
        """``(WIDTH,)``: a thing's place among all things, from a few pictures of it alone."""
        return F.normalize(self.features(references).mean(0), dim=0)

    def likeness(self, images: Sequence[Image.Image], prototypes: torch.Tensor) -> torch.Tensor:
        """``(images, prototypes)`` in [-1, 1]; a picture's thing is the prototype it is most like."""
        return likeness(self.look(images)[0], prototypes)

    def presence(self, images: Sequence[Image.Image], prototypes: torch.Tensor) -> torch.Tensor:
        """``(images, prototypes)``: the probability that the thing is in the picture, with its own looks."""
        return torch.sigmoid(self.net.sharpness * self.likeness(images, prototypes) - self.net.threshold)

    def name(self, images: Sequence[Image.Image], count: int = 1) -> list[list[str]]:
        """The ``count`` likeliest nouns of each picture, likeliest first."""
        return [[self.nouns[i] for i in row] for row in self.look(images)[2].topk(count).indices.tolist()]

    def background(self, images: Sequence[Image.Image]) -> list[str]:
        return [self.backgrounds[i] for i in self.look(images)[3].argmax(1).tolist()]

    def card(self) -> dict[str, Any]:
        """Measured on unseen pictures of unseen things: identity, presence (precision, recall, F1,
        calibration), nouns, backgrounds.
        """
        return self.facts["measured"]

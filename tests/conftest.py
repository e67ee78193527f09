"""Shared fixtures: photos made on the spot, one backbone for reading, fresh worlds for writing."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw

from l2dm import World
from l2dm.backbone import Backbone

QUICK = {"steps": 3, "batch": 2, "prior_pictures": 2, "prior_steps": 2, "previews": 0, "checkpoint_every": 1}


def paint(seed: int = 0, size: tuple[int, int] = (80, 72)) -> Image.Image:
    """A small picture with a shape on a ground."""
    rng = np.random.default_rng(seed)
    image = Image.new("RGB", size, tuple(int(c) for c in rng.integers(0, 255, 3)))
    x, y = (int(v) for v in rng.integers(5, 25, 2))
    ImageDraw.Draw(image).ellipse((x, y, x + 40, y + 35), fill=tuple(int(c) for c in rng.integers(0, 255, 3)))
    return image


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for i in range(3):
        paint(i).save(folder / f"{i}.png")
    return folder


@pytest.fixture(scope="session")
def backbone() -> Backbone:
    """The shipped base, for tests that leave it as it is."""
    torch.manual_seed(0)
    return Backbone.load()


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World.create(tmp_path / "world")

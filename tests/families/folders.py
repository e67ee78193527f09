"""A tiny folder of every family: random weights, saved as published ones are, made of configurations alone.

What is odd about a family is kept (the layers its text is read from, its time's embedding);
only sizes shrink.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import DiffusionPipeline

from .transformer_pipelines import flux, flux2, pixart, pixart_1024, pixart_sigma, sana, sd3, z_image
from .unets import deepfloyd_if, sd, sdxl

FAMILIES: dict[str, Callable[[], DiffusionPipeline]] = {
    make.__name__: make
    for make in (sd, sdxl, pixart, pixart_1024, pixart_sigma, sd3, flux, flux2, z_image, deepfloyd_if, sana)
}
#: What their pipelines have to be told to draw pictures as small as these.
DRAWING = {
    name: {"use_resolution_binning": False} for name in FAMILIES if name.startswith(("pixart", "sana"))
}


def tiny_folder(family: str, folder: Path, seed: int = 0) -> Path:
    """Fills ``folder`` with a tiny model of ``family`` (of ``FAMILIES``), the same for the same ``seed``."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        FAMILIES[family]().save_pretrained(folder)
    return folder

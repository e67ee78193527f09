"""The denoiser compiled by torch: minutes before the first step, then faster steps. For long learning."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager

import torch

from ..errors import SettingsError
from .backbone import Backbone


@contextmanager
def compiled(backbone: Backbone) -> Iterator[None]:
    """Within the block ``backbone.predict`` runs compiled code, made at the first call of each kind and kept
    for later blocks.

    Raises SettingsError where torch would need a C++ compiler (on a CPU) and there is none.
    """
    names = [os.environ.get("CXX", ""), "g++", "clang++", "c++"]
    if backbone.device.type == "cpu" and not any(name and shutil.which(name) for name in names):
        raise SettingsError(
            "compile = true needs a C++ compiler on a CPU (g++, clang++, or what CXX names); install one or "
            "leave compile out"
        )
    own = backbone.denoiser
    backbone.denoiser = torch.compile(own)
    try:
        yield
    finally:
        backbone.denoiser = own

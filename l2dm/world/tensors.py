"""Tensors in safetensors files."""

from __future__ import annotations

import os
import re
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save_file

from ..errors import LearningDiverged, WorldDamaged


def write_tensors(target: Path, tensors: dict[str, torch.Tensor]) -> None:
    """A safetensors file inside a folder that ``write_folder`` is filling. Raises LearningDiverged where a number is not finite,
    OSError where the system refuses."""
    for name, t in tensors.items():
        if t.is_floating_point() and not t.isfinite().all():
            raise LearningDiverged(
                f"{target.name}: {name} is no longer finite; nothing was kept and the world is as it was (a smaller learning_rate helps)"
            )
    target.touch()
    mode = target.stat().st_mode  # as the umask has it; save_file makes its own file for the owner alone
    try:
        save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, target)
    except SafetensorError as error:  # that is how it tells of a full disk
        if not (found := re.search(r"os error (\d+)", str(error))):
            raise
        raise OSError(int(found[1]), os.strerror(int(found[1])), str(target)) from None
    target.chmod(mode)


def parse_tensors(data: bytes, path: Path, way_out: str) -> dict[str, torch.Tensor]:
    """What the safetensors file ``path`` with this content holds."""
    try:
        return load(data)
    except Exception as error:
        raise WorldDamaged(f"{path}: not a readable safetensors file ({error}); {way_out}") from None

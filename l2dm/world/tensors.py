"""Tensors in safetensors files."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load, save_file

from ..errors import LearningDiverged, WorldDamaged


def write_tensors(target: Path, tensors: dict[str, torch.Tensor]) -> None:
    """A safetensors file inside a folder that ``write_folder`` is filling. Raises LearningDiverged where a number is not finite."""
    for name, t in tensors.items():
        if t.is_floating_point() and not t.isfinite().all():
            raise LearningDiverged(
                f"{target.name}: {name} is no longer finite; nothing was kept and the world is as it was (a smaller learning_rate helps)"
            )
    target.touch()
    mode = target.stat().st_mode  # as the umask has it; save_file makes its own file for the owner alone
    save_file({name: t.detach().cpu().contiguous() for name, t in tensors.items()}, target)
    target.chmod(mode)


def parse_tensors(data: bytes, path: Path, way_out: str) -> dict[str, torch.Tensor]:
    """What the safetensors file ``path`` with this content holds."""
    try:
        return load(data)
    except Exception as error:
        raise WorldDamaged(f"{path}: not a readable safetensors file ({error}); {way_out}") from None

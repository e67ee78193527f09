"""Tensors in safetensors files. Torch is imported where they are made or used, not where files are copied."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, deserialize

from ..errors import LearningDiverged, WorldDamaged

if TYPE_CHECKING:
    import torch


def _check_finite(tensors: dict[str, torch.Tensor], where: str) -> None:
    for name, t in tensors.items():
        if t.is_floating_point() and not t.isfinite().all():
            raise LearningDiverged(
                f"{where}: {name} is no longer finite; nothing was kept and the world is as it was (a "
                "smaller learning_rate helps)"
            )


def as_bytes(tensors: dict[str, torch.Tensor], where: str) -> bytes:
    """A safetensors file's content. Raises LearningDiverged, naming ``where``, if a number is not finite."""
    from safetensors.torch import save

    _check_finite(tensors, where)
    return save({name: t.detach().cpu().contiguous() for name, t in tensors.items()})


def write_tensors(target: Path, tensors: dict[str, torch.Tensor]) -> None:
    """A safetensors file inside a folder that ``write_folder`` is filling. Raises LearningDiverged where a
    number is not finite, OSError where the system refuses."""
    from safetensors.torch import save_file

    _check_finite(tensors, target.name)
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
    from safetensors.torch import load

    try:
        return load(data)
    except Exception as error:
        raise WorldDamaged(f"{path}: not a readable safetensors file ({error}); {way_out}") from None


def check_tensors(data: bytes, path: Path, way_out: str) -> None:
    """Raise WorldDamaged where that is no safetensors file."""
    try:
        deserialize(data)
    except Exception as error:
        raise WorldDamaged(f"{path}: not a readable safetensors file ({error}); {way_out}") from None


def cut(data: bytes, gone: Collection[str]) -> bytes:
    """A sound safetensors file's content without the tensors named ``gone``: the bytes that it would have,
    had they never been in it.
    """
    start = 8 + int.from_bytes(data[:8], "little")
    head, parts, end = json.loads(data[8:start]), [], 0
    for name, facts in sorted(head.items(), key=lambda item: item[1].get("data_offsets", [])):
        if name in gone:
            del head[name]
        elif name != "__metadata__":
            first, last = facts["data_offsets"]
            parts.append(data[start + first : start + last])
            facts["data_offsets"] = [end, end := end + last - first]
    text = json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + b"".join(parts)


def relabelled(data: bytes, called: Callable[[str], str]) -> bytes:
    """A sound safetensors file's content with its tensors ``called`` otherwise; as it is where none is."""
    start = 8 + int.from_bytes(data[:8], "little")
    head = json.loads(data[8:start])
    renamed = {called(name): facts for name, facts in head.items()}
    if list(renamed) == list(head):
        return data
    text = json.dumps(renamed, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + data[start:]

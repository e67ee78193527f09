"""A version's tuned weights: what concepts share in one file, and each concept's own in a file of its own.

A concept's own tensors (names that begin with ``<token>/``) stay as they are when others are learnt. So a version links the files that its
parent has too, where the file system can, and a world on disk grows by one concept a lesson, not by all of them.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save

from . import store
from .names import SHARED, own_file
from .recorded import Recorded


def write_weights(folder: Path, state: dict[str, torch.Tensor], head: Recorded | None) -> None:
    """Into a ``folder`` that ``write_folder`` is filling; ``head``: the parent version."""
    files: dict[str, dict[str, torch.Tensor]] = {SHARED: {}}
    for name, tensor in state.items():
        token = name.split("/")[0]
        file = own_file(token) if token.startswith("<") else SHARED
        files.setdefault(file, {})[name] = tensor.detach().cpu().contiguous()
    for file, tensors in files.items():
        store.write_or_link(folder / file, save(tensors), head and head.folder / file)


def read_weights(version: Recorded) -> dict[str, torch.Tensor]:
    """A tuner's whole state, from those of a version's files that hold weights."""
    names = sorted(file for file in version.files if file == SHARED or file.startswith("adapter-"))
    return {name: tensor for file in names for name, tensor in version.tensors(file).items()}

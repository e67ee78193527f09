"""A version's tuned weights: what concepts share in one file, and each concept's own in a file of its own.

A concept's own tensors (names that begin with ``<token>/``) stay as they are when others are learnt. So a
version links the files that its parent has too, where the file system can, and a world on disk grows by one
concept a lesson, not by all of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partial

import torch

from .filling import Filling
from .names import SHARED, own_file
from .recorded import Recorded
from .tensors import as_bytes


def write_weights(place: Filling, state: dict[str, torch.Tensor], concepts: Iterable[str]) -> None:
    """``state``: a tuner's. Of the adapters that were not read, those of ``concepts`` are linked."""
    files: dict[str, dict[str, torch.Tensor]] = {SHARED: {}}
    for name, tensor in state.items():
        token = name.split("/")[0]
        files.setdefault(own_file(token) if token.startswith("<") else SHARED, {})[name] = tensor
    for file, tensors in files.items():
        place.put(file, as_bytes(tensors, file))
    for file in map(own_file, concepts):
        if file not in files and place.source and file in place.source:
            place.carry(file)


def read_weights(version: Recorded) -> dict[str, torch.Tensor]:
    """A tuner's whole state, from those of a version's files that hold weights."""
    names = sorted(file for file in version.files if file == SHARED or file.startswith("adapter-"))
    return {name: tensor for file in names for name, tensor in version.tensors(file).items()}


def adapters(version: Recorded, concepts: Iterable[str]) -> dict[str, Callable[[], dict[str, torch.Tensor]]]:
    """Of each of ``concepts`` that has weights of its own, what reads them."""
    return {
        token: partial(version.tensors, own_file(token)) for token in concepts if own_file(token) in version
    }

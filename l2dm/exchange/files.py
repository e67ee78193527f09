"""Safetensors files from strangers: nothing is run, and nothing is read that is not checked before."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save

from ..errors import ExchangeError, first_line, os_errors

#: Bytes of a header, and of a whole file, that are read at most.
MOST_HEADER, MOST_BYTES = 16 << 20, 32 << 30
KINDS = torch.float16, torch.bfloat16, torch.float32, torch.float64
_PICKLES = (".ckpt", ".pt", ".pth", ".bin", ".pkl", ".pickle")


def read_file(path: Path) -> tuple[dict[str, torch.Tensor], dict[str, str]]:
    """The tensors of a safetensors file, all finite and of floating point, and what its header tells beside
    them. Raises ExchangeError.
    """
    with os_errors(path, ExchangeError):
        if not path.is_file():
            raise ExchangeError(f"{path}: no such file; give a .safetensors file")
        size = path.stat().st_size
        with path.open("rb") as file:
            start = file.read(8)
    if path.suffix.lower() in _PICKLES or start[:2] in (b"PK", b"\x80\x02", b"\x80\x04", b"\x80\x05"):
        raise ExchangeError(
            f"{path}: a pickle, which can run code when it is opened, so l2dm does not; save it as "
            ".safetensors, with a tool that you trust"
        )
    header = int.from_bytes(start, "little")
    if size < 8 or not 0 < header <= size - 8:
        raise ExchangeError(
            f"{path}: no safetensors file, or cut off (its header ends behind it); fetch it again"
        )
    if header > MOST_HEADER or size > MOST_BYTES:
        raise ExchangeError(
            f"{path}: its header has {header} bytes of {size}; at most {MOST_HEADER} of {MOST_BYTES} are "
            "read, so it is not of a kind that l2dm knows"
        )
    try:
        with safe_open(path, "pt") as file:
            tensors, told = {name: file.get_tensor(name) for name in file.keys()}, dict(file.metadata() or {})  # noqa: SIM118
    except (SafetensorError, ValueError, TypeError, AttributeError, KeyError, RuntimeError) as error:
        raise ExchangeError(
            f"{path}: not a readable safetensors file ({first_line(error)}); fetch it again"
        ) from None
    if not tensors:
        raise ExchangeError(f"{path}: holds no tensors; fetch it again")
    for name, tensor in tensors.items():
        if tensor.dtype not in KINDS:
            kind = str(tensor.dtype).removeprefix("torch.")
            raise ExchangeError(
                f"{path}: {name[:80]} is of {kind}; expected float16, bfloat16 or float32: convert it"
            )
        if not tensor.isfinite().all():
            raise ExchangeError(
                f"{path}: {name[:80]} holds numbers that are not finite (NaN or infinity); the file is broken"
            )
    return tensors, told


def file_of(tensors: dict[str, torch.Tensor], told: dict[str, object]) -> bytes:
    """A safetensors file's content, the same bytes every time; ``told`` beside the tensors, as text."""
    texts = {
        name: value if isinstance(value, str) else json.dumps(value, sort_keys=True)
        for name, value in told.items()
    }
    data = save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}, texts)
    start = 8 + int.from_bytes(data[:8], "little")
    head = json.loads(data[8:start])  # in which safetensors puts the texts in any order
    return with_head({**head, "__metadata__": dict(sorted(texts.items()))}, data[start:])


def with_head(head: dict[str, object], tensors: bytes) -> bytes:
    """A safetensors file of a header and what it describes."""
    text = json.dumps(head, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    return len(text).to_bytes(8, "little") + text + tensors

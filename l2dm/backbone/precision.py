"""In which precision a base is held: half where that saves memory and the hardware multiplies it."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import torch

from ..errors import SettingsError

if TYPE_CHECKING:
    from .source import Source

DTYPES = {"float32": torch.float32, "bfloat16": torch.bfloat16, "float16": torch.float16}
#: Bytes of weight files from which on a base is held in half precision, unless a setting says otherwise.
#: Smaller ones would gain little memory, and lose the bits that they have always drawn.
LARGE = 1 << 29


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` has instructions for it: recent GPUs, CPUs with AMX or AVX512_BF16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported(including_emulation=False)
    return device.type == "cpu" and (
        torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    )


def held_dtype(source: Source, device: torch.device, precision: str = "auto") -> torch.dtype:
    """What frozen weights are held in. "auto": half precision for bases from ``LARGE`` on and families that
    are published in it, where ``device`` multiplies one: bfloat16, or float16 on GPUs that only emulate that;
    float32 for all else. A quantized denoiser works in bfloat16; raises SettingsError where another is asked
    for.
    """
    if source.quantized:
        if precision not in ("auto", "bfloat16"):
            raise SettingsError(
                f"precision = {precision}: the denoiser of {source.said} is quantized and works in bfloat16; "
                "leave it out, and choose a method with "
                "adapters, such as gated-lora (those that change the base's own weights need float32)"
            )
        return torch.bfloat16
    if precision != "auto":
        return DTYPES[precision]
    if source.family.dtype == torch.float32 and not is_large(source):
        return torch.float32
    if multiplies_bfloat16(device):
        return torch.bfloat16
    return torch.float16 if device.type == "cuda" else torch.float32


def is_quantized(weight: torch.Tensor) -> bool:
    """Whether ``weight`` is kept in fewer bits than it works in, so that nothing can be added to it."""
    return type(weight.data) is not torch.Tensor


def plain(weight: torch.Tensor) -> torch.Tensor:
    """The numbers that ``weight`` works with."""
    return weight.dequantize() if is_quantized(weight) else weight


def is_large(source: Source) -> bool:
    """Whether the files of its weights have ``LARGE`` bytes or more."""
    return sum(path.stat().st_size for path in source.weight_paths) >= LARGE


def cast(network: torch.nn.Module, dtype: torch.dtype) -> None:
    """Hold the weights of ``network`` in ``dtype``. What it works out for itself, such as the frequencies of
    rotary places, is no weight and stays: rounded, it would turn all that stands far from the beginning."""
    if network.dtype == dtype:
        return
    own = [
        (module, name, module._buffers[name])
        for module in network.modules()
        for name in module._non_persistent_buffers_set
    ]
    torch.nn.Module.to(
        network, dtype
    )  # diffusers' own warns of parts to be kept in float32, of which there are none
    for module, name, buffer in own:
        module._buffers[name] = buffer


@contextmanager
def upcast(autoencoder: torch.nn.Module) -> Iterator[torch.nn.Module]:
    """Within the block an autoencoder in float16 is in float32 where its configuration asks for that
    (``force_upcast``): its inner numbers leave float16's range."""
    if autoencoder.dtype != torch.float16 or not autoencoder.config.get("force_upcast"):
        yield autoencoder
        return
    try:
        yield autoencoder.float()
    finally:
        autoencoder.half()


def _fp16_residual(own: torch.Tensor) -> torch.Tensor | None:
    """What ``_restored`` needs beside the bfloat16 of ``own`` to give ``own`` again, a byte each; None where
    that is not enough.
    """
    away = own.half().view(torch.int16) - own.to(torch.bfloat16).half().view(torch.int16)
    small = away.to(torch.int8)
    return small if torch.equal(_restored(own.to(torch.bfloat16), small).to(own.dtype), own) else None


def _restored(near: torch.Tensor, away: torch.Tensor) -> torch.Tensor:
    return (near.half().view(torch.int16) + away).view(torch.float16)


@contextmanager
def frozen_in_bfloat16(*networks: torch.nn.Module) -> Iterator[None]:
    """Within the block the weights of matrix products and convolutions that take no gradient are bfloat16:
    what autocast makes of them, to the last bit, but once and not in every forward, which would also keep its
    own copy of each for the backward. What they were is kept meanwhile, where that loses nothing as a byte
    each, how many float16 numbers they are away: most bases are shipped in float16.
    """
    kinds = (
        torch.nn.Linear,
        torch.nn.Conv2d,
    )  # and no subclass: a parametrized weight is worked out in its own precision
    layers = [m for network in networks for m in network.modules() if type(m) in kinds]
    frozen = {}
    try:
        for p in (
            p
            for m in layers
            for p in m.parameters(recurse=False)
            if not p.requires_grad and p not in frozen and p.dtype != torch.bfloat16
        ):
            near, away = p.data.to(torch.bfloat16), _fp16_residual(p.data)
            frozen[p] = (p.data if away is None else away), p.dtype
            p.data = near
        yield
    finally:
        for p, (own, dtype) in frozen.items():
            p.data = _restored(p.data, own).to(dtype) if own.dtype == torch.int8 else own

"""bfloat16 where the hardware multiplies it, and attention in the form that is then the fastest.

On CPUs torch's fused attention over few pixels and narrow heads loses in bfloat16 what matrix products gain: on the shipped base its
backward takes three times as long as in float32 (AVX512_BF16). Written out, softmax(Q Kᵀ) V is two matrix products.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from diffusers.models.attention_processor import AttnProcessor, AttnProcessor2_0

#: Written out up to so many pixels; over 1024 and more the fused form was the faster one, and takes less memory.
MOST_PIXELS = 256


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` has instructions for it: recent GPUs, CPUs with AMX or AVX512_BF16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


@contextmanager
def frozen_in_bfloat16(*networks: torch.nn.Module) -> Iterator[None]:
    """Within the block the weights of matrix products and convolutions that take no gradient are bfloat16: what autocast makes of them,
    to the last bit, but once and not in every forward, which would also keep its own copy of each for the backward. What they were is
    kept meanwhile, in half the bytes where that loses nothing: most bases are shipped in float16."""
    kinds = torch.nn.Linear, torch.nn.Conv2d  # and no subclass: a parametrized weight is worked out in its own precision
    layers = [m for network in networks for m in network.modules() if type(m) in kinds]
    frozen = {}
    try:
        for p in (p for m in layers for p in m.parameters(recurse=False) if not p.requires_grad and p not in frozen):
            half = p.data.half()
            frozen[p] = (half if torch.equal(half.to(p.dtype), p.data) else p.data), p.dtype
            p.data = p.data.to(torch.bfloat16)
        yield
    finally:
        for p, (own, dtype) in frozen.items():
            p.data = own.to(dtype)


def _scores(attn, query: torch.Tensor, key: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
    """As ``attn.get_attention_scores``, in the precision of the product: autocast would have the softmax in float32 and keep both."""
    added, beta = (query.new_zeros(1), 0) if mask is None else (mask.to(query), 1)
    scores = torch.baddbmm(added, query, key.transpose(-1, -2), beta=beta, alpha=attn.scale)
    with torch.autocast(scores.device.type, enabled=False):
        return scores.softmax(-1)


class _WrittenOut:
    """diffusers' processor that writes attention out where pixels are few, else its fused one."""

    def __init__(self):
        self.few, self.many = AttnProcessor(), AttnProcessor2_0()

    def __call__(self, attn, hidden_states, *args, **kwargs):
        few = hidden_states.ndim == 3 and hidden_states.shape[1] <= MOST_PIXELS
        return (self.few if few else self.many)(attn, hidden_states, *args, **kwargs)


@contextmanager
def fast_attention(unet: torch.nn.Module) -> Iterator[None]:
    """Within the block attention is fast in bfloat16 on a CPU, forward and backward; on other devices nothing changes. Processors that
    are not diffusers' default stay."""
    layers = [m for m in unet.modules() if type(getattr(m, "processor", None)) is AttnProcessor2_0]
    own = [layer.processor for layer in layers]
    on_cpu = next(unet.parameters()).device.type == "cpu"
    try:
        for layer in layers if on_cpu else ():
            layer.processor = _WrittenOut()
            layer.get_attention_scores = partial(_scores, layer)
        yield
    finally:
        for layer, processor in zip(layers, own):
            layer.processor = processor
            vars(layer).pop("get_attention_scores", None)

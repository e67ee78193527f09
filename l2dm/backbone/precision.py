"""bfloat16 where the hardware multiplies it, and attention in the form that is then the fastest.

On CPUs torch's fused attention over few pixels and narrow heads loses in bfloat16 what matrix products gain: on the shipped base its
backward takes three times as long as in float32 (AVX512_BF16). Written out, softmax(Q Kᵀ) V is two matrix products.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from diffusers.models.attention_processor import AttnProcessor2_0

#: Written out up to so many pixels; over 1024 and more the fused form was the faster one, and takes less memory.
MOST_PIXELS = 256
#: From so many on, the probabilities are not kept for the backward.
MANY_PIXELS = 128
#: Largest exponent that needs no care: sums of so large numbers are far from the end of bfloat16's range.
_LARGEST = 60.0


def multiplies_bfloat16(device: torch.device) -> bool:
    """Whether ``device`` has instructions for it: recent GPUs, CPUs with AMX or AVX512_BF16."""
    if device.type == "cuda":
        return torch.cuda.is_bf16_supported()
    return device.type == "cpu" and (torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported())


def _away(own: torch.Tensor) -> torch.Tensor | None:
    """What ``_back`` needs beside the bfloat16 of ``own`` to give ``own`` again, a byte each; None where that is not enough."""
    away = own.half().view(torch.int16) - own.to(torch.bfloat16).half().view(torch.int16)
    small = away.to(torch.int8)
    return small if torch.equal(_back(own.to(torch.bfloat16), small).to(own.dtype), own) else None


def _back(near: torch.Tensor, away: torch.Tensor) -> torch.Tensor:
    return (near.half().view(torch.int16) + away).view(torch.float16)


@contextmanager
def frozen_in_bfloat16(*networks: torch.nn.Module) -> Iterator[None]:
    """Within the block the weights of matrix products and convolutions that take no gradient are bfloat16: what autocast makes of them,
    to the last bit, but once and not in every forward, which would also keep its own copy of each for the backward. What they were is
    kept meanwhile, where that loses nothing as a byte each, how many float16 numbers they are away: most bases are shipped in float16."""
    kinds = torch.nn.Linear, torch.nn.Conv2d  # and no subclass: a parametrized weight is worked out in its own precision
    layers = [m for network in networks for m in network.modules() if type(m) in kinds]
    frozen = {}
    try:
        for p in (p for m in layers for p in m.parameters(recurse=False) if not p.requires_grad and p not in frozen):
            near, away = p.data.to(torch.bfloat16), _away(p.data)
            frozen[p] = (p.data if away is None else away), p.dtype
            p.data = near
        yield
    finally:
        for p, (own, dtype) in frozen.items():
            p.data = _back(p.data, own).to(dtype) if own.dtype == torch.int8 else own


def _exponents(query: torch.Tensor, key: torch.Tensor, scale: float) -> torch.Tensor:
    """exp(scale Q Kᵀ), its rows divided by whatever keeps them in range, if anything has to."""
    scores = torch.baddbmm(query.new_zeros(1), query, key.transpose(-1, -2), beta=0, alpha=scale)
    if torch.compiler.is_compiling() or scale * float(query.norm(dim=-1).amax() * key.norm(dim=-1).amax()) > _LARGEST:
        scores = scores - scores.amax(-1, keepdim=True)
    return scores.exp_()


class Attention(torch.autograd.Function):
    """P V with P = softmax(scale Q Kᵀ), of ``(rows, pixels, width)``; the backward works P out anew, so nothing of its size is kept.

    With E = exp(scale Q Kᵀ), l the sums of its rows and O = P V: dV = Eᵀ (dO / l), dS = E ∘ ((dO Vᵀ - rowsum(dO ∘ O)) / l),
    dQ = scale dS K, dK = scale dSᵀ Q. What is taken away rides along in the product, as one more column.
    """

    @staticmethod
    def forward(ctx, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
        with torch.autocast(query.device.type, enabled=False):
            exponents = _exponents(query, key, scale)
            sums = exponents.sum(-1, keepdim=True)
            out = torch.bmm(exponents, value) / sums
        ctx.save_for_backward(query, key, value, out, sums)
        ctx.scale = scale
        return out

    @staticmethod
    def backward(ctx, grad: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, None]:
        query, key, value, out, sums = ctx.saved_tensors
        exponents, grad = _exponents(query, key, ctx.scale), grad / sums
        less = -(grad * out).sum(-1, keepdim=True)
        scores = torch.bmm(torch.cat([grad, less], -1), torch.cat([value, torch.ones_like(value[..., :1])], -1).transpose(1, 2))
        scores *= exponents
        of_query, of_key = torch.bmm(scores, key).mul_(ctx.scale), torch.bmm(scores.transpose(1, 2), query).mul_(ctx.scale)
        return of_query, of_key, torch.bmm(exponents.transpose(1, 2), grad), None


def _softmax(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    """The same of few pixels; in the precision of the product, where autocast would have the softmax in float32 and keep both."""
    scores = torch.baddbmm(query.new_zeros(1), query, key.transpose(-1, -2), beta=0, alpha=scale)
    with torch.autocast(query.device.type, enabled=False):
        return torch.bmm(scores.softmax(-1), value)


class _WrittenOut:
    """Instead of diffusers' fused processor, which does what is out of the ordinary, and pictures of many pixels."""

    def __init__(self):
        self.fused = AttnProcessor2_0()

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, *args, **kwargs):
        plain = hidden_states.ndim == 3 and attention_mask is None and not (attn.residual_connection or attn.norm_cross)
        norms = attn.spatial_norm, attn.group_norm, attn.norm_q, attn.norm_k
        if not plain or any(norm is not None for norm in norms) or hidden_states.shape[1] > MOST_PIXELS:
            return self.fused(attn, hidden_states, encoder_hidden_states, attention_mask, *args, **kwargs)
        read = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        given = [attn.head_to_batch_dim(x) for x in (attn.to_q(hidden_states), attn.to_k(read), attn.to_v(read))]
        many = given[0].shape[1] >= MANY_PIXELS and given[1].shape[1] >= MANY_PIXELS
        out = (Attention.apply if many else _softmax)(*given, attn.scale)
        out = attn.batch_to_head_dim(out)
        for part in attn.to_out:
            out = part(out)
        return out / attn.rescale_output_factor


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
        yield
    finally:
        for layer, processor in zip(layers, own):
            layer.processor = processor

"""Layers in the form that is the fastest in bfloat16 and channels_last on a CPU, forward and backward; what
they compute stays.

On the shipped base (AVX512_BF16), of what torch and diffusers do by themselves:
- fused attention over few pixels and narrow heads loses in bfloat16 what matrix products gain, above all in
  its backward; written out,
  softmax(Q Kᵀ) V is two matrix products;
- a transformer gives its picture back contiguous, and whatever then meets one of each layout goes number by
  number;
- group norm of channels_last takes longer in bfloat16 than in float32 with both conversions.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial

import torch
from diffusers.models.attention_processor import AttnProcessor2_0
from diffusers.models.transformers.transformer_2d import Transformer2DModel

#: Written out up to so many pixels; over 1024 and more the fused form was the faster one, and takes less
#: memory.
MOST_PIXELS = 256
#: From so many on, the probabilities are not kept for the backward.
MANY_PIXELS = 128
#: Largest exponent that needs no care: sums of so large numbers are far from the end of bfloat16's range.
_LARGEST = 60.0


def _exponents(query: torch.Tensor, key: torch.Tensor, scale: float) -> torch.Tensor:
    """exp(scale Q Kᵀ), its rows divided by whatever keeps them in range, if anything has to."""
    scores = torch.baddbmm(query.new_zeros(1), query, key.transpose(-1, -2), beta=0, alpha=scale)
    if (
        torch.compiler.is_compiling()
        or scale * float(query.norm(dim=-1).amax() * key.norm(dim=-1).amax()) > _LARGEST
    ):
        scores = scores - scores.amax(-1, keepdim=True)
    return scores.exp_()


class RecomputedAttention(torch.autograd.Function):
    """P V with P = softmax(scale Q Kᵀ), of ``(rows, pixels, width)``; the backward works P out anew, so
    nothing of its size is kept.

    With E = exp(scale Q Kᵀ), l the sums of its rows and O = P V: dV = Eᵀ (dO / l), dS = E ∘ ((dO Vᵀ -
    rowsum(dO ∘ O)) / l), dQ = scale dS K, dK = scale dSᵀ Q. What is taken away rides along in the product, as
    one more column.
    """

    @staticmethod
    def forward(
        ctx, query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float
    ) -> torch.Tensor:
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
        scores = torch.bmm(
            torch.cat([grad, less], -1),
            torch.cat([value, torch.ones_like(value[..., :1])], -1).transpose(1, 2),
        )
        scores *= exponents
        of_query, of_key = (
            torch.bmm(scores, key).mul_(ctx.scale),
            torch.bmm(scores.transpose(1, 2), query).mul_(ctx.scale),
        )
        return of_query, of_key, torch.bmm(exponents.transpose(1, 2), grad), None


def _softmax(query: torch.Tensor, key: torch.Tensor, value: torch.Tensor, scale: float) -> torch.Tensor:
    """The same of few pixels; in the precision of the product, where autocast would have the softmax in
    float32 and keep both.
    """
    scores = torch.baddbmm(query.new_zeros(1), query, key.transpose(-1, -2), beta=0, alpha=scale)
    with torch.autocast(query.device.type, enabled=False):
        return torch.bmm(scores.softmax(-1), value)


class MatmulAttnProcessor:
    """Instead of diffusers' fused processor, which does what is out of the ordinary, and pictures of many
    pixels.
    """

    def __init__(self):
        self.fused = AttnProcessor2_0()

    def __call__(self, attn, hidden_states, encoder_hidden_states=None, attention_mask=None, *args, **kwargs):
        plain = (
            hidden_states.ndim == 3
            and attention_mask is None
            and not (attn.residual_connection or attn.norm_cross)
        )
        norms = attn.spatial_norm, attn.group_norm, attn.norm_q, attn.norm_k
        if not plain or any(norm is not None for norm in norms) or hidden_states.shape[1] > MOST_PIXELS:
            return self.fused(attn, hidden_states, encoder_hidden_states, attention_mask, *args, **kwargs)
        read = hidden_states if encoder_hidden_states is None else encoder_hidden_states
        given = [
            attn.head_to_batch_dim(x) for x in (attn.to_q(hidden_states), attn.to_k(read), attn.to_v(read))
        ]
        many = given[0].shape[1] >= MANY_PIXELS and given[1].shape[1] >= MANY_PIXELS
        out = (RecomputedAttention.apply if many else _softmax)(*given, attn.scale)
        out = attn.batch_to_head_dim(out)
        for part in attn.to_out:
            out = part(out)
        return out / attn.rescale_output_factor


def _group_norm(norm: torch.nn.GroupNorm, x: torch.Tensor) -> torch.Tensor:
    scale, shift = norm.weight.float(), norm.bias.float()
    return torch.nn.functional.group_norm(x.float(), norm.num_groups, scale, shift, norm.eps).to(x.dtype)


def _picture(
    transformer: Transformer2DModel, hidden_states, residual, batch_size, height, width, inner_dim
) -> torch.Tensor:
    """(B, C, H, W) of (B, H W, C), in channels_last as it is."""
    linear, out = transformer.use_linear_projection, hidden_states
    if linear:
        out = transformer.proj_out(out)
    out = out.unflatten(1, (height, width)).permute(0, 3, 1, 2)
    return (out if linear else transformer.proj_out(out)) + residual


#: kind of layer -> which of its methods has another form, and that
_FORMS = {
    torch.nn.GroupNorm: ("forward", _group_norm),
    Transformer2DModel: ("_get_output_for_continuous_inputs", _picture),
}


@contextmanager
def fast_layers(unet: torch.nn.Module) -> Iterator[None]:
    """Within the block ``unet``'s layers are in the form above; on other devices than CPUs nothing changes.
    Attention processors that are not diffusers' default stay."""
    modules = list(unet.modules()) if next(unet.parameters()).device.type == "cpu" else []
    attention = [m for m in modules if type(getattr(m, "processor", None)) is AttnProcessor2_0]
    own = [m.processor for m in attention]
    others = [(m, *_FORMS[type(m)]) for m in modules if type(m) in _FORMS]
    try:
        for layer in attention:
            layer.processor = MatmulAttnProcessor()
        for layer, name, form in others:
            setattr(layer, name, partial(form, layer))
        yield
    finally:
        for layer, processor in zip(attention, own):
            layer.processor = processor
        for layer, name, _ in others:
            vars(layer).pop(name, None)

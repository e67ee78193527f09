"""What files of other programs call a denoiser's layers.

Four conventions, each of which ComfyUI knows and, for the families that it is written for, diffusers too:

    kohya   ``lora_unet_`` and diffusers' own name, with ``_`` for every dot             Stable Diffusion 1.x, 2.x
    sgm     the same over the names of Stability's own code (``input_blocks``, …)        SDXL
    flux    the same over those of Black Forest Labs', where queries, keys and values are one layer      FLUX.1
    peft    ``transformer.`` and diffusers' own name                                      all others

A *stem* is what stands before ``.lora_down.weight``; it means one layer, or several that are one there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

Stems = dict[str, tuple[str, ...]]

_KOHYA = "lora_unet_"  # before every layer of a denoiser, whatever it is

_RESNET = {"conv1": "in_layers.2", "conv2": "out_layers.3", "time_emb_proj": "emb_layers.1", "conv_shortcut": "skip_connection"}  # fmt: skip
_UNET_ENDS = {
    "conv_in": "input_blocks.0.0", "conv_out": "out.2", "time_embedding.linear_1": "time_embed.0", "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0", "add_embedding.linear_2": "label_emb.0.2",
}  # fmt: skip
_IN_BLOCKS = re.compile(
    r"(?P<block>mid_block|(?:down|up)_blocks\.(?P<number>\d+))\.(?P<kind>resnets|attentions|downsamplers|upsamplers)\.(?P<place>\d+)\.(?P<inner>.+)"
)
#: FLUX's own names within its blocks -> diffusers'.
_DOUBLE = {
    "img_attn.qkv": ("attn.to_q", "attn.to_k", "attn.to_v"),
    "img_attn.proj": ("attn.to_out.0",),
    "img_mlp.0": ("ff.net.0.proj",),
    "img_mlp.2": ("ff.net.2",),
    "img_mod.lin": ("norm1.linear",),
    "txt_attn.qkv": ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
    "txt_attn.proj": ("attn.to_add_out",),
    "txt_mlp.0": ("ff_context.net.0.proj",),
    "txt_mlp.2": ("ff_context.net.2",),
    "txt_mod.lin": ("norm1_context.linear",),
}
_SINGLE = {
    "linear1": ("attn.to_q", "attn.to_k", "attn.to_v", "proj_mlp"),
    "linear2": ("proj_out",),
    "modulation.lin": ("norm.linear",),
}
_FLUX_ENDS = {
    "img_in": "x_embedder", "txt_in": "context_embedder", "final_layer.linear": "proj_out",
    **{
        f"{own}.{end}": f"time_text_embed.{theirs}.linear_{number}"
        for own, theirs in {"time_in": "timestep_embedder", "vector_in": "text_embedder", "guidance_in": "guidance_embedder"}.items()
        for end, number in {"in_layer": 1, "out_layer": 2}.items()
    },
}  # fmt: skip


def sgm_name(layer: str, depth: int) -> str:
    """Stability's name of a UNet's ``layer``, "" where their networks have none such; ``depth``: residual blocks in one of its down blocks."""
    if layer in _UNET_ENDS:
        return _UNET_ENDS[layer]
    if not (match := _IN_BLOCKS.fullmatch(layer)):
        return ""
    block, kind, inner = match["block"], match["kind"], match["inner"]
    number, place = int(match["number"] or 0), int(match["place"])
    column = {"resnets": 0, "attentions": 1}.get(kind, 2)
    inner = _RESNET.get(inner, inner) if kind == "resnets" else inner
    if block == "mid_block":
        return f"middle_block.{2 * place if kind == 'resnets' else 1}.{inner}"
    if kind == "downsamplers":
        return f"input_blocks.{(depth + 1) * (number + 1)}.0.op"
    if block.startswith("down"):
        return f"input_blocks.{(depth + 1) * number + place + 1}.{column}.{inner}"
    place = depth if kind == "upsamplers" else place
    return f"output_blocks.{(depth + 1) * number + place}.{column}.{inner}"


def _flux(layers: Iterable[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Black Forest Labs' names and the layers that they mean."""
    numbers = {
        match[0] for layer in layers if (match := re.match(r"(single_)?transformer_blocks\.\d+", layer))
    }
    for block in sorted(numbers):
        kind, number = block.split(".")
        own, table = ("single_blocks", _SINGLE) if kind.startswith("single") else ("double_blocks", _DOUBLE)
        for name, parts in table.items():
            yield f"{own}.{number}.{name}", tuple(f"{block}.{part}" for part in parts)
    for name, layer in _FLUX_ENDS.items():
        yield name, (layer,)


def written(convention: str, part: str, layers: Iterable[str], depth: int = 0) -> Stems:
    """The stems of a LoRA file in ``convention`` for ``layers`` of the denoiser ``part``; ``depth``: as in ``sgm_name``."""
    layers = list(layers)
    if convention == "flux":
        told = {f"{_KOHYA}{own.replace('.', '_')}": parts for own, parts in _flux(layers)}
        return {stem: parts for stem, parts in told.items() if any(part in layers for part in parts)}
    if convention == "peft":
        return {f"{part}.{layer}": (layer,) for layer in layers}
    own = {layer: (sgm_name(layer, depth) if convention == "sgm" else "") or layer for layer in layers}
    return {f"{_KOHYA}{name.replace('.', '_')}": (layer,) for layer, name in own.items()}


def read(convention: str, part: str, layers: Iterable[str], depth: int = 0) -> Stems:
    """All stems by which files of this kind of denoiser are read."""
    found: Stems = {}
    for layer in layers:
        flat, old = layer.replace(".", "_"), layer.replace(".to_", ".processor.to_").removesuffix(".0")
        names = [layer, f"{part}.{layer}", f"base_model.model.{layer}", f"{part}.base_model.model.{layer}",
                 f"{_KOHYA}{flat}", f"lora_transformer_{flat}", f"{old}_lora", f"{part}.{old}_lora"]  # fmt: skip
        if convention in ("kohya", "sgm") and (own := sgm_name(layer, depth)):
            names += [f"{_KOHYA}{own.replace('.', '_')}", f"diffusion_model.{own}"]
        found |= dict.fromkeys(names, (layer,))
    if convention == "flux":
        known = set(layers)
        for own, parts in _flux(known):
            if known.issuperset(parts):
                names = f"{_KOHYA}{own.replace('.', '_')}", f"diffusion_model.{own}", own
                found |= dict.fromkeys(names, parts)
    return found


def is_of_text(stem: str) -> bool:
    """Whether a stem is a text encoder's."""
    return bool(re.match(r"lora_te\d?_|text_encoders?[._\d]|text_model\.", stem))

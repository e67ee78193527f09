"""What files of other programs call a denoiser's layers.

Conventions, each of which ComfyUI knows:

    kohya   ``lora_unet_`` and diffusers' own name, with ``_`` for every dot             Stable Diffusion 1.x,
    2.x sgm     the same over the names of Stability's own code (``input_blocks``, …)        SDXL flux    the
    same over those of Black Forest Labs', where queries, keys and values are one layer      FLUX.1 flux2
    the same                                                                      FLUX.2 sd3     the same over
    Stability's ``joint_blocks``, which kohya's sd-scripts write and diffusers does not read      SD 3 peft
    ``transformer.`` and diffusers' own name                                      all others, and SD 3 for
    diffusers

A *stem* is what stands before ``.lora_down.weight``; it means one layer, or several that are one there.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator

from ..errors import ExchangeError

Stems = dict[str, tuple[str, ...]]

_KOHYA = "lora_unet_"  # before every layer of a denoiser, whatever it is

_RESNET = {
    "conv1": "in_layers.2",
    "conv2": "out_layers.3",
    "time_emb_proj": "emb_layers.1",
    "conv_shortcut": "skip_connection",
}
_UNET_ENDS = {
    "conv_in": "input_blocks.0.0",
    "conv_out": "out.2",
    "time_embedding.linear_1": "time_embed.0",
    "time_embedding.linear_2": "time_embed.2",
    "add_embedding.linear_1": "label_emb.0.0",
    "add_embedding.linear_2": "label_emb.0.2",
}
_IN_BLOCKS = re.compile(
    r"(?P<block>mid_block|(?:down|up)_blocks\.(?P<number>\d+))\.(?P<kind>resnets|attentions|downsamplers|upsamplers)\.(?P<place>\d+)\.(?P<inner>.+)"
)

_PICTURE, _TEXT = (
    ("attn.to_q", "attn.to_k", "attn.to_v"),
    ("attn.add_q_proj", "attn.add_k_proj", "attn.add_v_proj"),
)
_ATTENTION: Stems = {
    "img_attn.qkv": _PICTURE,
    "img_attn.proj": ("attn.to_out.0",),
    "txt_attn.qkv": _TEXT,
    "txt_attn.proj": ("attn.to_add_out",),
}
#: Convention -> diffusers' list of blocks -> its name there, and the layers within a block: their name there
#: -> diffusers'.
_BLOCKS: dict[str, dict[str, tuple[str, Stems]]] = {
    "flux": {
        "transformer_blocks": (
            "double_blocks",
            {
                **_ATTENTION,
                "img_mlp.0": ("ff.net.0.proj",),
                "img_mlp.2": ("ff.net.2",),
                "img_mod.lin": ("norm1.linear",),
                "txt_mlp.0": ("ff_context.net.0.proj",),
                "txt_mlp.2": ("ff_context.net.2",),
                "txt_mod.lin": ("norm1_context.linear",),
            },
        ),
        "single_transformer_blocks": (
            "single_blocks",
            {
                "linear1": (*_PICTURE, "proj_mlp"),
                "linear2": ("proj_out",),
                "modulation.lin": ("norm.linear",),
            },
        ),
    },
    "flux2": {
        "transformer_blocks": (
            "double_blocks",
            {
                **_ATTENTION,
                "img_mlp.0": ("ff.linear_in",),
                "img_mlp.2": ("ff.linear_out",),
                "txt_mlp.0": ("ff_context.linear_in",),
                "txt_mlp.2": ("ff_context.linear_out",),
            },
        ),
        "single_transformer_blocks": (
            "single_blocks",
            {"linear1": ("attn.to_qkv_mlp_proj",), "linear2": ("attn.to_out",)},
        ),
    },
    "sd3": {
        "transformer_blocks": (
            "joint_blocks",
            {
                "x_block.attn.qkv": _PICTURE,
                "x_block.attn.proj": ("attn.to_out.0",),
                "x_block.attn2.qkv": ("attn2.to_q", "attn2.to_k", "attn2.to_v"),
                "x_block.attn2.proj": ("attn2.to_out.0",),
                "x_block.mlp.fc1": ("ff.net.0.proj",),
                "x_block.mlp.fc2": ("ff.net.2",),
                "x_block.adaLN_modulation.1": ("norm1.linear",),
                "context_block.attn.qkv": _TEXT,
                "context_block.attn.proj": ("attn.to_add_out",),
                "context_block.mlp.fc1": ("ff_context.net.0.proj",),
                "context_block.mlp.fc2": ("ff_context.net.2",),
                "context_block.adaLN_modulation.1": ("norm1_context.linear",),
            },
        ),
    },
}
_FLUX_ENDS = {"img_in": "x_embedder", "txt_in": "context_embedder", "final_layer.linear": "proj_out"}
#: Convention -> the layers outside of its blocks.
_ENDS: dict[str, dict[str, str]] = {
    "flux": _FLUX_ENDS
    | {
        f"{own}.{end}": f"time_text_embed.{theirs}.linear_{number}"
        for own, theirs in {
            "time_in": "timestep_embedder",
            "vector_in": "text_embedder",
            "guidance_in": "guidance_embedder",
        }.items()
        for end, number in {"in_layer": 1, "out_layer": 2}.items()
    },
    "flux2": _FLUX_ENDS
    | {
        f"time_in.{end}": f"time_guidance_embed.timestep_embedder.linear_{number}"
        for end, number in {"in_layer": 1, "out_layer": 2}.items()
    },
    "sd3": {"context_embedder": "context_embedder", "final_layer.linear": "proj_out"},
}


def sgm_name(layer: str, depth: int) -> str:
    """Stability's name of a UNet's ``layer``, "" where their networks have none such; ``depth``: residual
    blocks in one of its down blocks.
    """
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


def _own_names(convention: str, layers: Iterable[str]) -> Iterator[tuple[str, tuple[str, ...]]]:
    """The names of ``layers`` in the code of a transformer's authors, and the layers that each means."""
    blocks = {tuple(layer.split(".")[:2]) for layer in layers}
    for name, number in sorted(block for block in blocks if block[0] in _BLOCKS[convention]):
        own, table = _BLOCKS[convention][name]
        for inner, parts in table.items():
            yield f"{own}.{number}.{inner}", tuple(f"{name}.{number}.{part}" for part in parts)
    for name, layer in _ENDS[convention].items():
        yield name, (layer,)


def written(convention: str, part: str, layers: Iterable[str], depth: int = 0) -> Stems:
    """The stems of a LoRA file in ``convention`` for ``layers`` of the denoiser ``part``; ``depth``: as in
    ``sgm_name``. Raises ExchangeError for a layer that has no name in it."""
    layers = list(layers)
    if convention == "peft":
        return {f"{part}.{layer}": (layer,) for layer in layers}
    if convention not in _BLOCKS:
        own = {layer: (sgm_name(layer, depth) if convention == "sgm" else "") or layer for layer in layers}
        return {f"{_KOHYA}{name.replace('.', '_')}": (layer,) for layer, name in own.items()}
    told = {f"{_KOHYA}{own.replace('.', '_')}": parts for own, parts in _own_names(convention, layers)}
    told = {stem: parts for stem, parts in told.items() if any(part in layers for part in parts)}
    if nameless := set(layers).difference(*told.values()):
        raise ExchangeError(
            f"{min(nameless)}: LoRA files of this family have no name for this layer; export with --format "
            "diffusers"
        )
    return told


def read(convention: str, part: str, layers: Iterable[str], depth: int = 0) -> Stems:
    """All stems by which files of this kind of denoiser are read."""
    found: Stems = {}
    for layer in layers:
        flat, old = layer.replace(".", "_"), layer.replace(".to_", ".processor.to_").removesuffix(".0")
        names = [
            layer,
            f"{old}_lora",
            f"{part}.{old}_lora",
            f"{_KOHYA}{flat}",
            f"lora_transformer_{flat}",
            f"lycoris_{flat}",
        ]
        names += [
            f"{before}.{layer}"
            for before in (part, "diffusion_model", "base_model.model", f"{part}.base_model.model")
        ]
        if convention in ("kohya", "sgm") and (own := sgm_name(layer, depth)):
            names += [f"{_KOHYA}{own.replace('.', '_')}", f"diffusion_model.{own}"]
        found |= dict.fromkeys(names, (layer,))
    if convention in _BLOCKS:
        known = set(layers)
        for own, parts in _own_names(convention, known):
            if known.issuperset(parts):
                names = [f"{_KOHYA}{own.replace('.', '_')}", f"diffusion_model.{own}", own]
                found |= dict.fromkeys(names, parts)
    return found


def _in_encoder(layer: str) -> tuple[str, str, int]:
    """The part, the name in it and the number of a text encoder's ``layer``, such as
    ``text_encoder_2.encoder.layers.0.mlp.fc1``.
    """
    part, _, inner = layer.partition(".")
    return part, f"text_model.{inner}", int(part.removeprefix("text_encoder").strip("_") or 1)


def written_of_text(convention: str, layers: Iterable[str]) -> Stems:
    """As ``written``, of CLIP encoders' layers (``Backbone.encoder_layers``)."""
    found: Stems = {}
    for layer in layers:
        part, inner, number = _in_encoder(layer)
        kohya = f"lora_te{'' if convention == 'kohya' else number}_{inner.replace('.', '_')}"
        found[f"{part}.{inner}" if convention == "peft" else kohya] = (layer,)
    return found


def read_of_text(layers: Iterable[str]) -> Stems:
    """As ``read``, of CLIP encoders' layers."""
    found: Stems = {}
    for layer in layers:
        part, inner, number = _in_encoder(layer)
        flat, clip = inner.replace(".", "_"), {1: "clip_l", 2: "clip_g"}[number]
        stems = [
            layer,
            f"{part}.{inner}",
            f"lora_te{number}_{flat}",
            f"text_encoders.{clip}.transformer.{inner}",
        ]
        found |= dict.fromkeys([*stems, *([f"lora_te_{flat}", inner] if number == 1 else [])], (layer,))
    return found


def is_of_text(stem: str) -> bool:
    """Whether a stem is a text encoder's."""
    return bool(re.match(r"lora_te\d?_|text_encoders?[._\d]|text_model\.", stem))

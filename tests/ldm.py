"""A Stable Diffusion 1.x folder as one ``.safetensors`` file, its weights under the names of the first
release.
"""

from __future__ import annotations

import re
from pathlib import Path

from safetensors.torch import load_file, save_file

_RESNET = [
    (r"norm1", "in_layers.0"),
    (r"conv1", "in_layers.2"),
    (r"time_emb_proj", "emb_layers.1"),
    (r"norm2", "out_layers.0"),
    (r"conv2", "out_layers.3"),
    (r"conv_shortcut", "skip_connection"),
]
_VAE = [
    (r"(down|up)_blocks\.(\d)\.resnets", r"\1.\2.block"),
    (r"(down|up)_blocks\.(\d)\.(down|up)samplers\.0", r"\1.\2.\3sample"),
    (r"mid_block\.resnets\.(0|1)", lambda m: f"mid.block_{int(m[1]) + 1}"),
    (r"mid_block\.attentions\.0", "mid.attn_1"),
    (r"group_norm", "norm"),
    (r"to_([qkv])", r"\1"),
    (r"to_out\.0", "proj_out"),
    (r"conv_norm_out", "norm_out"),
    (r"conv_shortcut", "nin_shortcut"),
]


def single_file(folder: Path, path: Path) -> Path:
    """The checkpoint ``path`` of ``folder``, in which blocks that are widened attend to text."""
    parts = {p: load_file(next((folder / p).glob("*.safetensors"))) for p in ("unet", "vae", "text_encoder")}
    layers = sum(bool(re.fullmatch(r"down_blocks\.0\.resnets\.\d\.conv1\.bias", n)) for n in parts["unet"])
    depth = sum(
        bool(re.fullmatch(r"decoder\.up_blocks\.\d\.resnets\.0\.conv1\.bias", n)) for n in parts["vae"]
    )
    found = {f"model.diffusion_model.{_unet(name, layers)}": t for name, t in parts["unet"].items()}
    for name, tensor in parts["vae"].items():
        attention = ".attentions." in name and tensor.ndim == 2
        found[f"first_stage_model.{_vae(name, depth)}"] = tensor[..., None, None] if attention else tensor
    for name, tensor in parts["text_encoder"].items():
        found[f"cond_stage_model.transformer.text_model.{name.removeprefix('text_model.')}"] = tensor
    save_file({name: tensor.contiguous() for name, tensor in found.items()}, path)
    return path


def _replaced(name: str, pairs: list) -> str:
    for old, new in pairs:
        name = re.sub(old, new, name)
    return name


def _unet(name: str, layers: int) -> str:
    if ".resnets." in name:
        name = _replaced(name, _RESNET)
    each = layers + 1  # places of a block in the release's one row of them
    return _replaced(
        name,
        [
            (r"^time_embedding\.linear_(1|2)", lambda m: f"time_embed.{2 * int(m[1]) - 2}"),
            (r"^conv_in", "input_blocks.0.0"),
            (r"^conv_norm_out", "out.0"),
            (r"^conv_out", "out.2"),
            (r"^mid_block\.resnets\.(0|1)", lambda m: f"middle_block.{2 * int(m[1])}"),
            (r"^mid_block\.attentions\.0", "middle_block.1"),
            (
                r"^down_blocks\.(\d)\.(resnets|attentions)\.(\d)",
                lambda m: f"input_blocks.{each * int(m[1]) + int(m[3]) + 1}.{int(m[2] == 'attentions')}",
            ),
            (
                r"^down_blocks\.(\d)\.downsamplers\.0\.conv",
                lambda m: f"input_blocks.{each * int(m[1]) + each}.0.op",
            ),
            (
                r"^up_blocks\.(\d)\.(resnets|attentions)\.(\d)",
                lambda m: f"output_blocks.{each * int(m[1]) + int(m[3])}.{int(m[2] == 'attentions')}",
            ),
            (r"^up_blocks\.(\d)\.upsamplers\.0", lambda m: f"output_blocks.{each * int(m[1]) + layers}.2"),
        ],
    )


def _vae(name: str, depth: int) -> str:
    return _replaced(re.sub(r"up_blocks\.(\d)", lambda m: f"up_blocks.{depth - 1 - int(m[1])}", name), _VAE)

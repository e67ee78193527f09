"""Where a denoiser reads text, and which of its layers can be adapted. Tuners and guidance ask here and name no layer themselves.

Told by what the denoiser is built of: diffusers' transformer blocks, of UNets and of transformers alike, read text in ``attn2``.
"""

from __future__ import annotations

import torch

_TEXT = "attn2"
#: Blocks of a denoiser's own work on the picture; what is outside of them is its way in and out, and its reading of time.
_BLOCKS = (".attentions.", ".resnets.")


def text_attention(denoiser: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """The layers in which the picture attends to the text."""
    return {name: module for name, module in denoiser.named_modules() if name.endswith(_TEXT)}


def key_value_layers(denoiser: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """W_K and W_V of every one of these: the layers whose input is the text features."""
    ends = f"{_TEXT}.to_k", f"{_TEXT}.to_v"
    return {name: module for name, module in denoiser.named_modules() if name.endswith(ends)}


def picture_layers(denoiser: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """Linear layers and convolutions of all attention, feed-forward and residual blocks; keys and values of the text are among them."""
    kinds = torch.nn.Linear, torch.nn.Conv2d
    return {
        name: module
        for name, module in denoiser.named_modules()
        if isinstance(module, kinds) and any(block in name for block in _BLOCKS)
    }


def text_width(denoiser: torch.nn.Module) -> int:
    """Numbers in one token's features."""
    return denoiser.config.cross_attention_dim


def grain(denoiser: torch.nn.Module) -> int:
    """Latents' sides have to be multiples of it."""
    return 2 ** (len(denoiser.config.block_out_channels) - 1)


def map_size(denoiser: torch.nn.Module, height: int, width: int, most: int = 16) -> tuple[int, int]:
    """(height, width) of the largest cross-attention maps with sides up to ``most`` and coarser than the latents, which are
    ``height`` x ``width``: (16, 16) for Stable Diffusion at 512 px. The finest maps follow edges more than things."""
    kinds = denoiser.config.down_block_types
    levels = sorted({i for i, kind in enumerate(kinds) if i and "CrossAttn" in kind} | {len(kinds) - 1})
    level = next((i for i in levels if max(height, width) >> i <= most), levels[-1])
    return height >> level, width >> level

"""Where a denoiser reads text, and which of its layers can be adapted. Tuners and guidance ask here and name
no layer themselves.

Told by what the denoiser is built of. In diffusers' UNets and in PixArt the picture attends to the text
(cross-attention); in SD 3, FLUX, Z-Image and DeepFloyd IF picture and text stand in one row of keys (joint
attention), to which the text comes by projections of its own (``add_k_proj``, ``add_v_proj``) or, in blocks
of a single stream, by those of the picture.
"""

from __future__ import annotations

import torch

#: Lists of blocks in which text has gone into one row with the picture.
_SINGLE_STREAM = ("single_transformer_blocks", "layers")
#: Blocks of a denoiser's own work on picture and text; what is outside of them is its way in and out, and its
#: reading of time.
_BLOCKS = (
    ".attentions.",
    ".resnets.",
    *(f".{name}." for name in ("transformer_blocks", "noise_refiner", "context_refiner", *_SINGLE_STREAM)),
)
#: What text features go through before all blocks.
_EMBEDDERS = ("caption_projection", "context_embedder", "encoder_hid_proj", "cap_embedder", "caption_norm")
#: Blocks in whose rows the picture comes before the text, and the multiple to which it is padded.
PICTURE_FIRST = {"JointTransformerBlock": 1, "ZImageTransformerBlock": 32}
#: Layers within blocks that work on text alone.
_OF_TEXT = (".add_q_proj", ".add_k_proj", ".add_v_proj", ".to_add_out", ".ff_context", "context_refiner")
#: Layers within blocks that read the time.
_TIME = ("norm", "modulation")


def is_joint(name: str, module: torch.nn.Module) -> bool:
    """Whether the attention layer ``module`` has picture and text in one row of keys."""
    if not hasattr(module, "processor"):
        return False
    return _reads_beside(module) or name.split(".")[0] in _SINGLE_STREAM


def _reads_beside(module: torch.nn.Module) -> bool:
    """Whether text has keys and values of its own, beside those of the picture."""
    return getattr(module, "add_k_proj", None) is not None


def text_attention(denoiser: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """The layers in which the picture attends to the text."""
    return {
        name: module
        for name, module in denoiser.named_modules()
        if is_joint(name, module) or getattr(module, "is_cross_attention", False)
    }


def picture_attention(denoiser: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """The layers in which the picture attends to itself alone, by a softmax: none in Sana, whose attention is
    linear.
    """
    text = text_attention(denoiser)
    return {
        name: module
        for name, module in denoiser.named_modules()
        if hasattr(module, "to_q")
        and hasattr(module, "processor")
        and name not in text
        and "Linear" not in type(module.processor).__name__
        and not any(part in name for part in _OF_TEXT)
    }


def looks_at_itself(denoiser: torch.nn.Module) -> bool:
    """Whether there are maps of what the picture attends to in itself: in layers of its own, or where text
    stands beside it.
    """
    joint = any(is_joint(name, module) for name, module in text_attention(denoiser).items())
    return joint or bool(picture_attention(denoiser))


def key_value_layers(denoiser: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """W_K and W_V by which text comes to the picture: those that it has to itself, and where it has none
    (Z-Image) those of both.
    """
    shared = {
        f"{name}.{end}": getattr(module, end)
        for name, module in text_attention(denoiser).items()
        for end in ("to_k", "to_v")
        if hasattr(module, end)
    }
    return text_layers(denoiser) or shared


def text_layers(denoiser: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """W_K and W_V that text has to itself: the layers whose input are features of tokens alone."""
    found = {}
    for name, module in text_attention(denoiser).items():
        if _reads_beside(module):
            ends = "add_k_proj", "add_v_proj"
        elif is_joint(name, module):
            continue
        else:
            ends = "to_k", "to_v"
        found |= {f"{name}.{end}": getattr(module, end) for end in ends}
    return found


def picture_layers(denoiser: torch.nn.Module) -> dict[str, torch.nn.Module]:
    """Linear layers and convolutions of all attention, feed-forward and residual blocks; keys and values of
    the text are among them, convolutions of each channel by itself (Sana) are not: they have no rank to speak
    of.
    """
    kinds = torch.nn.Linear, torch.nn.Conv2d
    return {
        name: module
        for name, module in denoiser.named_modules()
        if isinstance(module, kinds)
        and getattr(module, "groups", 1) == 1
        and any(block in f".{name}" for block in _BLOCKS)
        and not any(part in name for part in _TIME)
    }


def rows_of(denoiser: torch.nn.Module, name: str) -> tuple[str, ...]:
    """What stands in the rows that the layer called ``name`` works on: "picture", "text", or both in their
    order; "padding" behind a picture.
    """
    first, *rest = name.split(".")
    if first == "noise_refiner":
        return ("picture", "padding")
    if first not in _SINGLE_STREAM:
        return ("text",) if any(part in name for part in _OF_TEXT) else ("picture",)
    block = type(denoiser.get_submodule(f"{first}.{rest[0]}")).__name__
    return ("picture", "text") if block in PICTURE_FIRST else ("text", "picture")


def text_width(denoiser: torch.nn.Module) -> int:
    """Numbers in one token's features, as the denoiser is given them."""
    config = denoiser.config
    names = (
        "caption_channels",
        "cap_feat_dim",
        "joint_attention_dim",
        "encoder_hid_dim",
        "cross_attention_dim",
    )
    return next(config[name] for name in names if config.get(name))


def entering(denoiser: torch.nn.Module, features: torch.Tensor) -> torch.Tensor:
    """(B, length, width') of text ``features`` (B, length, width) as they come to the first block: what all
    of ``key_value_layers`` read where ``reads_features``, else what the blocks then work on."""
    for name in _EMBEDDERS:
        if (embed := getattr(denoiser, name, None)) is not None:
            features = embed(features)
    return features


def reads_features(denoiser: torch.nn.Module) -> bool:
    """Whether every attention to the text reads the same features of it, whatever the picture: no joint
    attention does.
    """
    return not any(is_joint(name, module) for name, module in text_attention(denoiser).items())


def grain(denoiser: torch.nn.Module) -> int:
    """Latents' sides have to be multiples of it."""
    return 2 ** (len(denoiser.config.block_out_channels) - 1) if _is_unet(denoiser) else patch(denoiser)


def patch(denoiser: torch.nn.Module) -> int:
    """Cells along the side of what a transformer takes for one token."""
    if isinstance(getattr(denoiser, "x_embedder", None), torch.nn.Linear):
        return 2  # FLUX: its pipelines hand it patches of 2 x 2 that are laid out already
    sizes = getattr(denoiser.config, "all_patch_size", None)
    return sizes[0] if sizes else denoiser.config.patch_size


def map_size(denoiser: torch.nn.Module, height: int, width: int, most: int = 16) -> tuple[int, int]:
    """(height, width) of the attention maps to the text that are asked for, of latents that are ``height`` x
    ``width``.

    In a UNet the largest with sides up to ``most`` and coarser than the latents: (16, 16) for Stable
    Diffusion at 512 px; the finest maps follow edges more than things. A transformer has them in one size
    alone, of its patches.
    """
    if not _is_unet(denoiser):
        return height // patch(denoiser), width // patch(denoiser)
    kinds = denoiser.config.down_block_types
    levels = sorted({i for i, kind in enumerate(kinds) if i and "CrossAttn" in kind} | {len(kinds) - 1})
    level = next((i for i in levels if max(height, width) >> i <= most), levels[-1])
    return height >> level, width >> level


def finest(denoiser: torch.nn.Module, height: int, width: int) -> tuple[int, int]:
    """(height, width) in cells of a denoiser's finest work on latents that are ``height`` x ``width``."""
    return (height, width) if _is_unet(denoiser) else map_size(denoiser, height, width)


def _is_unet(denoiser: torch.nn.Module) -> bool:
    return hasattr(denoiser.config, "down_block_types")

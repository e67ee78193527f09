"""Tiny models with random weights, for tests."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from pathlib import Path

import torch

from benchmarks.tiny import SIZES, tiny_clip, tiny_dino
from l2dm.backbone import find_base

__all__ = ["mini", "tiny_clip", "tiny_dino"]


@functools.cache
def mini() -> str:
    """A base like the shipped one, but tiny and untrained: for all that does not look at pictures."""
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return str(tiny_mini(Path(folder)))


def tiny_mini(folder: Path) -> Path:
    """The shipped base with everything but its tokenizers and its settings shrunk, random weights: 32 px, 8 x
    8 latents.
    """
    from diffusers import AutoencoderTiny, UNet2DConditionModel
    from transformers import CLIPTextModel

    shipped = find_base("mini").folder
    for name in ("l2dm.json", "model_index.json", "scheduler", "tokenizer", "text_encoder/config.json"):
        place = folder / name
        place.parent.mkdir(parents=True, exist_ok=True)
        (shutil.copytree if (shipped / name).is_dir() else shutil.copy)(shipped / name, place)
    torch.manual_seed(2)
    unet = UNet2DConditionModel.load_config(shipped / "unet") | {
        "block_out_channels": (8, 16),
        "sample_size": 8,
        "cross_attention_dim": 32,
        "down_block_types": ["CrossAttnDownBlock2D", "DownBlock2D"],
        "up_block_types": ["UpBlock2D", "CrossAttnUpBlock2D"],
    }
    UNet2DConditionModel.from_config(unet).save_pretrained(folder / "unet")
    shape = {"latent_channels": 4, "num_encoder_blocks": (0, 1, 1), "num_decoder_blocks": (1, 1, 1)}
    widths = {f"{part}_block_out_channels": (8, 8, 8) for part in ("encoder", "decoder")}
    AutoencoderTiny(**shape, **widths, upsampling_scaling_factor=2).save_pretrained(folder / "vae")
    text = CLIPTextModel.config_class.from_pretrained(shipped / "text_encoder")
    for name, value in SIZES.items():
        setattr(text, name, value)
    CLIPTextModel(text).save_pretrained(folder / "text_encoder")
    tiny_clip(folder / "clip")
    return folder

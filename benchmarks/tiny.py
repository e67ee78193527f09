"""Tiny models with random weights, saved as the published ones are: a base of four latent cells a side, and
encoders.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from diffusers import AutoencoderKL, DDIMScheduler, StableDiffusionPipeline, UNet2DConditionModel
from transformers import (
    CLIPConfig,
    CLIPModel,
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTokenizer,
    ViTConfig,
    ViTModel,
)

from l2dm.backbone import find_base

#: settings of a lesson that is as short as one can be
LITTLE = {
    "steps": 2,
    "batch": 1,
    "mixes": 2,
    "memory_candidates": 1,
    "memory_budget": 1,
    "prior_steps": 2,
}
#: what a pipeline of Stable Diffusion 1.x is made without here
PLAIN = {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}
SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


def tiny_base(folder: Path) -> Path:
    """A Stable Diffusion 1.x folder that draws 8 x 8 pixels, with the shipped tokenizer and a CLIP pair of
    its own.
    """
    torch.manual_seed(0)
    tokenizer = CLIPTokenizer.from_pretrained(find_base("mini").folder / "tokenizer")
    text = CLIPTextModel(
        CLIPTextConfig(
            vocab_size=len(tokenizer),
            hidden_size=8,
            intermediate_size=8,
            num_hidden_layers=1,
            num_attention_heads=2,
            max_position_embeddings=32,
            bos_token_id=tokenizer.bos_token_id,
            eos_token_id=tokenizer.eos_token_id,
        )
    )
    unet = UNet2DConditionModel(
        sample_size=4,
        block_out_channels=(4, 8),
        layers_per_block=1,
        norm_num_groups=2,
        cross_attention_dim=8,
        attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )
    vae = AutoencoderKL(
        block_out_channels=(4, 4),
        norm_num_groups=2,
        down_block_types=("DownEncoderBlock2D",) * 2,
        up_block_types=("UpDecoderBlock2D",) * 2,
    )
    scheduler = DDIMScheduler(beta_schedule="scaled_linear", steps_offset=1, clip_sample=False)
    parts = {"vae": vae, "text_encoder": text, "tokenizer": tokenizer, "unet": unet}
    StableDiffusionPipeline(**parts, scheduler=scheduler, **PLAIN).save_pretrained(folder)
    tiny_clip(folder / "clip")
    return folder


def tiny_clip(folder: Path, side: int = 32) -> Path:
    """A CLIP pair with the shipped tokenizer."""
    torch.manual_seed(0)
    text = {
        **SIZES,
        "vocab_size": 3072,
        "max_position_embeddings": 32,
        "bos_token_id": 3070,
        "eos_token_id": 3071,
        "pad_token_id": 3071,
    }
    vision = {**SIZES, "image_size": side, "patch_size": 16}
    CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=16)).save_pretrained(folder)
    shipped = find_base("mini").folder / "clip"
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(shipped / name, folder)
    seeing = json.loads((shipped / "preprocessor_config.json").read_text())
    seeing |= {"crop_size": {"height": side, "width": side}, "size": {"shortest_edge": side}}
    (folder / "preprocessor_config.json").write_text(json.dumps(seeing))
    return folder


def tiny_dino(folder: Path, side: int = 32) -> Path:
    torch.manual_seed(1)
    ViTModel(ViTConfig(**SIZES, image_size=side, patch_size=16), add_pooling_layer=False).save_pretrained(
        folder
    )
    return folder

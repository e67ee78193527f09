"""Tiny encoders with random weights, saved as the published ones are."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import torch
from transformers import CLIPConfig, CLIPModel, ViTConfig, ViTModel

from l2dm.backbone import find_base

SIZES = {"hidden_size": 32, "intermediate_size": 32, "num_hidden_layers": 1, "num_attention_heads": 2}


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

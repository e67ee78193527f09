"""Tiny text encoders, autoencoders and UNets, of which the families' tiny pipelines are made."""

from __future__ import annotations

from diffusers import (
    AutoencoderKL,
    UNet2DConditionModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from .tokenizers import clip_tokenizer, qwen_tokenizer, t5_tokenizer

#: Numbers in the features of one token, of every text encoder.
WIDTH = 16
KL = {
    "block_out_channels": (8, 8),
    "norm_num_groups": 4,
    "layers_per_block": 1,
    "down_block_types": ("DownEncoderBlock2D",) * 2,
    "up_block_types": ("UpDecoderBlock2D",) * 2,
}
UNET = {
    "block_out_channels": (8, 16),
    "layers_per_block": 1,
    "norm_num_groups": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}
BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def clip(projecting: bool = False) -> tuple[CLIPTextModel, CLIPTokenizer]:
    tokenizer = clip_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=16,
        num_hidden_layers=2,
        num_attention_heads=2,
        projection_dim=WIDTH,
        pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return (CLIPTextModelWithProjection if projecting else CLIPTextModel)(config), tokenizer


def t5(width: int = WIDTH) -> tuple[T5EncoderModel, T5Tokenizer]:
    tokenizer = t5_tokenizer()
    config = T5Config(
        vocab_size=len(tokenizer),
        d_model=width,
        d_kv=8,
        d_ff=16,
        num_layers=1,
        num_heads=2,
        feed_forward_proj="gated-gelu",
    )
    return T5EncoderModel(config), tokenizer


def qwen(layers: int, kind: type = Qwen3Model) -> tuple[Qwen3Model | Qwen3ForCausalLM, Qwen2Tokenizer]:
    tokenizer = qwen_tokenizer()
    config = Qwen3Config(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=16,
        num_hidden_layers=layers,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=512,
    )
    return kind(config), tokenizer


def unet(**changes) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        **{"sample_size": 8, "cross_attention_dim": WIDTH, "attention_head_dim": 2} | UNET | changes
    )


def flux_vae() -> AutoencoderKL:
    return AutoencoderKL(
        **KL,
        latent_channels=4,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )

"""Tiny pipelines of the families whose denoiser is a UNet."""

from __future__ import annotations

from diffusers import (
    AutoencoderKL,
    DDPMScheduler,
    DiffusionPipeline,
    EulerDiscreteScheduler,
    IFPipeline,
    PNDMScheduler,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
)

from .parts import BETAS, KL, WIDTH, clip, t5
from .parts import unet as make_unet


def sd() -> DiffusionPipeline:
    """Stable Diffusion 1.x; 16 px."""
    text_encoder, tokenizer = clip()
    return StableDiffusionPipeline(
        vae=AutoencoderKL(**KL),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        unet=make_unet(),
        scheduler=PNDMScheduler(skip_prk_steps=True, steps_offset=1, **BETAS),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )


def sdxl() -> DiffusionPipeline:
    """Two CLIPs side by side, the second's pooled text and six sizes beside the time; 16 px."""
    (text_encoder, tokenizer), (text_encoder_2, tokenizer_2) = clip(), clip(projecting=True)
    unet = make_unet(
        cross_attention_dim=2 * WIDTH,
        addition_embed_type="text_time",
        addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + WIDTH,
        use_linear_projection=True,
        transformer_layers_per_block=(1, 2),
        attention_head_dim=(1, 2),
    )
    return StableDiffusionXLPipeline(
        vae=AutoencoderKL(**KL, scaling_factor=0.13025),
        text_encoder=text_encoder,
        text_encoder_2=text_encoder_2,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer_2,
        unet=unet,
        scheduler=EulerDiscreteScheduler(**BETAS),
        add_watermarker=False,
    )


def deepfloyd_if() -> DiffusionPipeline:
    """DeepFloyd IF, stage I: pixels, T5, one attention to picture and text, a learnt variance; 16 px."""
    text_encoder, tokenizer = t5()
    unet = make_unet(
        sample_size=16,
        in_channels=3,
        out_channels=6,
        act_fn="gelu",
        encoder_hid_dim=WIDTH,
        cross_attention_dim=32,
        encoder_hid_dim_type="text_proj",
        addition_embed_type="text",
        addition_embed_type_num_heads=2,
        cross_attention_norm="group_norm",
        resnet_time_scale_shift="scale_shift",
        attention_head_dim=8,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
    )
    scheduler = DDPMScheduler(
        beta_schedule="squaredcos_cap_v2",
        thresholding=True,
        dynamic_thresholding_ratio=0.95,
        sample_max_value=1.5,
        variance_type="learned_range",
    )
    return IFPipeline(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        unet=unet,
        scheduler=scheduler,
        safety_checker=None,
        feature_extractor=None,
        watermarker=None,
        requires_safety_checker=False,
    )

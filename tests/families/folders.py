"""A tiny folder of every family: random weights, saved as published ones are, made of configurations alone.

What is odd about a family is kept (the layers its text is read from, its time's embedding);
only sizes shrink.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import torch
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    DDPMScheduler,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    IFPipeline,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    PNDMScheduler,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    StableDiffusionPipeline,
    StableDiffusionXLPipeline,
    UNet2DConditionModel,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import (
    CLIPTextConfig,
    CLIPTextModel,
    CLIPTextModelWithProjection,
    CLIPTokenizer,
    Gemma2Config,
    Gemma2Model,
    Qwen2Tokenizer,
    Qwen3Config,
    Qwen3ForCausalLM,
    Qwen3Model,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

from l2dm.backbone.families import flux2 as flux2_family

from .tokenizers import clip_tokenizer, gemma_tokenizer, qwen_tokenizer, t5_tokenizer

#: Numbers in the features of one token, of every text encoder.
WIDTH = 16
#: Pixels a latent cell has, of every autoencoder.
FACTOR = 2
_KL = {
    "block_out_channels": (8, 8), "norm_num_groups": 4, "layers_per_block": 1,
    "down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2,
}  # fmt: skip
_UNET = {
    "block_out_channels": (8, 16), "layers_per_block": 1, "norm_num_groups": 4,
    "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
    "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
}  # fmt: skip
_BETAS = {"beta_schedule": "scaled_linear", "beta_start": 0.00085, "beta_end": 0.012}


def _clip(projecting: bool = False) -> tuple[CLIPTextModel, CLIPTokenizer]:
    tokenizer = clip_tokenizer()
    config = CLIPTextConfig(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=16, num_hidden_layers=2,
        num_attention_heads=2, projection_dim=WIDTH, pad_token_id=tokenizer.pad_token_id,
        bos_token_id=tokenizer.bos_token_id, eos_token_id=tokenizer.eos_token_id,
    )  # fmt: skip
    return (CLIPTextModelWithProjection if projecting else CLIPTextModel)(config), tokenizer


def _t5(width: int = WIDTH) -> tuple[T5EncoderModel, T5Tokenizer]:
    tokenizer = t5_tokenizer()
    config = T5Config(
        vocab_size=len(tokenizer), d_model=width, d_kv=8, d_ff=16, num_layers=1, num_heads=2,
        feed_forward_proj="gated-gelu",
    )  # fmt: skip
    return T5EncoderModel(config), tokenizer


def _qwen(layers: int, kind: type = Qwen3Model) -> tuple[Qwen3Model | Qwen3ForCausalLM, Qwen2Tokenizer]:
    tokenizer = qwen_tokenizer()
    config = Qwen3Config(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=16, num_hidden_layers=layers,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, max_position_embeddings=512,
    )  # fmt: skip
    return kind(config), tokenizer


def _unet(**changes) -> UNet2DConditionModel:
    return UNet2DConditionModel(
        **{"sample_size": 8, "cross_attention_dim": WIDTH, "attention_head_dim": 2} | _UNET | changes
    )


def sd() -> DiffusionPipeline:
    """Stable Diffusion 1.x; 16 px."""
    text_encoder, tokenizer = _clip()
    return StableDiffusionPipeline(
        vae=AutoencoderKL(**_KL), text_encoder=text_encoder, tokenizer=tokenizer, unet=_unet(),
        scheduler=PNDMScheduler(skip_prk_steps=True, steps_offset=1, **_BETAS), safety_checker=None,
        feature_extractor=None, requires_safety_checker=False,
    )  # fmt: skip


def sdxl() -> DiffusionPipeline:
    """Two CLIPs side by side, the second's pooled text and six sizes beside the time; 16 px."""
    (text_encoder, tokenizer), (text_encoder_2, tokenizer_2) = _clip(), _clip(projecting=True)
    unet = _unet(
        cross_attention_dim=2 * WIDTH, addition_embed_type="text_time", addition_time_embed_dim=8,
        projection_class_embeddings_input_dim=6 * 8 + WIDTH, use_linear_projection=True,
        transformer_layers_per_block=(1, 2), attention_head_dim=(1, 2),
    )  # fmt: skip
    return StableDiffusionXLPipeline(
        vae=AutoencoderKL(**_KL, scaling_factor=0.13025), text_encoder=text_encoder,
        text_encoder_2=text_encoder_2, tokenizer=tokenizer, tokenizer_2=tokenizer_2, unet=unet,
        scheduler=EulerDiscreteScheduler(**_BETAS), add_watermarker=False,
    )  # fmt: skip


def _pixart(kind: type, cells: int = 8) -> DiffusionPipeline:
    text_encoder, tokenizer = _t5()
    transformer = PixArtTransformer2DModel(
        sample_size=cells, num_layers=1, num_attention_heads=2, attention_head_dim=12, cross_attention_dim=24,
        caption_channels=WIDTH, norm_num_groups=4,
        use_additional_conditions=kind is PixArtAlphaPipeline and cells == 128,
    )  # fmt: skip
    return kind(
        tokenizer=tokenizer, text_encoder=text_encoder, vae=AutoencoderKL(**_KL), transformer=transformer,
        scheduler=DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02, solver_order=2),
    )  # fmt: skip


def pixart() -> DiffusionPipeline:
    """PixArt-α at 256 and 512 px: cross-attention to 120 tokens of T5 under a mask; 16 px."""
    return _pixart(PixArtAlphaPipeline)


def pixart_1024() -> DiffusionPipeline:
    """PixArt-α at 1024 px, told by its 128 cells: size and aspect beside the time; 256 px."""
    return _pixart(PixArtAlphaPipeline, cells=128)


def pixart_sigma() -> DiffusionPipeline:
    """PixArt-Σ: 300 tokens; 16 px."""
    return _pixart(PixArtSigmaPipeline)


def sd3() -> DiffusionPipeline:
    """Two CLIPs and T5 in one row of text, joint attention, 3.5's second attention and norms; 16 px."""
    clips, (text_encoder_3, tokenizer_3) = [_clip(projecting=True) for _ in range(2)], _t5(2 * WIDTH)
    transformer = SD3Transformer2DModel(
        sample_size=8, num_layers=2, attention_head_dim=8, num_attention_heads=2, caption_projection_dim=16,
        joint_attention_dim=2 * WIDTH, pooled_projection_dim=2 * WIDTH, in_channels=4, out_channels=4,
        pos_embed_max_size=16, dual_attention_layers=(0,), qk_norm="rms_norm",
    )  # fmt: skip
    vae = AutoencoderKL(
        **_KL, latent_channels=4, scaling_factor=1.5305, shift_factor=0.0609, use_quant_conv=False,
        use_post_quant_conv=False,
    )  # fmt: skip
    return StableDiffusion3Pipeline(
        transformer=transformer, scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), vae=vae,
        text_encoder=clips[0][0], tokenizer=clips[0][1], text_encoder_2=clips[1][0], tokenizer_2=clips[1][1],
        text_encoder_3=text_encoder_3, tokenizer_3=tokenizer_3,
    )  # fmt: skip


def _flux_vae() -> AutoencoderKL:
    return AutoencoderKL(
        **_KL, latent_channels=4, scaling_factor=0.3611, shift_factor=0.1159, use_quant_conv=False,
        use_post_quant_conv=False,
    )  # fmt: skip


def flux() -> DiffusionPipeline:
    """FLUX.1 [dev]: CLIP's pooled text, T5, double and single blocks, an embedded guidance; 2 x 2 patches."""
    (text_encoder, tokenizer), (text_encoder_2, tokenizer_2) = _clip(), _t5()
    transformer = FluxTransformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=WIDTH, pooled_projection_dim=WIDTH, axes_dims_rope=(2, 2, 4),
        guidance_embeds=True,
    )  # fmt: skip
    shifting = {"shift": 3.0, "use_dynamic_shifting": True}
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**shifting), vae=_flux_vae(), text_encoder=text_encoder,
        tokenizer=tokenizer, text_encoder_2=text_encoder_2, tokenizer_2=tokenizer_2, transformer=transformer,
    )  # fmt: skip


def flux2() -> DiffusionPipeline:
    """FLUX.2 [klein]: three layers of Qwen3 side by side, shared modulation, normalized latents."""
    text_encoder, tokenizer = _qwen(flux2_family.LAYERS[-1] + 1, Qwen3ForCausalLM)
    transformer = Flux2Transformer2DModel(
        in_channels=16, num_layers=1, num_single_layers=1, attention_head_dim=8, num_attention_heads=2,
        joint_attention_dim=3 * WIDTH, timestep_guidance_channels=16, axes_dims_rope=(2, 2, 2, 2),
        guidance_embeds=False,
    )  # fmt: skip
    vae = AutoencoderKLFlux2(**_KL, latent_channels=4)
    vae.bn.running_mean.normal_(0, 0.1)
    vae.bn.running_var.uniform_(0.5, 2)
    shifting = {"shift": 3.0, "use_dynamic_shifting": True}
    return Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**shifting), vae=vae, text_encoder=text_encoder,
        tokenizer=tokenizer, transformer=transformer, is_distilled=False,
    )  # fmt: skip


def z_image() -> DiffusionPipeline:
    """Z-Image: one stream of picture and Qwen3's text, each refined first; time runs backwards."""
    text_encoder, tokenizer = _qwen(2)
    transformer = ZImageTransformer2DModel(
        in_channels=4, dim=16, n_layers=1, n_refiner_layers=1, n_heads=2, n_kv_heads=2, cap_feat_dim=WIDTH,
        axes_dims=[4, 2, 2], axes_lens=[1024, 64, 64],
    )  # fmt: skip
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0), vae=_flux_vae(), text_encoder=text_encoder,
        tokenizer=tokenizer, transformer=transformer,
    )  # fmt: skip


def deepfloyd_if() -> DiffusionPipeline:
    """DeepFloyd IF, stage I: pixels, T5, one attention to picture and text, a learnt variance; 16 px."""
    text_encoder, tokenizer = _t5()
    unet = _unet(
        sample_size=16, in_channels=3, out_channels=6, act_fn="gelu", encoder_hid_dim=WIDTH,
        cross_attention_dim=32, encoder_hid_dim_type="text_proj", addition_embed_type="text",
        addition_embed_type_num_heads=2, cross_attention_norm="group_norm",
        resnet_time_scale_shift="scale_shift", attention_head_dim=8,
        down_block_types=("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        up_block_types=("SimpleCrossAttnUpBlock2D", "ResnetUpsampleBlock2D"),
    )  # fmt: skip
    scheduler = DDPMScheduler(
        beta_schedule="squaredcos_cap_v2", thresholding=True, dynamic_thresholding_ratio=0.95,
        sample_max_value=1.5, variance_type="learned_range",
    )  # fmt: skip
    return IFPipeline(
        tokenizer=tokenizer, text_encoder=text_encoder, unet=unet, scheduler=scheduler, safety_checker=None,
        feature_extractor=None, watermarker=None, requires_safety_checker=False,
    )  # fmt: skip


def sana() -> DiffusionPipeline:
    """Sana 1.5: linear attention, norms of queries and keys, Gemma, a strong autoencoder, a solver for betas
    that was taught flows; 32 px.
    """
    tokenizer = gemma_tokenizer()
    config = Gemma2Config(
        vocab_size=len(tokenizer), hidden_size=WIDTH, intermediate_size=16, num_hidden_layers=1,
        num_attention_heads=2, num_key_value_heads=1, head_dim=8, max_position_embeddings=512,
    )  # fmt: skip
    transformer = SanaTransformer2DModel(
        in_channels=4, out_channels=4, num_attention_heads=2, attention_head_dim=8, num_layers=1,
        num_cross_attention_heads=2, cross_attention_head_dim=8, cross_attention_dim=16,
        caption_channels=WIDTH, sample_size=8, qk_norm="rms_norm_across_heads",
    )  # fmt: skip
    blocks = {f"{part}_block_out_channels": (8, 8, 16) for part in ("encoder", "decoder")}
    layers = {f"{part}_layers_per_block": (1, 1, 1) for part in ("encoder", "decoder")}
    scales = {f"{part}_qkv_multiscales": ((),) * 3 for part in ("encoder", "decoder")}
    flows = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
    return SanaPipeline(
        tokenizer=tokenizer, text_encoder=Gemma2Model(config), transformer=transformer,
        vae=AutoencoderDC(latent_channels=4, scaling_factor=0.41407, **blocks, **layers, **scales),
        scheduler=DPMSolverMultistepScheduler(**flows),
    )  # fmt: skip


FAMILIES: dict[str, Callable[[], DiffusionPipeline]] = {
    make.__name__: make
    for make in (
        sd, sdxl, pixart, pixart_1024, pixart_sigma, sd3, flux, flux2, z_image, deepfloyd_if, sana
    )
}  # fmt: skip
#: What their pipelines have to be told to draw pictures as small as these.
DRAWING = {
    name: {"use_resolution_binning": False} for name in FAMILIES if name.startswith(("pixart", "sana"))
}


def tiny_folder(family: str, folder: Path, seed: int = 0) -> Path:
    """Fills ``folder`` with a tiny model of ``family`` (of ``FAMILIES``), the same for the same ``seed``."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        FAMILIES[family]().save_pretrained(folder)
    return folder

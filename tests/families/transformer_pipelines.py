"""Tiny pipelines of the families whose denoiser is a transformer."""

from __future__ import annotations

from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderKLFlux2,
    DiffusionPipeline,
    DPMSolverMultistepScheduler,
    FlowMatchEulerDiscreteScheduler,
    Flux2KleinPipeline,
    Flux2Transformer2DModel,
    FluxPipeline,
    FluxTransformer2DModel,
    PixArtAlphaPipeline,
    PixArtSigmaPipeline,
    PixArtTransformer2DModel,
    SanaPipeline,
    SanaTransformer2DModel,
    SD3Transformer2DModel,
    StableDiffusion3Pipeline,
    ZImagePipeline,
    ZImageTransformer2DModel,
)
from transformers import (
    Gemma2Config,
    Gemma2Model,
    Qwen3ForCausalLM,
)

from l2dm.backbone.families import flux2 as flux2_family

from .parts import KL, WIDTH, clip, flux_vae, qwen, t5
from .tokenizers import gemma_tokenizer


def _pixart(kind: type, cells: int = 8) -> DiffusionPipeline:
    text_encoder, tokenizer = t5()
    transformer = PixArtTransformer2DModel(
        sample_size=cells,
        num_layers=1,
        num_attention_heads=2,
        attention_head_dim=12,
        cross_attention_dim=24,
        caption_channels=WIDTH,
        norm_num_groups=4,
        use_additional_conditions=kind is PixArtAlphaPipeline and cells == 128,
    )
    return kind(
        tokenizer=tokenizer,
        text_encoder=text_encoder,
        vae=AutoencoderKL(**KL),
        transformer=transformer,
        scheduler=DPMSolverMultistepScheduler(beta_start=0.0001, beta_end=0.02, solver_order=2),
    )


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
    clips, (text_encoder_3, tokenizer_3) = [clip(projecting=True) for _ in range(2)], t5(2 * WIDTH)
    transformer = SD3Transformer2DModel(
        sample_size=8,
        num_layers=2,
        attention_head_dim=8,
        num_attention_heads=2,
        caption_projection_dim=16,
        joint_attention_dim=2 * WIDTH,
        pooled_projection_dim=2 * WIDTH,
        in_channels=4,
        out_channels=4,
        pos_embed_max_size=16,
        dual_attention_layers=(0,),
        qk_norm="rms_norm",
    )
    vae = AutoencoderKL(
        **KL,
        latent_channels=4,
        scaling_factor=1.5305,
        shift_factor=0.0609,
        use_quant_conv=False,
        use_post_quant_conv=False,
    )
    return StableDiffusion3Pipeline(
        transformer=transformer,
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=vae,
        text_encoder=clips[0][0],
        tokenizer=clips[0][1],
        text_encoder_2=clips[1][0],
        tokenizer_2=clips[1][1],
        text_encoder_3=text_encoder_3,
        tokenizer_3=tokenizer_3,
    )


def flux() -> DiffusionPipeline:
    """FLUX.1 [dev]: CLIP's pooled text, T5, double and single blocks, an embedded guidance; 2 x 2 patches."""
    (text_encoder, tokenizer), (text_encoder_2, tokenizer_2) = clip(), t5()
    transformer = FluxTransformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=WIDTH,
        pooled_projection_dim=WIDTH,
        axes_dims_rope=(2, 2, 4),
        guidance_embeds=True,
    )
    shifting = {"shift": 3.0, "use_dynamic_shifting": True}
    return FluxPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**shifting),
        vae=flux_vae(),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        text_encoder_2=text_encoder_2,
        tokenizer_2=tokenizer_2,
        transformer=transformer,
    )


def flux2() -> DiffusionPipeline:
    """FLUX.2 [klein]: three layers of Qwen3 side by side, shared modulation, normalized latents."""
    text_encoder, tokenizer = qwen(flux2_family.LAYERS[-1] + 1, Qwen3ForCausalLM)
    transformer = Flux2Transformer2DModel(
        in_channels=16,
        num_layers=1,
        num_single_layers=1,
        attention_head_dim=8,
        num_attention_heads=2,
        joint_attention_dim=3 * WIDTH,
        timestep_guidance_channels=16,
        axes_dims_rope=(2, 2, 2, 2),
        guidance_embeds=False,
    )
    vae = AutoencoderKLFlux2(**KL, latent_channels=4)
    vae.bn.running_mean.normal_(0, 0.1)
    vae.bn.running_var.uniform_(0.5, 2)
    shifting = {"shift": 3.0, "use_dynamic_shifting": True}
    return Flux2KleinPipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(**shifting),
        vae=vae,
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=transformer,
        is_distilled=False,
    )


def z_image() -> DiffusionPipeline:
    """Z-Image: one stream of picture and Qwen3's text, each refined first; time runs backwards."""
    text_encoder, tokenizer = qwen(2)
    transformer = ZImageTransformer2DModel(
        in_channels=4,
        dim=16,
        n_layers=1,
        n_refiner_layers=1,
        n_heads=2,
        n_kv_heads=2,
        cap_feat_dim=WIDTH,
        axes_dims=[4, 2, 2],
        axes_lens=[1024, 64, 64],
    )
    return ZImagePipeline(
        scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
        vae=flux_vae(),
        text_encoder=text_encoder,
        tokenizer=tokenizer,
        transformer=transformer,
    )


def sana() -> DiffusionPipeline:
    """Sana 1.5: linear attention, norms of queries and keys, Gemma, a strong autoencoder, a solver for betas
    that was taught flows; 32 px.
    """
    tokenizer = gemma_tokenizer()
    config = Gemma2Config(
        vocab_size=len(tokenizer),
        hidden_size=WIDTH,
        intermediate_size=16,
        num_hidden_layers=1,
        num_attention_heads=2,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=512,
    )
    transformer = SanaTransformer2DModel(
        in_channels=4,
        out_channels=4,
        num_attention_heads=2,
        attention_head_dim=8,
        num_layers=1,
        num_cross_attention_heads=2,
        cross_attention_head_dim=8,
        cross_attention_dim=16,
        caption_channels=WIDTH,
        sample_size=8,
        qk_norm="rms_norm_across_heads",
    )
    blocks = {f"{part}_block_out_channels": (8, 8, 16) for part in ("encoder", "decoder")}
    layers = {f"{part}_layers_per_block": (1, 1, 1) for part in ("encoder", "decoder")}
    scales = {f"{part}_qkv_multiscales": ((),) * 3 for part in ("encoder", "decoder")}
    flows = {"prediction_type": "flow_prediction", "use_flow_sigmas": True, "flow_shift": 3.0}
    return SanaPipeline(
        tokenizer=tokenizer,
        text_encoder=Gemma2Model(config),
        transformer=transformer,
        vae=AutoencoderDC(latent_channels=4, scaling_factor=0.41407, **blocks, **layers, **scales),
        scheduler=DPMSolverMultistepScheduler(**flows),
    )

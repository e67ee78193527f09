"""Stable Diffusion 3 and 3.5 (arXiv 2403.03206): joint attention to two CLIPs and T5 in one row, the CLIPs'
pooled text beside the time; flows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch

from ..conditioning import Conditioning
from .family import Family, Reads, check_fit

if TYPE_CHECKING:
    from ..backbone import Backbone
    from ..source import Source

_CLIPS = ("text_encoder", "text_encoder_2")


class StableDiffusion3(Family):
    name = "Stable Diffusion 3/3.5"
    pipeline = "StableDiffusion3Pipeline"
    parts = {
        "transformer": ("SD3Transformer2DModel",),
        "vae": ("AutoencoderKL",),
        **dict.fromkeys(_CLIPS, ("CLIPTextModelWithProjection",)),
        "text_encoder_3": ("T5EncoderModel",),
        "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
        "tokenizer_2": ("CLIPTokenizer", "CLIPTokenizerFast"),
        "tokenizer_3": ("T5Tokenizer", "T5TokenizerFast"),
        "scheduler": (),
    }
    readers = (Reads(), Reads("text_encoder_2", "tokenizer_2"), Reads("text_encoder_3", "tokenizer_3", 256))
    #: The CLIPs' features stand side by side, of the same words; those of T5 come behind them.
    row = (0, 2)
    encoded = ("features", "-features", "pooled", "-pooled")
    flow = True
    kohya_names = "sd3"
    embedding_keys, base_version = ("clip_l", "clip_g", "t5xxl"), ("sd3", "stable-diffusion-3")
    dtype = torch.bfloat16  # 8 to 14 B weights, published in float16 and bfloat16
    defaults = {
        "learn": {"steps": 500, "batch": 1, "learning_rate": 2e-4},
        "generate": {"steps": 28, "guidance_scale": 7.0, "batch": 1},
    }
    defaults_from = (
        "diffusers' examples/dreambooth/README_sd3.md (adapters at 4e-4, 500 steps, there of 4 "
        "accumulated photos; OneTrainer's preset has 3e-4, ai-toolkit's 1e-4 over 2000 steps); "
        "sampling of StableDiffusion3Pipeline. Untuned: nobody here could run it"
    )

    def check(self, source: Source) -> None:
        transformer, t5 = source.settings_of("transformer"), source.settings_of("text_encoder_3")
        clips = [source.settings_of(part) for part in _CLIPS]
        told = {
            "channels": (
                transformer.get("in_channels", 16),
                source.settings_of("vae").get("latent_channels", 4),
            ),
            "numbers a token": (transformer.get("joint_attention_dim", 4096), t5.get("d_model", 512)),
            "numbers of pooled text": (
                transformer.get("pooled_projection_dim", 2048),
                sum(clip.get("projection_dim", 512) for clip in clips),
            ),
        }
        check_fit(source, told, "they are of different models")

    def predict(
        self, backbone: Backbone, noisy: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        return backbone.denoiser(
            hidden_states=noisy,
            timestep=timesteps.expand(len(noisy)),
            encoder_hidden_states=conditioning.features,
            pooled_projections=conditioning.pooled,
            return_dict=False,
        )[0]

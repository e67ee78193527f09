"""FLUX.1 (Black Forest Labs, 2024): T5 and picture in blocks of two streams, then of one; CLIP's pooled text
and guidance beside the time; flows.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
import torch
from diffusers import FluxPipeline, SchedulerMixin

from ..conditioning import Conditioning
from ..process import dynamic_mu
from .family import Family, Reads, check_fit

if TYPE_CHECKING:
    from ..backbone import Backbone
    from ..source import Source

#: Cells along a patch's side: its pipelines lay latents out in patches.
PATCH = 2


class Flux(Family):
    name = "FLUX.1"
    pipeline = "FluxPipeline"
    parts = {
        "transformer": ("FluxTransformer2DModel",),
        "vae": ("AutoencoderKL",),
        "text_encoder": ("CLIPTextModel",),
        "text_encoder_2": ("T5EncoderModel",),
        "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
        "tokenizer_2": ("T5Tokenizer", "T5TokenizerFast"),
        "scheduler": (),
    }
    readers = (Reads(), Reads("text_encoder_2", "tokenizer_2", 512))
    row = (1,)
    lora_names, embedding_keys, base_version = "flux", ("clip_l", "t5xxl"), ("flux1", "flux-1-dev")
    encoded = ("features", "pooled", "")
    flow = True
    dtype = torch.bfloat16  # 17 B weights, published in bfloat16
    #: Cells of a latent's side, which no configuration tells: 1024 pixels.
    cells: ClassVar[int] = 128
    defaults = {
        "learn": {"steps": 500, "batch": 1},
        "generate": {"steps": 28, "guidance_scale": 3.5, "batch": 1},
    }
    defaults_from = (
        "ai-toolkit's train_lora_flux_24gb.yaml (adapters at 1e-4, 500 to 4000 steps of one photo) "
        "and diffusers' examples/dreambooth/README_flux.md (500 steps, learnt at guidance 1); "
        "sampling of FluxPipeline, for FLUX.1 [dev]. Untuned: nobody here could run it"
    )

    def check(self, source: Source) -> None:
        transformer, t5 = source.settings_of("transformer"), source.settings_of("text_encoder_2")
        clip, vae = source.settings_of("text_encoder"), source.settings_of("vae")
        channels = vae.get("latent_channels", 4) * PATCH**2
        told = {
            "channels": (transformer.get("in_channels", 64), channels),
            "numbers a token": (transformer.get("joint_attention_dim", 4096), t5.get("d_model", 512)),
            "numbers of pooled text": (
                transformer.get("pooled_projection_dim", 768),
                clip.get("hidden_size", 512),
            ),
        }
        check_fit(source, told, "l2dm needs the text-to-image model, whose parts fit")

    def side(self, backbone: Backbone) -> int:
        return self.cells * backbone.factor

    def channels(self, backbone: Backbone) -> int:
        return backbone.denoiser.config.in_channels // PATCH**2

    def set_timesteps(
        self, backbone: Backbone, scheduler: SchedulerMixin, steps: int, height: int, width: int
    ) -> None:
        mu = dynamic_mu(scheduler.config, (height // PATCH) * (width // PATCH))
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu, device=backbone.device)

    def predict(
        self, backbone: Backbone, noisy: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        """Models distilled for a guidance learn at 1, which is none."""
        denoiser, (count, _, height, width) = backbone.denoiser, noisy.shape
        features = conditioning.features
        places = FluxPipeline._prepare_latent_image_ids(
            count, height // PATCH, width // PATCH, noisy.device, features.dtype
        )
        predicted = denoiser(
            hidden_states=self.packed(noisy),
            timestep=timesteps.expand(count).to(noisy.dtype) / backbone.scheduler.config.num_train_timesteps,
            guidance=torch.ones(count, device=noisy.device) if denoiser.config.guidance_embeds else None,
            pooled_projections=conditioning.pooled,
            encoder_hidden_states=features,
            txt_ids=features.new_zeros(features.shape[1], 3),
            img_ids=places,
            return_dict=False,
        )[0]
        return self.unpacked(predicted, height, width)

    def call(self, guidance_scale: float, negative_prompt: str | None) -> dict[str, Any]:
        """The number that it reads is 1 where there is no guidance, as in learning. Away from a prompt it is
        guided by a second forward, as other families are, and then that number is 1 too."""
        if negative_prompt and guidance_scale > 1:
            return {
                "guidance_scale": 1.0,
                "true_cfg_scale": guidance_scale,
                "negative_prompt": negative_prompt,
            }
        return {"guidance_scale": max(guidance_scale, 1.0)}

    def packed(self, latents: torch.Tensor) -> torch.Tensor:
        return FluxPipeline._pack_latents(latents, *latents.shape)

    def unpacked(self, latents: torch.Tensor, height: int, width: int) -> torch.Tensor:
        return FluxPipeline._unpack_latents(latents, height, width, vae_scale_factor=1)

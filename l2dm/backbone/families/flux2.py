"""FLUX.2 [klein] (Black Forest Labs, 2026): FLUX.1's blocks over three layers of one Qwen3, latents
normalized in patches; flows.

Its pipeline reads the prompt and the empty negative one apart, and calls the denoiser for each; models
distilled in steps it draws without guidance.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from diffusers import AutoencoderKLFlux2, Flux2KleinPipeline, SchedulerMixin
from diffusers.pipelines.flux2.pipeline_flux2_klein import compute_empirical_mu
from transformers import PreTrainedTokenizerBase

from ...errors import BaseModelError, SettingsError
from ..conditioning import Conditioning
from ..precision import upcast
from ..samplers import noise_of
from .family import Reads, check_fit, in_chat
from .flux import PATCH, Flux

if TYPE_CHECKING:
    from ..backbone import Backbone
    from ..source import Source

#: Layers of the text encoder whose features stand side by side.
LAYERS = (9, 18, 27)


class Flux2Klein(Flux):
    name = "FLUX.2 [klein]"
    pipeline = "Flux2KleinPipeline"
    parts = {
        "transformer": ("Flux2Transformer2DModel",),
        "vae": ("AutoencoderKLFlux2",),
        "text_encoder": ("Qwen3ForCausalLM",),
        "tokenizer": ("Qwen2Tokenizer", "Qwen2TokenizerFast"),
        "scheduler": (),
    }
    readers = (Reads(length=512),)
    row = (0,)
    encoded = ("features", "")
    lora_names, embedding_keys, base_version = "flux2", ("",), ("", "")
    negatives = False
    dtype = torch.bfloat16  # 8 to 17 B weights, published in bfloat16

    defaults_from = (
        "diffusers' examples/dreambooth/README_flux2.md (adapters at 1e-4, 500 steps, there of 4 "
        "accumulated photos); sampling of Flux2KleinPipeline, of models distilled in steps as "
        "published with them. Untuned: nobody here could run it"
    )

    def defaults_of(self, source: Source) -> dict[str, dict[str, Any]]:
        few = source.index.get("is_distilled", False)
        drawing = {"steps": 4, "guidance_scale": 1.0} if few else {"steps": 50, "guidance_scale": 4.0}
        return {"learn": {"steps": 500, "batch": 1}, "generate": {**drawing, "batch": 1}}

    def check(self, source: Source) -> None:
        transformer, qwen = source.settings_of("transformer"), source.settings_of("text_encoder")
        if transformer.get("guidance_embeds", True):
            raise BaseModelError(
                f"{source.said}: its denoiser reads a guidance, as FLUX.2 [dev] does and {self.name} does not"
            )
        if (depth := qwen.get("num_hidden_layers", 32)) < LAYERS[-1]:
            raise BaseModelError(
                f"{source.said}: its text encoder has {depth} layers, {self.name} reads number {LAYERS[-1]}"
            )
        channels = source.settings_of("vae").get("latent_channels", 32) * PATCH**2
        width = qwen.get("hidden_size", 4096) * len(LAYERS)
        told = {
            "channels": (transformer.get("in_channels", 128), channels),
            "numbers a token": (transformer.get("joint_attention_dim", 15360), width),
        }
        check_fit(source, told, "l2dm needs the text-to-image model, whose parts fit")

    def options(self, source: Source) -> dict[str, Any]:
        return {"is_distilled": source.index.get("is_distilled", False)}

    def set_timesteps(
        self, backbone: Backbone, scheduler: SchedulerMixin, steps: int, height: int, width: int
    ) -> None:
        mu = compute_empirical_mu((height // PATCH) * (width // PATCH), steps)
        scheduler.set_timesteps(sigmas=np.linspace(1.0, 1 / steps, steps), mu=mu, device=backbone.device)

    def worded(self, prompt: str, tokenizer: PreTrainedTokenizerBase) -> tuple[str, int]:
        return in_chat(tokenizer, prompt, enable_thinking=False)

    # ---------------------------------------------------------------- pictures and latents

    def encode_pictures(self, backbone: Backbone, pixels: torch.Tensor) -> torch.Tensor:
        with upcast(backbone.vae) as vae:
            latents = self.begun(vae.encode(pixels.to(backbone.device, vae.dtype)).latent_dist.mode())
            mean, deviation = _spread(vae)
        return self._cells((latents - mean) / deviation).float()

    def decode_latents(self, backbone: Backbone, latents: torch.Tensor) -> torch.Tensor:
        with upcast(backbone.vae) as vae:
            mean, deviation = _spread(vae)
            return vae.decode(self._cells(self.begun(latents.to(vae.dtype)) * deviation + mean)).sample

    def noise(
        self, backbone: Backbone, generators: Sequence[torch.Generator], height: int, width: int
    ) -> torch.Tensor:
        """Drawn in patches, (B, 4 C, h/2, w/2)."""
        shape = (backbone.denoiser.config.in_channels, height // PATCH, width // PATCH)
        return self._cells(noise_of(shape, generators, backbone.device, backbone.dtype))

    def begun(self, latents: torch.Tensor) -> torch.Tensor:
        """In patches, (B, 4 C, h/2, w/2)."""
        return Flux2KleinPipeline._patchify_latents(latents)

    @staticmethod
    def _cells(patches: torch.Tensor) -> torch.Tensor:
        return Flux2KleinPipeline._unpatchify_latents(patches)

    def packed(self, latents: torch.Tensor) -> torch.Tensor:
        return Flux2KleinPipeline._pack_latents(self.begun(latents))

    def unpacked(self, latents: torch.Tensor, height: int, width: int) -> torch.Tensor:
        return self._cells(latents.mT.unflatten(-1, (height // PATCH, width // PATCH)))

    # ---------------------------------------------------------------- diffusion

    def predict(
        self, backbone: Backbone, noisy: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        features, (count, _, height, width) = conditioning.features, noisy.shape
        predicted = backbone.denoiser(
            hidden_states=self.packed(noisy),
            timestep=timesteps.expand(count).to(noisy.dtype) / backbone.scheduler.config.num_train_timesteps,
            guidance=None,
            encoder_hidden_states=features,
            txt_ids=Flux2KleinPipeline._prepare_text_ids(features).to(noisy.device),
            img_ids=Flux2KleinPipeline._prepare_latent_ids(self.begun(noisy)).to(noisy.device),
            return_dict=False,
        )[0]
        return self.unpacked(predicted, height, width)

    def call(self, guidance_scale: float, negative_prompt: str | None) -> dict[str, Any]:
        if negative_prompt:
            raise SettingsError(
                f"negative_prompt = {negative_prompt!r}: diffusers' pipeline of {self.name} is guided away "
                "from the empty prompt alone; leave it out"
            )
        return {"guidance_scale": guidance_scale}


def _spread(vae: AutoencoderKLFlux2) -> tuple[torch.Tensor, torch.Tensor]:
    """Mean and deviation of every number of a patch, (4 C, 1, 1)."""
    variance = vae.bn.running_var[:, None, None] + vae.config.batch_norm_eps
    return vae.bn.running_mean[:, None, None], variance.sqrt()

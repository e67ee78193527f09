"""Sana (arXiv 2410.10629): linear attention over strongly compressed latents, cross-attention to Gemma under
a mask; flows, by a solver for betas.

Its pipeline asks Gemma to enhance every prompt, in hundreds of words before it. That is left out: a prompt is
read as it is written, as in learning.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedTokenizerBase

from ..conditioning import Conditioning
from .family import Family, Reads, check_fit, in_small_letters

if TYPE_CHECKING:
    from ..backbone import Backbone
    from ..source import Source


class Sana(Family):
    name = "Sana"
    pipeline = "SanaPipeline"
    parts = {
        "transformer": ("SanaTransformer2DModel",),
        "vae": ("AutoencoderDC",),
        "text_encoder": ("Gemma2Model",),
        "tokenizer": ("GemmaTokenizer", "GemmaTokenizerFast"),
        "scheduler": (),
    }
    readers = (Reads(length=300),)
    encoded = ("features", "mask", "-features", "-mask")
    flow = True
    noise_dtype = torch.float32
    dtype = torch.bfloat16  # 3 to 7 B weights, published in bfloat16
    defaults = {
        "learn": {"steps": 500, "batch": 1},
        "generate": {"steps": 20, "guidance_scale": 4.5, "batch": 1},
    }
    defaults_from = (
        "diffusers' examples/dreambooth/README_sana.md (adapters at 1e-4, 500 steps at 1024 px, there "
        "of 4 accumulated photos); sampling of SanaPipeline. Untuned: nobody here could run it"
    )

    def check(self, source: Source) -> None:
        transformer, vae = source.settings_of("transformer"), source.settings_of("vae")
        width = source.settings_of("text_encoder").get("hidden_size", 2304)
        told = {
            "channels": (transformer.get("in_channels", 32), vae.get("latent_channels", 32)),
            "numbers a token": (transformer.get("caption_channels", 2304), width),
        }
        check_fit(source, told, "they are of different models")

    def settle(self, parts: dict[str, Any]) -> str:
        parts["tokenizer"].padding_side = "right"  # as its pipeline has it
        return ""

    def factor(self, backbone: Backbone) -> int:
        return 2 ** (len(backbone.vae.config.encoder_block_out_channels) - 1)

    def grain(self, backbone: Backbone) -> int:
        return 32  # whatever the model: its pipeline refuses all else

    def worded(self, prompt: str, tokenizer: PreTrainedTokenizerBase) -> tuple[str, int]:
        return in_small_letters(prompt)

    def predict(
        self, backbone: Backbone, noisy: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        """Of a picture and its variance, which it may tell beside it, the first."""
        denoiser = backbone.denoiser
        predicted = denoiser(
            noisy,
            encoder_hidden_states=conditioning.features,
            encoder_attention_mask=conditioning.mask,
            timestep=timesteps.expand(len(noisy)) * denoiser.config.timestep_scale,
            return_dict=False,
        )[0]
        return predicted[:, : noisy.shape[1]]

    def call(self, guidance_scale: float, negative_prompt: str | None) -> dict[str, Any]:
        """Sizes are kept as asked for, not moved to those of a list."""
        kept = {"use_resolution_binning": False, "complex_human_instruction": None}
        return super().call(guidance_scale, negative_prompt or "") | kept

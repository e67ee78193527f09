"""PixArt-α (arXiv 2310.00426) and PixArt-Σ (arXiv 2403.04692): a transformer that reads T5 in its
cross-attention, padding masked.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from transformers import PreTrainedTokenizerBase

from ...errors import BaseModelError
from ..conditioning import Conditioning
from .family import Family, Reads, in_small_letters

if TYPE_CHECKING:
    from ..backbone import Backbone
    from ..source import Source


class PixArtAlpha(Family):
    name = "PixArt-α"
    pipeline = "PixArtAlphaPipeline"
    parts = {
        "transformer": ("PixArtTransformer2DModel", "Transformer2DModel"),
        "vae": ("AutoencoderKL",),
        "text_encoder": ("T5EncoderModel",),
        "tokenizer": ("T5Tokenizer", "T5TokenizerFast"),
        "scheduler": (),
    }
    readers = (Reads(length=120),)
    encoded = ("features", "mask", "-features", "-mask")
    #: Its pipeline takes a single step for a distilled model's and looks for what other samplers do not give.
    fewest_steps = 2
    defaults = {
        "learn": {"steps": 500, "batch": 1, "learning_rate": 5e-6},
        "generate": {"steps": 20, "guidance_scale": 4.5, "batch": 1},
    }
    defaults_from = (
        "PixArt-alpha's PixArt_xl2_img1024_dreambooth.py (weights at 5e-6, one photo a step) and "
        "OneTrainer's preset of a LoRA for PixArt-Sigma (1e-5); as many steps as other families take; "
        "sampling of PixArtAlphaPipeline. Untuned: nobody here could run it"
    )

    def part_class(self, part: str, named: str) -> type:
        # the published folders are older than the class of their own
        return super().part_class(part, "PixArtTransformer2DModel" if part == "transformer" else named)

    def check(self, source: Source) -> None:
        transformer, width = (
            source.settings_of("transformer"),
            source.settings_of("text_encoder").get("d_model", 512),
        )
        if width != (wanted := transformer.get("caption_channels")):
            raise BaseModelError(
                f"{source.said}: its text encoder gives {width} numbers a token, its denoiser reads "
                f"{wanted}; they are of different models"
            )
        channels, latents = (
            transformer.get("in_channels", 4),
            source.settings_of("vae").get("latent_channels", 4),
        )
        if channels != latents:
            raise BaseModelError(
                f"{source.said}: its denoiser takes {channels} channels, its autoencoder gives {latents}; "
                "they are of different models"
            )

    def worded(self, prompt: str, tokenizer: PreTrainedTokenizerBase) -> tuple[str, int]:
        return in_small_letters(prompt)

    def predict(
        self, backbone: Backbone, noisy: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        """Of a picture and its variance, which it may tell beside it, the first. Models for 1024 px are told
        the picture's size.
        """
        denoiser, (height, width) = backbone.denoiser, (cells * backbone.factor for cells in noisy.shape[-2:])
        told: dict[str, torch.Tensor | None] = {"resolution": None, "aspect_ratio": None}
        if denoiser.use_additional_conditions:
            sizes = {"resolution": [height, width], "aspect_ratio": [height / width]}
            told = {name: noisy.new_tensor(size).repeat(len(noisy), 1) for name, size in sizes.items()}
        predicted = denoiser(
            noisy,
            conditioning.features,
            timesteps.expand(len(noisy)),
            encoder_attention_mask=conditioning.mask,
            added_cond_kwargs=told,
            return_dict=False,
        )[0]
        return predicted[:, : noisy.shape[1]]

    def call(self, guidance_scale: float, negative_prompt: str | None) -> dict[str, Any]:
        """Sizes are kept as asked for, not moved to those of a list; prompts are not cleaned of what looks
        like markup, as tokens do.
        """
        kept = {"use_resolution_binning": False, "clean_caption": False}
        return {"guidance_scale": guidance_scale, "negative_prompt": negative_prompt or "", **kept}


class PixArtSigma(PixArtAlpha):
    name = "PixArt-Σ"
    pipeline = "PixArtSigmaPipeline"
    readers = (Reads(length=300),)
    fewest_steps = 1

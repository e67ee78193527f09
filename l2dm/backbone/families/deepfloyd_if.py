"""DeepFloyd IF, stage I (DeepFloyd, 2023; after Imagen, arXiv 2205.11487): a UNet over pixels in whose
attention T5's tokens stand beside the picture.

Its further stages only enlarge what this one draws.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

import torch
from diffusers import IFPipeline
from transformers import PreTrainedTokenizerBase

from ...errors import BaseModelError
from ..conditioning import Conditioning
from .family import Family, Reads, check_fit, in_small_letters
from .sd import settle_size

if TYPE_CHECKING:
    from ..backbone import Backbone
    from ..source import Source


class _FromNoise(IFPipeline):
    """diffusers' own pipeline, which can also be given the noise that it begins with, as others can:
    ``latents`` (B, 3, H, W).
    """

    @functools.wraps(IFPipeline.__call__)
    def __call__(self, *args: Any, latents: torch.Tensor | None = None, **kwargs: Any) -> Any:
        self.noise = latents
        return super().__call__(*args, **kwargs)

    def prepare_intermediate_images(self, *args: Any) -> torch.Tensor:
        drawn = super().prepare_intermediate_images(*args)
        return drawn if self.noise is None else self.noise.to(drawn) * self.scheduler.init_noise_sigma


class DeepFloydIF(Family):
    name = "DeepFloyd IF"
    pipeline = "IFPipeline"
    parts = {
        "unet": ("UNet2DConditionModel",),
        "text_encoder": ("T5EncoderModel",),
        "tokenizer": ("T5Tokenizer", "T5TokenizerFast"),
        "scheduler": (),
    }
    denoiser = "unet"
    readers = (Reads(length=77),)
    dtype = torch.bfloat16  # 5 to 9 B weights, published in float16
    defaults = {
        "learn": {"steps": 1200, "batch": 4, "learning_rate": 1e-5},
        "generate": {"steps": 100, "guidance_scale": 7.0, "batch": 1},
    }
    defaults_from = (
        "diffusers' guide to DreamBooth, stage I with LoRA (64 px, 1200 steps of 4 photos, adapters "
        "at 5e-6 a photo, so 2e-5); sampling of IFPipeline. Untuned: nobody here could run it"
    )

    def pipeline_class(self) -> type[IFPipeline]:
        return _FromNoise

    def check(self, source: Source) -> None:
        unet, t5 = source.settings_of("unet"), source.settings_of("text_encoder")
        if (channels := unet.get("in_channels", 4)) != 3:
            raise BaseModelError(
                f"{source.said}: its denoiser takes {channels} channels; only the first stage of "
                f"{self.name}, whose 3 are a picture's colours, "
                "can be learnt from"
            )
        told = {"numbers a token": (unet.get("encoder_hid_dim"), t5.get("d_model", 512))}
        check_fit(source, told, "they are of different models")

    def options(self, source: Source) -> dict[str, Any]:
        without = dict.fromkeys(("safety_checker", "feature_extractor", "watermarker"))
        return {**without, "requires_safety_checker": False}

    def settle(self, parts: dict[str, Any]) -> str:
        return settle_size(parts["unet"], 64)

    def factor(self, backbone: Backbone) -> int:
        return 1

    def worded(self, prompt: str, tokenizer: PreTrainedTokenizerBase) -> tuple[str, int]:
        return in_small_letters(prompt)

    def encode_pictures(self, backbone: Backbone, pixels: torch.Tensor) -> torch.Tensor:
        return pixels.to(backbone.device)

    def decode_latents(self, backbone: Backbone, latents: torch.Tensor) -> torch.Tensor:
        return latents

    def predict(
        self, backbone: Backbone, noisy: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        """Of noise and variance the first."""
        return super().predict(backbone, noisy, timesteps, conditioning)[:, : noisy.shape[1]]

    def call(self, guidance_scale: float, negative_prompt: str | None) -> dict[str, Any]:
        """Prompts are not cleaned of what looks like markup, as tokens do."""
        return super().call(guidance_scale, negative_prompt) | {"clean_caption": False}

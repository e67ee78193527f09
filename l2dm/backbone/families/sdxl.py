"""Stable Diffusion XL (arXiv 2307.01952): a UNet that reads two CLIPs side by side, and beside the time the
second's pooled text and six sizes.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ...errors import BaseModelError
from ..conditioning import Conditioning
from .family import Family, Reads
from .sd import check_channels, check_width, settle_size

if TYPE_CHECKING:
    from ..backbone import Backbone
    from ..source import Source

#: Cells of a latent's side where a base does not tell: 1024 pixels.
USUAL_CELLS = 128
#: Numbers that the UNet reads beside the time: height and width of the original, of what was cropped from its
#: top and left, of the target.
SIZES = 6


class StableDiffusionXL(Family):
    name = "Stable Diffusion XL"
    pipeline = "StableDiffusionXLPipeline"
    parts = {
        "unet": ("UNet2DConditionModel",),
        "vae": ("AutoencoderKL", "AutoencoderTiny"),
        "text_encoder": ("CLIPTextModel",),
        "text_encoder_2": ("CLIPTextModelWithProjection",),
        "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
        "tokenizer_2": ("CLIPTokenizer", "CLIPTokenizerFast"),
        "scheduler": (),
    }
    denoiser = "unet"
    lora_names, embedding_keys = "sgm", ("clip_l", "clip_g")
    base_version = "sdxl_base_v1-0", "stable-diffusion-xl-v1-base"
    readers = (Reads(), Reads("text_encoder_2", "tokenizer_2"))
    dtype = torch.bfloat16  # 3.5 B weights, published in float16
    encoded = ("features", "-features", "pooled", "-pooled")
    defaults = {
        "learn": {"steps": 500, "batch": 1},
        "generate": {"steps": 30, "guidance_scale": 5.0, "batch": 1},
    }
    defaults_from = (
        "diffusers' examples/dreambooth/README_sdxl.md (adapters at 1e-4, 500 steps at 1024 px, there "
        "of 4 accumulated photos); guidance of StableDiffusionXLPipeline, sampling steps between that "
        "page's 25 and the pipeline's 50. Untuned: nobody here could run it"
    )

    def check(self, source: Source) -> None:
        unet = source.settings_of("unet")
        if unet.get("addition_embed_type") != "text_time":
            raise BaseModelError(
                f"{source.said}: its denoiser has addition_embed_type {unet.get('addition_embed_type')}, "
                f"that of {self.name} text_time"
            )
        widths = [source.settings_of(reader.encoder).get("hidden_size", 512) for reader in self.readers]
        pooled = source.settings_of("text_encoder_2").get("projection_dim", 512)
        read, time = (
            unet.get("projection_class_embeddings_input_dim"),
            unet.get("addition_time_embed_dim") or 256,
        )
        check_channels(source)
        check_width(source, sum(widths))
        if read != (given := pooled + SIZES * time):
            raise BaseModelError(
                f"{source.said}: {given} numbers are there beside the time, its denoiser reads {read}; a "
                "refiner, whose sizes are other "
                "ones, cannot be learnt from: give the base that it refines"
            )

    def options(self, source: Source) -> dict[str, Any]:
        return {"force_zeros_for_empty_prompt": source.index.get("force_zeros_for_empty_prompt", True)}

    def settle(self, parts: dict[str, Any]) -> str:
        return settle_size(parts["unet"], USUAL_CELLS)

    def encode(self, backbone: Backbone, prompts: list[str]) -> Conditioning:
        """The last layer but one of both, side by side."""
        read = [
            reader.encoder(reader.tokenize(prompts), output_hidden_states=True) for reader in backbone.readers
        ]
        return Conditioning(torch.cat([one.hidden_states[-2] for one in read], -1), pooled=read[1][0])

    def predict(
        self, backbone: Backbone, noisy: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        """Pictures are told to be whole, and as large as the originals."""
        height, width = (cells * backbone.factor for cells in noisy.shape[-2:])
        sizes = conditioning.pooled.new_tensor([height, width, 0, 0, height, width]).expand(len(noisy), SIZES)
        added = {"text_embeds": conditioning.pooled, "time_ids": sizes}
        return backbone.denoiser(
            noisy, timesteps, conditioning.features, added_cond_kwargs=added, return_dict=False
        )[0]

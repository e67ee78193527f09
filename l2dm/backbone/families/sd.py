"""Stable Diffusion 1.x and 2.x (arXiv 2112.10752): a UNet that reads one CLIP in its cross-attention."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch

from ...errors import BaseModelError
from ..conditioning import Conditioning
from .family import Family

if TYPE_CHECKING:
    from ..backbone import Backbone
    from ..source import Source

#: The denoiser's settings that ask for inputs other than latents, time and text.
EXTRA_INPUTS = ("class_embed_type", "num_class_embeds", "addition_embed_type", "encoder_hid_dim_type")
#: Cells of a latent's side where a base does not tell: 512 pixels, as Stable Diffusion 1.x was trained.
USUAL_CELLS = 64
#: Width of the text encoder -> the CLIP pair that it is of: 1.x, 2.x.
CLIPS = {768: "openai/clip-vit-large-patch14", 1024: "laion/CLIP-ViT-H-14-laion2B-s32B-b79K"}


class StableDiffusion(Family):
    name = "Stable Diffusion 1.x/2.x"
    pipeline = "StableDiffusionPipeline"
    parts = {
        "unet": ("UNet2DConditionModel",),
        "vae": ("AutoencoderKL", "AutoencoderTiny"),
        "text_encoder": ("CLIPTextModel", "CLIPTextModelWithProjection"),
        "tokenizer": ("CLIPTokenizer", "CLIPTokenizerFast"),
        "scheduler": (),
    }
    denoiser = "unet"
    lora_names = "kohya"
    defaults_from = (
        "l2dm's own; the rate of adapters (1e-4) and how many photos are seen (500) are those of "
        "diffusers' examples/dreambooth/train_dreambooth_lora.py as its README runs it. Untuned on "
        "published weights: nobody here could run them"
    )

    def part_class(self, part: str, named: str) -> type:
        return super().part_class(part, "CLIPTextModel" if part == "text_encoder" else named)

    def base_version_of(self, source: Source) -> tuple[str, str]:
        """Of the published models, which are told apart by the width of their text encoder and by what they
        predict.
        """
        velocity = source.settings_of("scheduler").get("prediction_type") == "v_prediction"
        second = (
            ("sd_v2_v", "stable-diffusion-v2-768-v") if velocity else ("sd_v2", "stable-diffusion-v2-512")
        )
        known = {768: ("sd_v1", "stable-diffusion-v1"), 1024: second}
        return known.get(source.settings_of("text_encoder").get("hidden_size", 512), ("", ""))

    def clip_of(self, source: Source) -> str:
        return CLIPS.get(source.settings_of("text_encoder").get("hidden_size", 512), "")

    def check(self, source: Source) -> None:
        unet, text = source.settings_of("unet"), source.settings_of("text_encoder")
        if asked := [name for name in EXTRA_INPUTS if unet.get(name) not in (None, "text")]:
            raise BaseModelError(
                f"{source.said}: its denoiser asks for more than text ({asked[0]}), so it is no {self.name}"
            )
        check_channels(source)
        check_width(source, text.get("hidden_size", 512))

    def options(self, source: Source) -> dict[str, Any]:
        return {"safety_checker": None, "feature_extractor": None, "requires_safety_checker": False}

    def encode(self, backbone: Backbone, prompts: list[str]) -> Conditioning:
        (reader,) = backbone.readers
        return Conditioning(reader.encoder(reader.tokenize(prompts))[0])

    def settle(self, parts: dict[str, Any]) -> str:
        return settle_size(parts["unet"], USUAL_CELLS)


def check_channels(source: Source) -> None:
    """Raises BaseModelError unless the UNet denoises what the autoencoder gives."""
    channels = source.settings_of("unet").get("in_channels", 4)
    latents = source.settings_of("vae").get("latent_channels", 4)
    if channels != latents:
        kind = ", as inpainting models have" if channels == 9 else ""
        raise BaseModelError(
            f"{source.said}: its denoiser takes {channels} channels{kind}, its autoencoder gives {latents}; "
            "l2dm needs the same "
            "number: give the text-to-image model that it was made from"
        )


def check_width(source: Source, width: int) -> None:
    """Raises BaseModelError unless the UNet reads features of ``width`` numbers a token."""
    wanted = source.settings_of("unet").get("cross_attention_dim", 1280)
    if width != wanted:
        raise BaseModelError(
            f"{source.said}: its text encoder gives {width} numbers a token, its denoiser reads {wanted}; "
            "they are of different models"
        )


def settle_size(unet: torch.nn.Module, usual: int) -> str:
    """One number of cells where the UNet's settings have two or none, and what is to be said of it."""
    size = unet.config.sample_size
    if isinstance(size, int):
        return ""
    cells = min(size) if size else usual
    unet.register_to_config(sample_size=cells)
    return f"sample_size {size} read as {cells}"

"""A Stable Diffusion 1.x/2.x pipeline taken apart into what learning and drawing need, loaded from a folder or hub id."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    DPMSolverMultistepScheduler,
    SchedulerMixin,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)  # fmt: skip
from PIL import Image
from transformers import CLIPTextModel, CLIPTokenizer

from ..errors import BaseModelError
from .conditioning import Conditioning
from .drawing import telling
from .features import OWN, ImageFeatures, find_clip
from .fingerprint import fingerprint
from .loading import load
from .process import Process, process_of
from .sites import grain, text_width
from .source import MINI, Source, find_base
from .tokens import PersonalTokens


@dataclass
class Backbone:
    """A pretrained latent diffusion model: tokenizer, text encoder, autoencoder, denoiser, sampler.

    Weights are frozen; tuners unfreeze what they tune. ``tokens`` holds the personal tokens' vectors. ``conditioning`` is what
    the denoiser reads while it runs.
    """

    source: Source
    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    vae: torch.nn.Module
    unet: UNet2DConditionModel
    scheduler: SchedulerMixin
    notes: tuple[str, ...] = ()
    clip: Path | None = None
    conditioning: Conditioning | None = field(default=None, init=False, repr=False, compare=False)

    # ---------------------------------------------------------------- loading

    @classmethod
    def load(
        cls, base: str | Path | Source = MINI, device: str | torch.device | None = None, clip: str = OWN
    ) -> Backbone:
        """Load the shipped base (``"mini"``), a diffusers folder, a ``.safetensors`` checkpoint, or a hub id of a Stable Diffusion
        1.x/2.x model, or what ``find_base`` found. ``clip``: the pair that ``features`` are of, as ``find_clip`` has it; it is not downloaded.

        Raises BaseModelError when it is missing, incomplete, or of another kind.
        """
        source = find_base(base)
        parts = load(source)
        backbone = cls(source, **vars(parts), clip=find_clip(clip, source, download=False))
        for part in (backbone.text_encoder, backbone.vae, backbone.unet):
            part.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval().requires_grad_(False)
        backbone.text_encoder.set_input_embeddings(
            PersonalTokens(backbone.text_encoder.get_input_embeddings())
        )
        return backbone

    @staticmethod
    def own_defaults(base: str | Path | Source) -> dict[str, Any]:
        """The settings that a base brings along in ``l2dm.json``, by kind; empty when it brings none."""
        return find_base(base).defaults

    @staticmethod
    def fingerprint_of(base: str | Path | Source) -> str:
        """Identifies a base: a hash of all that loading reads; see ``fingerprint``."""
        return fingerprint(find_base(base))

    @property
    def name(self) -> str:
        return self.source.name

    @property
    def folder(self) -> Path:
        return self.source.folder

    @cached_property
    def defaults(self) -> dict[str, Any]:
        return self.source.defaults

    @cached_property
    def fingerprint(self) -> str:
        return fingerprint(self.source)

    @cached_property
    def features(self) -> ImageFeatures | None:
        """The CLIP pair that pictures are remembered and compared by, if there is one."""
        return ImageFeatures(self.clip, self.device) if self.clip else None

    # ---------------------------------------------------------------- facts

    @property
    def denoiser(self) -> torch.nn.Module:
        return self.unet

    @property
    def device(self) -> torch.device:
        return next(self.unet.parameters()).device  # diffusers' own property looks through all of them

    @property
    def factor(self) -> int:
        """Pixels per latent cell."""
        return 2 ** (len(self.vae.config.block_out_channels) - 1)

    @property
    def side(self) -> int:
        """The side of a picture in pixels, as the base was trained."""
        return self.unet.config.sample_size * self.factor

    @property
    def grain(self) -> int:
        """Pixels: the sides of pictures have to be multiples of it."""
        return self.factor * grain(self.unet)

    @property
    def channels(self) -> int:
        """Numbers in a latent cell."""
        return self.unet.config.in_channels

    @property
    def text_width(self) -> int:
        """Numbers in the features of one token, as the denoiser reads them."""
        return text_width(self.unet)

    @property
    def text_length(self) -> int:
        """Tokens of which the denoiser reads features, whatever the prompt."""
        return self.longest_prompt + 2

    @property
    def dtype(self) -> torch.dtype:
        """Of the denoiser's weights."""
        return next(self.unet.parameters()).dtype

    @property
    def tokens(self) -> PersonalTokens:
        return self.text_encoder.get_input_embeddings()

    @property
    def longest_prompt(self) -> int:
        """Tokens that a prompt may have, start and end left out."""
        return min(self.tokenizer.model_max_length, self.text_encoder.config.max_position_embeddings) - 2

    # ---------------------------------------------------------------- tokens and text

    def add_token(self, token: str, vector: torch.Tensor) -> torch.nn.Parameter:
        """Teach the tokenizer ``token`` and give it ``vector``, shape ``(width,)``; returns the (frozen) parameter."""
        if self.tokenizer.add_tokens([token]) != 1:
            raise BaseModelError(f"token {token!r} is already known to the tokenizer")
        parameter = self.tokens.add(vector)
        expected = self.tokens.base.num_embeddings + len(self.tokens.vectors) - 1
        if self.tokenizer.convert_tokens_to_ids(token) != expected:
            raise BaseModelError(
                f"token {token!r}: the tokenizer numbers its new tokens in an unexpected way"
            )
        return parameter

    def word_vector(self, words: str) -> torch.Tensor:
        """Mean embedding of ``words``: where a new token starts."""
        ids = self.tokenizer(words, add_special_tokens=False, return_tensors="pt").input_ids.to(self.device)
        return self.tokens(ids)[0].mean(0).detach()

    def count_tokens(self, prompt: str) -> int:
        return len(self.tokenizer(prompt, add_special_tokens=False, truncation=False).input_ids)

    def encode_text(self, prompts: list[str]) -> torch.Tensor:
        """(B, length, width) text features; each distinct prompt goes through the encoder once."""
        distinct = list(dict.fromkeys(prompts))
        read = self.text_encoder(self.tokenize(distinct))[0]
        return read[[distinct.index(p) for p in prompts]]

    def tokenize(self, prompts: list[str]) -> torch.Tensor:
        """(B, length) token ids, padded or cut to the length that the denoiser reads."""
        padded = {"padding": "max_length", "max_length": self.text_length, "truncation": True}
        return self.tokenizer(prompts, return_tensors="pt", **padded).input_ids.to(self.device)

    def read(self, prompts: list[str]) -> Conditioning:
        """What the denoiser reads for ``prompts``."""
        return self.conditioned(self.encode_text(prompts), prompts)

    def conditioned(self, features: torch.Tensor, prompts: list[str]) -> Conditioning:
        """``features`` (B, length, width) of ``prompts``, of each as many in a row as B has for it, with their words and concepts."""
        ids = self.tokenize(prompts).repeat_interleave(len(features) // len(prompts), 0)
        first, count = self.tokens.base.num_embeddings, len(self.tokens.vectors)
        personal = torch.arange(first, first + count, device=ids.device)
        return Conditioning(features, ids, (ids[..., None] == personal).any(1))

    @contextmanager
    def reading(self, conditioning: Conditioning | None) -> Iterator[None]:
        """Within the block the denoiser reads ``conditioning``: adapters that act by the prompt ask it where they act."""
        outer, self.conditioning = self.conditioning, conditioning
        try:
            yield
        finally:
            self.conditioning = outer

    # ---------------------------------------------------------------- pictures and latents

    @torch.no_grad()
    def encode_pictures(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1] -> scaled latents (B, C, H/f, W/f); the posterior's mode where there is one."""
        encoded = self.vae.encode(pixels.to(self.device, self.vae.dtype))
        latents = encoded.latent_dist.mode() if isinstance(self.vae, AutoencoderKL) else encoded.latents
        return (latents * self.vae.config.scaling_factor).float()

    @torch.no_grad()
    def decode_latents(self, latents: torch.Tensor) -> list[Image.Image]:
        """Scaled latents -> pictures."""
        pixels = self.vae.decode(latents.to(self.vae.dtype) / self.vae.config.scaling_factor).sample
        arrays = (
            ((pixels / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8).permute(0, 2, 3, 1).cpu().numpy()
        )
        return [Image.fromarray(a) for a in arrays]

    # ---------------------------------------------------------------- diffusion

    @cached_property
    def process(self) -> Process:
        """The forward process that the base was trained on."""
        return process_of(self.scheduler)

    def predict(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning | torch.Tensor
    ) -> torch.Tensor:
        """(B, C, h, w). What is asked for (see ``process``), for ``noisy`` (B, C, h, w); ``timesteps`` (B,)."""
        conditioning = Conditioning.of(conditioning)
        with self.reading(conditioning):
            return self.unet(noisy, timesteps, conditioning.features, return_dict=False)[0]

    @torch.no_grad()
    def draw_latents(
        self, prompts: list[str], steps: int, guidance_scale: float, seed: int = 0, batch: int = 8,
        on_batch: Callable[[int], None] = lambda done: None,
    ) -> torch.Tensor:  # fmt: skip
        """Scaled latents (B, C, h, w), one for each prompt, from seeds in a row; never decoded."""
        pipe, drawn = self.pipeline(), []
        for first in range(0, len(prompts), batch):
            part = prompts[first : first + batch]
            generators = [torch.Generator().manual_seed(seed + first + i) for i in range(len(part))]
            drawn.append(
                pipe(
                    part,
                    num_inference_steps=steps,
                    guidance_scale=guidance_scale,
                    generator=generators,
                    output_type="latent",
                ).images
            )
            on_batch(first + len(part))
        return torch.cat(drawn).float()

    def pipeline(
        self, sampler: str = "base", from_pictures: bool = False
    ) -> StableDiffusionPipeline | StableDiffusionImg2ImgPipeline:
        """diffusers' own pipeline over these very parts, with a fresh sampler: the base's own, or "dpm-solver" with its betas.

        ``from_pictures``: the one that begins from pictures (or their latents) with noise added."""
        changes = {"base": {}, "dpm-solver": {"algorithm_type": "dpmsolver++", "solver_order": 2}}[sampler]
        kind = DPMSolverMultistepScheduler if changes else type(self.scheduler)
        whole = StableDiffusionImg2ImgPipeline if from_pictures else StableDiffusionPipeline
        pipe = telling(whole, self)(
            vae=self.vae, text_encoder=self.text_encoder, tokenizer=self.tokenizer, unet=self.unet,
            scheduler=kind.from_config(self.scheduler.config, **changes), safety_checker=None, feature_extractor=None,
            requires_safety_checker=False,
        )  # fmt: skip
        pipe.set_progress_bar_config(disable=True)
        return pipe

"""A pipeline of any of the families, taken apart into what learning and drawing need."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from diffusers import DiffusionPipeline, DPMSolverMultistepScheduler, SchedulerMixin
from PIL import Image

from ..errors import SettingsError, out_of_memory
from .aside import Aside
from .conditioning import Conditioning
from .devices import find_device
from .drawing import telling
from .families import Family, pictures
from .features import OWN, ImageFeatures, find_clip
from .fingerprint import fingerprint
from .loading import load
from .precision import cast, held_dtype, is_large
from .process import Process
from .sites import text_width
from .source import MINI, Source, find_base
from .text import Text
from .tokens import PersonalTokens


@dataclass
class Backbone(Text):
    """A pretrained diffusion model of ``family``: denoiser, text encoders with tokenizers, autoencoder,
    sampler.

    ``parts`` go by their names in ``model_index.json``, and are attributes too: ``backbone.vae``. Weights are
    frozen, in ``dtype`` on ``device``; tuners unfreeze what they tune. ``tokens`` holds the personal tokens'
    vectors. ``changes`` are made to what was read, wherever it is. ``conditioning`` is what the denoiser
    reads while it runs.
    """

    source: Source
    parts: dict[str, Any]
    scheduler: SchedulerMixin
    notes: tuple[str, ...] = ()
    clip: Path | None = None
    dtype: torch.dtype = torch.float32
    device: torch.device = torch.device("cpu")  # noqa: RUF009
    offload: bool = False
    changes: list[Callable[[Conditioning], Conditioning]] = field(default_factory=list, repr=False)
    conditioning: Conditioning | None = field(default=None, init=False, repr=False, compare=False)

    def __getattr__(self, name: str) -> Any:
        parts = self.__dict__.get("parts", {})
        return parts[name] if name in parts else object.__getattribute__(self, name)  # or its own error

    # ---------------------------------------------------------------- loading

    @classmethod
    def load(
        cls,
        base: str | Path | Source = MINI,
        device: str | torch.device = "auto",
        clip: str = OWN,
        precision: str = "auto",
        offload: bool = False,
    ) -> Backbone:
        """Load the shipped base (``"mini"``), a diffusers folder, a ``.safetensors`` checkpoint or a hub id
        of a model of any of the families, or what ``find_base`` found. ``clip``: the pair that ``features``
        are of, as ``find_clip`` has it; it is not downloaded. ``device``: see ``find_device``; on "meta" no
        weights are read; ``precision``: of the frozen weights, see ``held_dtype``. ``offload``: to draw
        alone, with all weights in main memory but those of the part that works; see diffusers'
        ``enable_model_cpu_offload``.

        Raises BaseModelError when it is missing, incomplete, or of another kind, SettingsError where there is
        no such device.
        """
        source = find_base(base)
        device = find_device(device)
        if offload and device.type == "cpu":
            raise SettingsError(
                "offload = true spares an accelerator's memory, and device = cpu has its parts in main "
                "memory anyway: leave it out"
            )
        dtype = held_dtype(source, device, precision)
        way_out = "choose precision = bfloat16, a smaller base or a device with more memory"
        with out_of_memory(f"{source.said}: loading it", way_out):
            parts, notes = load(source, dtype, weights=device.type != "meta")
            clip_folder = find_clip(clip, source, download=False)
            backbone = cls(source, parts, parts.pop("scheduler"), notes, clip_folder, dtype, device, offload)
            if is_large(source) and hasattr(parts.get("vae"), "enable_slicing"):
                parts["vae"].enable_slicing()  # of one picture after another
            for name in backbone.family.networks:
                parts[name].to("cpu" if offload else device).eval().requires_grad_(False)
        vectors, first = torch.nn.ParameterList(), 0
        for reader in backbone.readers:
            tokens = PersonalTokens(reader.encoder.get_input_embeddings(), vectors, first)
            reader.encoder.set_input_embeddings(tokens)
            first += tokens.width
        return backbone

    @staticmethod
    def own_defaults(base: str | Path | Source) -> dict[str, Any]:
        """As ``Source.defaults``."""
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

    def seen(self, images: Sequence[Image.Image]) -> torch.Tensor:
        """(images, d) unit features of pictures by that pair; asked only where there is one."""
        assert self.features is not None
        return self.features.images(list(images))

    def release_features(self) -> None:
        """Free the memory of a large base's CLIP pair, perhaps as much as its own; asked, it is
        loaded again.
        """
        if is_large(self.source):
            vars(self).pop("features", None)

    def hold_in(self, dtype: torch.dtype) -> None:
        """All weights in ``dtype`` from now on. Those that are changed themselves need float32: small steps
        would come to nothing in half. Raises SettingsError where a denoiser is quantized.
        """
        held_dtype(self.source, self.device, str(dtype).removeprefix("torch."))
        for name in self.family.networks:
            cast(self.parts[name], dtype)
        self.dtype = dtype

    @cached_property
    def aside(self) -> Aside:
        """Which parts are out of memory for a while; see there."""
        return Aside(self)

    # ---------------------------------------------------------------- facts

    @cached_property
    def family(self) -> Family:
        return self.source.family

    @property
    def denoiser(self) -> torch.nn.Module:
        return self.parts[self.family.denoiser]

    @denoiser.setter
    def denoiser(self, other: torch.nn.Module) -> None:
        self.parts[self.family.denoiser] = other

    @property
    def factor(self) -> int:
        """Pixels per latent cell."""
        return self.family.factor(self)

    @property
    def side(self) -> int:
        """The side of a picture in pixels, as the base was trained."""
        return self.family.side(self)

    @property
    def grain(self) -> int:
        """Pixels: the sides of pictures have to be multiples of it."""
        return self.family.grain(self)

    @property
    def channels(self) -> int:
        """Numbers in a latent cell."""
        return self.family.channels(self)

    @property
    def text_width(self) -> int:
        """Numbers in the features of one token, as the denoiser reads them."""
        return text_width(self.denoiser)

    # ---------------------------------------------------------------- pictures and latents

    @torch.no_grad()
    def encode_pictures(self, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1] -> scaled latents (B, C, H/f, W/f); the posterior's mode if there
        is one.
        """
        return self.family.encode_pictures(self, pixels)

    @torch.no_grad()
    def decode_latents(self, latents: torch.Tensor) -> list[Image.Image]:
        """Scaled latents -> pictures."""
        return pictures(self.family.decode_latents(self, latents))

    # ---------------------------------------------------------------- diffusion

    @cached_property
    def process(self) -> Process:
        """The forward process that the base was trained on."""
        return self.family.process(self)

    def predict(
        self, noisy: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning | torch.Tensor
    ) -> torch.Tensor:
        """(B, C, h, w). What is asked for (see ``process``), for ``noisy`` (B, C, h, w);
        ``timesteps`` (B,).
        """
        conditioning = Conditioning.of(conditioning)
        with self.reading(conditioning):
            return self.family.predict(self, noisy.to(self.dtype), timesteps, conditioning)

    @torch.no_grad()
    def draw_latents(
        self,
        prompts: list[str],
        steps: int,
        guidance_scale: float,
        seed: int = 0,
        batch: int = 8,
        on_batch: Callable[[int], None] = lambda done: None,
    ) -> torch.Tensor:
        """Scaled latents (B, C, h, w), one for each prompt, from seeds in a row; never decoded."""
        pipe, drawn, cells = self.pipeline(), [], self.side // self.factor
        last: dict[str, torch.Tensor] = {}

        def keep(pipe: DiffusionPipeline, index: int, timestep: torch.Tensor, tensors: dict) -> dict:
            last.update(tensors)
            return tensors

        for first in range(0, len(prompts), batch):
            part = prompts[first : first + batch]
            generators = [torch.Generator().manual_seed(seed + first + i) for i in range(len(part))]
            given = {"num_inference_steps": steps, "generator": generators}
            given |= {"height": self.side, "width": self.side, **self.family.call(guidance_scale, None)}
            pipe(prompt=part, **given, output_type="latent", callback_on_step_end=keep)
            drawn.append(self.family.unpacked(last["latents"], cells, cells))
            on_batch(first + len(part))
        return torch.cat(drawn).float()

    @cached_property
    def plain(self) -> DiffusionPipeline:
        """diffusers' own pipeline over these very parts, and nothing more."""
        return self.family.pipeline_class()(
            **self.parts, scheduler=self.scheduler, **self.family.options(self.source)
        )

    def pipeline(self, sampler: str = "base") -> DiffusionPipeline:
        """diffusers' own pipeline over these very parts, with a fresh sampler: the base's own, or
        "dpm-solver" with its betas.
        """
        if sampler != "base" and self.family.flow:
            raise SettingsError(
                f"sampler = {sampler}: it goes by betas, and {self.family.name} has flows; leave it out, for "
                "the sampler of the base"
            )
        changes = {"base": {}, "dpm-solver": {"algorithm_type": "dpmsolver++", "solver_order": 2}}[sampler]
        kind = DPMSolverMultistepScheduler if changes else type(self.scheduler)
        pipe = telling(self.family.pipeline_class(), self)(
            **self.parts,
            scheduler=kind.from_config(self.scheduler.config, **changes),
            **self.family.options(self.source),
        )
        pipe.set_progress_bar_config(disable=True)
        if self.offload:
            pipe.enable_model_cpu_offload(device=self.device)
        return pipe

"""What a family of models gives: a subclass of ``Family``, in a file of its own."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from dataclasses import fields
from itertools import takewhile
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

import diffusers
import torch
import transformers
from diffusers import DiffusionPipeline, SchedulerMixin
from PIL import Image
from transformers import PreTrainedTokenizerBase

from ...errors import BaseModelError
from ..conditioning import Conditioning
from ..precision import upcast
from ..process import Process, dynamic_mu, process_of
from ..samplers import noise_of
from ..sites import grain

if TYPE_CHECKING:
    from ..backbone import Backbone
    from ..source import Source


class Reads(NamedTuple):
    """A text encoder of a family, by the names of its parts. ``length``: tokens that it reads of every
    prompt, padding and marks among them; 0: as many as it has positions for.
    """

    encoder: str = "text_encoder"
    tokenizer: str = "tokenizer"
    length: int = 0


class Family:
    """One family of text-to-image models that diffusers has a pipeline for; what is not given by a subclass
    is as most of them have it.

    Known by its pipeline and parts, from ``model_index.json`` alone. Of the methods that take a ``backbone``
    all may be called with any weights and tokens in place.
    """

    #: How messages name it.
    name: ClassVar[str]
    #: diffusers' pipeline that draws from text, by name.
    pipeline: ClassVar[str]
    #: Part -> the classes of it that are understood; any will do for a part with none. Classes go by name,
    #: and are imported when needed.
    parts: ClassVar[dict[str, tuple[str, ...]]]
    #: The part that denoises.
    denoiser: ClassVar[str] = "transformer"
    #: Its text encoders; a personal token has a vector in each.
    readers: ClassVar[tuple[Reads, ...]] = (Reads(),)
    #: Which readers' tokens stand in the row that the denoiser reads, in order: numbers into ``readers``.
    row: ClassVar[tuple[int, ...]] = (0,)
    #: What ``encode_prompt`` of the pipeline returns, one after another: parts of a ``Conditioning``, with
    #: "-" before those of the negative prompt; "" for anything else.
    encoded: ClassVar[tuple[str, ...]] = ("features", "-features")
    #: Whether it learns flow matching; else noise by betas.
    flow: ClassVar[bool] = False
    #: Whether its pipeline is guided away from negative prompts.
    negatives: ClassVar[bool] = True
    #: Whether negative prompts come first in its pipeline's batch, as they do in most.
    negatives_first: ClassVar[bool] = True
    #: Precision that its pipeline draws noise in; None: that of the weights.
    noise_dtype: ClassVar[torch.dtype | None] = None
    #: Steps that its pipeline has to be given at least.
    fewest_steps: ClassVar[int] = 1
    #: What its weights are published in: half precision is held in half by default, whatever a base's size
    #: (``precision.held_dtype``).
    dtype: ClassVar[torch.dtype] = torch.float32
    #: Settings by kind ("learn", "generate") that suit it better than ours; a base's own ``l2dm.json`` wins.
    defaults: ClassVar[dict[str, dict[str, Any]]] = {}
    #: Where its rate, steps and guidance are from, for people. Adapters take twice ``learning_rate``.
    defaults_from: ClassVar[str]
    #: The CLIP pair that pictures are remembered and compared by where a base brings none along.
    clip: ClassVar[str] = "openai/clip-vit-large-patch14"

    #: How LoRA files of it call its layers, such as diffusers and ComfyUI read; see ``exchange.names``.
    lora_names: ClassVar[str] = "peft"
    #: How kohya's sd-scripts call them, where that is otherwise; "" where it is the same or they have no
    #: names.
    kohya_names: ClassVar[str] = ""
    #: What embeddings' files call its encoders, in the order of ``readers``; "" where there is but one.
    embedding_keys: ClassVar[tuple[str, ...]] = ("",)
    #: What trainers' files name as the base ("ss_base_model_version") and its architecture
    #: ("modelspec.architecture"); "" where there is no such name.
    base_version: ClassVar[tuple[str, str]] = ("", "")

    # ---------------------------------------------------------------- loading

    @property
    def networks(self) -> tuple[str, ...]:
        """The parts that have weights, in the order in which a fingerprint is taken of them."""
        encoders = tuple(reader.encoder for reader in self.readers)
        return (self.denoiser, *(["vae"] if "vae" in self.parts else []), *encoders)

    def pipeline_class(self) -> type[DiffusionPipeline]:
        return class_named(self.pipeline)

    def part_class(self, part: str, named: str) -> type:
        """What loads the ``part`` that ``model_index.json`` has as a ``named``."""
        return class_named(named.removesuffix("Fast"))

    def defaults_of(self, source: Source) -> dict[str, dict[str, Any]]:
        """As ``defaults``, where they depend on the base."""
        return self.defaults

    def base_version_of(self, source: Source) -> tuple[str, str]:
        """As ``base_version``, where it depends on the base."""
        return self.base_version

    def clip_of(self, source: Source) -> str:
        """As ``clip``, where it depends on the base; "" where none is known."""
        return self.clip

    def check(self, source: Source) -> None:
        """Raises BaseModelError when the configurations are not those of a model that can be learnt from."""

    def options(self, source: Source) -> dict[str, Any]:
        """What the pipeline takes beside its parts."""
        return {}

    def settle(self, parts: dict[str, Any]) -> str:
        """Put in order what ``parts`` leave open; a note of what was read otherwise than their files have it,
        "" where nothing was.
        """
        return ""

    # ---------------------------------------------------------------- facts

    def factor(self, backbone: Backbone) -> int:
        """Pixels per latent cell."""
        return 2 ** (len(backbone.vae.config.block_out_channels) - 1)

    def side(self, backbone: Backbone) -> int:
        """The side of a picture in pixels, as the base was trained."""
        return backbone.denoiser.config.sample_size * backbone.factor

    def grain(self, backbone: Backbone) -> int:
        """Pixels: the sides of pictures have to be multiples of it."""
        return backbone.factor * grain(backbone.denoiser)

    def channels(self, backbone: Backbone) -> int:
        """Numbers in a latent cell."""
        return backbone.denoiser.config.in_channels

    def process(self, backbone: Backbone) -> Process:
        """The forward process that it was trained on; see ``process_of``."""
        return process_of(backbone.scheduler, (backbone.side // backbone.grain) ** 2)

    def set_timesteps(
        self, backbone: Backbone, scheduler: SchedulerMixin, steps: int, height: int, width: int
    ) -> None:
        """What the pipeline's call does first with its sampler; ``height`` and ``width`` of latents."""
        shift = {}
        if scheduler.config.get("use_dynamic_shifting"):
            cells = backbone.grain // backbone.factor
            shift = {"mu": dynamic_mu(scheduler.config, (height // cells) * (width // cells))}
        scheduler.set_timesteps(steps, device=backbone.device, **shift)

    # ---------------------------------------------------------------- text

    @property
    def most_tokens(self) -> int:
        """Tokens that the last of its readers reads: what pipelines call ``max_sequence_length``."""
        return self.readers[-1].length

    def worded(self, prompt: str, tokenizer: PreTrainedTokenizerBase) -> tuple[str, int]:
        """The text that the pipeline hands its ``tokenizer`` for ``prompt``, and where the prompt begins."""
        return prompt, 0

    def encode(self, backbone: Backbone, prompts: list[str]) -> Conditioning:
        """``features``, ``pooled`` and ``mask`` of ``prompts``, as the pipeline's own ``encode_prompt`` has
        them; gradients reach the token vectors.
        """
        encode = inspect.unwrap(self.pipeline_class().encode_prompt)  # some are wrapped in no_grad
        plain = {"prompt": list(prompts), "device": backbone.device, "num_images_per_prompt": 1}
        plain |= dict.fromkeys(("prompt_2", "prompt_3")) | {"do_classifier_free_guidance": False}
        plain["max_sequence_length"] = self.most_tokens
        taken = inspect.signature(encode).parameters
        output = encode(backbone.plain, **{name: value for name, value in plain.items() if name in taken})
        return self.told(output)

    def told(self, output: tuple, mark: str = "") -> Conditioning:
        """What ``encode_prompt`` returned, of the prompts or (``mark`` "-") of the negative ones."""
        named = dict(zip(self.encoded, output))
        return Conditioning(**{f.name: named.get(mark + f.name) for f in fields(Conditioning)})

    def untold(self, output: tuple, told: Conditioning, beside: Conditioning | None) -> tuple:
        """``output`` of ``encode_prompt`` with what ``told`` and, of negative prompts, ``beside``
        have now.
        """
        given = {name: getattr(told, name) for name in self.encoded if hasattr(told, name)}
        if beside is not None:
            given |= {name: getattr(beside, name[1:]) for name in self.encoded if name.startswith("-")}
        return tuple(given.get(name, value) for name, value in zip(self.encoded, output))

    # ---------------------------------------------------------------- pictures and latents

    def encode_pictures(self, backbone: Backbone, pixels: torch.Tensor) -> torch.Tensor:
        """(B, 3, H, W) in [-1, 1] -> scaled latents (B, C, H/f, W/f); the posterior's mode if there
        is one.
        """
        with upcast(backbone.vae) as vae:
            encoded = vae.encode(pixels.to(backbone.device, vae.dtype))
        latents = encoded.latent_dist.mode() if "latent_dist" in encoded else encoded[0]
        shift = getattr(vae.config, "shift_factor", None) or 0
        return ((latents - shift) * vae.config.scaling_factor).float()

    def decode_latents(self, backbone: Backbone, latents: torch.Tensor) -> torch.Tensor:
        """Scaled latents -> pixels (B, 3, H, W) in [-1, 1]."""
        with upcast(backbone.vae) as vae:
            shift = getattr(vae.config, "shift_factor", None) or 0
            return vae.decode(latents.to(vae.dtype) / vae.config.scaling_factor + shift).sample

    # ---------------------------------------------------------------- diffusion

    def predict(
        self, backbone: Backbone, noisy: torch.Tensor, timesteps: torch.Tensor, conditioning: Conditioning
    ) -> torch.Tensor:
        """(B, C, h, w). What the process asks for, of ``noisy`` (B, C, h, w); ``timesteps`` (B,) or one."""
        return backbone.denoiser(noisy, timesteps, conditioning.features, return_dict=False)[0]

    def call(self, guidance_scale: float, negative_prompt: str | None) -> dict[str, Any]:
        """How the pipeline's call is told of classifier-free guidance."""
        return {"guidance_scale": guidance_scale, "negative_prompt": negative_prompt}

    def noise(
        self, backbone: Backbone, generators: Sequence[torch.Generator], height: int, width: int
    ) -> torch.Tensor:
        """(B, C, h, w): what the pipeline draws of ``generators``, one for each picture; ``height`` and
        ``width`` of latents.
        """
        shape = (backbone.channels, height, width)
        return noise_of(shape, generators, backbone.device, self.noise_dtype or backbone.dtype)

    def begun(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents (B, C, h, w) as the pipeline's call is given them to begin with."""
        return self.packed(latents)

    def packed(self, latents: torch.Tensor) -> torch.Tensor:
        """Latents (B, C, h, w) as the pipeline holds them between its steps."""
        return latents

    def unpacked(self, latents: torch.Tensor, height: int, width: int) -> torch.Tensor:
        """(B, C, h, w) of what the pipeline holds; ``height`` and ``width`` of latents."""
        return latents


def in_small_letters(prompt: str) -> tuple[str, int]:
    """``prompt`` as pipelines of T5 clean it, and where in that it begins."""
    text = prompt.lower()
    return text.strip(), len(text.lstrip()) - len(text)


def in_chat(tokenizer: PreTrainedTokenizerBase, prompt: str, **options: Any) -> tuple[str, int]:
    """The text of a chat in which a user says ``prompt`` and is to be answered, and where the prompt
    begins.
    """
    asked = {"tokenize": False, "add_generation_prompt": True, **options}

    def chat(words: str) -> str:
        return tokenizer.apply_chat_template([{"role": "user", "content": words}], **asked)

    alike = takewhile(lambda pair: pair[0] == pair[1], zip(chat(""), chat("\0")))
    return chat(prompt), len(list(alike))


def check_fit(source: Source, told: dict[str, tuple[int, int]], way_out: str) -> None:
    """``told``: what -> how many the denoiser reads, how many the other parts give. Raises BaseModelError
    where they differ.
    """
    for what, (reads, given) in told.items():
        if reads != given:
            raise BaseModelError(
                f"{source.said}: its denoiser reads {reads} {what}, the other parts give {given}; {way_out}"
            )


def class_named(name: str) -> type:
    """A class of diffusers or transformers."""
    return getattr(diffusers if hasattr(diffusers, name) else transformers, name)


def pictures(pixels: torch.Tensor) -> list[Image.Image]:
    """(B, 3, H, W) in [-1, 1] as pictures."""
    levels = ((pixels.float() / 2 + 0.5).clamp(0, 1) * 255).round().to(torch.uint8)
    return [Image.fromarray(array) for array in levels.permute(0, 2, 3, 1).cpu().numpy()]

"""A base's parts loaded from where they lie, checked to be what learning and drawing need."""

from __future__ import annotations

import inspect
from dataclasses import dataclass
from typing import Any

import diffusers
import torch
from diffusers import (
    AutoencoderKL,
    AutoencoderTiny,
    SchedulerMixin,
    StableDiffusionPipeline,
    UNet2DConditionModel,
)
from transformers import CLIPTextModel, CLIPTokenizer

from ..errors import BaseModelError, first_line
from .source import NETWORKS, Source

#: The denoiser's settings that ask for inputs other than latents, time and text.
_EXTRA_INPUTS = ("class_embed_type", "num_class_embeds", "addition_embed_type", "encoder_hid_dim_type")
PREDICTIONS = ("epsilon", "v_prediction", "sample")
_OTHER_SAMPLER = (
    "or put another of diffusers' samplers in its folder scheduler, such as DPMSolverMultistepScheduler"
)
#: Cells of a latent's side where a base does not tell: 512 pixels, as Stable Diffusion 1.x was trained.
USUAL_CELLS = 64


@dataclass
class Parts:
    """What a base is made of; ``notes`` say what was read otherwise than its files have it."""

    tokenizer: CLIPTokenizer
    text_encoder: CLIPTextModel
    vae: torch.nn.Module
    unet: UNet2DConditionModel
    scheduler: SchedulerMixin
    notes: tuple[str, ...] = ()


def load(source: Source) -> Parts:
    """Load ``source`` in float32. Raises BaseModelError when something is missing, unreadable or of another kind."""
    check(source)
    try:
        pipe = _single_file(source) if source.checkpoint else _folder(source)
    except BaseModelError:
        raise
    except Exception as error:
        raise BaseModelError(
            f"{source.said}: cannot be loaded from {source.checkpoint or source.folder} ({first_line(error)})"
        ) from error
    for part in (pipe.text_encoder, pipe.vae, pipe.unet):
        part.float()
    parts = Parts(pipe.tokenizer, pipe.text_encoder, pipe.vae, pipe.unet, pipe.scheduler)
    notes = (_variant(source), _sampler(parts), _size(parts), _tokens(source.said, parts))
    parts.notes = tuple(note for note in notes if note)
    return parts


def _folder(source: Source) -> StableDiffusionPipeline:
    networks: dict[str, Any] = {}
    for part, kind in {
        "unet": UNet2DConditionModel,
        "vae": _vae(source),
        "text_encoder": CLIPTextModel,
    }.items():
        variant, files = source.weights(part)
        networks[part], told = kind.from_pretrained(
            source.folder / part, variant=variant or None, use_safetensors=files[0].suffix == ".safetensors",
            local_files_only=True, output_loading_info=True, torch_dtype=torch.float32,
        )  # fmt: skip
        if missing := sorted(key for key in told["missing_keys"] if "position_ids" not in key):
            raise BaseModelError(
                f"{source.said}: {files[0]} lacks {len(missing)} of the weights that its config.json asks for, such as "
                f"{missing[0]}; copy or download the base again, whole"
            )
    return StableDiffusionPipeline(
        tokenizer=CLIPTokenizer.from_pretrained(source.folder / "tokenizer", local_files_only=True),
        scheduler=_scheduler_class(source).from_pretrained(source.folder / "scheduler", local_files_only=True),
        safety_checker=None, feature_extractor=None, requires_safety_checker=False, **networks,
    )  # fmt: skip


def _single_file(source: Source) -> StableDiffusionPipeline:
    return StableDiffusionPipeline.from_single_file(
        str(source.checkpoint), config=str(source.folder), local_files_only=True, torch_dtype=torch.float32,
        safety_checker=None, feature_extractor=None,
        scheduler=_scheduler_class(source).from_pretrained(source.folder / "scheduler", local_files_only=True),
    )  # fmt: skip


def _vae(source: Source) -> type:
    return {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny}[source.class_of("vae")]


# ---------------------------------------------------------------- checks, of configurations alone


def check(source: Source) -> None:
    """Raises BaseModelError when the configurations are not those of a Stable Diffusion 1.x/2.x that can be learnt from."""
    said = source.said
    unet, vae, text = (source.settings_of(part) for part in NETWORKS)
    channels, latents = unet.get("in_channels", 4), vae.get("latent_channels", 4)
    if channels != latents:
        kind = ", as inpainting models have" if channels == 9 else ""
        raise BaseModelError(
            f"{said}: its denoiser takes {channels} channels{kind}, its autoencoder gives {latents}; l2dm needs the same "
            "number: give the text-to-image model that it was made from"
        )
    if asked := [name for name in _EXTRA_INPUTS if unet.get(name) not in (None, "text")]:
        raise BaseModelError(
            f"{said}: its denoiser asks for more than text ({asked[0]}), so it is no Stable Diffusion 1.x/2.x"
        )
    width, wanted = text.get("hidden_size", 512), unet.get("cross_attention_dim", 1280)
    if width != wanted:
        raise BaseModelError(
            f"{said}: its text encoder gives {width} numbers a token, its denoiser reads {wanted}; they are of different models"
        )
    _check_scheduler(source)


def _scheduler_class(source: Source) -> type:
    name = source.class_of("scheduler")
    kind = getattr(diffusers, name, None)
    if not inspect.isclass(kind):
        raise BaseModelError(
            f"{source.said}: its sampler {name} is none of diffusers' {diffusers.__version__}; {_OTHER_SAMPLER[3:]}"
        )
    if lacking := [library for library in getattr(kind, "_backends", ()) if library != "torch"]:
        raise BaseModelError(
            f"{source.said}: its sampler {name} needs {' and '.join(lacking)}: pip install {' '.join(lacking)}, {_OTHER_SAMPLER}"
        )
    return kind


def _check_scheduler(source: Source) -> None:
    kind, settings = _scheduler_class(source), source.settings_of("scheduler")
    prediction = settings.get("prediction_type", "epsilon")
    discrete = "beta_schedule" in inspect.signature(kind).parameters and not settings.get("use_flow_sigmas")
    if not discrete or prediction not in PREDICTIONS:
        how = f"prediction_type {prediction}" if discrete else "no noise by betas, as flow matching has"
        raise BaseModelError(
            f"{source.said}: its sampler {kind.__name__} has {how}; l2dm learns {', '.join(PREDICTIONS)} over betas: "
            f"{_OTHER_SAMPLER[3:]} if the denoiser was trained so"
        )
    try:
        kind.from_config(settings)
    except ImportError as error:
        raise BaseModelError(
            f"{source.said}: its sampler {kind.__name__}: {first_line(error)}; install that, {_OTHER_SAMPLER}"
        ) from None
    except Exception as error:
        raise BaseModelError(
            f"{source.said}: {source.config_file('scheduler')}: {first_line(error)}"
        ) from error


# ---------------------------------------------------------------- what is read otherwise than it is written


def _variant(source: Source) -> str:
    """Weights of another variant than asked for are said to be so."""
    read = {} if source.checkpoint else {part: source.weights(part)[0] for part in NETWORKS}
    others = [f"{part} {variant or 'plain'}" for part, variant in read.items() if variant != source.variant]
    asked = f"variant {source.variant}" if source.variant else "plain weights"
    return f"{asked} not there; read: {', '.join(others)}" if others else ""


def _sampler(parts: Parts) -> str:
    if parts.scheduler.config.get("skip_prk_steps") is not False:
        return ""
    parts.scheduler.register_to_config(skip_prk_steps=True)
    return "PNDM without its Runge-Kutta steps, which cannot begin from a picture"


def _size(parts: Parts) -> str:
    size = parts.unet.config.sample_size
    if isinstance(size, int):
        return ""
    cells = min(size) if size else USUAL_CELLS
    parts.unet.register_to_config(sample_size=cells)
    return f"sample_size {size} read as {cells}"


def _tokens(said: str, parts: Parts) -> str:
    """The tokenizer's own length where it has one, else what the text encoder reads."""
    most, reads = parts.tokenizer.model_max_length, parts.text_encoder.config.max_position_embeddings
    rows = parts.text_encoder.get_input_embeddings().num_embeddings
    if (highest := max(parts.tokenizer.get_vocab().values())) >= rows:
        raise BaseModelError(
            f"{said}: its tokenizer has {highest + 1} tokens, its text encoder {rows}; was one of them fine-tuned and the other not? "
            "Put the tokenizer and the text encoder of one model together"
        )
    parts.tokenizer.model_max_length = min(most, reads)
    return f"prompts of {reads} tokens: the tokenizer does not say how many" if most > 10**9 else ""

"""A base's parts loaded from where they lie, checked to be what learning and drawing need."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers
import torch
from diffusers import FlowMatchEulerDiscreteScheduler

from ..errors import BaseModelError, first_line
from .source import Source

PREDICTIONS = ("epsilon", "v_prediction", "sample")
_OTHER_SAMPLER = (
    "or put another of diffusers' samplers in its folder scheduler, such as DPMSolverMultistepScheduler"
)


def load(source: Source, dtype: torch.dtype = torch.float32) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The parts of ``source`` by their names in ``model_index.json``, networks in ``dtype``, and notes of what was read otherwise than its files
    have it. Raises BaseModelError when something is missing, unreadable or of another kind."""
    family = source.family
    family.check(source)
    _check_scheduler(source)
    try:
        parts = (_single_file if source.checkpoint else _folder)(source, dtype)
    except BaseModelError:
        raise
    except Exception as error:
        raise BaseModelError(
            f"{source.said}: cannot be loaded from {source.checkpoint or source.folder} ({first_line(error)})"
        ) from error
    for name in family.networks:
        parts[name].to(dtype)
    notes = [_variant(source), _sampler(parts["scheduler"]), family.settle(parts)]
    notes += [
        _tokens(source.said, parts[tokenizer], parts[encoder], length)
        for encoder, tokenizer, length in family.readers
    ]
    return parts, tuple(note for note in notes if note)


def _folder(source: Source, dtype: torch.dtype) -> dict[str, Any]:
    family, parts = source.family, {}
    for part in family.parts:
        kind, place = source.class_of(part), source.folder / part
        if part == "scheduler":
            parts[part] = _scheduler_class(source).from_pretrained(place, local_files_only=True)
        elif part not in family.networks:
            parts[part] = family.part_class(part, kind).from_pretrained(place, local_files_only=True)
        else:
            parts[part] = _network(source, part, family.part_class(part, kind), dtype)
    return parts


def _network(source: Source, part: str, kind: type, dtype: torch.dtype) -> torch.nn.Module:
    variant, files = source.weights(part)
    network, told = kind.from_pretrained(
        source.folder / part, variant=variant or None, use_safetensors=files[0].suffix == ".safetensors",
        local_files_only=True, output_loading_info=True, torch_dtype=dtype,
    )  # fmt: skip
    if missing := sorted(key for key in told["missing_keys"] if "position_ids" not in key):
        raise BaseModelError(
            f"{source.said}: {files[0]} lacks {len(missing)} of the weights that its config.json asks for, such as "
            f"{missing[0]}; copy or download the base again, whole"
        )
    return network


def _single_file(source: Source, dtype: torch.dtype) -> dict[str, Any]:
    family = source.family
    pipe = family.pipeline_class().from_single_file(
        str(source.checkpoint), config=str(source.folder), local_files_only=True, torch_dtype=dtype,
        scheduler=_scheduler_class(source).from_pretrained(source.folder / "scheduler", local_files_only=True),
        **{name: None for name, given in family.options(source).items() if given is None},
    )  # fmt: skip
    return {part: getattr(pipe, part) for part in family.parts}


# ---------------------------------------------------------------- checks, of configurations alone


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
    if source.family.flow:
        if kind is not FlowMatchEulerDiscreteScheduler:
            raise BaseModelError(
                f"{source.said}: its sampler is a {kind.__name__}; l2dm learns flow matching of FlowMatchEulerDiscreteScheduler: put that in "
                "its folder scheduler"
            )
        return
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
    networks = () if source.checkpoint else source.family.networks
    read = {part: source.weights(part)[0] for part in networks}
    others = [f"{part} {variant or 'plain'}" for part, variant in read.items() if variant != source.variant]
    asked = f"variant {source.variant}" if source.variant else "plain weights"
    return f"{asked} not there; read: {', '.join(others)}" if others else ""


def _sampler(scheduler: diffusers.SchedulerMixin) -> str:
    if scheduler.config.get("skip_prk_steps") is not False:
        return ""
    scheduler.register_to_config(skip_prk_steps=True)
    return "PNDM without its Runge-Kutta steps, which cannot begin from a picture"


def _tokens(said: str, tokenizer: Any, encoder: torch.nn.Module, length: int) -> str:
    """``length``, else the tokenizer's own where it has one, else what the text encoder reads."""
    most = tokenizer.model_max_length
    reads = length or encoder.config.max_position_embeddings
    rows = encoder.get_input_embeddings().num_embeddings
    if (highest := max(tokenizer.get_vocab().values())) >= rows:
        raise BaseModelError(
            f"{said}: its tokenizer has {highest + 1} tokens, its text encoder {rows}; was one of them fine-tuned and the other not? "
            "Put the tokenizer and the text encoder of one model together"
        )
    for module in encoder.modules():
        if getattr(module, "eos_token_id", None) == 2 != tokenizer.eos_token_id:
            # as published configurations of CLIP have it: the token of the highest number is pooled then, a personal one
            module.eos_token_id = tokenizer.eos_token_id
    tokenizer.model_max_length = length or min(most, reads)
    return (
        f"prompts of {reads} tokens: the tokenizer does not say how many"
        if most > 10**9 and not length
        else ""
    )

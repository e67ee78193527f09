"""A base's parts loaded from where they lie, checked to be what learning and drawing need."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import diffusers
import torch

from ..errors import BaseModelError, first_line
from .checks import check, scheduler_class
from .precision import cast
from .source import Source


def load(
    source: Source, dtype: torch.dtype = torch.float32, weights: bool = True
) -> tuple[dict[str, Any], tuple[str, ...]]:
    """The parts of ``source`` by their names in ``model_index.json``, networks in ``dtype``, and notes of
    what was read otherwise than its files have it. Without ``weights`` networks are on the meta device, of
    their configurations' shapes. Raises BaseModelError when something is missing, unreadable or of another
    kind.
    """
    family = source.family
    check(source)
    try:
        if source.checkpoint and weights:
            parts = _single_file(source, dtype)
        else:
            parts = _folder(source, dtype, _network if weights else _shapes)
    except BaseModelError:
        raise
    except Exception as error:
        raise BaseModelError(
            f"{source.said}: cannot be loaded from {source.checkpoint or source.folder} ({first_line(error)})"
        ) from error
    for name in family.networks:
        cast(parts[name], dtype)
    notes = [_variant(source), _sampler(parts["scheduler"]), family.settle(parts)]
    notes += [
        _tokens(source.said, parts[tokenizer], parts[encoder], length)
        for encoder, tokenizer, length in family.readers
    ]
    return parts, tuple(note for note in notes if note)


def _folder(source: Source, dtype: torch.dtype, network: Callable[..., torch.nn.Module]) -> dict[str, Any]:
    family, parts = source.family, {}
    for part in family.parts:
        kind, place = source.class_of(part), source.folder / part
        if part == "scheduler":
            parts[part] = scheduler_class(source).from_pretrained(place, local_files_only=True)
        elif part not in family.networks:
            parts[part] = family.part_class(part, kind).from_pretrained(place, local_files_only=True)
        else:
            parts[part] = network(source, part, family.part_class(part, kind), dtype)
    return parts


def load_part(source: Source, part: str, dtype: torch.dtype) -> torch.nn.Module:
    """One network of a folder, as ``load`` has it."""
    network = _network(source, part, source.family.part_class(part, source.class_of(part)), dtype)
    cast(network, dtype)
    return network


def _shapes(source: Source, part: str, kind: type, dtype: torch.dtype) -> torch.nn.Module:
    if not source.checkpoint:
        source.weights(part)  # or an error
    with torch.device("meta"):
        if issubclass(kind, diffusers.ModelMixin):
            return kind.from_config(kind.load_config(source.folder / part))
        return kind(kind.config_class.from_pretrained(source.folder / part))


def _network(source: Source, part: str, kind: type, dtype: torch.dtype) -> torch.nn.Module:
    variant, files = source.weights(part)
    network, told = kind.from_pretrained(
        source.folder / part,
        variant=variant or None,
        use_safetensors=files[0].suffix == ".safetensors",
        local_files_only=True,
        output_loading_info=True,
        torch_dtype=dtype,
    )
    if missing := sorted(key for key in told["missing_keys"] if "position_ids" not in key):
        raise BaseModelError(
            f"{source.said}: {files[0]} lacks {len(missing)} of the weights that its config.json asks for, "
            "such as "
            f"{missing[0]}; copy or download the base again, whole"
        )
    return network


def _single_file(source: Source, dtype: torch.dtype) -> dict[str, Any]:
    family = source.family
    try:
        pipe = family.pipeline_class().from_single_file(
            str(source.checkpoint),
            config=str(source.folder),
            local_files_only=True,
            torch_dtype=dtype,
            scheduler=scheduler_class(source).from_pretrained(
                source.folder / "scheduler", local_files_only=True
            ),
            **{name: None for name, given in family.options(source).items() if given is None},
        )
        parts = {part: getattr(pipe, part) for part in family.parts}
        lacking = any(weight.is_meta for part in family.networks for weight in parts[part].parameters())
    except NotImplementedError as error:  # diffusers could not move what has no data
        if "meta tensor" not in str(error):
            raise
        lacking = True
    if lacking:
        raise BaseModelError(
            f"{source.said}: it lacks weights that the configurations in {source.folder} ask for; download "
            "it again, whole, or give those "
            "of its own model (--config)"
        )
    return parts


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
            f"{said}: its tokenizer has {highest + 1} tokens, its text encoder {rows}; was one of them "
            "fine-tuned and the other not? "
            "Put the tokenizer and the text encoder of one model together"
        )
    for module in encoder.modules():
        if getattr(module, "eos_token_id", None) == 2 != tokenizer.eos_token_id:
            # as published configurations of CLIP have it: the token of the highest number is pooled then, a
            # personal one
            module.eos_token_id = tokenizer.eos_token_id
    tokenizer.model_max_length = length or min(most, reads)
    return (
        f"prompts of {reads} tokens: the tokenizer does not say how many"
        if most > 10**9 and not length
        else ""
    )

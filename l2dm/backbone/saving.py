"""A base with concepts merged into it, as a diffusers folder of its own."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import torch

from .loading import load
from .source import Source
from .text import blocks_holder
from .tokens import add_tokens, own_ids

State = dict[str, torch.Tensor]


def save_pipeline(
    source: Source,
    folder: Path,
    change: Callable[[State], State],
    of_text: State,
    vectors: State,
    dtype: torch.dtype,
) -> None:
    """Write into ``folder`` the pipeline of ``source`` with the denoiser's weights that ``change`` makes of
    its own, with ``of_text`` added to those of its encoders (by ``Backbone.encoder_layers``), and with
    ``vectors`` (token -> (width,) or (n, width) of the encoders one after another) in its tokenizers and
    encoders. What the base brings along for l2dm comes too.
    """
    family = source.family
    parts, _ = load(source)
    own = parts[family.denoiser].state_dict()
    parts[family.denoiser].load_state_dict({**own, **change(own)})
    for name, added in of_text.items():
        part, _, layer = name.partition(".")
        blocks_holder(parts[part]).get_submodule(layer).weight.data += added
    first = 0
    for encoder, tokenizer, _ in family.readers:
        width = parts[encoder].get_input_embeddings().embedding_dim
        for token, vector in vectors.items():
            _teach(
                parts[tokenizer],
                parts[encoder],
                token,
                vector.view(-1, vector.shape[-1])[:, first : first + width],
            )
        first += width
    for name in family.networks:
        parts[name].to(dtype)
    family.pipeline_class()(**parts, **family.options(source)).save_pretrained(folder)
    for name in ("l2dm.json", "clip"):
        if (beside := source.folder / name).exists():
            (shutil.copytree if beside.is_dir() else shutil.copyfile)(beside, folder / name)


def _teach(tokenizer, encoder: torch.nn.Module, token: str, rows: torch.Tensor) -> None:
    """Give ``token`` the vectors ``rows`` (n, width), as diffusers does: those after the first are called
    ``<token>_1``, ``<token>_2``, …
    """
    if not own_ids(tokenizer, token):
        add_tokens(tokenizer, [token, *(f"{token}_{i}" for i in range(1, len(rows)))])
    table = encoder.get_input_embeddings()
    if len(tokenizer) > table.num_embeddings:
        encoder.resize_token_embeddings(len(tokenizer), mean_resizing=False)
    with torch.no_grad():
        for number, row in zip(own_ids(tokenizer, token), rows, strict=True):
            encoder.get_input_embeddings().weight[number] = row

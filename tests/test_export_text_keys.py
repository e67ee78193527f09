"""Under which keys a text encoder's layers and a token's vectors go out: those that ComfyUI and kohya's
sd-scripts know, of encoders in their published sizes.

The rules are written down here from what ``comfy/lora.py`` and ``comfy/sd1_clip.py`` of ComfyUI look up, and
from what ``networks/lora.py`` of sd-scripts puts before a text encoder's layers: ``lora_te`` where there is
one, ``lora_te1`` and ``lora_te2`` where there are two.
"""

from __future__ import annotations

from itertools import product
from types import SimpleNamespace

import pytest
import torch
from families.folders import FAMILIES
from test_export_keys import family_of
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

from l2dm.backbone.text import Text
from l2dm.exchange.embedding import embedding_file, looks_like_embedding
from l2dm.exchange.names import read_of_text, written_of_text


def clip(kind: type, depth: int, width: int) -> torch.nn.Module:
    with torch.device("meta"):
        return kind(CLIPTextConfig(hidden_size=width, intermediate_size=4 * width, num_hidden_layers=depth))


def in_blocks(before: str, depth: int, dot: str) -> set[str]:
    """Six linear layers in each of an encoder's blocks."""
    ends = [f"self_attn{dot}{x}_proj" for x in ("q", "k", "v", "out")] + [f"mlp{dot}fc{n}" for n in (1, 2)]
    start = dot.join(("text_model", "encoder", "layers"))
    return {f"{before}{start}{dot}{i}{dot}{end}" for i, end in product(range(depth), ends)}


TWO = {"text_encoder": (CLIPTextModelWithProjection, 12, 768)}
TWO["text_encoder_2"] = (CLIPTextModelWithProjection, 32, 1280)
BY_NUMBER = in_blocks("lora_te1_", 12, "_") | in_blocks("lora_te2_", 32, "_")
BY_PART = in_blocks("text_encoder.", 12, ".") | in_blocks("text_encoder_2.", 32, ".")
#: Family, format -> its CLIP encoders in a published size, and the rule of their keys.
RULES = {
    ("sd", "lora"): ({"text_encoder": (CLIPTextModel, 12, 768)}, in_blocks("lora_te_", 12, "_")),
    ("sdxl", "lora"): (TWO, BY_NUMBER),
    ("sd3", "lora"): (TWO, BY_PART),
    ("sd3", "kohya"): (TWO, BY_NUMBER),
    ("flux", "lora"): ({"text_encoder": (CLIPTextModel, 12, 768)}, in_blocks("lora_te1_", 12, "_")),
}


@pytest.mark.parametrize("name, kind", RULES)
def test_every_exported_key_of_a_text_encoder_is_one_that_other_programs_know(name, kind):
    encoders, known = RULES[name, kind]
    family = family_of(name)
    others = {encoder: torch.nn.Linear(1, 1) for encoder, _, _ in family.readers}  # no CLIP: left alone
    parts = others | {part: clip(*sizes) for part, sizes in encoders.items()}
    layers = list(Text.encoder_layers.fget(SimpleNamespace(family=family, parts=parts)))
    found = written_of_text(family.kohya_names if kind == "kohya" else family.lora_names, layers)
    assert set(found) == known
    assert sorted(layer for several in found.values() for layer in several) == sorted(layers)
    assert {stem: read_of_text(layers)[stem] for stem in found} == found, "and it is read as it was"


#: Family -> what its embeddings are called, encoder by encoder; of one encoder the key is the token.
KEYS = {
    "sd": ["<rex>"],
    "sdxl": ["clip_l", "clip_g"],
    "sd3": ["clip_l", "clip_g", "t5xxl"],
    "flux": ["clip_l", "t5xxl"],
}


@pytest.mark.parametrize("name", KEYS)
def test_an_embeddings_keys_are_those_of_its_encoders(name):
    family, pipe = family_of(name), FAMILIES[name]()
    widths = list(range(3, 3 + len(family.readers)))  # another for each, so that none is taken for another
    tensors = embedding_file("<rex>", torch.ones(2, sum(widths)), family.embedding_keys, widths)
    assert list(tensors) == KEYS[name] and looks_like_embedding(tensors)
    assert [part.shape for part in tensors.values()] == [(2, width) for width in widths]
    kinds = [type(getattr(pipe, encoder)).__name__ for encoder, _, _ in family.readers]
    if len(kinds) > 1:
        assert [key[:2] == "cl" for key in tensors] == [kind.startswith("CLIPText") for kind in kinds]

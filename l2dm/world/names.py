"""What the files of a version are called."""

from __future__ import annotations

from ..concept.words import file_stem

#: Weights that concepts share, and each token's vector.
SHARED, VECTORS = "weights.safetensors", "tokens.safetensors"
#: What a penalty keeps from one concept to the next, such as EWC's Fisher diagonal.
KEPT = "kept.safetensors"
#: The pretrained model's features of each class noun, from the examination's seeds.
NOUNS = "nouns.safetensors"
#: The long-term memory: features and prompts. The short-term one: latents and features, and when they were drawn.
FEATURES, PROMPTS = "memory.safetensors", "memory.json"
DRAWN, DRAWN_IN = "short-term.safetensors", "short-term.json"


def own_file(token: str) -> str:
    """Weights that are a concept's own."""
    return f"adapter-{token[1:-1]}.safetensors"


def picture_file(name: str) -> str:
    """The examination's pictures of a token or a class noun."""
    return f"concept-{name[1:-1]}.png" if name.startswith("<") else f"noun-{file_stem(name)}.png"

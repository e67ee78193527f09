"""What the files of a version are called."""

from __future__ import annotations

import re

from ..concept.words import file_stem

#: Weights that concepts share, and each token's vector.
SHARED, VECTORS = "weights.safetensors", "tokens.safetensors"
#: What a penalty keeps from one concept to the next, such as EWC's Fisher diagonal.
KEPT = "kept.safetensors"
#: The pretrained model's features of each class noun, from the examination's seeds.
NOUNS = "nouns.safetensors"
#: The long-term memory: features, of each concept in a file of its own, and all prompts. The short-term one:
#: latents and features, of each concept in a file of its own, and when they were drawn. Up to format 2 the
#: features and the latents of all concepts were in one file.
FEATURES, PROMPTS = "memory.safetensors", "memory.json"
DRAWN, DRAWN_IN = "short-term.safetensors", "short-term.json"
_OWN = ("adapter-", "memory-", "short-term-", "concept-", "noun-")
#: Of a lesson, a line for each step: kept with the version that it made, and with no later one.
LOG = "log.jsonl"
_STEP = re.compile(r"step-([0-9]{6})-(.+)\.safetensors")


def sample_file(step: int) -> str:
    """Pictures that were drawn while a concept was learnt."""
    return f"sample-{step:06d}.png"


def step_file(step: int, token: str) -> str:
    """Weights of a concept as they were after a step."""
    return f"step-{step:06d}-{token[1:-1]}.safetensors"


def step_of(name: str) -> tuple[int, str] | None:
    """Step and token of a ``step_file``."""
    found = _STEP.fullmatch(name)
    return (int(found[1]), f"<{found[2]}>") if found else None


def is_of_lesson(name: str) -> bool:
    """Whether a file tells how a version's concept was learnt."""
    return name == LOG or name.startswith(("sample-", "step-"))


def own_file(token: str) -> str:
    """Weights that are a concept's own."""
    return f"adapter-{token[1:-1]}.safetensors"


def features_file(token: str) -> str:
    """What is remembered of a concept's photos."""
    return f"memory-{token[1:-1]}.safetensors"


def drawn_file(token: str) -> str:
    """What was drawn of a concept for the short-term memory."""
    return f"short-term-{token[1:-1]}.safetensors"


def own_files(token: str) -> list[str]:
    """All files of a version that are one concept's own."""
    return [own_file(token), features_file(token), drawn_file(token), picture_file(token)]


def is_own(name: str) -> bool:
    """Whether a file of a version is one concept's own, or shows one noun."""
    return name.startswith(_OWN)


def picture_file(name: str) -> str:
    """The examination's pictures of a token or a class noun."""
    return f"concept-{name[1:-1]}.png" if name.startswith("<") else f"noun-{file_stem(name)}.png"

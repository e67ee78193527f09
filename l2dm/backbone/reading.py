"""How much of a prompt a base reads, told from its tokenizer and configurations alone: no weights are loaded."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..errors import BaseModelError, first_line
from .source import Source
from .tokens import spans


def prompt_lengths(source: Source, tokens: Iterable[str] = ()) -> tuple[Callable[[str], int], int]:
    """How many tokens a prompt has, and the most that the base reads, start and end left out; each of ``tokens`` is one.

    Of the base's first text encoder, as ``Backbone.count_tokens`` and ``longest_prompt``. Raises BaseModelError.
    """
    encoder, part, length = source.family.readers[0]
    try:
        kind = source.family.part_class(part, source.class_of(part))
        tokenizer = kind.from_pretrained(source.folder / part, local_files_only=True)
        tokenizer.add_tokens(list(tokens))
    except Exception as error:
        raise BaseModelError(
            f"{source.said}: its tokenizer cannot be loaded ({first_line(error)}); copy or download the base again, whole"
        ) from error
    positions = source.settings_of(encoder).get("max_position_embeddings", 77)
    most = length or min(tokenizer.model_max_length, positions)
    return lambda prompt: sum(low < high for low, high in spans(tokenizer, prompt)), most - 2

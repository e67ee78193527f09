"""How much of a prompt a base reads, told from its tokenizers and configurations alone: no weights are
loaded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from ..errors import BaseModelError, first_line
from .families import Reads
from .reader import Reader
from .source import Source
from .tokens import add_tokens


def prompt_lengths(source: Source, tokens: Iterable[str] = ()) -> tuple[Callable[[str], int], int]:
    """How many tokens a prompt has, and the most that the base reads, marks left out; each of ``tokens`` is
    one.

    As ``Backbone.count_tokens`` and ``longest_prompt``. Raises BaseModelError.
    """
    readers = [_reader(source, source.family.readers[number], list(tokens)) for number in source.family.row]
    longest = max(readers, key=lambda reader: reader.length)
    return longest.count, longest.longest


def _reader(source: Source, reads: Reads, tokens: list[str]) -> Reader:
    """Without its text encoder."""
    encoder, part, length = reads
    try:
        kind = source.family.part_class(part, source.class_of(part))
        tokenizer = kind.from_pretrained(source.folder / part, local_files_only=True)
        add_tokens(tokenizer, tokens)
    except Exception as error:
        raise BaseModelError(
            f"{source.said}: its tokenizer cannot be loaded ({first_line(error)}); copy or download the base "
            "again, whole"
        ) from error
    positions = source.settings_of(encoder).get("max_position_embeddings", 77)
    tokenizer.model_max_length = length or min(tokenizer.model_max_length, positions)
    return Reader(tokenizer, None, source.family.worded)

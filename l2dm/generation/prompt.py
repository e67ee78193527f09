"""What a prompt may say in a world."""

from __future__ import annotations

import difflib

from ..backbone import Backbone
from ..concept.words import TOKEN_LIKE
from ..errors import PromptError


def personal_tokens(prompt: str, known: list[str]) -> list[str]:
    """The personal tokens of ``prompt``, in order; a PromptError for one that is not among ``known``."""
    if not isinstance(prompt, str) or "\x00" in prompt:
        raise PromptError(f"prompt {prompt!r}: expected text")
    tokens = TOKEN_LIKE.findall(prompt)
    for token in tokens:
        if token not in known:
            near = difflib.get_close_matches(token, known, 1)
            have = f"it knows {', '.join(known)}" if known else "it has learnt nothing yet"
            raise PromptError(
                f"prompt {prompt!r}: {token} is not in this world; "
                + (f"did you mean {near[0]}?" if near else have)
            )
    return tokens


def check_length(prompt: str, backbone: Backbone) -> None:
    """A PromptError when the text encoder would cut the prompt's end off."""
    length = backbone.count_tokens(prompt)
    if length > backbone.longest_prompt:
        raise PromptError(
            f"prompt {prompt[:60]!r}…: {length} tokens; this base reads at most {backbone.longest_prompt}, so shorten it"
        )

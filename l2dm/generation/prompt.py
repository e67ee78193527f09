"""What a prompt may say in a world."""

from __future__ import annotations

import difflib
import re
import unicodedata
from collections.abc import Iterable, Mapping

from ..backbone import Backbone
from ..concept.words import TOKEN_LIKE
from ..errors import PromptError

#: Brackets that keyboards, web pages and other tools have in place of < and >.
_BRACKETS = {**dict.fromkeys("‹«〈⟨《[{", "<"), **dict.fromkeys("›»〉⟩》]}", ">")}
#: Attention weights as Stable Diffusion web UI and compel write them: (x:1.3), ((x)), [x], (x)1.3, (x)++,
#: <x>++.
_WEIGHT = re.compile(
    r"\([^()]*:\s*[+-]?[\d.]+\s*\)|\(\([^()]*\)*|\[[^\[\]]*\]|\([^()]*\)(?:[+-]+|\d+(?:\.\d+)?)(?!\w)|<[^<>\s]*>(?:\++|-+)(?!\w)"
)
_ESCAPED = re.compile(r"\\([()\[\]])")


def personal_tokens(prompt: str, known: Iterable[str]) -> list[str]:
    """The personal tokens of ``prompt``, in order; a PromptError for one that is not among ``known``, or
    written otherwise.
    """
    if not isinstance(prompt, str) or re.search("[\x00\ud800-\udfff]", prompt):
        raise PromptError(f"prompt {prompt!r}: expected text")
    known = list(known)
    for found, token in _near_misses(prompt, known):
        raise PromptError(f"prompt {prompt!r}: {found} is not in this world; did you mean {token}?")
    tokens = TOKEN_LIKE.findall(prompt)
    for token in tokens:
        if token not in known:
            near = difflib.get_close_matches(token.lower(), known, 1)
            have = f"it knows {', '.join(known)}" if known else "it has learnt nothing yet"
            raise PromptError(
                f"prompt {prompt!r}: {token} is not in this world; "
                + (f"did you mean {near[0]}?" if near else have)
            )
    return tokens


def _near_misses(prompt: str, known: list[str]) -> Iterable[tuple[str, str]]:
    """``(what the prompt says, the token that it must mean)``: other brackets, capitals, spaces, or one
    bracket alone.
    """
    plain, origin = "", []
    for place, character in enumerate(prompt):
        folded = unicodedata.normalize("NFKC", _BRACKETS.get(character, character)).lower()
        plain, origin = plain + folded, [*origin, *[place] * len(folded)]
    for token in known:
        name = rf"(?<![\w-]){re.escape(token[1:-1])}(?![\w-])"
        for match in re.finditer(rf"<\s*{name}(?:\s*>)?|{name}\s*>", plain):
            found = prompt[origin[match.start()] : origin[match.end() - 1] + 1]
            if found != token:
                yield found, token


def bare_names(prompt: str, concepts: Mapping[str, str]) -> list[str]:
    """A sentence for each concept (token -> noun) that ``prompt`` seems to name without brackets: "rex dog",
    "dog rex".
    """
    notes = []
    for token, noun in concepts.items():
        name, noun = re.escape(token[1:-1]), re.escape(noun)
        bare = rf"(?<![\w<-])(?:{name}\s+{noun}|{noun}\s+(?:named\s+|called\s+)?{name})(?![\w>-])"
        if token not in prompt and (match := re.search(bare, prompt, re.IGNORECASE)):
            notes.append(
                f"{match.group()!r} is read as plain words; did you mean {token}, with the brackets?"
            )
    return notes


def without_escapes(prompt: str) -> str:
    r"""``prompt`` with ``\(``, ``\)``, ``\[`` and ``\]`` as the brackets that they stand for; a PromptError
    for attention weights, which are not read."""
    blank = _ESCAPED.sub("  ", prompt)
    if match := _WEIGHT.search(blank):
        raise PromptError(
            f"prompt {prompt!r}: {prompt[match.start() : match.end()]} is an attention weight, which l2dm "
            "does not read; leave the "
            r"weight out, or write brackets that are meant as \( \) or \[ \]"
        )
    return _ESCAPED.sub(r"\1", prompt)


def check_length(prompt: str, backbone: Backbone) -> None:
    """A PromptError when the text encoder would cut the prompt's end off."""
    length = backbone.count_tokens(prompt)
    if length > backbone.longest_prompt:
        raise PromptError(
            f"prompt {prompt[:60]!r}…: {length} tokens; this base reads at most {backbone.longest_prompt}, "
            "so shorten it"
        )

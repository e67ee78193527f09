"""Which things a prompt names, where their words stand in the tokenized prompt, and where they are to be in the picture."""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..backbone import Backbone
from ..concept.words import TOKEN_LIKE
from ..errors import PromptError


@dataclass(frozen=True)
class Mention:
    """One thing of a prompt. ``personal`` and ``noun`` are token positions (the start token is 0); a plain noun has no
    personal tokens, a token without its noun no noun tokens. ``side``: left, right, top, bottom, or None. ``span``: the
    characters of the prompt that name it."""

    name: str
    personal: tuple[int, ...]
    noun: tuple[int, ...]
    side: str | None = None
    span: tuple[int, int] = (0, 0)

    @property
    def all(self) -> tuple[int, ...]:
        return self.personal + self.noun


#: what stands after a thing -> its side, and the side of the thing named next
_RELATIONS = [
    (r"(?:is )?(?:to|on) the left of", "left", "right"), (r"(?:is )?(?:to|on) the right of", "right", "left"),
    (r"(?:is )?(?:above|on top of|over)", "top", "bottom"), (r"(?:is )?(?:below|under|beneath)", "bottom", "top"),
    (r"(?:is )?(?:on|at|to|in) the left\b(?! of)", "left", None), (r"(?:is )?(?:on|at|to|in) the right\b(?! of)", "right", None),
    (r"(?:is )?(?:on|at|in) the top\b", "top", None), (r"(?:is )?(?:on|at|in) the bottom\b", "bottom", None),
]  # fmt: skip

_SIDE_WORDS = "|".join(pattern for pattern, _, _ in _RELATIONS)
_ARTICLE = re.compile(r"(?:\b(?:an?|the|my|your|his|her|our|their)\s+)?$", re.IGNORECASE)
#: what stands between a thing and the next
_LINK = re.compile(
    r"(?:[\s,;&+]+|\b(?:and|or|plus|with|is|are|beside|near|by|behind|against|next to|close to|in front of|together with|"
    rf"{_SIDE_WORDS})\b)+$",
    re.IGNORECASE,
)


def mentions(
    prompt: str, concepts: dict[str, str], backbone: Backbone, plain: tuple[str, ...] = ()
) -> list[Mention]:
    """The things of ``prompt`` in its order: personal tokens (``concepts``: token -> noun) and the nouns of ``plain``.

    A noun right after a concept's token is that concept's own. Raises PromptError when the tokenizer cuts a thing off.
    """
    spans = _spans(prompt, concepts, plain)
    encoded = backbone.tokenizer(prompt, return_offsets_mapping=True)
    offsets, cut = encoded["offset_mapping"], backbone.longest_prompt + 1

    def positions(span: tuple[int, int] | None) -> tuple[int, ...]:
        if span is None:
            return ()
        found = tuple(
            i for i, (low, high) in enumerate(offsets) if low < high and low < span[1] and high > span[0]
        )
        if not found or found[-1] >= cut:
            raise PromptError(
                f"prompt {prompt[:60]!r}…: {prompt[slice(*span)]!r} lies beyond what this base reads; shorten the prompt"
            )
        return found

    ends = [((token or noun)[0], (noun or token)[1]) for _, token, noun in spans]
    return [
        Mention(name, positions(token), positions(noun), side, span)
        for (name, token, noun), side, span in zip(spans, _sides(prompt, ends), ends)
    ]


def alone(prompt: str, things: list[Mention]) -> list[str]:
    """For each of ``things`` the prompt without the others: what stands before the first and after the last stays, and so does what
    is said of the thing itself.

    "a photo of <rex> dog in a hat next to a cat on the beach" -> "a photo of <rex> dog in a hat on the beach", "a photo of a cat ..."
    """
    starts = [_ARTICLE.search(prompt[: thing.span[0]]).start() for thing in things]
    phrases = []
    for thing, start, end in zip(things, starts, [*starts[1:], len(prompt)]):
        said = re.sub(rf"^\s*(?:{_SIDE_WORDS})", "", prompt[thing.span[1] : end], flags=re.IGNORECASE)
        phrases.append((prompt[start : thing.span[1]], said))
    before, after = prompt[: starts[0]], phrases[-1][1]
    return [before + words + _LINK.sub("", said) + after for words, said in phrases[:-1]] + [
        before + phrases[-1][0] + after
    ]


def _spans(
    prompt: str, concepts: dict[str, str], plain: tuple[str, ...]
) -> list[tuple[str, tuple | None, tuple | None]]:
    """``(name, the token's characters, the noun's characters)`` of each thing."""
    found, taken = [], set()
    for match in TOKEN_LIKE.finditer(prompt):
        token = match.group()
        if token not in concepts:
            continue
        noun = re.compile(rf"\s+({re.escape(concepts[token])})\b", re.IGNORECASE).match(prompt, match.end())
        found.append((match.start(), (token, match.span(), noun.span(1) if noun else None)))
        taken.update(range(*match.span()), range(*noun.span(1)) if noun else ())
    for noun in sorted(plain, key=len, reverse=True):  # "teddy bear" before "bear"
        for match in re.finditer(rf"\b{re.escape(noun)}\b", prompt, re.IGNORECASE):
            if not taken & set(range(*match.span())):
                found.append((match.start(), (noun, None, match.span())))
                taken.update(range(*match.span()))
    return [thing for _, thing in sorted(found, key=lambda pair: pair[0])]


def _sides(prompt: str, spans: list[tuple[int, int]]) -> list[str | None]:
    """Each thing's side, from the words between it and the next thing."""
    sides: list[str | None] = [None] * len(spans)
    for i, (_, end) in enumerate(spans):
        after = prompt[end : spans[i + 1][0] if i + 1 < len(spans) else len(prompt)].strip().lower()
        for pattern, own, other in _RELATIONS:
            if re.match(pattern, after):
                sides[i] = own
                if other and i + 1 < len(spans):
                    sides[i + 1] = other
                break
    return sides

"""Which things a prompt names, where their words stand in the tokenized prompt, and where they are to be in
the picture.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from ..backbone import Backbone
from ..errors import PromptError
from ..guidance.regions import Box
from .phrases import Phrase, phrases
from .vocabulary import RELATIONS, SIDES, any_of


@dataclass(frozen=True)
class Mention:
    """One thing of a prompt. ``personal`` and ``noun`` are token positions (the start token is 0); a plain
    noun has no personal tokens, a token without its noun no noun tokens. ``side``: left, right, top, bottom,
    or None. ``span``: the characters of the prompt that name it; ``phrase``: those that are about it alone,
    article and adjectives included; ``noun_span``: its noun's. ``box``: its part of the picture, where a
    layout says one.
    """

    name: str
    personal: tuple[int, ...]
    noun: tuple[int, ...]
    side: str | None = None
    span: tuple[int, int] = (0, 0)
    phrase: tuple[int, int] = (0, 0)
    noun_span: tuple[int, int] | None = None
    box: Box | None = None

    @property
    def all(self) -> tuple[int, ...]:
        return tuple(sorted(self.personal + self.noun))


def mentions(
    prompt: str,
    concepts: dict[str, str],
    backbone: Backbone,
    plain: tuple[str, ...] = (),
    subjects: tuple[str, ...] = (),
) -> list[Mention]:
    """The things of ``prompt`` in its order: personal tokens (``concepts``: token -> noun) and plain nouns;
    see ``phrases``.

    Raises PromptError when the tokenizer cuts a thing off, or the prompt has none of a noun of ``subjects``.
    """
    for subject in subjects:
        if not any_of((subject,)).search(prompt):
            raise PromptError(
                f"subjects: {subject!r} is not in the prompt {prompt!r}; name words that it says"
            )
    found = phrases(prompt, concepts, plain, subjects)

    def positions(span: tuple[int, int] | None) -> tuple[int, ...]:
        if span is None:
            return ()
        if not (found := backbone.places(prompt, span)):
            raise PromptError(
                f"prompt {prompt[:60]!r}…: {prompt[slice(*span)]!r} lies beyond what this base reads; "
                "shorten the prompt"
            )
        return found

    return [
        Mention(
            one.name,
            positions(one.token),
            positions(one.noun),
            side,
            one.span,
            (one.start, one.end),
            one.noun,
        )
        for one, side in zip(found, _sides(prompt, found))
    ]


def single_subject_prompts(prompt: str, mentions: list[Mention]) -> list[str]:
    """For each of ``mentions`` the prompt without the others: what stands before the first and after the last
    stays, and so does what is said of the thing itself.

    "a photo of <rex> dog in a hat next to a red car on the beach" -> "a photo of <rex> dog in a hat on the
    beach", "a photo of a red car on the beach"
    """
    before = prompt[: mentions[0].phrase[0]]
    after = _without_side(prompt[mentions[-1].phrase[1] :])
    return [
        before
        + prompt[one.phrase[0] : one.span[1]]
        + _without_side(prompt[one.span[1] : one.phrase[1]])
        + after
        for one in mentions
    ]


def _without_side(said: str) -> str:
    return re.sub(rf"^\s*(?:{SIDES})", "", said, flags=re.IGNORECASE)


def _sides(prompt: str, found: list[Phrase]) -> list[str | None]:
    """Each thing's side, from the words between it and the next thing."""
    sides: list[str | None] = [None] * len(found)
    for i, one in enumerate(found):
        following = found[i + 1].span[0] if i + 1 < len(found) else len(prompt)
        after = prompt[one.span[1] : following].strip().lower()
        for pattern, own, other in RELATIONS:
            if re.match(pattern, after):
                sides[i] = own
                if other and i + 1 < len(found):
                    sides[i + 1] = other
                break
    return sides

"""A layout by hand: which part of the picture each thing of a prompt is to have.

    <rex>: left, <pip>: 0.5,0.2,0.9,0.8

A place is a word (``PLACES``) or a box x0,y0,x1,y1 in shares of the picture, x right and y down. Things that
are not placed have what the others leave. Boxes may overlap: where they do, both act, and a note says so.
"""

from __future__ import annotations

import dataclasses
import difflib
import itertools
import re
from collections.abc import Sequence

from ..errors import SettingsError
from ..guidance.regions import Box
from .mentions import Mention

#: Words for parts of a picture.
PLACES: dict[str, Box] = {
    "left": (0.0, 0.0, 0.5, 1.0),
    "right": (0.5, 0.0, 1.0, 1.0),
    "top": (0.0, 0.0, 1.0, 0.5),
    "bottom": (0.0, 0.5, 1.0, 1.0),
    "top left": (0.0, 0.0, 0.5, 0.5),
    "top right": (0.5, 0.0, 1.0, 0.5),
    "bottom left": (0.0, 0.5, 0.5, 1.0),
    "bottom right": (0.5, 0.5, 1.0, 1.0),
    "middle": (0.25, 0.25, 0.75, 0.75),
    "everywhere": (0.0, 0.0, 1.0, 1.0),
}
_HOW = "write NAME: PLACE, such as <rex>: left, <pip>: 0.5,0.2,0.9,0.8"


def parse(layout: str) -> list[tuple[str, Box]]:
    """(name, box) of each entry, in order; a SettingsError for what is none."""
    entries = [part.strip() for part in re.split(r"[;,](?=[^,;:]*:)", layout)]
    return [_entry(entry.rstrip(",; ")) for entry in entries]


def _entry(entry: str) -> tuple[str, Box]:
    name, colon, place = (part.strip() for part in entry.partition(":"))
    if not (name and colon and place):
        raise SettingsError(f"layout: {entry!r} is no place of a thing; {_HOW}")
    if known := PLACES.get(re.sub(r"[\s_-]+", " ", place.lower())):
        return name, known
    try:
        numbers = [float(number) for number in re.split(r"[\s,]+", place)]
    except ValueError:
        near = difflib.get_close_matches(place.lower(), PLACES, 1)
        said = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(PLACES)}"
        raise SettingsError(
            f"layout: {name}: {place!r} is no place; {said} Or a box: x0,y0,x1,y1, each from 0 to 1"
        ) from None
    if len(numbers) != 4:
        raise SettingsError(
            f"layout: {name}: a box has four numbers, x0,y0,x1,y1, and {place!r} has {len(numbers)}"
        )
    x0, y0, x1, y1 = numbers
    if not all(0 <= number <= 1 for number in numbers):
        raise SettingsError(
            f"layout: {name}: {place!r} reaches beyond the picture; give shares of its sides, each from 0 to "
            "1"
        )
    if x0 >= x1 or y0 >= y1:
        raise SettingsError(
            f"layout: {name}: {place!r} holds nothing; x0 must be less than x1 and y0 less than y1 (0,0 is "
            "the top left corner)"
        )
    return name, (x0, y0, x1, y1)


def laid_out(mentions: list[Mention], layout: str, prompt: str) -> list[Mention]:
    """``mentions`` of ``prompt`` with their boxes. A name that is said several times gets its boxes in the
    prompt's order.
    """
    boxes: dict[int, Box] = {}
    for name, box in parse(layout):
        own = [i for i, one in enumerate(mentions) if one.name == name.lower()] or [
            i for i, one in enumerate(mentions) if _plain(name) in _names(one, prompt)
        ]
        free = [i for i in own if i not in boxes]
        if not free:
            raise SettingsError(f"layout: {name}: {_why_not(name, len(own), mentions, prompt)}")
        boxes[free[0]] = box
    return [dataclasses.replace(one, box=boxes.get(i)) for i, one in enumerate(mentions)]


def _why_not(name: str, count: int, mentions: list[Mention], prompt: str) -> str:
    if count:
        return f"the prompt names it {'once' if count == 1 else f'{count} times'}, and it is placed once more"
    found = ", ".join(dict.fromkeys(one.name for one in mentions)) or "nothing that can be drawn by itself"
    if re.search(rf"(?<![\w-]){re.escape(name)}(?![\w-])", prompt, re.IGNORECASE):
        return (
            f"was not found to be a thing of the prompt (found: {found}); if it is one, name it in subjects"
        )
    return f"the prompt does not name it; it names {found}"


def _plain(words: str) -> str:
    return re.sub(r"^(?:an?|the)\s+", "", " ".join(words.lower().split()))


def _names(one: Mention, prompt: str) -> set[str]:
    """What ``one`` may be called: "car", "red car"; "<rex>", "<rex> dog", and of a concept the noun alone
    too.
    """
    phrase = prompt[min(one.phrase[0], one.span[0]) : one.span[1]]
    noun = prompt[slice(*one.noun_span)] if one.noun_span else one.name
    return {_plain(words) for words in (one.name, prompt[slice(*one.span)], phrase, noun)}


def written(mentions: Sequence[Mention]) -> str:
    """The layout of ``mentions`` in numbers, as ``parse`` reads it; "" where nothing is placed."""
    return ", ".join(
        f"{one.name}: {','.join(f'{side:g}' for side in one.box)}" for one in mentions if one.box
    )


def overlaps(mentions: Sequence[Mention]) -> list[str]:
    """A sentence for each two things whose boxes overlap."""
    placed, notes = [one for one in mentions if one.box], []
    for one, other in itertools.combinations(placed, 2):
        (a0, b0, a1, b1), (c0, d0, c1, d1) = one.box, other.box
        shared = max(0.0, min(a1, c1) - max(a0, c0)) * max(0.0, min(b1, d1) - max(b0, d0))
        if shared > 1e-9:
            notes.append(
                f"layout: {one.name} and {other.name} overlap in {100 * shared:.0f} % of the picture, where "
                "both act"
            )
    return notes

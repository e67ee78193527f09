"""The words that tell a prompt's things from all else in it: determiners, links, prepositions, nouns."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path

#: what stands after a thing -> its side, and the side of the thing named next
RELATIONS = [
    (r"(?:is )?(?:to|on) the left of", "left", "right"),
    (r"(?:is )?(?:to|on) the right of", "right", "left"),
    (r"(?:is )?(?:above|on top of|over)", "top", "bottom"),
    (r"(?:is )?(?:below|under|beneath)", "bottom", "top"),
    (r"(?:is )?(?:on|at|to|in) the left\b(?! of)", "left", None),
    (r"(?:is )?(?:on|at|to|in) the right\b(?! of)", "right", None),
    (r"(?:is )?(?:on|at|in) the top\b", "top", None),
    (r"(?:is )?(?:on|at|in) the bottom\b", "bottom", None),
]
SIDES = "|".join(pattern for pattern, _, _ in RELATIONS)

_NUMBERS = "one|two|three|four|five|six|seven|eight|nine|ten|several|some|many|another|each|both"
DETERMINER = rf"(?:an?|the|my|your|his|her|its|our|their|this|that|these|those|{_NUMBERS})"
#: what stands between a thing and the next, with the spaces about it
LINK = re.compile(
    r"(?:\s*(?:[,;&+/]|\b(?:and|or|plus|with|is|are|beside|near|by|behind|against|next to|close to|in front "
    r"of|"
    rf"together with|alongside|{SIDES})\b))+\s*",
    re.IGNORECASE,
)
#: prepositions and verbs behind which stands where a thing is, what it wears, what it is made of: not a thing
#: of its own
SETTING = (
    "in|on|at|of|inside|into|onto|upon|on top "
    "of|through|from|under|underneath|beneath|within|among|amid|across|along|around|"
    "during|for|to|towards|toward|as|like|without|behind|against|over|made of|full "
    "of|wearing|holding|carrying|riding|driving|"
    "eating|playing|sitting|made|covered|dressed"
)
#: words that are no adjective, so that no noun phrase goes across them
STOP = re.compile(
    rf"(?:{DETERMINER}|{SETTING}|and|or|plus|with|is|are|was|were|has|have|beside|near|by|above|below|next|close|left|right|"
    r"front|that|which|who|while|not|no)",
    re.IGNORECASE,
)
#: "a photo of a dog": what comes before such an "of" is no thing
PICTURES = (
    "photo|photos|photograph|photographs|photography|picture|pictures|image|images|painting|drawing|sketch|illustration|portrait|"
    "close-up|closeup|shot|view|render|rendering|rendition|depiction|cartoon|watercolor|watercolour|print|poster|icon|emoji|snapshot|"
    "selfie|scene|art|artwork|pair|couple|group|bunch|lot|collage|photo "
    "collage|sticker|sculpture|statue|still"
)
COLOURS = (
    "red|orange|yellow|green|blue|purple|violet|pink|brown|black|white|grey|gray|golden|silver|beige|"
    "turquoise|cyan|magenta|crimson"
)
#: heads of noun phrases that name no thing to be drawn by itself
NO_THING = re.compile(
    rf"(?:{PICTURES}|style|background|foreground|day|night|morning|evening|afternoon|noon|sunset|sunrise|dusk|dawn|sky|cloud|clouds|"
    r"rain|snow|storm|fog|mist|light|lighting|shadow|mood|atmosphere|beach|forest|jungle|park|street|city|town|village|room|kitchen|"
    r"field|meadow|grass|garden|mountain|mountains|hill|sea|ocean|lake|river|water|desert|winter|summer|spring|autumn|masterpiece|"
    r"quality|resolution|detail|details|color|colour|colors|colours|texture|way|bit|side|middle|center|centre|corner|time|smile|face|"
    rf"{COLOURS}|look|pose|view|landscape|world|space|thing|something|rainbow|reflection|front|back|top|bottom|left|right)",
    re.IGNORECASE,
)
#: what "with" and "and" add to a thing when one of these follows: a part of it, or what it wears
WORN = re.compile(
    r"(?:hat|cap|beanie|beret|top hat|cowboy hat|helmet|crown|tiara|scarf|tie|bow "
    r"tie|glove|mitten|glasses|sunglasses|goggles|mask|"
    r"watch|wristwatch|ring|necklace|bracelet|earring|belt|shirt|t-shirt|sweater|hoodie|jacket|coat|vest|suit|dress|skirt|jeans|"
    r"pants|trousers|shorts|sock|shoe|boot|collar|cape|veil|armor|bow|ribbon|leaf|feather|bell|shell|door|window)(?:e?s)?",
    re.IGNORECASE,
)


@cache
def everyday_nouns() -> tuple[str, ...]:
    """Some nine hundred nouns of ``nouns.txt``, in its order."""
    text = Path(__file__).with_name("nouns.txt").read_text(encoding="utf-8")
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return tuple(noun.strip() for line in lines for noun in line.split(","))


def plural(noun: str) -> str:
    """``fox`` -> ``foxes``, ``pony`` -> ``ponies``; irregular ones are nouns of their own."""
    if re.search(r"[^aeiou]y$", noun):
        return noun[:-1] + "ies"
    return noun + ("es" if re.search(r"(?:s|x|z|ch|sh)$", noun) else "s")


def either_number(noun: str) -> str:
    """A pattern of ``noun`` in singular and plural, any spaces between its words."""
    forms = dict.fromkeys((plural(noun.lower()), noun.lower()))
    return "(?:" + "|".join(re.escape(form).replace(r"\ ", r"\s+") for form in forms) + ")"


@cache
def any_of(nouns: Iterable[str]) -> re.Pattern[str]:
    """Finds each of ``nouns``, the longest that fits: "teddy bear" before "bear"."""
    ordered = sorted(set(nouns), key=lambda noun: (-len(noun), noun))
    return re.compile(
        rf"(?<![\w<-])(?:{'|'.join(map(either_number, ordered)) or '(?!)'})(?![\w>-])", re.IGNORECASE
    )

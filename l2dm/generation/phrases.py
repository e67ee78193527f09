"""Which things a prompt names, as characters: personal tokens with their nouns, plain nouns, and the words
that belong to each.

No tagger: a few rules over closed lists of words. A concept's token is always a thing, and its own noun
beside it or in apposition the same thing ("<rex> dog", "my dog <rex>", "a dog named <rex>", "<rex>, a dog,",
"<rex>'s dog"). A plain noun is one where it heads a phrase that begins the prompt, follows "a photo of", or
is joined to another; not behind "in", "on", "wearing" and the like, where it says how or where another thing
is.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise

from ..concept.words import TOKEN_LIKE
from . import vocabulary as words

Span = tuple[int, int]
_DETERMINED = re.compile(rf"\b{words.DETERMINER}\s", re.IGNORECASE)
_ADJECTIVE = rf"(?!(?:{words.STOP.pattern})\b)[^\W\d_][\w'’-]*\s+"
_JOINS = re.compile(
    r"(?:^|[.;:!?]|,|[&+/]|\b(?:and|or|plus|with|beside|near|by|next to|close to|in front of|together "
    r"with|alongside|above|below|"
    r"chasing|following|facing|hugging|watching|meeting|(?:to|on) the (?:left|right) "
    rf"of|(?:{words.PICTURES})\s+of))\s*$",
    re.IGNORECASE,
)
_STARTS_OR_AND = re.compile(rf"(?:^|\band|\bnext to|\bbeside|\b(?:{words.PICTURES})\s+of)\s*$", re.IGNORECASE)
_TWO_COLOURED = re.compile(rf"(?<=\b)((?:{words.COLOURS})\s+)and(?=\s+(?:{words.COLOURS})\b)", re.IGNORECASE)
_BEYOND = re.compile(r"\s+in the (?:background|foreground|distance)\b", re.IGNORECASE)
_PICTURE_OF = re.compile(rf"(?:{words.PICTURES})\s+of\b", re.IGNORECASE)
_MADE_OF = re.compile(rf"\s+of\s+(?:{_ADJECTIVE}){{0,2}}?[^\W\d_][\w'’-]*")
_ENDS = re.compile(
    rf"\s*(?:$|[^\w\s'’-])|\s+(?:(?:{words.STOP.pattern})\b|(?!(?:{words.COLOURS})\b)\w+(?:ing|ed|ly)\b)",
    re.IGNORECASE,
)
_DANGLING = re.compile(rf"(?:\s+(?:\w+ing|after|up|{words.SETTING}|{words.DETERMINER}))+\s*$", re.IGNORECASE)


@dataclass(frozen=True)
class Phrase:
    """One thing. ``token`` and ``noun``: the characters of each, or None. ``start``: where its words begin,
    article and adjectives included; ``end``: where what is said of it ends (behind the last thing stands what
    is said of the whole).
    """

    name: str
    token: Span | None
    noun: Span | None
    start: int = 0
    end: int = 0

    @property
    def span(self) -> Span:
        """From its token or noun to the other."""
        both = [span for span in (self.token, self.noun) if span]
        return min(both)[0], max(end for _, end in both)


def phrases(
    prompt: str, concepts: dict[str, str], plain: tuple[str, ...] = (), subjects: tuple[str, ...] = ()
) -> list[Phrase]:
    """The things of ``prompt`` in its order. ``concepts``: token -> noun. ``plain``: nouns beside the
    everyday ones. ``subjects``: the plain nouns that count, wherever they stand, in place of those that would
    be found.
    """
    prompt = _TWO_COLOURED.sub(r"\1xxx", prompt)  # "a red and white ball": no link
    named = _concepts(prompt, concepts)
    if subjects:
        places = [match.span() for match in words.any_of(subjects).finditer(prompt)]
    else:
        nouns = {*plain, *words.everyday_nouns(), *(concepts.values() if named else ())}
        known = words.any_of(frozenset(nouns))
        places = _plain_nouns(prompt, known, named)
    taken = [phrase.span for phrase in named]
    free = [place for place in places if not any(place[0] < high and place[1] > low for low, high in taken)]
    named = [_with_noun_beside(prompt, phrase, free) for phrase in named]
    owned = {phrase.noun for phrase in named}
    things = named + [
        Phrase(prompt[slice(*place)].lower(), None, place) for place in free if place not in owned
    ]
    if not subjects:
        things += _unlisted(prompt, things, known)
    return _bounded(prompt, sorted(things, key=lambda thing: thing.span))


# ---------------------------------------------------------------- concepts


def _concepts(prompt: str, concepts: dict[str, str]) -> list[Phrase]:
    """Each token of ``concepts`` with its own noun, where that is the same thing."""
    tokens = [match for match in TOKEN_LIKE.finditer(prompt) if match.group() in concepts]
    nouns: dict[int, Span] = {}
    for look in (_noun_after, _noun_before):
        for match in tokens:
            if match.start() in nouns:
                continue
            found = look(prompt, match.span(), concepts[match.group()])
            inside = [*nouns.values(), *(other.span() for other in tokens)]
            if found and not any(found[0] < high and found[1] > low for low, high in inside):
                nouns[match.start()] = found
    return [Phrase(match.group(), match.span(), nouns.get(match.start())) for match in tokens]


def _own(noun: str) -> str:
    """A pattern of a concept's noun and of each of its words: "duck" and "toy" of "duck toy"."""
    parts = [noun, *(word for word in noun.split() if " " in noun and len(word) > 2)]
    return rf"(?P<noun>{'|'.join(map(words.either_number, parts))})(?![\w-])"


def _noun_after(prompt: str, token: Span, noun: str) -> Span | None:
    own, several = _own(noun), rf"(?:{_ADJECTIVE}){{0,3}}?"
    one = rf"(?:{words.DETERMINER}\s+){several}{own}"
    no_list = r"(?!\s*,?\s*(?:and|or|&|\+)\b)"
    for pattern in (
        rf"(?:['’]s)?\s+(?:(?:the|my|our|your)\s+)?(?:(?!\w+ing\b){_ADJECTIVE}){{0,2}}?{own}",
        rf"\s*,\s*(?:who is\s+)?{one}(?=\s*,|\s*[.;]|\s*$|\s)(?!\s+(?:and|or|&|\+|next to|beside)\b)",
        rf"\s+(?:is|as)\s+{one}{no_list}",
        rf"\s*\(\s*(?:{words.DETERMINER}\s+)?{several}{own}\s*\)",
    ):
        if match := re.compile(pattern, re.IGNORECASE).match(prompt, token[1]):
            return match.span("noun")
    return None


def _noun_before(prompt: str, token: Span, noun: str) -> Span | None:
    own, before = _own(noun), prompt[: token[0]]
    mine = r"(?:my|our|your|his|her|their)"
    for pattern in (
        rf"(?<![\w-]){own}(?:\s*,)?\s+(?:named|called|that is|who is|whose name is)\s+$",
        rf"(?<![\w-]){own}\s+$",
        rf"\b{mine}\s+(?:{_ADJECTIVE}){{0,3}}?{own}\s*,\s*$",
        rf"(?<![\w-]){own}\s*\(\s*$",
    ):
        if matches := list(re.finditer(pattern, before, re.IGNORECASE)):
            return matches[-1].span("noun")
    return None


def _with_noun_beside(prompt: str, phrase: Phrase, free: list[Span]) -> Phrase:
    """A token without its own noun takes the plain noun right behind it: "<rex> puppy" is one thing."""
    if phrase.noun or not phrase.token:
        return phrase
    beside = [
        span for span in free if not prompt[phrase.token[1] : span[0]].strip() and span[0] > phrase.token[1]
    ]
    return Phrase(phrase.name, phrase.token, beside[0]) if beside else phrase


# ---------------------------------------------------------------- plain nouns


def _plain_nouns(prompt: str, nouns: re.Pattern, named: list[Phrase]) -> list[Span]:
    """The nouns that head a phrase of their own and are joined to others rather than a setting."""
    spans = [match.span() for match in nouns.finditer(prompt)]
    starts = {span[0] for span in spans}
    heads, worn = [], False
    tokens = [phrase.token for phrase in named if phrase.token]
    for low, high in spans:
        following = re.match(r"\s+", prompt[high:])
        if (following and high + following.end() in starts) or not _ENDS.match(prompt, high):
            continue  # "dog house": the house; "dog food", "dog's bowl": another thing
        if _PICTURE_OF.match(prompt, low):
            continue
        own = any(not prompt[end:low].strip() and low > end for _, end in tokens)  # "<rex> puppy"
        begin = _phrase_start(prompt, low)
        joined = bool(_JOINS.search(prompt[:begin])) and not _BEYOND.match(prompt, high)
        is_worn = words.WORN.fullmatch(prompt[low:high]) is not None
        if is_worn and (worn or re.search(r"\bwith\s*$", prompt[:begin], re.IGNORECASE)):
            joined = False
        worn = is_worn and not joined
        if joined or own:
            heads.append((low, high))
    return heads


def _unlisted(prompt: str, things: list[Phrase], listed: re.Pattern) -> list[Phrase]:
    """Noun phrases with an article and an unlisted noun, joined to a thing: "a zorblax and a quimby"."""
    found = []
    noun = rf"(?P<noun>(?!(?:{words.STOP.pattern})\b)[^\W\d_][^\W\d_'’-]+)"
    pattern = rf"\ban?\s+(?:{_ADJECTIVE}){{0,3}}?{noun}(?![\w'’<-])"
    for match in re.finditer(pattern, prompt, re.IGNORECASE):
        low, high = match.span("noun")
        while more := re.match(r"\s+([^\W\d_]+)(?![\w'’>-])", prompt[high:]):
            if _ENDS.match(prompt, high):
                break
            low, high = high + more.start(1), high + more.end(1)
        word = prompt[low:high]
        crossed = any(thing.span[0] < high and thing.span[1] > match.start() for thing in things)
        no_thing = words.NO_THING.fullmatch(word) or listed.fullmatch(word) or re.search(r"(?:ing|ly)$", word)
        heads = _ENDS.match(prompt, high) and not re.match(r"\s+<", prompt[high:])
        joined = _STARTS_OR_AND.search(prompt[: match.start()]) and not _BEYOND.match(prompt, high)
        if heads and joined and not crossed and not no_thing:
            found.append(Phrase(word.lower(), None, (low, high)))
    return found if len(found) + len(things) > 1 else []


# ---------------------------------------------------------------- what belongs to each


def _phrase_start(prompt: str, low: int, least: int = 0) -> int:
    """Where the noun phrase whose token or noun begins at ``low`` begins: its last article, or behind the
    last preposition or link.
    """
    before = prompt[least:low]
    bounds = [
        match.end()
        for match in re.finditer(
            rf"[^\w\s'’-]\s*|\b(?:{words.SETTING}|and|or|plus|with|by|near|beside|next to|"
            r"is|are|above|below)\s+",
            before,
            re.IGNORECASE,
        )
    ]
    bound = bounds[-1] if bounds else 0
    articles = [match.start() for match in _DETERMINED.finditer(before) if match.start() >= bound]
    return least + (articles[-1] if articles else bound)


def _bounded(prompt: str, things: list[Phrase]) -> list[Phrase]:
    """``things`` with the words of each: adjectives between the link and a thing are that thing's."""
    if not things:
        return []
    starts, ends = [_phrase_start(prompt, things[0].span[0])], []
    for one, other in pairwise(things):
        end, start = _parted(prompt, one.span[1], other.span[0])
        ends.append(end)
        starts.append(start)
    last = things[-1].span[1]
    of_last = _MADE_OF.match(prompt, last)  # "a glass of wine"
    ends.append(of_last.end() if of_last else last)
    starts = [
        start + len(prompt[start : thing.span[0]]) - len(prompt[start : thing.span[0]].lstrip())
        for start, thing in zip(starts, things)
    ]
    return [
        Phrase(thing.name, thing.token, thing.noun, start, end)
        for thing, start, end in zip(things, starts, ends)
    ]


def _parted(prompt: str, low: int, high: int) -> Span:
    """Of the words between two things where the first one's end and where the second one's begin."""
    links = list(words.LINK.finditer(prompt, low, high))
    determined = [link for link in links if _DETERMINED.match(prompt[link.end() : high] + " ")]
    bare = [link for link in links if not words.STOP.search(prompt[link.end() : high])]
    for link in (*reversed(determined), *reversed(bare)):
        return link.start(), link.end()
    start = _phrase_start(prompt, high, low)
    dangling = _DANGLING.search(prompt[low:start])
    return low + dangling.start() if dangling else start, start

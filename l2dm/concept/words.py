"""Tokens such as ``<rex>``, class nouns such as ``dog``, and the sentences that photos are captioned with."""

from __future__ import annotations

import re
import unicodedata

from ..errors import TokenError

TOKEN = re.compile(r"<[a-z0-9][a-z0-9_-]{0,30}>")
#: Anything that looks as if it were meant to be a token.
TOKEN_LIKE = re.compile(r"<[^<>\s]*>")
_NOUN = re.compile(r"[^\W\d_]+(?:[ '-][^\W\d_]+){0,3}")

#: Common nouns: what a concept is mixed with, the first one and later ones too.
CONTEXT_NOUNS = ("cat", "car", "tree", "apple", "cup", "book", "flower", "ball")
#: Captions of photos that come without one; ``{}`` is the concept.
TEMPLATES = ("a photo of {}", "a picture of {}", "{}", "a photo of the {}", "a close-up photo of {}")


def check_token(token: str) -> str:
    """``token`` itself, or a TokenError that says how to write it."""
    if not isinstance(token, str) or not TOKEN.fullmatch(token):
        bare = re.sub(r"[^a-z0-9_-]", "", str(token).lower()).lstrip("_-")[:31]
        hint = f"; did you mean '<{bare}>'?" if bare else ""
        raise TokenError(
            f"token {token!r}: expected a name in angle brackets, of lower-case letters, digits, '-' and "
            "'_', "
            f"such as '<rex>'{hint}"
        )
    if token in ("<|startoftext|>", "<|endoftext|>"):
        raise TokenError(f"token {token!r} is reserved")
    return token


def check_noun(noun: str) -> str:
    """``noun`` in lower case with single spaces, or a TokenError."""
    cleaned = unicodedata.normalize("NFC", " ".join(str(noun).lower().split()))
    if not _NOUN.fullmatch(cleaned) or len(cleaned) > 60:
        raise TokenError(
            f"noun {noun!r}: expected one to four words naming the concept's class, such as 'dog' or 'duck "
            "toy'"
        )
    return cleaned


def file_stem(noun: str) -> str:
    """A noun's own part of a file name: ``teddy bear`` -> ``teddy_bear``, other than ``teddy-bear``."""
    return noun.replace(" ", "_")


def caption_for(text: str, token: str, noun: str) -> str:
    """A caption as it stands beside a photo, with the concept named: ``token noun`` once and for sure."""
    words, concept = " ".join(text.split()), f"{token} {noun}"
    if token in words:
        return words
    swapped, count = re.subn(
        rf"\b(?:(?:a|an|the) )?{re.escape(noun)}\b", concept, words, count=1, flags=re.IGNORECASE
    )
    return swapped if count else f"a photo of {concept}, {words}"


def article(words: str) -> str:
    """``apple`` -> ``an apple``; plurals such as ``grapes`` go without."""
    if words.endswith("s") and not words.endswith(("ss", "us")):
        return words
    return ("an " if words[0] in "aeiou" else "a ") + words


def class_prompt(noun: str) -> str:
    """``dog`` -> ``a photo of a dog``: the prompt of prior pairs."""
    return f"a photo of {article(noun)}"

"""A version: one commit of a world."""

from __future__ import annotations

from dataclasses import dataclass, field

from .names import picture_file
from .schema import (
    STRICT,
    Concepts,
    Count,
    Digest,
    Drift,
    FileNames,
    Files,
    Names,
    Noun,
    Scores,
    Seconds,
    Settings,
    Text,
    ThreadCounts,
    Token,
    Tokens,
)


@dataclass(frozen=True)
class Version:
    """One commit: a concept that was learnt, and the files that hold the whole world after it."""

    __pydantic_config__ = STRICT

    version: Count
    parent: Count
    created: Text
    token: Token
    noun: Noun
    photos: Count
    seconds: Seconds
    settings: Settings
    concepts: Concepts  # token -> noun, in the order of learning
    files: Files = field(
        default_factory=dict
    )  # name -> SHA-256, up to format 2; since then in the folder's own record
    scores: Scores = field(default_factory=dict)  # token -> its latest Score
    drift: Drift = field(
        default_factory=dict
    )  # class noun -> how far its pictures have moved from the base's
    threads: ThreadCounts = field(default_factory=list)
    adopted: Count = 0  # vectors that the base itself had for the token, and that learning began with
    drawn: Tokens = field(
        default_factory=list
    )  # concepts remembered by what the world drew of them, not by their photos
    record: Digest = ""  # SHA-256 of the folder's own record
    pictures: Names = field(default_factory=list)  # tokens and nouns whose pictures it has
    spared: FileNames = field(
        default_factory=list
    )  # files that a repair has put aside: it is whole without them

    def shows(self, name: str) -> bool:
        """Whether it has its examination's pictures of a token or a noun."""
        return name in self.pictures or picture_file(name) in self.files

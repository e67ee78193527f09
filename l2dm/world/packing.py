"""Versions as the manifest holds them: of each what is otherwise than in the one before, so that a manifest
grows by as much with every concept.

In memory a version tells everything. Of its tables the manifest has entries that came or changed, and null
for those that went; a table that cannot be told so, such as one in another order, is given ``anew``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from typing import Annotated, Any, Literal, NotRequired

from pydantic import BeforeValidator, Field, FiniteFloat
from typing_extensions import TypedDict

from ..spelling import today
from .schema import (
    MOST_ENTRIES,
    STRICT,
    Count,
    Drift,
    FileNames,
    Names,
    Noun,
    Scalar,
    Seconds,
    Sha256,
    Text,
    ThreadCounts,
    Token,
    as_tuple,
)
from .version import Version

#: Tables that go on from version to version.
_TABLES = ("settings", "concepts", "scores", "drawn")
#: Entries that all tables of all versions may have together once they are unpacked: a small file of a
#: stranger's must not fill the memory.
MOST_UNPACKED = 5_000_000

_SCORE = ("likeness", "own", "version")
ScoreRow = Annotated[tuple[FiniteFloat, FiniteFloat, Count], BeforeValidator(as_tuple)]


class Packed(TypedDict):
    """A version in the manifest, under its number. Left out: ``parent``, where it is the version before; what
    is as by default; and of tables what is as in the parent."""

    __pydantic_config__ = STRICT  # type: ignore[misc]
    parent: NotRequired[Count]
    created: Text
    token: Token
    noun: Noun
    photos: NotRequired[Count]
    seconds: NotRequired[Seconds]
    threads: NotRequired[ThreadCounts]
    adopted: NotRequired[Count]
    record: Sha256
    pictures: NotRequired[Names]
    spared: NotRequired[FileNames]
    drift: NotRequired[Drift]
    settings: NotRequired[Annotated[dict[Text, Scalar], Field(max_length=1000)]]
    concepts: NotRequired[Annotated[dict[Token, Noun | None], Field(max_length=MOST_ENTRIES)]]
    scores: NotRequired[Annotated[dict[Token, ScoreRow | None], Field(max_length=MOST_ENTRIES)]]
    drawn: NotRequired[Annotated[dict[Token, Literal[True] | None], Field(max_length=MOST_ENTRIES)]]
    anew: NotRequired[list[Literal["settings", "concepts", "scores", "drawn"]]]


def packed(versions: Mapping[int, Version]) -> dict[str, dict[str, Any]]:
    """What the manifest says of ``versions``."""
    found, before = {}, 0
    for number in sorted(versions):
        version = versions[number]
        found[str(number)] = _packed(version, versions.get(version.parent), before)
        before = number
    return found


def _packed(version: Version, parent: Version | None, before: int) -> dict[str, Any]:
    said: dict[str, Any] = {"parent": version.parent} if version.parent != before else {}
    anew = []
    for field in dataclasses.fields(Version):
        if field.name in ("version", "parent", *_TABLES, "files"):
            continue
        value = getattr(version, field.name)
        default = field.default_factory() if callable(field.default_factory) else field.default
        if value != default or field.name in ("created", "token", "noun", "record"):
            said[field.name] = value
    for name in _TABLES:
        now, then = _table(version, name), _table(parent, name)
        change = changed(then, now)
        if change is None or len(change) > len(now):
            anew.append(name)
            change = now
        if change or name in anew:
            said[name] = {t: v and _row(v) for t, v in change.items()} if name == "scores" else change
    return {**said, "anew": anew} if anew else said


def _table(version: Version | None, name: str) -> dict[str, Any]:
    if version is None:
        return {}
    value = getattr(version, name)
    return dict.fromkeys(value, True) if name == "drawn" else value


def _row(score: Mapping[str, Any]) -> list[Any]:
    return [score[name] for name in _SCORE]


def changed(then: dict[str, Any], now: dict[str, Any]) -> dict[str, Any] | None:
    """What of ``then`` is otherwise ``now``, null for what went; None where that does not tell ``now``, its
    order included.
    """
    if then == now and list(then) == list(now):
        return {}
    change = dict.fromkeys(name for name in then if name not in now)
    change |= {name: value for name, value in now.items() if name not in then or then[name] != value}
    if None in (change[name] for name in change if name in now):
        return None
    told = applied(then, change)
    return change if list(told.items()) == list(now.items()) else None


def applied(then: dict[str, Any], change: Mapping[str, Any], whole: bool = False) -> dict[str, Any]:
    """``then`` after ``change``, which is its ``whole`` content where that is said."""
    if not change:
        return then
    now = {**then, **change}
    for name in [] if whole else [name for name, value in change.items() if value is None]:
        if name not in then:
            raise ValueError(f"{name[:80]} goes, but was not there")
        del now[name]
    return now


def unpacked(found: Mapping[int, Packed]) -> dict[int, Version]:
    """The versions that ``packed`` told. Raises ValueError, which names the first that cannot be."""
    versions: dict[int, Version] = {}
    tables: dict[int, dict[str, dict[str, Any]]] = {0: {name: {} for name in _TABLES}}
    before, entries = 0, 0
    for number in sorted(found):
        said: dict[str, Any] = dict(found[number])
        parent, anew = said.pop("parent", before), said.pop("anew", [])
        if parent >= number or parent not in tables:
            raise ValueError(f"versions.{number}: its parent {parent} is not among the versions before it")
        scores = {t: row and dict(zip(_SCORE, row)) for t, row in said.pop("scores", {}).items()}
        changes = {**said, "scores": scores}
        try:
            own = tables[number] = {
                name: applied(
                    {} if name in anew else tables[parent][name], changes.get(name, {}), name in anew
                )
                for name in _TABLES
            }
        except ValueError as wrong:
            raise ValueError(f"versions.{number}: {wrong}") from None
        if gone := [name for name in anew if name != "settings" and None in own[name].values()]:
            raise ValueError(f"versions.{number}.{gone[0]}: null where it is given anew")
        entries += sum(len(own[name]) for name in _TABLES if own[name] is not tables[parent][name])
        if entries > MOST_UNPACKED:
            raise ValueError(f"versions.{number}: with those before it, more than {MOST_UNPACKED} entries")
        facts: dict[str, Any] = {"photos": 0, "seconds": 0.0}
        facts |= {name: value for name, value in said.items() if name not in _TABLES}
        facts |= {**own, "settings": today(own["settings"]), "drawn": list(own["drawn"])}
        versions[number] = Version(**facts, version=number, parent=parent)
        before = number
    return versions

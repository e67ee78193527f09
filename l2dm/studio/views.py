"""What a world looks like to the pages: cards of concepts, the line of versions, its examination's pictures."""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import WorldError
from ..world.manifest import COPY, NAME, Manifest, Version
from ..world.names import picture_file
from ..world.repository import Repository

CELL, GAP = 192, 6  # of the library's contact sheets


@dataclass(frozen=True)
class Card:
    """One concept. ``strength``: (version, likeness in points of 100) of each examination, oldest first; ``preview``: the version
    that has a picture of it, 0 where none has."""

    token: str
    noun: str
    learnt: Version | None
    preview: int = 0
    strength: list[tuple[int, float]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.token} {self.noun}"


def exists(world: Path) -> bool:
    return any((world / name).is_file() for name in (NAME, COPY))


def opened(world: Path) -> Repository:
    """Its files as they are now, without a model. Raises WorldError, as ever."""
    return Repository.open(world, whole=False)


def settings(world: Path, kind: str, given: dict[str, Any] | None = None) -> Any:
    """This world's settings of ``kind``, with what was ``given``. Raises SettingsError."""
    from .. import World  # imports torch: not before it is needed

    return World.open(world, whole=False).settings(kind, given, place="the form")


def cards(manifest: Manifest) -> list[Card]:
    """The concepts of now, newest first."""
    line = manifest.lineage()
    return [_card(token, noun, line) for token, noun in reversed(manifest.concepts.items())]


def _card(token: str, noun: str, line: list[Version]) -> Card:
    learnt = max((n for n, v in enumerate(line) if v.token == token and token in v.concepts), default=0)
    since = [version for version in line[learnt:] if token in version.concepts]
    strength = {}
    for version in since:
        if score := version.scores.get(token):
            strength[score["version"]] = round(100 * score["likeness"], 1)
    preview = next((v.version for v in reversed(since) if v.shows(token)), 0)
    own = line[learnt] if line and line[learnt].token == token else None
    return Card(token, noun, own, preview, sorted(strength.items()))


@dataclass(frozen=True)
class Stop:
    """One version on the line: what it did, in words."""

    number: int
    what: str
    name: str
    when: str
    here: bool


def versions(manifest: Manifest) -> list[Stop]:
    """From the fresh world to now."""
    stops = [
        Stop(0, "fresh world", "", manifest.journal[0]["at"] if manifest.journal else "", manifest.head == 0)
    ]
    for version in manifest.lineage():
        what = "learnt" if version.token in version.concepts else "forgot"
        stops.append(
            Stop(
                version.version,
                what,
                f"{version.token} {version.noun}",
                version.created,
                version.version == manifest.head,
            )
        )
    return stops


def sheet(world: Repository, number: int, name: str, cell: int | None = None) -> bytes:
    """The PNG of the examination's pictures of a token or noun at a version: all, or one. Raises WorldError where it has none."""
    manifest = world.manifest
    if number not in manifest.versions or not manifest.versions[number].shows(name):
        raise WorldError(f"{world.path}: version {number} has no pictures of {name}")
    files = manifest.recorded(world.path, number)
    if cell is None:
        return files.read(picture_file(name))
    x, y = GAP + cell % 4 * (CELL + GAP), GAP + cell // 4 * (CELL + GAP)
    content = io.BytesIO()
    files.picture(picture_file(name)).crop((x, y, x + CELL, y + CELL)).save(content, "PNG")
    return content.getvalue()


def day(stamp: str) -> str:
    """``2026-11-26T21:24:04+00:00`` -> ``2026-11-26 21:24``."""
    return stamp[:16].replace("T", " ")


def facts(world: Repository) -> dict[str, Any]:
    """What templates need of a world."""
    manifest = world.manifest
    return {
        "cards": cards(manifest),
        "versions": versions(manifest),
        "head": manifest.head,
        "base": manifest.base,
    }

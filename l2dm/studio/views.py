"""What the pages show of a world: cards of concepts, the line of versions, its examination's pictures."""

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


#: What the journal calls a change -> what a person is told that it did.
DONE = {
    "learn": "learnt",
    "import": "taken in",
    "forget": "forgot",
    "rename": "renamed",
    "repair": "repaired without",
}
#: Changes that brought a concept, so that one may ask what it did.
BROUGHT = ("learnt", "taken in")


@dataclass(frozen=True)
class Card:
    """One concept. ``strength``: (version, likeness in points of 100) of each examination, oldest first;
    ``preview``: the version that has a picture of it, 0 where none has, and ``pictured``: what it was called
    there.
    """

    token: str
    noun: str
    learnt: Version | None
    preview: int = 0
    pictured: str = ""
    strength: list[tuple[int, float]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"{self.token} {self.noun}"


def exists(world: Path) -> bool:
    return any((world / name).is_file() for name in (NAME, COPY))


def opened(world: Path) -> Repository:
    """Its files as they are now, without a model. Raises WorldError, as ever."""
    return Repository.open(world, verify=False)


def settings(world: Path, kind: str, given: dict[str, Any] | None = None) -> Any:
    """This world's settings of ``kind``, with what was ``given``. Raises SettingsError."""
    from .. import World  # imports torch: not before it is needed

    return World.open(world, verify=False).settings(kind, given, place="the form")


def cards(manifest: Manifest) -> list[Card]:
    """The concepts of now, newest first."""
    return [_card(manifest, token, noun) for token, noun in reversed(manifest.concepts.items())]


def _card(manifest: Manifest, token: str, noun: str) -> Card:
    since = _since(manifest, token)
    strength = {}
    for version, name in since:
        if score := version.scores.get(name):
            strength[score["version"]] = round(100 * score["likeness"], 1)
    pictured = next(((v.version, name) for v, name in since[::-1] if v.shows(name)), (0, token))
    learnt = since[0][0] if since and since[0][0].token == since[0][1] else None
    return Card(token, noun, learnt, *pictured, sorted(strength.items()))


def _since(manifest: Manifest, token: str) -> list[tuple[Version, str]]:
    """The versions that have a concept of now, from the one that brought it, each with what it was called
    there.
    """
    found, was = [], renamed(manifest)
    for version in reversed(manifest.lineage()):
        if token not in version.concepts:
            break
        found.append((version, token))
        if version.token == token:
            token = was.get(version.version, token)
    return found[::-1]


def renamed(manifest: Manifest) -> dict[int, str]:
    """Version that renamed a concept -> its token before."""
    return {
        number: str(line["was"])
        for line in manifest.journal
        if line["action"] == "rename" and "was" in line and isinstance(number := line.get("version"), int)
    }


@dataclass(frozen=True)
class Stop:
    """One version on the line: what it did, in words."""

    number: int
    what: str
    name: str
    when: str
    here: bool

    @property
    def brought(self) -> bool:
        """Whether it brought a concept, so that one may ask what it did."""
        return self.what in BROUGHT


def versions(manifest: Manifest) -> list[Stop]:
    """From the fresh world to now."""
    began = str(manifest.journal[0]["at"]) if manifest.journal else ""
    stops, was = [Stop(0, "fresh world", "", began, manifest.head == 0)], renamed(manifest)
    actions: dict[int, str] = {}
    for line in manifest.journal:
        if isinstance(number := line.get("version"), int):
            actions.setdefault(number, str(line["action"]))
    for version in manifest.lineage():
        number, guess = version.version, "learn" if version.token in version.concepts else "forget"
        what = DONE.get(actions.get(number, guess), DONE[guess])
        before = f"{was[number]} to " if number in was else ""
        stops.append(
            Stop(
                number,
                what,
                f"{before}{version.token} {version.noun}",
                version.created,
                number == manifest.head,
            )
        )
    return stops


def sheet(world: Repository, number: int, name: str, cell: int | None = None) -> bytes:
    """The PNG of the examination's pictures of a token or noun at a version: all, or one. Raises WorldError
    where it has none.
    """
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

"""The manifest: which version is the world's present one, and what each version holds."""

from __future__ import annotations

import dataclasses
import datetime
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pydantic import TypeAdapter
from typing_extensions import TypedDict

from ..backbone import OWN
from ..concept.words import file_stem
from ..errors import WorldDamaged, WorldError, os_errors
from ..evaluation.examination import Score
from ..files import write_whole
from .integrity import broken_files, check_links
from .schema import (
    MOST_BYTES,
    STRICT,
    BaseName,
    ClipFingerprint,
    Concepts,
    Count,
    Drift,
    Files,
    Fingerprint,
    Journal,
    Noun,
    Scores,
    Seconds,
    Settings,
    Text,
    ThreadCounts,
    Token,
    Tuner,
    parse,
    read_bytes,
)  # fmt: skip

FORMAT = 1
NAME = "manifest.json"
#: Files that a version may have or not.
LOADED = (
    "memory.json", "memory.safetensors", "short-term.json", "short-term.safetensors", "kept.safetensors", "nouns.safetensors",
)  # fmt: skip


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
    files: Files  # name inside the version's folder -> SHA-256
    scores: Scores = field(default_factory=dict)  # token -> its latest Score
    drift: Drift = field(
        default_factory=dict
    )  # class noun -> how far its pictures have moved from the base's
    threads: ThreadCounts = field(default_factory=list)
    adopted: Count = 0  # vectors that the base itself had for the token, and that learning began with


@dataclass(frozen=True)
class Manifest:
    """Everything about a world but its tensors. ``head`` 0 is the fresh world."""

    __pydantic_config__ = STRICT

    base: BaseName
    fingerprint: Fingerprint
    tuner: Tuner
    head: Count = 0
    counter: Count = 0
    versions: dict[int, Version] = field(default_factory=dict)
    journal: Journal = field(default_factory=list)
    format: Count = FORMAT
    clip: BaseName = OWN  # "base" (the base's own folder clip), "none", a folder or a hub id
    revision: Text = ""  # commit of a base from the hub
    variant: Text = ""
    config: Text = ""  # where a single-file base's configurations come from
    clip_fingerprint: ClipFingerprint = (
        ""  # of the CLIP model that ``clip`` is, or the features in memory are of
    )

    @property
    def present(self) -> Version | None:
        return self.versions.get(self.head)

    @property
    def concepts(self) -> dict[str, str]:
        """Token -> class noun, in the order of learning."""
        return dict(self.present.concepts) if self.present else {}

    @property
    def scores(self) -> dict[str, Score]:
        """Token -> its latest score."""
        return {token: Score(**score) for token, score in self.present.scores.items()} if self.present else {}

    def _contradiction(self) -> str:
        """What of it cannot be true together; empty when all can."""
        for number, version in self.versions.items():
            if number != version.version or not 0 < number <= self.counter:
                return f"versions.{number}: it calls itself {version.version}; counter is {self.counter}"
            if version.parent >= number or (version.parent and version.parent not in self.versions):
                return f"versions.{number}: its parent {version.parent} is not among the versions before it"
            if version.settings and not isinstance(version.settings.get("method"), str):
                return f"versions.{number}.settings: no method"
        return f"head {self.head} is not among its versions" if self.head and not self.present else ""

    def damage(self, world: Path, number: int) -> list[str]:
        """What is broken in a version, a line for each file; nothing is in the fresh world, version 0."""
        files = self.versions[number].files if number else {}
        return [f"{path}: {why}" for path, why in broken_files(folder_of(world, number), files, LOADED)]

    def check_version(self, world: Path, number: int) -> None:
        """Raise WorldDamaged when a version is not whole, with the nearest way out."""
        if not (broken := self.damage(world, number)):
            return
        parent = self.versions[number].parent
        back = "undo" if number == self.head and not self.damage(world, parent) else "repair"
        raise WorldDamaged(f"{broken[0]}; restore it from a backup, or go back with: l2dm {back} {world}")

    def lineage(self) -> list[Version]:
        """The versions that led to the present one, oldest first."""
        line, number = [], self.head
        while number in self.versions:
            line.append(self.versions[number])
            number = line[-1].parent
        return line[::-1]

    def write(self, world: Path) -> None:
        try:
            data = (json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False) + "\n").encode()
        except UnicodeEncodeError:
            raise WorldError(f"{world}: the base's name {self.base!r} is not UTF-8; rename it") from None
        if len(data) > MOST_BYTES:
            raise WorldError(
                f"{world}: its manifest would be larger than {MOST_BYTES >> 20} MiB; begin another world"
            )
        write_whole(world / NAME, data)

    @classmethod
    def read(cls, world: Path, whole: bool = True) -> Manifest:
        """The manifest; with ``whole`` also the present version's files are checked against it.

        Raises WorldError when there is no world, WorldDamaged when its manifest is broken or its files are not whole."""
        path = world / NAME
        with os_errors(world):
            if not world.is_dir() or not path.is_file():
                raise WorldError(f"{world}: no world here; make one with: l2dm init {world}")
        check_links(world)
        data = read_bytes(path)
        number = parse(data, _FORMATTED, path)["format"]
        if number != FORMAT:
            raise WorldError(
                f"{path}: format {number}, but this l2dm reads format {FORMAT}; use the version that made it"
            )
        manifest = parse(data, _MANIFEST, path)
        if wrong := manifest._contradiction():
            raise WorldDamaged(f"{path}: not a valid manifest ({wrong}); restore it from a backup")
        if whole:
            manifest.check_version(world, manifest.head)
        return manifest


class _Formatted(TypedDict):
    """Any manifest, of this format or another."""

    format: Count


_FORMATTED, _MANIFEST = TypeAdapter(_Formatted), TypeAdapter(Manifest)


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def entry(action: str, **facts: Any) -> dict[str, Any]:
    """A line of the journal."""
    return {"at": now(), "action": action, **facts}


def folder_of(world: Path, version: int) -> Path:
    return world / "versions" / f"{version:04d}"


def picture_file(name: str) -> str:
    """Where a version keeps the examination's pictures of a token or a class noun."""
    return f"concept-{name[1:-1]}.png" if name.startswith("<") else f"noun-{file_stem(name)}.png"

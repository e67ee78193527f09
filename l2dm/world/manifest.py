"""The manifest: which version is the world's present one, and what each version holds."""

from __future__ import annotations

import dataclasses
import datetime
import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import WorldDamaged, WorldError
from ..evaluation.examination import Score
from .store import digest, write_json

FORMAT = 1
NAME = "manifest.json"


@dataclass(frozen=True)
class Version:
    """One commit: a concept that was learnt, and the files that hold the whole world after it."""

    version: int
    parent: int
    created: str
    token: str
    noun: str
    photos: int
    seconds: float
    settings: dict[str, Any]
    concepts: dict[str, str]  # token -> noun, in the order of learning
    files: dict[str, str]  # path inside the version's folder -> SHA-256
    scores: dict[str, dict[str, float]] = field(default_factory=dict)  # token -> its latest Score
    drift: dict[str, float] = field(
        default_factory=dict
    )  # class noun -> how far its pictures have moved from the base's


@dataclass(frozen=True)
class Manifest:
    """Everything about a world but its tensors. ``head`` 0 is the fresh world."""

    base: str
    fingerprint: str
    tuner: str
    head: int = 0
    counter: int = 0
    versions: dict[int, Version] = field(default_factory=dict)
    journal: list[dict[str, Any]] = field(default_factory=list)
    format: int = FORMAT

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

    def lineage(self) -> list[Version]:
        """The versions that led to the present one, oldest first."""
        line, number = [], self.head
        while number in self.versions:
            line.append(self.versions[number])
            number = line[-1].parent
        return line[::-1]

    def write(self, world: Path) -> None:
        write_json(world / NAME, dataclasses.asdict(self))

    @classmethod
    def read(cls, world: Path, whole: bool = True) -> Manifest:
        """The manifest; with ``whole`` also the present version's files are checked against it.

        Raises WorldError when there is no world, WorldDamaged when its manifest is broken or its files are not whole."""
        path = world / NAME
        if not world.is_dir() or not path.is_file():
            raise WorldError(f"{world}: no world here; make one with: l2dm init {world}")
        try:
            raw = json.loads(path.read_text(encoding="utf-8"))
            number = raw["format"]
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise WorldDamaged(
                f"{path}: not a readable manifest ({error!r}); restore it from a backup"
            ) from None
        if number != FORMAT:
            raise WorldError(
                f"{path}: format {number}, but this l2dm reads format {FORMAT}; use the version that made it"
            )
        try:
            versions = {int(key): Version(**value) for key, value in raw.pop("versions").items()}
            manifest = cls(versions=versions, **raw)
            if manifest.head and manifest.head not in versions:
                raise ValueError(f"head {manifest.head} is not among its versions")
        except (TypeError, ValueError, KeyError, AttributeError) as error:
            raise WorldDamaged(f"{path}: not a valid manifest ({error}); restore it from a backup") from None
        if manifest.present and whole:
            folder = folder_of(world, manifest.head)
            for name, expected in manifest.present.files.items():
                if not (folder / name).is_file():
                    raise WorldDamaged(
                        f"{folder / name}: missing; restore it from a backup, or go back with: l2dm undo {world}"
                    )
                if name.endswith(".safetensors") and digest(folder / name) != expected:
                    raise WorldDamaged(
                        f"{folder / name}: its content is not what the manifest records; "
                        f"restore it from a backup, or go back with: l2dm undo {world}"
                    )
        return manifest


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def entry(action: str, **facts: Any) -> dict[str, Any]:
    """A line of the journal."""
    return {"at": now(), "action": action, **facts}


def folder_of(world: Path, version: int) -> Path:
    return world / "versions" / f"{version:04d}"


def picture_file(name: str) -> str:
    """Where a version keeps the examination's pictures of a token or a class noun."""
    return f"concept-{name[1:-1]}.png" if name.startswith("<") else f"noun-{name.replace(' ', '-')}.png"

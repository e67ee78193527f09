"""The manifest: which version is the world's present one, and what each version holds."""

from __future__ import annotations

import dataclasses
import datetime
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, TypeVar

from pydantic import Field, TypeAdapter
from typing_extensions import TypedDict

from ..errors import WorldDamaged, WorldError, os_errors
from ..files import write_whole
from . import store
from .links import check_links, check_version
from .packing import Packed, packed, unpacked
from .recorded import Recorded
from .schema import (
    MOST_BYTES,
    MOST_ENTRIES,
    STRICT,
    BaseName,
    ClipFingerprint,
    Count,
    Fingerprint,
    Journal,
    Pending,
    Scalar,
    Text,
    Tuner,
    parse,
    read_bytes,
)
from .sealed import seal, unseal
from .version import Version

if TYPE_CHECKING:
    from ..evaluation.report_card import Score

#: What l2dm writes; earlier ones are read too (``upgrade.py``).
FORMAT = 3
NAME = "manifest.json"
#: The same bytes once more, written first, for when the manifest itself is damaged.
COPY = "manifest-copy.json"

_T = TypeVar("_T")


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
    clip: BaseName = "base"  # the base's own folder clip (``backbone.OWN``), "none", a folder or a hub id
    revision: Text = ""  # commit of a base from the hub
    variant: Text = ""
    config: Text = ""  # where a single-file base's configurations come from
    clip_fingerprint: ClipFingerprint = (
        ""  # of the CLIP model that ``clip`` is, or the features in memory are of
    )

    pending: Pending = field(default_factory=list)  # what a purge has still to remove

    @property
    def present(self) -> Version | None:
        return self.versions.get(self.head)

    @property
    def concepts(self) -> dict[str, str]:
        """Token -> class noun, in the order of learning."""
        return dict(self.present.concepts) if self.present else {}

    @property
    def drawn(self) -> list[str]:
        """Tokens of concepts that are remembered by what the world drew of them."""
        return list(self.present.drawn) if self.present else []

    @property
    def scores(self) -> dict[str, Score]:
        """Token -> its latest score."""
        from ..evaluation.report_card import Score  # and numpy, which verbs over files alone can do without

        return (
            {
                token: Score(score["likeness"], score["own"], score["version"])
                for token, score in self.present.scores.items()
            }
            if self.present
            else {}
        )

    def _contradiction(self) -> str:
        """What of it cannot be true together; empty when all can."""
        for number, version in self.versions.items():
            if number != version.version or not 0 < number <= self.counter:
                return f"versions.{number}: it calls itself {version.version}; counter is {self.counter}"
            if version.parent >= number or (version.parent and version.parent not in self.versions):
                return f"versions.{number}: its parent {version.parent} is not among the versions before it"
            if version.settings and not isinstance(version.settings.get("method"), str):
                return f"versions.{number}.settings: no method"
        if used := {f"versions/{number:04d}" for number in self.versions}.intersection(self.pending):
            return f"pending: {min(used)} is one of its versions"
        return f"head {self.head} is not among its versions" if self.head and not self.present else ""

    def known(self, world: Path, number: int) -> int:
        """``number``, of a version or 0. Raises WorldError for any other."""
        if number and number not in self.versions:
            numbers = ", ".join(map(str, [0, *self.versions]))
            raise WorldError(f"{world}: no version {number}; it has {numbers}")
        return number

    def recorded(self, world: Path, number: int) -> Recorded:
        """A version's files; the fresh world, version 0, has none."""
        way_out = (
            f"see what can be saved with: l2dm verify {world}; put the rest aside with: l2dm repair {world}"
        )
        folder, version = folder_of(world, number), self.versions.get(number)
        if version is None:
            return Recorded(folder, {}, "the manifest", way_out)
        check_version(folder)
        if self.format < 3:
            return Recorded(folder, version.files, "the manifest", way_out)
        return Recorded.by_itself(folder, way_out, version.record).missing(version.spared)

    def lineage(self) -> list[Version]:
        """The versions that led to the present one, oldest first."""
        line, number = [], self.head
        while number in self.versions:
            line.append(self.versions[number])
            number = line[-1].parent
        return line[::-1]

    def teaching(self, token: str) -> Version | None:
        """The version that brought a present concept in, or gave it its token; None where a repair has put
        that aside.
        """
        return next((v for v in reversed(self.lineage()) if v.token == token and token in v.concepts), None)

    def told(self) -> dict[str, object]:
        """What is written of it; of an earlier format as it was."""
        if self.format < 3:
            return dataclasses.asdict(self)
        facts = {f.name: getattr(self, f.name) for f in dataclasses.fields(self) if f.name != "versions"}
        return {**facts, "versions": packed(self.versions)}

    def changes_again(self, version: Version) -> bool:
        """Whether ``version`` changed a concept that was learnt before it: by more steps, or by weights of
        another step.
        """
        lines = (line for line in self.journal if line.get("version") == version.version)
        return any(line["action"] == "pick" or line.get("more") is True for line in lines)

    def write(self, world: Path) -> None:
        """At one stroke; the copy first, so that it is never older than a damaged manifest."""
        try:
            data = seal(self.told())
        except UnicodeEncodeError:
            raise WorldError(f"{world}: the base's name {self.base!r} is not UTF-8; rename it") from None
        if len(data) > MOST_BYTES:
            raise WorldError(
                f"{world}: its manifest would be larger than {MOST_BYTES >> 20} MiB; begin another world"
            )
        write_whole(world / COPY, data)
        write_whole(world / NAME, data)

    @staticmethod
    def renew_copy(world: Path) -> None:
        """Write the manifest's copy anew where a kill or damage made it another."""
        content, copy = store.read(world / NAME), world / COPY
        if not copy.is_file() or store.read(copy) != content:
            write_whole(copy, content)

    @classmethod
    def read(cls, world: Path, verify: bool = True) -> Manifest:
        """The manifest; with ``verify`` also the present version's files are checked against their record: of
        those that are one concept's own, which are checked when they are read, only that they are there.

        Raises WorldError when there is no world, WorldDamaged when its manifest is broken or its files are
        not whole.
        """
        check_place(world)
        if verify:
            return steadily(
                world, lambda manifest: manifest.recorded(world, manifest.head).glance() or manifest
            )
        copied = (world / COPY).is_file()
        way_out = f"go back to its copy with: l2dm repair {world}" if copied else "restore it from a backup"
        return cls.of(world / NAME, way_out)

    @classmethod
    def of(cls, path: Path, way_out: str) -> Manifest:
        """The manifest in one file. Raises WorldDamaged, and WorldError for a format that is not known."""
        if not path.is_file():
            raise WorldDamaged(f"{path}: missing; {way_out}")
        data, whole = unseal(read_bytes(path))
        if whole is False:
            raise WorldDamaged(f"{path}: its content is not what its checksum says; {way_out}")
        number = parse(data, _FORMATTED, path, way_out)["format"]
        if not 0 < number <= FORMAT:
            raise WorldError(
                f"{path}: format {number}, but this l2dm reads formats 1 to {FORMAT}; use the version that "
                "made it"
            )
        if number < 3:
            manifest = parse(data, _MANIFEST, path, way_out)
        else:
            manifest = cls._unpacked(parse(data, _PACKED, path, way_out), path, way_out)
        if number > 1 and not whole:
            raise WorldDamaged(f"{path}: its checksum is missing; {way_out}")
        if wrong := manifest._contradiction():
            raise WorldDamaged(f"{path}: not a valid manifest ({wrong}); {way_out}")
        return manifest

    @classmethod
    def _unpacked(cls, told: _Packed, path: Path, way_out: str) -> Manifest:
        try:
            facts: dict[str, Any] = {**told, "versions": unpacked(told["versions"])}
            return cls(**facts)
        except ValueError as wrong:
            raise WorldDamaged(f"{path}: not a valid manifest ({wrong}); {way_out}") from None


class _Packed(TypedDict):
    """A manifest as it is written since format 3."""

    __pydantic_config__ = STRICT  # type: ignore[misc]
    base: BaseName
    fingerprint: Fingerprint
    tuner: Tuner
    head: Count
    counter: Count
    versions: Annotated[dict[int, Packed], Field(max_length=MOST_ENTRIES)]
    journal: Journal
    format: Count
    clip: BaseName
    revision: Text
    variant: Text
    config: Text
    clip_fingerprint: ClipFingerprint
    pending: Pending


class _Formatted(TypedDict):
    """Any manifest, of this format or another."""

    format: Annotated[Count, Field(strict=True)]


def check_place(world: Path) -> None:
    """Raise WorldError where there is no world, or one with symbolic links in it."""
    with os_errors(world):
        if not any((world / name).is_file() for name in (NAME, COPY)):
            raise WorldError(f"{world}: no world here; make one with: l2dm init {world}")
    check_links(world)


def steadily(world: Path, work: Callable[[Manifest], _T]) -> _T:
    """``work`` over the manifest of now. Where what it reads is taken away meanwhile, by an ``undo`` in
    another process, it is done again over the manifest that is there then, so that its result is of one
    version alone.
    """
    manifest = Manifest.read(world, verify=False)
    while True:
        try:
            return work(manifest)
        except WorldDamaged:
            before, manifest = manifest, Manifest.read(world, verify=False)
            if manifest == before:
                raise


_FORMATTED, _MANIFEST, _PACKED = TypeAdapter(_Formatted), TypeAdapter(Manifest), TypeAdapter(_Packed)


Line = dict[str, Scalar | list[Scalar]]


def now() -> str:
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def entry(action: str, **facts: Any) -> Line:
    """A line of the journal."""
    return {"at": now(), "action": action, **facts}


def folder_of(world: Path, version: int) -> Path:
    return world / "versions" / f"{version:04d}"

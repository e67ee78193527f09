"""What is broken in a world, what of it can still be saved, and how the broken is put aside: ``verify`` and
``repair``.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import WorldDamaged, os_errors
from . import schema, store
from .leftovers import clear
from .lock import locked
from .logs import parse_log
from .manifest import COPY, FORMAT, NAME, Manifest, check_place, entry, folder_of
from .names import DRAWN, DRAWN_IN, LOG, NOUNS, PROMPTS, is_of_lesson, own_file, picture_file
from .purging import finish
from .recorded import RECORD, Recorded
from .tensors import check_tensors
from .upgrade import kept_folders, upgrade
from .without import version_without

#: How the files of the short-term memory begin.
_DRAWN = "short-term"
_SCHEMAS: dict[str, Any] = {PROMPTS: schema.PROMPTS, DRAWN_IN: schema.DRAWN_IN, "draft.json": schema.DRAFT}


@dataclass(frozen=True)
class Findings:
    """``faults``: a line for each damaged file. Numbers of versions: ``whole`` ones, ``lost`` ones, and as
    keys of ``spared`` those that can be kept without the files named there. ``aside``: what ``repair`` moves
    into ``quarantine/``; ``head``: the version that it goes to, a new one where it leaves ``without`` out:
    concepts of the present version, the rest of which is whole.
    """

    manifest: Manifest
    faults: list[str]
    whole: list[int]
    lost: list[int]
    spared: dict[int, list[str]]
    aside: list[Path]
    head: int
    without: list[str]


def examine(world: Path, deep: bool = False) -> Findings:
    """Check the manifest and its copy, every file of every version, and all that is kept beside them, against
    their checksums; with ``deep`` also read each file as what it is. Raises WorldError where there is no
    world whose manifest can be read.
    """
    check_place(world)
    with os_errors(world):
        manifest, faults, aside = _manifest(world)
        spared, lost, digest = {}, [], _digest_of_inodes()
        broken = {
            number: _broken_version(world, manifest, number, deep, digest) for number in manifest.versions
        }
        faults += _lines(world, broken)
        for number, found in broken.items():
            folder = folder_of(world, number)
            if any(not _spare(name) for name in found):
                lost.append(number)
                aside.append(folder)
            elif found:
                spared[number] = sorted(_with_groups(found, manifest.recorded(world, number).files))
                aside += [folder / name for name in spared[number]]
        for folder in kept_folders(world):
            if wrong := _broken_folder(folder, manifest.format, deep, digest):
                faults.append(wrong)
                aside.append(folder)
    kept = [number for number in manifest.versions if number not in lost]
    head, without = manifest.head, []
    if manifest.head in lost:
        head = max(kept, default=0)
        if without := _to_leave_out(manifest, broken[manifest.head], head):
            head = manifest.counter + 1
    return Findings(
        manifest, faults, [n for n in kept if n not in spared], lost, spared, aside, head, without
    )


def _to_leave_out(manifest: Manifest, broken: dict[str, str], whole: int) -> list[str]:
    """Concepts of the present version of whose files only their own weights are ``broken``, where it holds
    others that the newest ``whole`` version does not."""
    concepts = manifest.concepts
    tokens = [token for token in concepts if own_file(token) in broken]
    if any(not _spare(name) for name in set(broken).difference(map(own_file, tokens))):
        return []
    earlier = manifest.versions[whole].concepts if whole else {}
    return tokens if set(concepts).difference(tokens, earlier) else []


def repair(world: Path) -> Findings:
    """Go to the newest whole version, or to the present one without the concepts whose own weights are
    broken. What is broken is moved into ``quarantine/``, never removed. Returns what was found."""
    with os_errors(world):
        check_place(world)
        with locked(world):
            manifest, _, aside = _manifest(world)
            if world / NAME in aside:  # its copy does not know all that it may have recorded
                store.sweep(world)
            else:
                clear(world, manifest)
            finish(world, manifest)
            found = examine(world)
            if found.without:
                _leave_out(world, found)
                found = dataclasses.replace(examine(world), faults=found.faults, without=found.without)
            return _repair(world, found)


def _leave_out(world: Path, found: Findings) -> None:
    """Commit the present version without some concepts, before it is put aside itself: a kill leaves one of
    the two.
    """
    for path in (*_unknown(world, found), world / "learning"):
        if path.exists():
            store.set_aside(world, path)
    manifest = upgrade(world, found.manifest)
    head = manifest.recorded(world, manifest.head)
    sound = head.missing(_with_groups((name for name, _ in head.broken()), head.files))
    version = version_without(world, manifest, found.without, sound)
    line = entry("repair", without=found.without, version=version.version)
    number, versions = version.version, {**manifest.versions, version.version: version}
    journal = [*manifest.journal, line]
    dataclasses.replace(manifest, head=number, counter=number, versions=versions, journal=journal).write(
        world
    )


def _unknown(world: Path, found: Findings) -> list[Path]:
    """A damaged manifest, and folders that its copy does not know, which may hold what it did."""
    if world / NAME not in found.aside:
        return []
    known = {folder_of(world, number) for number in found.manifest.versions}
    return [world / NAME, *(f for f in sorted((world / "versions").glob("[0-9]*")) if f not in known)]


def _repair(world: Path, found: Findings) -> Findings:
    aside = [*found.aside, *_unknown(world, found)]
    if (
        found.head != found.manifest.head
    ):  # an unfinished lesson over the version that goes can't be taken up any more
        aside.append(world / "learning")
    for path in aside:
        if path.exists():
            store.set_aside(world, path)
    manifest = upgrade(world, found.manifest)
    versions = manifest.versions
    if not found.faults:
        return found

    def nearest(number: int) -> int:
        while number in found.lost:
            number = versions[number].parent
        return number

    remaining = {
        number: dataclasses.replace(
            version,
            parent=nearest(version.parent),
            spared=sorted({*version.spared, *found.spared.get(number, ())}),
            pictures=[n for n in version.pictures if picture_file(n) not in found.spared.get(number, ())],
        )
        for number, version in versions.items()
        if number not in found.lost
    }
    line = entry("repair", aside=[str(path.relative_to(world)) for path in aside[:1000]], version=found.head)
    dataclasses.replace(
        manifest, head=found.head, versions=remaining, journal=[*manifest.journal, line]
    ).write(world)
    return found


def _manifest(world: Path) -> tuple[Manifest, list[str], list[Path]]:
    """The manifest, or its copy where it is damaged; what is wrong with the two, and what of them is to be
    put aside.
    """
    try:
        manifest = Manifest.of(world / NAME, "its copy is used instead")
    except WorldDamaged as damage:
        if not (world / COPY).is_file():
            Manifest.of(world / NAME, "restore it from a backup")
        return (
            Manifest.of(world / COPY, f"{NAME} is damaged too: restore it from a backup"),
            [str(damage)],
            [world / NAME],
        )
    try:
        if manifest.format == FORMAT:
            Manifest.of(world / COPY, "it is copied again")
    except WorldDamaged as damage:
        return manifest, [str(damage)], [world / COPY]
    return manifest, [], []


def _digest_of_inodes() -> Callable[[Path], str]:
    """``store.digest`` that reads a file with several names once."""
    seen: dict[tuple[int, int], str] = {}

    def digest(path: Path) -> str:
        facts = path.stat()
        key = facts.st_dev, facts.st_ino
        if key not in seen:
            seen[key] = store.digest(path)
        return seen[key]

    return digest


def _with_groups(names: Iterable[str], there: Iterable[str]) -> set[str]:
    """``names``, with the files of a version, which has those that are ``there``, that are of no use without
    them.
    """
    found = set(names)
    if found & {DRAWN, DRAWN_IN}:
        found |= {name for name in there if name.startswith(_DRAWN)}
    return found


def _spare(name: str) -> bool:
    """Whether the next lesson makes the file anew; a version's pictures, and what tells of its lesson, are
    for people alone. It is whole without them.
    """
    spare = name.endswith(".png") or name == NOUNS or name.startswith(_DRAWN)
    return spare or is_of_lesson(name)


def _broken_version(
    world: Path, manifest: Manifest, number: int, deep: bool, digest: Callable[[Path], str]
) -> dict[str, str]:
    try:
        return _broken(manifest.recorded(world, number), deep, digest)
    except WorldDamaged as damage:
        path = folder_of(world, number) / RECORD
        return {RECORD: str(damage).removeprefix(f"{path}: ")}


def _broken(files: Recorded, deep: bool, digest: Callable[[Path], str]) -> dict[str, str]:
    """Name -> what is wrong with it."""
    broken = dict(files.broken(digest))
    for name in files.files if deep else ():
        try:
            if name not in broken:
                _read(files, name)
        except WorldDamaged as damage:
            broken[name] = (
                str(damage).removeprefix(f"{files.folder / name}: ").removesuffix(f"; {files.way_out}")
            )
    return broken


def _read(files: Recorded, name: str) -> None:
    """As what its name says it is."""
    if name.endswith(".safetensors"):
        check_tensors(files.read(name), files.folder / name, files.way_out)
    elif name.endswith(".png"):
        files.picture(name)
    elif name in _SCHEMAS:
        files.json(name, _SCHEMAS[name])
    elif name == LOG:
        try:
            parse_log(files.read(name))
        except ValueError as error:
            raise WorldDamaged(f"{files.folder / name}: not a log ({error}); {files.way_out}") from None


def _lines(world: Path, broken: dict[int, dict[str, str]]) -> Iterator[str]:
    """A line for each damaged file on the disk; one that several versions link is damaged in all of them, and
    said so.
    """
    sharing: dict[Any, list[int]] = {}
    lines: dict[Any, str] = {}
    for number, found in broken.items():
        for name, why in found.items():
            path = folder_of(world, number) / name
            key = (path.stat().st_dev, path.stat().st_ino) if path.is_file() else path
            sharing.setdefault(key, []).append(number)
            lines.setdefault(key, f"{path}: {why}")
    for key, line in lines.items():
        numbers = ", ".join(map(str, sharing[key]))
        yield f"{line} (one file of versions {numbers})" if len(sharing[key]) > 1 else line


def _broken_folder(folder: Path, format: int, deep: bool, digest: Callable[[Path], str]) -> str:
    """What is wrong with a folder that carries its own record; empty when nothing is. In format 1 it may have
    none yet.
    """
    if format < FORMAT and not (folder / RECORD).exists():
        return ""
    try:
        files = Recorded.by_itself(folder, "it is put aside by l2dm repair, and made anew when it is needed")
        for name, why in _broken(files, deep, digest).items():
            raise WorldDamaged(f"{folder / name}: {why}; {files.way_out}")
    except WorldDamaged as damage:
        return str(damage)
    return ""

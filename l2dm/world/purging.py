"""Purging: a world's history is rewritten so that nothing of a concept is left in it, for good.

The versions that held it are written anew without it, beside the old ones and under new numbers; one manifest then names them instead, and
lists in ``pending`` what is still to be removed; that is removed. A kill before the manifest leaves the world as it was; after
it the next writer removes the rest (``finish``).
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..concept.words import COMPANIONS, file_stem
from ..errors import TokenError, WorldError
from ..methods import METHODS, SEPARABLE
from . import names, store
from .draft import unfinished
from .lock import LOCK, MARKER
from .manifest import COPY, NAME, Manifest, Version, entry, folder_of
from .recorded import digests
from .without import copy_without

if TYPE_CHECKING:
    from .repository import Repository

_KNOWN = {
    names.SHARED,
    names.VECTORS,
    names.NOUNS,
    names.FEATURES,
    names.PROMPTS,
    names.DRAWN,
    names.DRAWN_IN,
}


@dataclass(frozen=True)
class Purge:
    """What purging ``token`` does to a world."""

    token: str
    nouns: frozenset[str]  # its own: no other concept has them
    removed: tuple[int, ...]  # versions that only taught or forgot it
    rewritten: dict[int, int]  # versions that held it beside others -> their new numbers
    folders: tuple[str, ...]  # of the world that go whole
    lost: tuple[str, ...]  # what else goes with it
    stays: tuple[str, ...]  # what cannot be taken out, or is not the world's

    @property
    def pending(self) -> list[str]:
        """All folders of the world that are removed when the new manifest is in place."""
        old = sorted([*self.removed, *self.rewritten])
        return [f"{folder_of(Path('.'), number)}".replace("\\", "/") for number in old] + list(self.folders)


def plan(world: Path, manifest: Manifest, token: str) -> Purge:
    """What purging ``token`` would do. Raises TokenError for a token that the world has nothing of, and WorldError where others' weights
    hold it, so that it cannot be purged."""
    versions, draft = manifest.versions, unfinished(world / "learning")
    lines = [line for line in manifest.journal if line["action"] == "rename" and line["version"] in versions]
    if renamed := [line for line in lines if _names(line, token)]:
        raise WorldError(
            f"{world}: {token} was renamed ({renamed[0]['was']} to {renamed[0]['token']}), so versions hold it under two names, and it cannot be purged; "
            f"undo the renaming, or take the other concepts to a new world: l2dm import OTHER_WORLD --from {world} --token TOKEN"
        )
    own = {n for n, v in versions.items() if v.token == token}
    holding = {n for n, v in versions.items() if token in v.concepts}
    told = [line for line in manifest.journal if _names(line, token)]
    if not (own or holding or told or draft == token):
        known = sorted({t for v in versions.values() for t in v.concepts})
        near = difflib.get_close_matches(token, known, 1)
        hint = f"did you mean {near[0]}?" if near else "see l2dm history"
        raise TokenError(f"token {token!r}: {world} has nothing of it; {hint}")
    later = [n for n in versions if n > min(own | holding, default=manifest.counter) and n not in own]
    _check_apart(world, manifest, token, later)
    left = {noun for n, v in versions.items() if n not in own for t, noun in v.concepts.items() if t != token}
    nouns = {v.concepts.get(token, v.noun) for n, v in versions.items() if n in own | holding}
    nouns = {*nouns, *(str(line["noun"]) for line in told if "noun" in line)} - left
    folders, lost = [], []
    if (world / "learning").exists() and (own or holding or draft == token):
        folders.append("learning")
        if draft != token:
            lost.append(f"the unfinished learning of {draft}" if draft else "an unfinished learning")
    if (world / store.QUARANTINE).exists():
        folders.append(store.QUARANTINE)
        lost.append(f"all that was put aside in {store.QUARANTINE}/")
    used = {file_stem(noun) for noun in (*left, *COMPANIONS)}
    for prior in sorted((world / "prior").glob("*-*")):
        noun = prior.name.rpartition("-")[0]
        if noun in map(file_stem, nouns) or (draft == token and noun not in used):
            folders.append(f"prior/{prior.name}")
    stays = []
    if beside := sorted({versions[n].token for n in later if _trained_beside(versions[n], token)}):
        stays.append(f"the weights of {', '.join(beside)}, which were trained beside pictures of it")
    stays += [f"{file}, which is not the world's own" for file in _foreign(world, manifest, folders)]
    numbers = range(manifest.counter + 1, manifest.counter + 1 + len(later))
    return Purge(
        token, frozenset(nouns), tuple(sorted(own)), dict(zip(sorted(later), numbers)), tuple(folders), tuple(lost), tuple(stays)
    )  # fmt: skip


def _check_apart(world: Path, manifest: Manifest, token: str, later: list[int]) -> None:
    """Raise WorldError where versions after the concept's hold it in weights that all concepts share."""
    kept = any(names.KEPT in manifest.versions[n].files for n in later)
    if later and (kept or manifest.tuner not in SEPARABLE):
        learnt = ", ".join(dict.fromkeys(manifest.versions[n].token for n in later))
        raise WorldError(
            f"{world}: {token} cannot be purged: here concepts share their weights ({manifest.tuner}), and versions {later} ({learnt}) went on "
            f"from those that learnt it; take these back first with l2dm undo, or teach the others to a new world"
        )


def _trained_beside(version: Version, token: str) -> bool:
    """Whether a lesson may have used pictures of ``token``, an earlier concept."""
    method = METHODS.get(str(version.settings.get("method")))
    if method is None or version.token not in version.concepts or token not in version.concepts:
        return False
    return method.memory != "nothing" or (method.mix and version.settings.get("mixes") != 0)


def _foreign(world: Path, manifest: Manifest, going: list[str]) -> list[Path]:
    """Files in a world's folder that l2dm did not make, such as a report; they are left alone."""
    own = {world / NAME, world / COPY, world / LOCK, world / MARKER}
    own |= {folder_of(world, n) / file for n, v in manifest.versions.items() for file in v.files}
    places = [world / name for name in ("learning", "prior", "versions", *going)]
    files = [file for file in sorted(world.rglob("*")) if file.is_file() and file not in own]
    return [
        file for file in files
        if not any(place in file.parents for place in places) and not file.name.startswith(store.PART)
    ]  # fmt: skip


def purge(world: Repository, token: str) -> Purge:
    """Carry ``plan`` out; the world's lock is held."""
    path, manifest = world.path, world.manifest
    done = plan(path, manifest, token)
    versions = {
        n: v for n, v in manifest.versions.items() if n not in done.removed and n not in done.rewritten
    }
    for number, fresh in done.rewritten.items():
        versions[fresh] = _rewritten(path, manifest, number, done)
    journal = [
        {**line, "version": done.rewritten.get(line["version"], line["version"])}
        if "version" in line
        else line
        for line in manifest.journal
        if not _names(line, token)
    ]
    world.manifest = dataclasses.replace(manifest, journal=journal)
    world.record(
        entry("purge", versions=list(done.rewritten.values())), head=_standing(manifest, manifest.head, done), versions=versions,
        counter=max([manifest.counter, *done.rewritten.values()]), pending=done.pending,
    )  # fmt: skip
    world.manifest = finish(path, world.manifest)
    return done


def finish(path: Path, manifest: Manifest) -> Manifest:
    """Remove what a purge has left to be removed; the world's lock is held. Raises WorldError where the system refuses."""
    if not manifest.pending:
        return manifest
    for name in manifest.pending:
        store.remove_folder(path / name)
    if left := [name for name in manifest.pending if (path / name).exists()]:
        raise WorldError(
            f"{path / left[0]}: what was purged could not be removed; close what has it open, mend its permissions, and end the purge "
            f"with: l2dm repair {path}"
        )
    manifest = dataclasses.replace(manifest, pending=[])
    manifest.write(path)
    return manifest


def _names(line: dict, token: str) -> bool:
    """Whether a line of the journal speaks of ``token``."""
    return any(token == value or (isinstance(value, list) and token in value) for value in line.values())


def _standing(manifest: Manifest, number: int, done: Purge) -> int:
    """What a version is called after the purge; of one that goes, the nearest before it that stays."""
    while number in done.removed:
        number = manifest.versions[number].parent
    return done.rewritten.get(number, number)


def _rewritten(path: Path, manifest: Manifest, number: int, done: Purge) -> Version:
    """Write a version's folder without the concept, under its new number."""
    old, fresh, token = manifest.versions[number], done.rewritten[number], done.token
    folder = folder_of(path, fresh)
    noun = next(
        v.concepts.get(token, v.noun) for v in manifest.versions.values() if token in (v.token, *v.concepts)
    )
    source = manifest.recorded(path, number)
    for name in source.files:
        if name not in _KNOWN and not name.startswith(("adapter-", "concept-", "noun-")):
            raise WorldError(
                f"{source.folder / name}: not known, so it may hold {token}; purge with the l2dm that made it"
            )
    store.write_folder(
        folder, lambda place: copy_without(source, place, {token: noun}, done.nouns, pictures=True)
    )
    scores = {
        other: {**score, "version": done.rewritten.get(score["version"], score["version"])}
        for other, score in old.scores.items()
        if other != token
    }
    return dataclasses.replace(
        old, version=fresh, parent=_standing(manifest, old.parent, done), scores=scores,
        concepts={t: noun for t, noun in old.concepts.items() if t != token},
        files=digests(folder),
        drift={noun: d for noun, d in old.drift.items() if noun not in done.nouns},
        drawn=[t for t in old.drawn if t != token],
    )  # fmt: skip

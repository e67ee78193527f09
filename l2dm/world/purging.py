"""Purging: a world's history is rewritten so that nothing of a concept is left in it, for good.

The versions that held it are written anew without it, beside the old ones and under new numbers; one manifest
then names them instead, and lists in ``pending`` what is still to be removed; that is removed. A kill before
the manifest leaves the world as it was; after it the next writer removes the rest (``finish``).
"""

from __future__ import annotations

import dataclasses
import difflib
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..concept.words import CONTEXT_NOUNS, file_stem
from ..errors import TokenError, WorldError
from ..methods import METHODS, SEPARABLE
from . import names, store
from .called import Called, without
from .lesson_checkpoint import unfinished
from .lock import LOCK, MARKER
from .manifest import COPY, NAME, Manifest, Version, entry, folder_of
from .recorded import write_recorded
from .schema import ScoreRecord
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
    """What purging a concept does to a world."""

    called: Called
    noun: str  # what others' prompts call it then
    nouns: frozenset[str]  # its own: no other concept has them
    removed: tuple[int, ...]  # versions that did nothing but teach, rename or forget it
    rewritten: dict[int, int]  # versions that held it beside others -> their new numbers
    folders: tuple[str, ...]  # of the world that go whole
    lost: tuple[str, ...]  # what else goes with it
    stays: tuple[str, ...]  # what cannot be taken out, or is not the world's

    @property
    def files(self) -> set[str]:
        """Names of files that tell of it."""
        tokens = self.called.ever
        return {*map(names.own_file, tokens), *map(names.picture_file, (*tokens, *self.nouns))}

    @property
    def pending(self) -> list[str]:
        """All folders of the world that are removed when the new manifest is in place."""
        old = sorted([*self.removed, *self.rewritten])
        return [f"{folder_of(Path('.'), number)}".replace("\\", "/") for number in old] + list(self.folders)


def plan(world: Path, manifest: Manifest, token: str) -> Purge:
    """What purging ``token`` would do, under every token that it ever had. Raises TokenError for a token that
    the world has nothing of or that is called otherwise now, and WorldError where others' weights hold it, so
    that it cannot be purged.
    """
    versions, draft, called = manifest.versions, unfinished(world / "learning"), Called(manifest, token)
    own = {n for n, v in versions.items() if called.is_meant(n, v.token)}
    holding = set(called.names)
    told = [line for line in manifest.journal if called.tells(line)]
    if not (own or holding or told or draft == token):
        raise TokenError(_nothing(world, called))
    removed = {n for n in own if not _more(manifest, called, n)}
    first = min(own | holding, default=manifest.counter + 1)
    later = [n for n in versions if n >= first and n not in removed]
    _check_apart(world, manifest, token, later)
    left = {noun for n, v in versions.items() if n not in removed for noun in called.others(n, v).values()}
    nouns = {versions[n].concepts[t] for n, tokens in called.names.items() for t in tokens}
    nouns |= {versions[n].noun for n in own} | {str(line["noun"]) for line in told if "noun" in line}
    noun, nouns = min(nouns, default=""), nouns - left
    folders, lost = [], []
    if (world / "learning").exists() and (own or holding or draft == token):
        folders.append("learning")
        if draft != token:
            lost.append(f"the unfinished learning of {draft}" if draft else "an unfinished learning")
    if (world / store.QUARANTINE).exists():
        folders.append(store.QUARANTINE)
        lost.append(f"all that was put aside in {store.QUARANTINE}/")
    used = {file_stem(noun) for noun in (*left, *CONTEXT_NOUNS)}
    for prior in sorted((world / "prior").glob("*-*")):
        noun = prior.name.rpartition("-")[0]
        if noun in map(file_stem, nouns) or (draft == token and noun not in used):
            folders.append(f"prior/{prior.name}")
    stays: list[str] = []
    beside = {
        versions[n].token for n in later if n not in own and _trained_beside(versions[n], called.names.get(n))
    }
    if beside:
        stays.append(f"the weights of {', '.join(sorted(beside))}, which were trained beside pictures of it")
    for now, found in called.elsewhere.items():
        stays.append(f"the name {token} in versions {found}, where {now} was called so")
    stays += [f"{file}, which is not the world's own" for file in _foreign(world, folders)]
    numbers = range(manifest.counter + 1, manifest.counter + 1 + len(later))
    return Purge(
        called,
        noun,
        frozenset(nouns),
        tuple(sorted(removed)),
        dict(zip(sorted(later), numbers)),
        tuple(folders),
        tuple(lost),
        tuple(stays),
    )


def _more(manifest: Manifest, called: Called, number: int) -> list[str]:
    """Other concepts of a version that the one before it has not, as the versions that taught them were put
    aside.
    """
    version = manifest.versions[number]
    before = called.others(version.parent, manifest.versions[version.parent]) if version.parent else {}
    return [token for token in called.others(number, version) if token not in before]


def _nothing(world: Path, called: Called) -> str:
    if called.elsewhere:
        now = next(iter(called.elsewhere))
        return (
            f"token {called.token!r}: in {world} it is called {now} now; purge that: l2dm forget {world} "
            f"'{now}' --purge"
        )
    known = sorted({t for v in called.manifest.versions.values() for t in v.concepts})
    near = difflib.get_close_matches(called.token, known, 1)
    hint = f"did you mean {near[0]}?" if near else "see l2dm history"
    return f"token {called.token!r}: {world} has nothing of it; {hint}"


def _check_apart(world: Path, manifest: Manifest, token: str, later: list[int]) -> None:
    """Raise WorldError where versions after the concept's hold it in weights that all concepts share."""
    if later and (manifest.tuner not in SEPARABLE or _kept(world, manifest, later)):
        learnt = ", ".join(dict.fromkeys(manifest.versions[n].token for n in later))
        raise WorldError(
            f"{world}: {token} cannot be purged: here concepts share their weights ({manifest.tuner}), and "
            f"versions {later} ({learnt}) went on "
            "from those that learnt it; take these back first with l2dm undo, or teach the others to a new "
            "world"
        )


def _kept(world: Path, manifest: Manifest, numbers: list[int]) -> bool:
    """Whether a penalty keeps anything of a version's from one concept to the next."""
    return any(names.KEPT in manifest.recorded(world, n) for n in numbers)


def _trained_beside(version: Version, tokens: list[str] | None) -> bool:
    """Whether a lesson may have used pictures of an earlier concept that has these ``tokens`` there."""
    method = METHODS.get(str(version.settings.get("method")))
    if method is None or version.token not in version.concepts or not tokens:
        return False
    return method.memory != "nothing" or (method.mix and version.settings.get("mixes") != 0)


def _foreign(world: Path, going: list[str]) -> list[Path]:
    """Files in a world's folder that l2dm did not make, such as a report; they are left alone."""
    own = {world / NAME, world / COPY, world / LOCK, world / MARKER}
    places = [world / name for name in ("learning", "prior", "versions", *going)]
    files = [file for file in sorted(world.rglob("*")) if file.is_file() and file not in own]
    return [
        file
        for file in files
        if not any(place in file.parents for place in places) and not file.name.startswith(store.PART)
    ]


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
        for line in without(manifest.journal, done.called, done.files)
    ]
    world.manifest = dataclasses.replace(manifest, journal=journal)
    world.record(
        entry("purge", versions=list(done.rewritten.values())),
        head=_standing(manifest, manifest.head, done),
        versions=versions,
        counter=max([manifest.counter, *done.rewritten.values()]),
        pending=done.pending,
    )
    world.manifest = finish(path, world.manifest)
    return done


def finish(path: Path, manifest: Manifest) -> Manifest:
    """Remove what a purge has left to be removed; the world's lock is held. Raises WorldError where the
    system refuses.
    """
    if not manifest.pending:
        return manifest
    for name in manifest.pending:
        store.remove_folder(path / name)
    if left := [name for name in manifest.pending if (path / name).exists()]:
        raise WorldError(
            f"{path / left[0]}: what was purged could not be removed; close what has it open, mend its "
            "permissions, and end the purge "
            f"with: l2dm repair {path}"
        )
    manifest = dataclasses.replace(manifest, pending=[])
    manifest.write(path)
    return manifest


def _standing(manifest: Manifest, number: int, done: Purge) -> int:
    """What a version is called after the purge; of one that goes, the nearest before it that stays."""
    while number in done.removed:
        number = manifest.versions[number].parent
    return done.rewritten.get(number, number)


def _rewritten(path: Path, manifest: Manifest, number: int, done: Purge) -> Version:
    """Write a version's folder without the concept, under its new number."""
    old, fresh = manifest.versions[number], done.rewritten[number]
    folder, gone = folder_of(path, fresh), done.called.left_out(number, old)
    nouns = {token: old.concepts.get(token, done.noun) for token in gone}
    source = manifest.recorded(path, number)
    for name in source.files:
        if not (name in _KNOWN or names.is_own(name) or names.is_of_lesson(name)):
            raise WorldError(
                f"{source.folder / name}: not known, so it may hold {done.called.token}; purge with the l2dm "
                "that made it"
            )
    record = write_recorded(
        folder, lambda place: copy_without(source, place, nouns, done.nouns, pictures=True)
    )
    scores = {
        other: ScoreRecord(
            likeness=score["likeness"],
            own=score["own"],
            version=done.rewritten.get(score["version"], score["version"]),
        )
        for other, score in old.scores.items()
        if other not in gone
    }
    if done.called.is_meant(number, old.token):
        token = _more(manifest, done.called, number)[-1]
        nothing = {"photos": 0, "seconds": 0.0, "settings": {}, "threads": [], "adopted": 0}
        old = dataclasses.replace(old, token=token, noun=old.concepts[token], **nothing)
    return dataclasses.replace(
        old,
        version=fresh,
        parent=_standing(manifest, old.parent, done),
        scores=scores,
        concepts=done.called.others(number, old),
        files={},
        record=record,
        pictures=[name for name in old.pictures if name not in {*gone, *done.nouns}],
        spared=[],
        drift={noun: d for noun, d in old.drift.items() if noun not in done.nouns},
        drawn=[t for t in old.drawn if t not in gone],
    )

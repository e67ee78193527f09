"""In: a concept from a file of another program, or from another world, becomes one of a world's own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from ..backbone import Backbone
from ..changes import LearnChanges
from ..concept import Concept, Photos
from ..concept.words import check_token
from ..errors import ExchangeError, NotFinite, TokenError, WorldError, out_of_memory
from ..settings import LearnSettings
from .arrival import Arrival
from .bundle import opened
from .examining import OnProgress
from .lesson_checkpoint import unfinished
from .manifest import Manifest, Version
from .parcel import Parcel, Wanted, from_file, from_world, room
from .store import remove_folder

if TYPE_CHECKING:
    from .world import World

#: The tuner of a world that has learnt nothing yet: one that takes any adapter.
TUNER = "gated_lora"


@dataclass(frozen=True)
class Arrived:
    """The ``version`` that an import made, and ``notes`` of how it is read and what was left out."""

    version: Version
    notes: list[str]


def take(
    world: World,
    file: Path,
    wanted: Wanted,
    photos: Photos | None,
    discard: bool,
    on_progress: OnProgress,
    changes: LearnChanges,
) -> Arrived:
    """See ``World.import_file``."""
    check_token(wanted.token)
    settings = _settings(world, changes)
    if file.is_dir():
        file, beside = _of_export(file)
        if not (wanted.trigger or wanted.embedding):
            wanted = dataclasses.replace(wanted, embedding=beside)

    def read() -> tuple[Parcel, Concept]:
        if photos is None:
            concept = Concept(wanted.token, wanted.noun, ())
        else:
            concept = Concept.read(photos, wanted.token, wanted.noun, known=world.concepts)
        if not world.manifest.versions:
            world.begin_with(TUNER)
        backbone = world.backbone(settings.precision, settings.device)
        if backbone.own_vector(wanted.token) is not None:
            raise TokenError(
                f"token {wanted.token!r}: the base has it already, with vectors of its own; choose another "
                "token"
            )
        return from_file(world, file, wanted), concept

    way_out = f"give another --token than {wanted.token}"
    return _arrive(world, file, wanted.token, way_out, discard, on_progress, settings, read)


def _of_export(folder: Path) -> tuple[Path, Path | None]:
    """The file of one concept in a folder that ``export`` made, and that of its vectors where it is another
    one.
    """
    files = sorted(folder.glob("*.safetensors"))
    vectors = [file for file in files if file.name.endswith("-embedding.safetensors")]
    others = [file for file in files if file not in vectors]
    if len(vectors) > 1 or len(others) > 1 or not files:
        raise ExchangeError(
            f"{folder}: {len(others)} files of weights and {len(vectors)} of vectors; give the file of one "
            "concept itself"
        )
    return (others[0], vectors[0] if vectors else None) if others else (vectors[0], None)


def move(
    world: World,
    other: Path,
    token: str,
    to: str,
    discard: bool,
    on_progress: OnProgress,
    changes: LearnChanges,
    said: Path | None = None,
) -> Arrived:
    """See ``World.import_concept``. ``said``: what messages call the other world."""
    check_token(to)

    def read() -> tuple[Parcel, Concept]:
        with opened(other) as place:
            if not world.manifest.versions:
                world.begin_with(Manifest.read(place, verify=False).tuner)
            parcel, noun = from_world(world, place, token, to, said or other)
        return parcel, Concept(to, noun, ())

    settings, way_out = _settings(world, changes), f"give it another name here: --as '<{to[1:-1]}-2>'"
    return _arrive(world, said or other, to, way_out, discard, on_progress, settings, read)


def merge(
    world: World, other: Path, discard: bool, on_progress: OnProgress, changes: LearnChanges
) -> list[Arrived]:
    """See ``World.merge``."""
    with opened(other) as place:
        concepts = Manifest.read(place).concepts
        if not concepts:
            raise TokenError(f"{other}: nothing is learnt there yet, so there is nothing to take in")
        if clashing := [token for token in concepts if token in world.concepts]:
            raise TokenError(
                f"{other}: {world.path} has {', '.join(clashing)} too, so nothing is taken in; rename there "
                "or here, or take in one at a time under another "
                f"name: --token '{clashing[0]}' --as '<{clashing[0][1:-1]}-2>'"
            )
        return [move(world, place, token, token, discard, on_progress, changes, other) for token in concepts]


def _settings(world: World, changes: LearnChanges) -> LearnSettings:
    """Of an import's examination: what comes in is learnt already, and stays whatever it does to others."""
    return dataclasses.replace(world.settings("learn", changes), keep_if_forgetting_below=0.0)


def _check_length(backbone: Backbone, file: Path, parcel: Parcel, concept: Concept) -> None:
    """Refuse a token of more vectors than a prompt has room for."""
    count = len(parcel.vectors) if parcel.vectors.dim() > 1 else 1
    if count > (most := room(backbone, concept.noun)):
        raise ExchangeError(
            f"{file}: {concept.token} comes with {count:,} vectors, and a prompt of this base has room for "
            f"{most}; take a file with fewer"
        )


def _arrive(
    world: World,
    file: Path,
    token: str,
    way_out: str,
    discard: bool,
    on_progress: OnProgress,
    settings: LearnSettings,
    read: Callable[[], tuple[Parcel, Concept]],
) -> Arrived:
    with world._writing():
        if token in world.concepts:
            raise TokenError(
                f"token {token!r}: {world.path} has a concept of this name, a {world.concepts[token]}; "
                f"{way_out}"
            )
        if (started := unfinished(world.path / "learning")) and not discard:
            raise WorldError(
                f"{world.path}: an unfinished learning of {started} is in the way; finish it by running its "
                "command again, or drop it with --discard"
            )
        with out_of_memory(
            f"{world.path}: importing {token}", "the world is as it was (close some programs)"
        ):
            before = world.manifest
            try:
                parcel, concept = read()
                backbone = world.backbone(settings.precision, settings.device)
                _check_length(backbone, file, parcel, concept)
                version = Arrival(world, concept, settings, on_progress, parcel).take()
            except BaseException as error:
                world.manifest = before
                world.unload_unless(token)
                if isinstance(error, NotFinite):
                    raise NotFinite(f"{file}: as {token}: {error}") from None
                raise
        remove_folder(world.path / "learning")
    return Arrived(version, parcel.notes)

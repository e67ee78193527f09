"""What a world stands on: its base and its CLIP model, found on this machine, and known to be the very ones
that it was made with.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from ..backbone import (
    MINI,
    NONE,
    OWN,
    Backbone,
    ImageFeatures,
    Source,
    clip_fingerprint,
    find_base,
    find_clip,
    matches,
)
from ..errors import BaseMissing, WorldDamaged, WorldError
from .manifest import Manifest
from .names import PROMPTS


def recorded(place: str | Path) -> str:
    """A path as it is to be recorded; names such as "mini" and hub ids stay."""
    here = Path(place).expanduser()
    return str(place) if str(place) in (MINI, OWN, NONE) or not here.exists() else str(here.resolve())


def source_of(world: Path, manifest: Manifest, base: str | Path | None = None) -> Source:
    """Where the base lies, ``base`` instead of the recorded place if given; nothing is downloaded. Raises
    BaseModelError.
    """
    m, name = manifest, recorded(manifest.base if base is None else base)
    revision = m.revision if name == m.base else ""
    try:
        return find_base(name, revision=revision, variant=m.variant, config=m.config, download=False)
    except BaseMissing as error:
        raise BaseMissing(f"{world}: {error}; {_tell(world, 'base')}") from None


def check_base(world: Path, manifest: Manifest, source: Source) -> None:
    """Raises WorldError when ``source`` is another base than the one that the world was made over."""
    if not matches(source, manifest.fingerprint):
        raise WorldError(
            f"{world}: it was made over another base than the one at {source.name} (expected "
            f"{manifest.fingerprint}, found "
            f"{Backbone.fingerprint_of(source)}); {_tell(world, 'base')}"
        )


def clip_of(world: Path, manifest: Manifest, source: Source) -> Path | None:
    """The folder of the CLIP model; None in a world that has none. Raises BaseMissing when it is not there,
    WorldError when it has changed.
    """
    try:
        folder = find_clip(manifest.clip, source, download=False)
    except BaseMissing as error:
        raise BaseMissing(f"{world}: {error}; {_tell(world, 'clip')}") from None
    known = manifest.clip_fingerprint
    if manifest.clip == OWN and known and folder is None:
        raise BaseMissing(
            f"{world}: it remembers by its base's own CLIP model, and the base at {source.name} has no "
            "folder clip; say where that is, or to "
            f"go without: l2dm relocate {world} --base {source.name} --clip FOLDER_OR_HUB_ID|none"
        )
    if folder and known and (found := clip_fingerprint(folder)) != known:
        raise WorldError(
            f"{world}: the CLIP model at {folder} is another than the one that it remembers by (expected "
            f"{known}, found {found}); "
            f"{_tell(world, 'clip')}"
        )
    return folder


def moved_base(
    world: Path, manifest: Manifest, base: str | Path | None, revision: str, variant: str, config: str
) -> Source:
    """The base at its new place, downloaded where it is a hub id. Raises BaseModelError, WorldError when it
    is another.
    """
    same = base is None
    source = find_base(
        recorded(manifest.base if same else base),
        revision=revision or (manifest.revision if same else ""),
        variant=variant or manifest.variant,
        config=recorded(config or manifest.config) if config or manifest.config else "",
    )
    check_base(world, manifest, source)
    return source


def chosen_clip(source: Source, clip: str) -> str:
    """The fingerprint of ``clip``, downloaded where it is a hub id and tried; "" where it is none. Raises
    BaseModelError.
    """
    if (folder := find_clip(clip, source, download=True)) is None:
        return ""
    if clip != OWN:
        ImageFeatures(folder)
    return clip_fingerprint(folder)


def with_clip(world: Path, manifest: Manifest, clip: str, found: str) -> dict[str, Any]:
    """The manifest's changes for a CLIP model of fingerprint ``found``. Raises WorldError when the world's
    memory is of another.
    """
    known = manifest.clip_fingerprint
    remembers = any(_remembers(world, manifest, number) for number in manifest.versions)
    if remembers and found and known and found != known:
        raise WorldError(
            f"{world}: its concepts are remembered by features of another CLIP model than {clip} (expected "
            f"{known}, found {found}); "
            f"{_tell(world, 'clip')}"
        )
    return {"clip": clip, "clip_fingerprint": found or (known if remembers else "")}


def _remembers(world: Path, manifest: Manifest, number: int) -> bool:
    """Whether a version holds features of a CLIP model, or may hold them where it is damaged."""
    try:
        return PROMPTS in manifest.recorded(world, number)
    except WorldDamaged:
        return True


def _tell(world: Path, what: str) -> str:
    """The way out when a base or a CLIP model is not where the world has it."""
    if what == "base":
        return f"tell the world where its own lies now: l2dm relocate {world} --base FOLDER_OR_HUB_ID"
    return (
        f"tell the world where its own lies now, or to go without: l2dm relocate {world} --clip "
        "FOLDER_OR_HUB_ID|none"
    )

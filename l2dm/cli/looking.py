"""Verbs that change nothing: check, show, history, verify."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ..errors import BaseMissing, SettingsError
from .shared import AsJson, Device, Precision, WorldPath, answer
from .terminal import table

if TYPE_CHECKING:
    from ..backbone import Source
    from ..concept.photos import Photo


def check(
    photos: Annotated[
        Path | None, typer.Argument(metavar="[PHOTOS]", help="Folder of 1 to 30 photos.", show_default=False)
    ] = None,
    masks: Annotated[
        str, typer.Option(metavar="FOLDER|beside|alpha", help="Say of their masks too, as for learn.")
    ] = "",
    base: Annotated[
        str | None,
        typer.Option(
            help="With PHOTOS: name captions that are longer than this base reads (as for init). Alone: say "
            "what it is and needs."
        ),
    ] = None,
    world: Annotated[
        Path | None, typer.Option(help="The same for a world's base; its tokens count as one word.")
    ] = None,
    precision: Precision = None,
    device: Device = None,
    as_json: AsJson = False,
) -> None:
    """Say what a folder of photos holds, without learning anything; or, with --base alone, what a base is and
    how much memory it needs.
    """
    if photos is None:
        if not base:
            raise SettingsError("check: nothing to look at; give a folder of photos, or --base, or both")
        _check_base(base, precision or "auto", device or "auto", as_json)
        return
    from ..concept.folder import files_of

    photos = photos.expanduser()
    files_of(photos)  # too many are refused before what reads pictures is imported
    from ..concept import check_photos

    report = check_photos(photos, masks)
    cut = _cut_captions(report.photos, base, world) if base or world else {}
    shown = table(
        ("photo", "pixels", "caption", *(["mask"] if masks else []), "notes"),
        [
            (
                p.path.name,
                f"{p.size[0]} x {p.size[1]}",
                p.caption or "-",
                *([p.masked_by or "-"] if masks else []),
                "; ".join([*p.notes, *cut.get(p.path, [])]),
            )
            for p in report.photos
        ],
    )
    rows = [_told(photo, cut.get(photo.path, [])) for photo in report.photos]
    count = f"{len(report.photos)} usable, {len(report.problems)} not" + (
        "" if len(report.photos) >= 3 else "; 3 to 5 photos are best"
    )
    record = {"photos": rows, "problems": list(report.problems), "notes": list(report.notes)}
    answer(as_json, record, shown, *report.problems, *report.notes, count)
    if report.problems or not report.photos:
        raise typer.Exit(2)


def _told(photo: Photo, cut: list[str]) -> dict[str, object]:
    """A photo as JSON; ``cut``: what is said of its caption."""
    return {
        "file": photo.path.name,
        "width": photo.size[0],
        "height": photo.size[1],
        "caption": photo.caption,
        "mask": photo.masked_by or None,
        "notes": [*photo.notes, *cut],
    }


def _check_base(base: str, precision: str, device: str, as_json: bool) -> None:
    from ..world.requirements import requirements, said
    from ..world.world import settings_for

    source = _base(base)
    settings = settings_for(source, "learn"), settings_for(source, "generate", {"precision": precision})
    found = requirements(source, *settings, precision, device)
    answer(as_json, {"base": base, **dataclasses.asdict(found)}, f"{base}: {said(found)}")


def _cut_captions(photos: Iterable[Any], base: str | None, world: Path | None) -> dict[Path, list[str]]:
    """Photo -> what of its caption is not read by ``base``, or by that of ``world``."""
    from ..backbone import prompt_lengths
    from ..world.world import World

    opened = World.open(world, verify=False) if world else None
    source = opened.source if opened and not base else _base(base)
    count, most = prompt_lengths(source, opened.concepts if opened else ())
    lengths = {photo.path: count(photo.caption) for photo in photos if photo.caption}
    return {
        path: [f"its caption has {length} tokens; this base reads {most}, so its end is lost: shorten it"]
        for path, length in lengths.items()
        if length > most
    }


def _base(name: str | None) -> Source:
    """The base called ``name``; None: the shipped one."""
    from ..backbone import MINI, find_base

    try:
        return find_base(name or MINI, download=False)
    except BaseMissing as error:
        raise BaseMissing(f"{error}; give a folder or file, or download it with: l2dm init") from None


def show(world: WorldPath, as_json: AsJson = False) -> None:
    """Say what a world holds."""
    from ..world.manifest import Manifest
    from ..world.store import size

    opened = Manifest.read(world)
    learnt = {v.token: v for v in opened.versions.values()}
    rows = [(token, noun, learnt.get(token)) for token, noun in opened.concepts.items()]
    taken = size(world)
    concepts = [
        {"token": token, "noun": noun, "photos": v and v.photos, "version": v and v.version}
        for token, noun, v in rows
    ]
    record = {
        "world": str(world),
        "base": opened.base,
        "version": opened.head,
        "bytes": taken,
        "concepts": concepts,
    }
    shown = table(
        ("token", "noun", "photos", "seconds", "version"),
        [(t, n, *((v.photos, f"{v.seconds:.0f}", v.version) if v else "---")) for t, n, v in rows],
        f"{world}: version {opened.head} over {opened.base}",
    )
    answer(as_json, record, shown, f"{taken / 2**20:.1f} MiB on disk")


def history(world: WorldPath, as_json: AsJson = False) -> None:
    """Tell what happened to a world, oldest first."""
    from ..world.manifest import Manifest

    entries = Manifest.read(world, verify=False).journal
    rows = [
        (
            entry["at"],
            entry["action"],
            ", ".join(f"{k} {v}" for k, v in entry.items() if k not in ("at", "action")),
        )
        for entry in entries
    ]
    shown = table(("when", "what", "details"), rows)
    answer(as_json, {"world": str(world), "history": entries}, shown)


def verify(
    world: WorldPath,
    deep: Annotated[
        bool, typer.Option("--deep", help="Also read every file as what it is: tensors, JSON, pictures.")
    ] = False,
    as_json: AsJson = False,
) -> None:
    """Check every file of a world against its checksum, of all versions, priors and checkpoints; name what is
    broken.
    """
    from ..world.repair import examine

    found = examine(world, deep)
    lines = [f"version {n} can be kept without {', '.join(names)}" for n, names in found.spared.items()]
    if found.faults:
        left = f", the present one without {', '.join(found.without)}," if found.without else ""
        lines.append(
            f"put what is broken aside and go to version {found.head}{left} with: l2dm repair {world}"
        )
    if found.manifest.pending:
        lines.append(f"a purge was cut off; end it with: l2dm repair {world}")
    record = {
        "world": str(world),
        "whole": found.whole,
        "spared": found.spared,
        "lost": found.lost,
        "broken": found.faults,
        "version": found.head,
        "without": found.without,
    }
    whole = f"whole versions: {', '.join(map(str, found.whole)) or 'none'}"
    answer(as_json, record, *found.faults, whole, *lines)
    if found.faults:
        raise typer.Exit(2)


def settings(
    base: Annotated[
        str | None,
        typer.Option(help="Tell what this base, or a world's, sets otherwise, and how (as for init)."),
    ] = None,
    world: Annotated[
        Path | None, typer.Option(help="Tell what is set in this world, by its base and its last lesson.")
    ] = None,
    as_json: AsJson = False,
) -> None:
    """List every setting of learn and generate with its default, its range and what it does; a TOML file of
    them goes to --settings.
    """
    from ..settings import GenerateSettings, LearnSettings

    if base is not None and world is not None:
        raise SettingsError("settings: give --base or --world, not both")
    record, tables = {}, []
    for kind, cls in {"learn": LearnSettings, "generate": GenerateSettings}.items():
        here = _here(kind, base, world)
        rows = [row | ({"here": here[str(row["name"])]} if here else {}) for row in cls.described()]
        record[kind] = rows
        names = ("name", *(["here"] if here else []), "default", "range", "help")
        cells = [["" if row[name] == "" else str(row[name]) for name in names] for row in rows]
        tables.append(table(names, cells, f"[{kind}]"))
    answer(as_json, record, *tables)


def _here(kind: str, base: str | None, world: Path | None) -> dict[str, Any]:
    """The settings of ``kind`` over a base or in a world; nothing where neither is given."""
    if base is None and world is None:
        return {}
    from ..world.world import World, settings_for

    if world is not None:
        return World.open(world, verify=False).settings(kind).as_dict()
    return settings_for(_base(base), kind).as_dict()

"""A version without some of its concepts: what ``forget``, ``purge`` and ``repair`` write. Tensors are copied as bytes, without torch."""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path

from . import names, schema, store
from .manifest import Manifest, Version, folder_of, now
from .recorded import Recorded, digests

_MEMORY = (names.FEATURES, names.PROMPTS, names.DRAWN, names.DRAWN_IN)


def version_without(world: Path, manifest: Manifest, gone: list[str], head: Recorded) -> Version:
    """Write the present version's files, of which ``head`` has those that are to be read, without the concepts ``gone`` as a new
    version's; its parent is the present one. Raises WorldDamaged where a file is not whole that is none of their own."""
    present, number = manifest.versions[manifest.head], manifest.counter + 1
    nouns, folder = {token: present.concepts[token] for token in gone}, folder_of(world, number)
    store.write_folder(folder, lambda place: copy_without(head, place, nouns))
    return dataclasses.replace(
        present, version=number, parent=manifest.head, created=now(), token=gone[0], noun=nouns[gone[0]], photos=0, seconds=0.0,
        settings={}, threads=[], adopted=0, concepts={t: noun for t, noun in present.concepts.items() if t not in nouns},
        files=digests(folder), scores={t: s for t, s in present.scores.items() if t not in nouns},
        drawn=[t for t in present.drawn if t not in nouns],
    )  # fmt: skip


def copy_without(
    source: Recorded, target: Path, gone: dict[str, str], nouns: Collection[str] = (), pictures: bool = False
) -> None:
    """Write a version's files into ``target``, leaving out the concepts ``gone`` (token -> noun) and the class ``nouns``; its ``pictures``
    only if they are asked for. Raises WorldDamaged for a file that is not whole; those of the concepts' own are not read."""
    dropped = {*map(names.own_file, gone), *map(names.picture_file, (*gone, *nouns)), *_MEMORY}
    _copy_memory(source, target, gone)
    for name in source.files:
        if name in dropped or (name.endswith(".png") and not pictures):
            continue
        cut = {*gone, *nouns} if name in (names.VECTORS, names.NOUNS) else ()
        store.write_or_link(target / name, source.without(name, cut), source.folder / name)


def _copy_memory(source: Recorded, target: Path, gone: dict[str, str]) -> None:
    """Others' prompts that name a concept of ``gone`` say its noun instead; pictures drawn from such prompts show it, and go too."""
    if names.PROMPTS not in source:
        return
    prompts = source.json(names.PROMPTS, schema.PROMPTS)
    shown = {t for t, lines in prompts.items() if t in gone or any(g in line for g in gone for line in lines)}
    for token, noun in gone.items():
        prompts = {
            t: [line.replace(f"{token} {noun}", noun).replace(token, noun) for line in lines]
            for t, lines in prompts.items()
            if t != token
        }
    if prompts:
        store.write_json(target / names.PROMPTS, prompts)
        (target / names.FEATURES).write_bytes(source.without(names.FEATURES, gone))
    if names.DRAWN_IN in source:
        drawn_in = source.json(names.DRAWN_IN, schema.DRAWN_IN)
        if left := {token: turn for token, turn in drawn_in.items() if token not in shown}:
            cut = {f"{kind}/{token}" for kind in ("latents", "features") for token in shown}
            store.write_json(target / names.DRAWN_IN, left)
            (target / names.DRAWN).write_bytes(source.without(names.DRAWN, cut))

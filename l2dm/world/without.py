"""A version without some of its concepts: what ``forget``, ``purge`` and ``repair`` write. Tensors are copied
as bytes, without torch.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection
from pathlib import Path

from . import names, schema, store
from .filling import Filling
from .logs import log_without
from .manifest import Manifest, Version, folder_of, now
from .recorded import Recorded, write_recorded

_MEMORY = (names.FEATURES, names.PROMPTS, names.DRAWN, names.DRAWN_IN)


def version_without(world: Path, manifest: Manifest, gone: list[str], head: Recorded) -> Version:
    """Write the present version's files, of which ``head`` has those that are to be taken along, without the
    concepts ``gone`` as a new version's; its parent is the present one. Raises WorldDamaged where a file is
    not whole that concepts share.
    """
    present, number = manifest.versions[manifest.head], manifest.counter + 1
    nouns, folder = {token: present.concepts[token] for token in gone}, folder_of(world, number)
    record = write_recorded(folder, lambda place: copy_without(head, place, nouns))
    return dataclasses.replace(
        present,
        version=number,
        parent=manifest.head,
        created=now(),
        token=gone[0],
        noun=nouns[gone[0]],
        photos=0,
        seconds=0.0,
        settings={},
        threads=[],
        adopted=0,
        concepts={t: noun for t, noun in present.concepts.items() if t not in nouns},
        files={},
        record=record,
        pictures=[],
        spared=[],
        scores={t: s for t, s in present.scores.items() if t not in nouns},
        drawn=[t for t in present.drawn if t not in nouns],
    )


def copy_without(
    source: Recorded, target: Path, gone: dict[str, str], nouns: Collection[str] = (), pictures: bool = False
) -> dict[str, str]:
    """Write a version's files into ``target``, leaving out the concepts ``gone`` (token -> noun) and the
    class ``nouns``; its ``pictures`` and what tells how its concept was learnt, only if they are asked for.
    What is one concept's own is linked, unread. Raises WorldDamaged for another file that is not whole;
    returns what is recorded of those that were linked.
    """
    place = Filling(target, source)
    dropped = {*map(names.picture_file, nouns), *(file for token in gone for file in names.own_files(token))}
    dropped |= _copy_memory(place, gone)
    if pictures:
        _copy_lesson(place, source, gone)
    for name in source.files:
        if name in dropped or name in _MEMORY or (name.endswith(".png") and not pictures):
            continue
        if names.is_of_lesson(name):
            continue
        if names.is_own(name):
            place.carry(name)
        else:
            cut = {*gone, *nouns} if name in (names.VECTORS, names.NOUNS) else ()
            place.put(name, source.without(name, cut))
    return place.linked


def _copy_lesson(place: Filling, source: Recorded, gone: Collection[str]) -> None:
    """What tells how another concept was learnt, but for weights and samples of ``gone`` ones."""
    shown: set[str] = set()
    if names.LOG in source:
        log, shown = log_without(source.read(names.LOG), gone)
        place.put(names.LOG, log)
    for name in filter(names.is_of_lesson, source.files):
        step = names.step_of(name)
        if name != names.LOG and name not in shown and not (step and step[1] in gone):
            place.carry(name)


def _copy_memory(place: Filling, gone: dict[str, str]) -> set[str]:
    """Others' prompts that name a concept of ``gone`` say its noun instead; pictures drawn from such prompts
    show it, and go too: their files are returned."""
    source = place.given
    if names.PROMPTS not in source:
        return set()
    prompts = source.json(names.PROMPTS, schema.PROMPTS)
    shown = {t for t, lines in prompts.items() if t in gone or any(g in line for g in gone for line in lines)}
    for token, noun in gone.items():
        prompts = {
            t: [line.replace(f"{token} {noun}", noun).replace(token, noun) for line in lines]
            for t, lines in prompts.items()
            if t != token
        }
    if prompts:
        place.put(names.PROMPTS, store.as_json(prompts))
        if names.FEATURES in source:
            place.put(names.FEATURES, source.without(names.FEATURES, gone))
    if names.DRAWN_IN in source:
        drawn_in = source.json(names.DRAWN_IN, schema.DRAWN_IN)
        if left := {token: turn for token, turn in drawn_in.items() if token not in shown}:
            place.put(names.DRAWN_IN, store.as_json(left))
            if names.DRAWN in source:
                cut = {f"{kind}/{token}" for kind in ("latents", "features") for token in shown}
                place.put(names.DRAWN, source.without(names.DRAWN, cut))
    return {names.drawn_file(token) for token in shown}

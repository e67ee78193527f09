"""A version in which a concept is called otherwise: what ``rename`` writes. Tensors are copied as bytes, without torch."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from . import names, schema, store
from .manifest import Manifest, Version, folder_of, now
from .recorded import Recorded, digests
from .tensors import relabelled


def version_renamed(world: Path, manifest: Manifest, old: str, new: str, head: Recorded) -> Version:
    """Write the present version's files with ``new`` for the token ``old`` as a new version's. Raises WorldDamaged where one is not whole."""
    present, number = manifest.versions[manifest.head], manifest.counter + 1
    folder = folder_of(world, number)
    store.write_folder(folder, lambda place: _copy(head, place, old, new))
    learnt = manifest.teaching(old)
    return dataclasses.replace(
        present, version=number, parent=manifest.head, created=now(), token=new, noun=present.concepts[old], photos=learnt.photos if learnt else 0,
        seconds=0.0, settings={}, threads=[], adopted=0, concepts={_called(t, old, new): noun for t, noun in present.concepts.items()},
        files=digests(folder), scores={_called(t, old, new): score for t, score in present.scores.items()},
        drawn=[_called(t, old, new) for t in present.drawn],
    )  # fmt: skip


def _called(token: str, old: str, new: str) -> str:
    return new if token == old else token


def _copy(source: Recorded, target: Path, old: str, new: str) -> None:
    moved = {names.own_file(old): names.own_file(new), names.picture_file(old): names.picture_file(new)}
    for name in source.files:
        content = source.read(name)
        if name == names.PROMPTS:
            prompts = source.json(name, schema.PROMPTS)
            said = {
                _called(t, old, new): [p.replace(old, new) for p in lines] for t, lines in prompts.items()
            }
            store.write_json(target / name, said)
        elif name == names.DRAWN_IN:
            drawn = source.json(name, schema.DRAWN_IN)
            store.write_json(target / name, {_called(t, old, new): turn for t, turn in drawn.items()})
        elif name.endswith(".safetensors"):
            content = relabelled(
                content, lambda tensor: "/".join(_called(p, old, new) for p in tensor.split("/"))
            )
            store.write_or_link(target / moved.get(name, name), content, source.folder / name)
        else:
            store.write_or_link(target / moved.get(name, name), content, source.folder / name)

"""A version in which a concept is called otherwise: what ``rename`` writes. Tensors are copied as bytes,
without torch.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path

from . import names, schema, store
from .filling import Filling
from .manifest import Manifest, Version, folder_of, now
from .recorded import Recorded, write_recorded
from .tensors import relabelled


def version_renamed(world: Path, manifest: Manifest, old: str, new: str, head: Recorded) -> Version:
    """Write the present version's files with ``new`` for the token ``old`` as a new version's. Raises
    WorldDamaged where one is not whole.
    """
    present, number = manifest.versions[manifest.head], manifest.counter + 1
    folder = folder_of(world, number)
    record = write_recorded(folder, lambda place: _copy(Filling(place, head), old, new))
    learnt = manifest.teaching(old)
    return dataclasses.replace(
        present,
        version=number,
        parent=manifest.head,
        created=now(),
        token=new,
        noun=present.concepts[old],
        photos=learnt.photos if learnt else 0,
        seconds=0.0,
        settings={},
        threads=[],
        adopted=0,
        concepts={_called(t, old, new): noun for t, noun in present.concepts.items()},
        files={},
        record=record,
        pictures=[_called(name, old, new) for name in present.pictures],
        scores={_called(t, old, new): score for t, score in present.scores.items()},
        drawn=[_called(t, old, new) for t in present.drawn],
    )


def _called(token: str, old: str, new: str) -> str:
    return new if token == old else token


def _copy(place: Filling, old: str, new: str) -> dict[str, str]:
    source, moved = place.given, dict(zip(names.own_files(old), names.own_files(new)))
    for name in source.files:
        if names.is_of_lesson(name):
            continue
        if name == names.PROMPTS:
            prompts = source.json(name, schema.PROMPTS)
            said = {
                _called(t, old, new): [p.replace(old, new) for p in lines] for t, lines in prompts.items()
            }
            place.put(name, store.as_json(said))
        elif name == names.DRAWN_IN:
            drawn = source.json(name, schema.DRAWN_IN)
            place.put(name, store.as_json({_called(t, old, new): turn for t, turn in drawn.items()}))
        elif name == names.own_file(old) or (name.endswith(".safetensors") and not names.is_own(name)):
            content = relabelled(
                source.read(name), lambda tensor: "/".join(_called(p, old, new) for p in tensor.split("/"))
            )
            place.put(moved.get(name, name), content)
        else:
            place.carry(name, moved.get(name, name))
    return place.linked

"""Worlds made by hand in milliseconds: every kind of file that learning writes, with marks that can be looked
for.
"""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from PIL import Image

from l2dm import World
from l2dm.memory import LongTerm, ShortTerm
from l2dm.world.filling import Filling
from l2dm.world.manifest import Manifest, Version, entry, folder_of
from l2dm.world.memories import write_long_term, write_short_term
from l2dm.world.names import NOUNS, picture_file
from l2dm.world.recorded import write_recorded
from l2dm.world.renaming import version_renamed
from l2dm.world.tensors import write_tensors
from l2dm.world.weights import write_weights

NOUN = {"<rex>": "dog", "<tom>": "cat", "<ada>": "teddy bear", "<max>": "dog"}


def mark(text: str, *shape: int) -> torch.Tensor:
    """Numbers that stand for ``text`` alone: their bytes can be looked for in files."""
    seed = int.from_bytes(hashlib.sha256(text.encode()).digest()[:7])
    return torch.rand(*(shape or (4,)), generator=torch.Generator().manual_seed(seed))


def sheet(text: str) -> Image.Image:
    return Image.frombytes("RGB", (8, 8), hashlib.shake_256(text.encode()).digest(192))


def fresh(place: Path, tuner: str = "gated_lora") -> World:
    place.mkdir()
    Manifest("mini", "0" * 32, tuner, journal=[entry("init", base="mini", clip="base")]).write(place)
    return World(place, Manifest.read(place))


def taught(world: World, token: str, method: str = "l2dm", captions: dict[str, str] | None = None) -> World:
    """``world`` after ``token``, as a lesson would leave it. ``captions``: of a photo of each token, where it
    has one.
    """
    number, manifest = world.manifest.counter + 1, world.manifest
    concepts = {**manifest.concepts, token: NOUN[token]}
    head = manifest.recorded(world.path, manifest.head) if manifest.head else None
    ever = {noun for version in manifest.lineage() for noun in version.concepts.values()} | {NOUN[token]}
    long, short, weights, vectors = LongTerm(), ShortTerm(), {}, {}
    for name, noun in concepts.items():
        long.features[name] = mark(f"{name} features", 2, 3)
        caption = (captions or {}).get(name, f"{name} {noun} at noon")
        long.prompts[name] = [f"a photo of {name} {noun}", caption]
        weights |= {f"{name}/layer.down": mark(f"{name} down"), f"{name}/noun": torch.tensor([3])}
        vectors[name] = mark(f"{name} vector")
        if name != token:
            short.latents[name] = mark(f"{name} latents in {number}", 2, 4)
            short.features[name] = mark(f"{name} drawn in {number}", 2, 3)
            short.drawn_in[name] = number

    def fill(folder: Path) -> dict[str, str]:
        place = Filling(folder, head)
        write_weights(place, weights, concepts)
        write_tensors(folder / "tokens.safetensors", vectors)
        write_tensors(folder / NOUNS, {noun: mark(f"{noun} of the base") for noun in ever})
        write_long_term(place, long)
        write_short_term(place, short)
        for name in shown:
            sheet(f"{name} at {number}").save(folder / picture_file(name))
        return place.linked

    shown = list(dict.fromkeys((*concepts, *concepts.values())))
    record = write_recorded(folder_of(world.path, number), fill)
    for noun in dict.fromkeys(concepts.values()):
        prior = world.path / "prior" / f"{noun.replace(' ', '_')}-2x2"
        if not prior.exists():
            write_recorded(
                prior,
                lambda place, n=noun: write_tensors(place / "latents.safetensors", {"latents": mark(n)}),
            )
    score = {"likeness": 0.8 - 0.01 * number, "own": 1.0, "version": number}
    version = Version(
        number,
        manifest.head,
        "2026-01-01",
        token,
        NOUN[token],
        2,
        1.0,
        {"method": method},
        concepts,
        scores=dict.fromkeys(concepts, score),
        drift=dict.fromkeys(concepts.values(), 0.01 * number),
        record=record,
        pictures=shown,
    )
    line = entry("learn", version=number, token=token, noun=NOUN[token])
    world.record(line, head=number, counter=number, versions={**manifest.versions, number: version})
    return world


def told(place: Path, *story: str, tuner: str = "gated_lora", **how) -> World:
    """A world after "+<rex>" (learnt), "-<rex>" (forgotten), "~<rex><max>" (renamed), "undo" ..."""
    world = fresh(place, tuner)
    for act in story:
        if act == "undo":
            world.undo()
        elif act[0] == "~":
            was, to = f"{act[1:].split('>')[0]}>", f"<{act.split('<')[2]}"
            version = version_renamed(world.path, world.manifest, was, to, world._files)
            world.commit(entry("rename", version=version.version, token=to, was=was), version)
        else:
            taught(world, act[1:], **how) if act[0] == "+" else world.forget(act[1:])
    return world
